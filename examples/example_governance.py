"""Notes on governance proposals: add one, carry a result into another, read them back, and see one refused.

Run it from the checkout: `uv run examples/example_governance.py`
"""

from app.agent.core import Agent

GOALS = [
    "Add note to PROP-2025-001: Legal review completed",
    "Calculate 12*9 and add the result as a note to PROP-2025-001",
    "Show the notes of PROP-2025-001",
    "Add note to PROP-25-1: this id is not one",
]


def main() -> None:
    agent = Agent()  # notes are kept in memory: they are gone when the program ends
    for goal in GOALS:
        result = agent.run(goal, tools=["math", "governance_note"])
        print(f"Goal:    {goal}")
        for step in result.trace:
            print(f"Step {step.step}:  {step.tool} {step.input}\n         -> {step.error or step.output}")
        print(f"Answer:  {result.output}  [{result.status}]\n")


if __name__ == "__main__":
    main()
