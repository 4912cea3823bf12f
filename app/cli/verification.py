"""`trace verify`: what was found in a log, and how it is said."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path

from msgspec import Struct

from ..runs.bundle import Bundle
from ..runs.chain import ChainCheck, Fault, Head
from ..runs.models import Run, RunKey
from ..runs.ports import RunStore
from .journal import find, stored_events
from .terminal import printable, stamp


class Finding(Struct, frozen=True):
    """What was found: the first fault, or a chain of so many events with that head, or that a run was pruned."""

    run_id: str
    events: int
    head_hash: bytes
    fault: Fault | None = None
    pruned_at: datetime | None = None

    @property
    def exit_status(self) -> int:
        """0 it is in order, 1 it is not, 2 nobody can tell."""
        return 1 if self.fault else 2 if self.pruned_at else 0

    def as_text(self) -> str:
        """Return the finding as one line."""
        if self.fault:
            return printable(f"event {self.fault.seq}: {self.fault.problem}")
        if self.pruned_at:
            return f"pruned at {stamp(self.pruned_at)}: {self.events} events, head {self.head_hash.hex()}"
        return f"ok: {self.events} events, head {self.head_hash.hex()}"

    def as_json(self) -> str:
        """Return the finding as a JSON object."""
        if self.fault:
            said = {"ok": False, "event": self.fault.seq, "problem": self.fault.problem}
        else:
            said = {
                "ok": None if self.pruned_at else True,
                "events": self.events,
                "head_hash": self.head_hash.hex(),
            }
            if self.pruned_at:
                said["pruned_at"] = stamp(self.pruned_at)
        return json.dumps({"run_id": self.run_id, **said})


def verify_file(path: Path, head: bytes | None) -> Finding:
    """Check an exported run.

    Raises:
        InvalidBundleError: it is none.
    """
    bundle = Bundle(path)
    check = _check(bundle.header.run_id, bundle.header.head, head)
    fault = check.take_all(bundle.events())
    return Finding(bundle.header.run_id, check.seq, check.hash, fault)


async def verify_run(store: RunStore, run_id: str, head: bytes | None) -> Finding:
    """Check a run in a database, up to the head that its row had when this began.

    Raises:
        RunNotFoundError: there is none of that id.
    """
    run = await find(store, run_id)
    check = _check(run.run_id, Head(run.head_hash, run.events), head)
    fault = await _first_fault(store, run, check)
    if fault is not None:
        now = await find(store, run_id)
        if now.pruned_at is not None:  # long ago, or while they were read
            return _pruned(now, head)
    return Finding(run.run_id, check.seq, check.hash, fault)


async def _first_fault(store: RunStore, run: Run, check: ChainCheck) -> Fault | None:
    async for event in stored_events(store, run):
        fault = check.take(event)
        if fault:
            return fault
    return check.end() or await _beyond(store, run)


async def _beyond(store: RunStore, run: Run) -> Fault | None:
    """Say whether there are events after the head, other than those of a run that has gone on meanwhile."""
    if not await store.events(RunKey(run.tenant, run.run_id), run.events, 1):
        return None
    now = await find(store, run.run_id)
    return Fault(run.events + 1, "it comes after the head") if now.events == run.events else None


def _pruned(run: Run, head: bytes | None) -> Finding:
    wrong = Fault(run.events, "its hash was not that of the head") if head not in (None, run.head_hash) else None
    return Finding(run.run_id, run.events, run.head_hash, wrong, run.pruned_at)


def _check(run_id: str, recorded: Head, given: bytes | None) -> ChainCheck:
    return ChainCheck(run_id, recorded, *([] if given is None else [Head(given)]))
