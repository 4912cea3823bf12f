"""A run as it happens: the events of the loop, one by one, from inside an event loop.

Run it from the checkout: `uv run examples/example_stream.py`
"""

import asyncio

from app.agent.core import Agent
from app.agent.events import ModelDecided, RunFinished, ToolCompleted, ToolIntended


async def main() -> None:
    goal = "Calculate 12*9 and add the result as a note to PROP-2025-007"
    print(f"Goal: {goal}")
    async for event in Agent().stream(goal):
        match event:
            case ModelDecided():
                print(f"decided   {[call.name for call in event.tool_calls] or 'to answer'}")
            case ToolIntended():
                print(f"running   {event.tool} {event.input}")
            case ToolCompleted():
                print(f"done      {event.step.error or event.step.output}")
            case RunFinished():
                print(f"finished  {event.status}: {event.output}")


if __name__ == "__main__":
    asyncio.run(main())
