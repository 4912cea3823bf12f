"""`trace`: what a run did, whether its log is as it was written, and the log to take away."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from .terminal import complain, printable, say, take_tenant

if TYPE_CHECKING:
    from ..runs.models import StoredEvent
    from .terminal import Commands

TARGET = "the id of a run, or a file it was exported to (one that exists, or a name that ends in .json)"


def add_to(commands: Commands) -> None:
    """Declare the commands."""
    trace = commands.add_parser("trace", help="show, verify or export what a run did")
    actions = trace.add_subparsers(required=True, metavar="ACTION")
    show = actions.add_parser("show", help="print the steps of a run")
    show.add_argument("target", metavar="RUN_ID|FILE", help=TARGET)
    take_tenant(show)
    show.set_defaults(command=_show)
    verify = actions.add_parser(
        "verify", help="check that nothing in the log of a run was changed, added, removed or moved"
    )
    verify.add_argument("target", metavar="RUN_ID|FILE", help=TARGET)
    verify.add_argument("--head", type=_digest, metavar="HEX", help="the hash that its last event must have")
    take_tenant(verify)
    verify.add_argument("--json", action="store_true", help="print the finding as JSON and nothing else")
    verify.set_defaults(command=_verify)
    export = actions.add_parser("export", help="write a run with all its events as one JSON document")
    export.add_argument("run_id", metavar="RUN_ID")
    export.add_argument("--output", type=Path, metavar="FILE", help="where to (default: it is printed)")
    take_tenant(export)
    export.set_defaults(command=_export)


def _digest(text: str) -> bytes:
    try:
        digest = bytes.fromhex(text)
    except ValueError:
        digest = b""
    if len(digest) != 32:
        raise argparse.ArgumentTypeError(f"{text[:80]!r} is not a hash; it is 64 hexadecimal digits")
    return digest


def _is_file(target: str) -> bool:
    return target.endswith(".json") or os.path.exists(target)  # noqa: PTH110 - this one never raises


def _verify(options: argparse.Namespace) -> int:
    from ..runs.models import RunKey
    from .journal import open_journal
    from .verification import Finding, verify_file, verify_run

    async def verify_kept() -> Finding:
        async with open_journal() as store:
            return await verify_run(store, RunKey(options.tenant, options.target), options.head)

    is_file = _is_file(options.target)
    finding = verify_file(Path(options.target), options.head) if is_file else asyncio.run(verify_kept())
    say(finding.as_json() if options.json else finding.as_text())
    return finding.exit_status


def _show(options: argparse.Namespace) -> int:
    async def show() -> None:
        from .steps import lines_of

        async with _opened(options.tenant, options.target) as (heading, events):
            say(printable(heading))
            async for event in events:
                for line in lines_of(event):
                    say(line)

    asyncio.run(show())
    return 0


@asynccontextmanager
async def _opened(tenant: str, target: str) -> AsyncIterator[tuple[str, AsyncIterator[StoredEvent]]]:
    """Yield a line about the run, and its events."""
    if _is_file(target):
        from ..runs.bundle import Bundle

        bundle = Bundle(Path(target))

        async def events() -> AsyncIterator[StoredEvent]:
            for event in bundle.events():
                yield event

        yield f"run {bundle.header.run_id}  {bundle.header.status}", events()
    else:
        from ..runs.models import RunKey
        from .journal import find_whole, open_journal, stored_events

        async with open_journal() as store:
            run = await find_whole(store, RunKey(tenant, target))
            yield f"run {run.run_id}  {run.status}", stored_events(store, run)


def _export(options: argparse.Namespace) -> int:
    try:
        asyncio.run(_write(options.tenant, options.run_id, options.output))
    except OSError as error:
        if options.output is None:
            raise
        complain(f"{options.output} cannot be written: {error.strerror or error}.")
        return 2
    return 0


async def _write(tenant: str, run_id: str, path: Path | None) -> None:
    from ..runs.bundle import write_bundle
    from ..runs.models import RunKey
    from .journal import find_whole, open_journal, stored_events

    async with open_journal() as store:
        run = await find_whole(store, RunKey(tenant, run_id))
        with nullcontext(sys.stdout) if path is None else path.open("w", encoding="ascii") as out:
            await write_bundle(out, run, stored_events(store, run))
