"""A full client for a model of your own: native tool calls, streaming, and a card with its prices.

Run it from the checkout: `uv run examples/example_llm_client.py`
"""

import asyncio
from collections.abc import AsyncGenerator

from app.agent.core import Agent
from app.agent.events import ModelDecided, RunFinished
from app.errors import LLMUnavailableError
from app.llm.interface import LLMRequest, LLMResponse, ModelCard, TextDelta, ToolCall, ToolMessage, Usage


class Prices:
    """Nano-dollars (10^-9 USD): 2 USD a million input tokens, 8 USD a million output tokens."""

    def cost(self, usage: Usage) -> int:
        return usage.input_tokens * 2_000 + usage.output_tokens * 8_000


class MyModel:
    """Where this one follows a script, you would ask your provider. It is out when it is asked first."""

    card = ModelCard(
        "my-model-1", provider="mine", context_tokens=32_000, max_output_tokens=2_000, pricing=Prices()
    )

    def __init__(self) -> None:
        self._asked = 0

    async def complete(self, request: LLMRequest) -> LLMResponse:
        """Answer once. Never retry: raise what went wrong, and the loop tries again, or another model."""
        self._asked += 1
        if self._asked == 1:
            raise LLMUnavailableError("The provider is out for a moment.", may_be_paid=False)
        last = request.messages[-1]
        usage = Usage(input_tokens=400, output_tokens=25)
        if isinstance(last, ToolMessage) and isinstance(last.output, dict):
            return LLMResponse(f"That is {last.output['result']}.", usage=usage, model="my-model-1-2026-11")
        return LLMResponse(tool_calls=(ToolCall("math", {"expression": "1234 * 5678"}, "call-1"),), usage=usage)

    async def stream(self, request: LLMRequest) -> AsyncGenerator[TextDelta | LLMResponse, None]:
        """Say the text piece by piece, and the whole response last."""
        response = await self.complete(request)
        for word in response.content.split():
            yield TextDelta(f"{word} ")
        yield response


async def main() -> None:
    agent = Agent(llm_client=MyModel(), max_cost=50_000_000)  # 0.05 USD a run
    async for event in agent.stream("What is 1234 * 5678?"):
        match event:
            case ModelDecided():
                tokens = event.usage.input_tokens + event.usage.output_tokens if event.usage else 0
                print(f"ModelDecided: {tokens} tokens, {(event.cost or 0) / 1e9:.6f} USD")
            case RunFinished():
                print(f"{event.status}: {event.output}")
            case _:
                print(type(event).__name__)


if __name__ == "__main__":
    asyncio.run(main())
