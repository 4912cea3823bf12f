"""A search in the offline index that ships with the package: no network is used.

Run it from the checkout: `uv run examples/example_web_search.py`
"""

from typing import Any

from app.agent.core import Agent


def main() -> None:
    goal = "Search for Python FastAPI best practices"
    result = Agent().run(goal, context="Focus on production deployment", tools=["web_search"])
    print(f"Goal:    {goal}")
    for step in result.trace:
        output: dict[str, Any] = step.output or {}
        print(f"Step {step.step}:  {step.tool} {step.input}, source: {output.get('source')}")
        for page in output.get("results", []):
            print(f"         - {page['title']}\n           {page['url']}")
    print(f"Answer:  {result.output}  [{result.status}]")


if __name__ == "__main__":
    main()
