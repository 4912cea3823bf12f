"""A tool of your own: any object with `name`, `description`, `input_schema` and `run`. There is no base class.

Run it from the checkout: `uv run examples/example_custom_tool.py`
"""

from typing import Any

from app.agent.core import Agent
from app.errors import ToolRejected
from app.llm.interface import LLMResponse
from app.tools.base import tool_registry

BALANCES = {"operations": 120_000, "grants": 45_500}


class TreasuryBalance:
    """Tells what an account holds. `effect` is optional; "read" says that running it twice does no harm."""

    name = "treasury_balance"
    description = "Tell the balance of a treasury account, in USDC."
    input_schema = {
        "type": "object",
        "properties": {"account": {"type": "string"}},
        "required": ["account"],
        "additionalProperties": False,
    }
    effect = "read"

    def run(self, input: dict[str, Any]) -> dict[str, Any]:
        account = input["account"]
        if account not in BALANCES:
            raise ToolRejected(f"There is no account {account!r}.", code="unknown_account")
        return {"account": account, "balance": BALANCES[account]}


class ScriptedLLM:
    """Stands in for a real model, which would choose the calls itself from the tools' descriptions."""

    def __init__(self) -> None:
        self._replies = iter(
            [
                '{"tool": "treasury_balance", "input": {"account": "marketing"}}',
                '{"tool": "treasury_balance", "input": {"account": "grants"}}',
                '{"answer": "There is no marketing account; grants holds 45500 USDC."}',
            ]
        )

    def generate(self, prompt: str, system_prompt: str = "") -> LLMResponse:  # noqa: ARG002
        return LLMResponse(content=next(self._replies))


def main() -> None:
    tool_registry.register(TreasuryBalance())  # from now on every agent of this process has it
    goal = "What do the marketing and grants accounts hold?"
    result = Agent(llm_client=ScriptedLLM()).run(goal)
    print(f"Goal:    {goal}")
    for step in result.trace:
        print(f"Step {step.step}:  {step.tool} {step.input} -> {step.error or step.output}")
    print(f"Answer:  {result.output}  [{result.status}]")


if __name__ == "__main__":
    main()
