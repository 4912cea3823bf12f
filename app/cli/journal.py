"""Reading the journal of the configured database, beside whoever writes to it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from ..errors import RunNotFoundError
from ..runs.models import Run, RunKey, StoredEvent
from ..runs.ports import RunStore
from ..runs.trace import pruned

PAGE = 500


@asynccontextmanager
async def open_journal() -> AsyncIterator[RunStore]:
    """Yield the runs of the database that the settings name; nothing is written to it.

    Raises:
        SetupError: there is no such database, or it is of another version.
    """
    from ..bootstrap.database import open_database
    from ..config import Settings
    from ..queues.in_process import InProcessQueue
    from ..storage.runs import SqlRunStore

    with open_database(Settings(), readonly=True) as database:
        yield SqlRunStore(database, InProcessQueue())  # which stays empty: nothing is submitted here


async def find(store: RunStore, key: RunKey) -> Run:
    """Return the run.

    Raises:
        RunNotFoundError: the tenant has none of that id.
    """
    run = await store.get(key)
    if run is None:
        raise RunNotFoundError(f"There is no run {key.run_id[:80]!r} of tenant {key.tenant[:80]} (--tenant).")
    return run


async def find_whole(store: RunStore, key: RunKey) -> Run:
    """Return the run, which still has its events.

    Raises:
        RunNotFoundError: the tenant has none of that id.
        RunPrunedError: it had one.
    """
    run = await find(store, key)
    if run.pruned_at is not None:
        raise pruned(run)
    return run


async def stored_events(store: RunStore, run: Run) -> AsyncIterator[StoredEvent]:
    """Yield the events that `run` had when it was read, as far as they are there."""
    after = 0
    while after < run.events:
        page = await store.events(RunKey(run.tenant, run.run_id), after, PAGE)
        for event in page:
            if event.seq > run.events:
                return
            yield event
            after = event.seq
        if not page:
            return
