"""`trace verify`: what was found in a log, and how it is said."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from datetime import datetime
from pathlib import Path

import msgspec
from msgspec import Struct

from ..agent.events import RunFinished, ToolCompleted
from ..runs.bundle import Bundle
from ..runs.chain import ChainCheck, Fault, Head
from ..runs.codec import read
from ..runs.models import UNFINISHED, Run, RunKey, StoredEvent
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


class Told:
    """What events that are in order tell of their run, to be compared with what stands beside them."""

    def __init__(self) -> None:
        self._seq = 0
        self._steps = 0
        self._ending: str | None = None
        self._is_understood = True

    def noted(self, events: Iterable[StoredEvent]) -> Iterator[StoredEvent]:
        """Yield the events, and note each when the next one is asked for."""
        for event in events:
            yield event
            self.note(event)

    def note(self, stored: StoredEvent) -> None:
        """Take the next event; after one of a newer program nothing is compared any more."""
        self._seq = stored.seq
        try:
            event = read(stored).event
        except msgspec.DecodeError:
            self._is_understood = False
        else:
            self._steps += isinstance(event, ToolCompleted)
            self._ending = event.status if isinstance(event, RunFinished) else None

    def contradiction(self, status: str, steps: int | None = None) -> Fault | None:
        """Return how the status, and the number of steps, contradict the events."""
        if not self._is_understood:
            return None
        if status not in (UNFINISHED if self._ending is None else (self._ending,)):
            does = "does not end the run" if self._ending is None else f"ends the run as {self._ending[:20]}"
            return Fault(self._seq, f"it {does}, and beside the events stands {status[:20]}")
        if steps not in (None, self._steps):
            return Fault(
                self._seq, f"with it the run has {self._steps} steps, and beside the events stands {steps}"
            )
        return None


def verify_file(path: Path, head: bytes | None) -> Finding:
    """Check an exported run.

    Raises:
        InvalidBundleError: it is none.
    """
    bundle = Bundle(path)
    check = _check(bundle.header.run_id, bundle.header.head, head)
    told = Told()
    fault = check.take_all(told.noted(bundle.events())) or told.contradiction(bundle.header.status)
    return Finding(bundle.header.run_id, check.seq, check.hash, fault)


async def verify_run(store: RunStore, key: RunKey, head: bytes | None) -> Finding:
    """Check a run in a database, up to the head that its row had when this began.

    Raises:
        RunNotFoundError: the tenant has none of that id.
    """
    run = await find(store, key)
    check = _check(run.run_id, Head(run.head_hash, run.events), head)
    fault = await _first_fault(store, run, check)
    if fault is not None:
        now = await find(store, key)
        if now.pruned_at is not None:  # long ago, or while they were read
            return _pruned(now, head)
    return Finding(run.run_id, check.seq, check.hash, fault)


async def _first_fault(store: RunStore, run: Run, check: ChainCheck) -> Fault | None:
    told = Told()
    async for event in stored_events(store, run):
        fault = check.take(event)
        if fault:
            return fault
        told.note(event)
    return check.end() or await _beyond(store, run) or told.contradiction(run.status, run.steps)


async def _beyond(store: RunStore, run: Run) -> Fault | None:
    """Say whether there are events after the head, other than those of a run that has gone on meanwhile."""
    if not await store.events(RunKey(run.tenant, run.run_id), run.events, 1):
        return None
    now = await find(store, RunKey(run.tenant, run.run_id))
    return Fault(run.events + 1, "it comes after the head") if now.events == run.events else None


def _pruned(run: Run, head: bytes | None) -> Finding:
    wrong = Fault(run.events, "its hash was not that of the head") if head not in (None, run.head_hash) else None
    return Finding(run.run_id, run.events, run.head_hash, wrong, run.pruned_at)


def _check(run_id: str, recorded: Head, given: bytes | None) -> ChainCheck:
    return ChainCheck(run_id, recorded, *([] if given is None else [Head(given)]))
