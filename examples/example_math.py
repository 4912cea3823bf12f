"""Calculations with the offline planner: the goal, each step, the answer.

Run it from the checkout: `uv run examples/example_math.py`
"""

from app.agent.core import Agent

GOALS = [
    "Calculate the result of (100 + 50) * 2",
    "What is 15% of 240?",
    "Calculate 0.1 + 0.2",
    "Calculate 1 / 0",
]


def main() -> None:
    agent = Agent()  # no key, no server, no configuration
    for goal in GOALS:
        result = agent.run(goal, tools=["math"])
        print(f"Goal:    {goal}")
        for step in result.trace:
            print(f"Step {step.step}:  {step.tool} {step.input} -> {step.error or step.output}")
        print(f"Answer:  {result.output}  [{result.status}]\n")


if __name__ == "__main__":
    main()
