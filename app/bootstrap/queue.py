"""Which queue goes with which database, and what keeps it whole."""

from __future__ import annotations

from typing import NoReturn

from ..queues.in_process import InProcessQueue, redeliver_forever
from ..runs.ports import RunQueue, RunStore
from ..storage.database import Database


def queue_of(database: Database) -> RunQueue:
    """Return the queue that brings runs to whoever executes them."""
    if database.conninfo is None:
        return InProcessQueue()
    from ..queues.procrastinate import ProcrastinateQueue

    return ProcrastinateQueue(database.conninfo)


async def keep_whole(database: Database, store: RunStore, queue: RunQueue) -> NoReturn:
    """Deliver again, until cancelled, what the queue has lost."""
    if database.conninfo is None:
        assert isinstance(queue, InProcessQueue)
        await redeliver_forever(store, queue)
    from ..queues.reconcile import Reconciler

    await Reconciler(database.conninfo, store).reconcile_forever()
