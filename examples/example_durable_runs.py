"""Runs that are kept: one goes on in another process, one is not done twice, and one waits for a person.

Run it from the checkout: `uv run examples/example_durable_runs.py`
"""

import asyncio
import tempfile
from hashlib import sha256
from pathlib import Path
from typing import Any

from app.bootstrap import open_runs
from app.config import Settings
from app.llm.interface import LLMResponse, ToolCall
from app.runs.models import IdempotencyKey, RunRequest
from app.runs.service import RunService
from app.tools.base import tool_registry

GOAL = "Calculate 12*9 and add the result as a note to PROP-2025-007"


class SendMail:
    """A mail cannot be taken back, and no key keeps it from going out twice: `effect` is "unsafe", the default."""

    name = "send_mail"
    description = "Send a mail to the council."
    input_schema = {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]}
    timeout_s = 0.2

    async def run(self, input: dict[str, Any]) -> dict[str, Any]:  # noqa: ARG002
        await asyncio.sleep(60)  # the mail server does not answer: has it taken the mail, or not?
        return {"sent": True}


class Secretary:
    """Stands in for a real model: sends one mail, and is content."""

    def generate(self, prompt: str, system_prompt: str = "") -> LLMResponse:  # noqa: ARG002
        if "result_of" in prompt:
            return LLMResponse("The council has been told.")
        return LLMResponse(tool_calls=(ToolCall("send_mail", {"text": "The quorum is reached."}),))


async def accept(settings: Settings) -> None:
    """Keep a run, and end before anything of it is carried out, as a process that is killed would."""
    async with open_runs(settings, executes=False) as runs:
        run = await runs.submit(RunRequest(GOAL), key=key("order-17", GOAL))
        print(f"First process:   the run is {run.status}")


async def carry_on(settings: Settings) -> None:
    """Take up what is there; asking for it again under its key starts nothing new."""
    async with open_runs(settings) as runs:
        run = await runs.submit(RunRequest(GOAL), key=key("order-17", GOAL))
        run = await runs.wait(run.run_id, 30)
        print(f"Second process:  {run.status} after {run.steps} steps; runs in all: {await count(runs)}")
        for step in (await runs.trace(run.run_id)).steps:
            print(f"                 {step.tool} {step.output}")


async def settle_a_doubt(settings: Settings) -> None:
    """Send a mail whose fate is unknown, look, and say what became of it."""
    tool_registry.register(SendMail())
    async with open_runs(settings, llm_client=Secretary()) as runs:
        run = await runs.submit(RunRequest("Tell the council that the quorum is reached", tools=("send_mail",)))
        run = await runs.wait(run.run_id, 30)
        (step,) = (await runs.trace(run.run_id)).steps
        print(f"In doubt:        the run is {run.status}; step {step.step} says {step.error}")
        await runs.resolve(run.run_id, step.step, happened=True, output={"sent": True})
        run = await runs.wait(run.run_id, 30)
        print(f"Resolved:        {run.output}  [{run.status}]")


def key(name: str, request: str) -> IdempotencyKey:
    """Return your own name for a request, and a digest of what is requested, so that a mix-up is noticed."""
    return IdempotencyKey(name, sha256(request.encode()).digest())


async def count(runs: RunService) -> int:
    return len((await runs.page()).runs)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(data_dir=Path(folder))  # or DATA_DIR, or DATABASE_URL and workers
        for scene in (accept, carry_on, settle_a_doubt):
            asyncio.run(scene(settings))


if __name__ == "__main__":
    main()
