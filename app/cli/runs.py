"""`runs`: the runs that are kept."""

from __future__ import annotations

import argparse
import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from .terminal import json_object, one_line, printable, say, stamp, take_tenant, whole_number
from .usage import cost_of, sums_of

if TYPE_CHECKING:
    from ..jsonvalue import JsonObject
    from ..runs.models import Run, RunStatus
    from ..runs.service import RunService
    from .terminal import Commands

PAGE = 100


def add_to(commands: Commands) -> None:
    """Declare the commands."""
    from ..runs.models import FINISHED, UNFINISHED

    runs = commands.add_parser("runs", help="list, look at, stop and resolve the runs that are kept")
    actions = runs.add_subparsers(required=True, metavar="ACTION")
    listing = actions.add_parser("list", help="print the newest runs")
    listing.add_argument("--status", choices=UNFINISHED + FINISHED, help="only those of this status")
    listing.add_argument("--limit", type=whole_number(1, 10_000), default=20, metavar="N", help="how many (20)")
    take_tenant(listing)
    listing.add_argument("--json", action="store_true", help="print them as JSON and nothing else")
    listing.set_defaults(command=_list)
    show = actions.add_parser("show", help="print what is known of a run")
    show.add_argument("run_id", metavar="RUN_ID")
    take_tenant(show)
    show.add_argument("--json", action="store_true", help="print it as JSON and nothing else")
    show.set_defaults(command=_show)
    cancel = actions.add_parser("cancel", help="stop a run")
    cancel.add_argument("run_id", metavar="RUN_ID")
    take_tenant(cancel)
    cancel.set_defaults(command=_cancel)
    resolve = actions.add_parser("resolve", help="say what became of the step that a run waits for")
    resolve.add_argument("run_id", metavar="RUN_ID")
    resolve.add_argument("step", metavar="STEP", type=whole_number(1, 100_000))
    resolve.add_argument("outcome", choices=("happened", "did_not_happen"))
    resolve.add_argument(
        "--output", type=json_object, metavar="JSON", help="what the tool returned, if it happened: a JSON object"
    )
    take_tenant(resolve)
    resolve.set_defaults(command=_resolve)


def _list(options: argparse.Namespace) -> int:
    runs = asyncio.run(_newest(options.tenant, options.status, options.limit))
    if options.json:
        say(json.dumps({"runs": [_as_object(run) for run in runs]}))
    else:
        for run in runs:
            say(
                f"{run.run_id}  {run.status:<9}  {stamp(run.created_at)}  "
                f"{run.steps} step{'' if run.steps == 1 else 's'}  {one_line(run.goal or '', 80)}".rstrip()
            )
    return 0


async def _newest(tenant: str, status: RunStatus | None, limit: int) -> list[Run]:
    from .journal import open_journal

    runs: list[Run] = []
    cursor = None
    async with open_journal() as store:
        while len(runs) < limit:
            page = await store.page(tenant, status, min(limit - len(runs), PAGE), cursor)
            runs += page.runs
            cursor = page.next_cursor
            if cursor is None:
                break
    return runs


def _show(options: argparse.Namespace) -> int:
    run = asyncio.run(_one(options.tenant, options.run_id))
    if options.json:
        say(json.dumps(_as_object(run)))
        return 0
    say(f"run {run.run_id}")
    for name, value in _facts(run).items():
        if value is not None:
            say(f"{name:<12}{value}")
    return 0


async def _one(tenant: str, run_id: str) -> Run:
    from ..runs.models import RunKey
    from .journal import find, open_journal

    async with open_journal() as store:
        return await find(store, RunKey(tenant, run_id))


def _cancel(options: argparse.Namespace) -> int:
    return asyncio.run(_change(lambda runs: runs.cancel(options.run_id, options.tenant)))


def _resolve(options: argparse.Namespace) -> int:
    happened = options.outcome == "happened"
    return asyncio.run(
        _change(lambda runs: runs.resolve(options.run_id, options.step, happened, options.output, options.tenant))
    )


async def _change(change: Callable[[RunService], Awaitable[Run]]) -> int:
    """Do something to a run; over a data directory only while no server has it, which is asked over HTTP."""
    from ..bootstrap import open_runs

    async with open_runs(executes=False) as runs:
        run = await change(runs)
    say(f"run {run.run_id}  {run.status}")
    return 0


def _facts(run: Run) -> dict[str, str | None]:
    """Return what a person wants to know of a run, None for what there is nothing to say of."""
    times = {
        "created": run.created_at,
        "not before": run.not_before,
        "started": run.started_at,
        "finished": run.finished_at,
        "deadline": run.deadline_at,
        "pruned": run.pruned_at,
    }
    return {
        "status": run.status + (", asked to stop" if run.cancel_requested and run.finished_at is None else ""),
        "goal": None if run.goal is None else one_line(run.goal),
        "output": None if run.output is None else printable(run.output),
        "reason": run.reason,
        "steps": str(run.steps),
        "model": run.model,
        "used": _used(run),
        **{name: None if at is None else stamp(at) for name, at in times.items()},
        "head": f"event {run.events}, {run.head_hash.hex()}",
    }


def _used(run: Run) -> str | None:
    """Return what the run's models took; None if they took nothing, as the offline planner."""
    used = run.used
    tokens = f"{used.input_tokens} tokens in, {used.output_tokens} out"
    return f"{tokens}, {cost_of(used)}" if used.calls else None


def _as_object(run: Run) -> JsonObject:
    import msgspec

    from ..jsonvalue import wire_form
    from ..runs.usage import to_usd

    values: JsonObject = msgspec.to_builtins(run, builtin_types=(bytes,))
    del values["used"], values["max_cost"]
    max_cost = None if run.max_cost is None else float(to_usd(run.max_cost))
    return wire_form({**values, "head_hash": run.head_hash.hex(), "max_cost_usd": max_cost, **sums_of(run.used)})
