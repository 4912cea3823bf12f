"""`run`: one goal, carried out here and now, and kept like every other."""

from __future__ import annotations

import argparse
import asyncio
from typing import TYPE_CHECKING

from .terminal import json_object, printable, say, whole_number

if TYPE_CHECKING:
    from ..agent.events import ToolInterrupted
    from ..agent.result import AgentResult
    from ..runs.models import RunRequest
    from ..runs.service import RunService
    from .terminal import Commands


def add_to(commands: Commands) -> None:
    """Declare the command."""
    run = commands.add_parser("run", help="carry out one goal and print its steps and answer")
    run.add_argument("goal")
    run.add_argument("--context", help="background for the goal")
    run.add_argument("--tools", help="comma-separated names of the tools the run may use; empty for none")
    run.add_argument("--model", metavar="NAME", help="the model to ask, of those that LLM_MODELS allows")
    run.add_argument("--max-tokens", type=whole_number(1, 10**9 - 1), metavar="N", help="tokens it may take")
    run.add_argument("--max-cost", type=_dollars, metavar="USD", help="US dollars it may cost")
    run.add_argument(
        "--output-schema", type=json_object, metavar="JSON", help="a JSON Schema that the answer satisfies as JSON"
    )
    run.add_argument("--json", action="store_true", help="print the result as JSON and nothing else")
    run.set_defaults(command=_run)


def _dollars(text: str) -> float:
    try:
        dollars = float(text)
    except ValueError:
        dollars = 0.0
    if not 0 < dollars < float("inf"):
        raise argparse.ArgumentTypeError(f"{text[:50]!r} is no sum of money above 0, such as 0.05")
    return dollars


def _run(options: argparse.Namespace) -> int:
    from ..runs.models import RunRequest

    tools = options.tools
    names = None if tools is None else tuple(name.strip() for name in tools.split(",") if name.strip())
    request = RunRequest(
        options.goal,
        options.context,
        names,
        model=options.model,
        max_tokens=options.max_tokens,
        max_cost_usd=options.max_cost,
        output_schema=options.output_schema,
    )
    result = asyncio.run(_carry_out(request, show=not options.json))
    say(result.model_dump_json() if options.json else printable(result.output))
    return 0 if result.status == "success" else 1


async def _carry_out(request: RunRequest, *, show: bool) -> AgentResult:
    from ..bootstrap import open_runs

    async with open_runs(executes=True) as runs:
        run = await runs.submit(request)
        return await _follow(runs, run.run_id, show=show)


async def _follow(runs: RunService, run_id: str, *, show: bool) -> AgentResult:
    """Print each step as it becomes durable, and return what came of the run."""
    from ..agent.events import RunFinished, ToolCompleted, ToolInterrupted
    from ..agent.result import AgentResult
    from ..runs.codec import read_all
    from .steps import line_of

    trace = []
    async for page in runs.follow(run_id):
        for event in read_all(page):
            if isinstance(event, ToolCompleted):
                trace.append(event.step)
                if show:
                    say(line_of(event.step))
            elif isinstance(event, ToolInterrupted) and event.in_doubt:
                return AgentResult("error", _how_to_resolve(run_id, event), trace)
            elif isinstance(event, RunFinished):
                return AgentResult(event.status, event.output, trace)
    raise AssertionError("a run that ends, ends with RunFinished")


def _how_to_resolve(run_id: str, event: ToolInterrupted) -> str:
    return (
        f"Nobody knows whether {event.tool} had its effect in step {event.step}. The run waits for somebody to "
        f"say so: llm-agent-core runs resolve {run_id} {event.step} happened (or did_not_happen)."
    )
