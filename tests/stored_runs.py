"""Runs written straight into a database, as a test wants them to stand."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import count
from typing import Any

from sqlalchemy import Connection, event, insert, select, update

from app.agent.events import Event, ModelRequested, RunFinished, RunStarted
from app.runs.chain import GENESIS
from app.runs.codec import store
from app.runs.models import Job, NewRun, Run, RunKey, RunStatus, StoredEvent
from app.runs.ports import RunQueue
from app.storage.database import Database
from app.storage.dialect import now_us
from app.storage.runs import SqlRunStore
from app.storage.tables import events, idempotency_keys, runs, workers
from app.tools.base import Transaction

AT = datetime(2026, 11, 22, 9, 30, 0, 123456, tzinfo=UTC)
HOUR_US = 3600 * 1_000_000
_numbers = count(1)


class ListQueue:
    """A queue that lists what it is given; what was rolled back is listed too."""

    def __init__(self, failing: Exception | None = None) -> None:
        self.jobs: list[Job] = []
        self.failing = failing

    def put_in(self, transaction: Transaction, job: Job) -> None:
        self.jobs.append(job)
        # a row to be seen if and only if this transaction is committed
        transaction.connection.execute(insert(workers).values(id=f"job of {transaction.run_id}", expires_at=0))
        if self.failing:
            raise self.failing

    def wake(self, job: Job) -> None:
        raise NotImplementedError

    async def consume(self, execute: object, concurrency: int) -> None:
        raise NotImplementedError


def store_of(database: Database, queue: RunQueue | None = None) -> SqlRunStore:
    return SqlRunStore(database, queue or ListQueue())


def key_of(run_id: str, tenant: str = "default") -> RunKey:
    return RunKey(tenant, run_id)


def new_key(tenant: str = "default") -> RunKey:
    return RunKey(tenant, f"run-{next(_numbers):06}")


def chain(run_id: str, *wanted: Event) -> list[StoredEvent]:
    """Return events in their stored form, bound to each other from the first on."""
    stored: list[StoredEvent] = []
    for seq, one in enumerate(wanted, 1):
        stored.append(store(run_id, seq, stored[-1].hash if stored else GENESIS, AT, one))
    return stored


def opening(key: RunKey, goal: str = "Calculate 2+2", context: str | None = None) -> list[StoredEvent]:
    return chain(key.run_id, RunStarted(goal, context, ("math",), 7))


async def create(store: SqlRunStore, key: RunKey | None = None, **new: Any) -> RunKey:
    """Create a run without key or job."""
    key = key or new_key()
    assert await store.create(NewRun(key, **new), opening(key), None, None) == ("new", key.run_id)
    return key


def set_run(database: Database, key: RunKey, **values: object) -> None:
    database.transact_now(
        lambda connection: connection.execute(
            update(runs).where(runs.c.tenant == key.tenant, runs.c.id == key.run_id).values(**values)
        )
    )


def finish(
    database: Database,
    key: RunKey,
    status: RunStatus = "success",
    output: str = "4",
    reason: str | None = None,
    *,
    ago_us: int = 0,
    more: int = 1,
) -> None:
    """Give a run its last events, as if its owner had appended them `ago_us` microseconds ago."""
    opened = RunStarted("Calculate 2+2", None, ("math",), 7)
    between = [ModelRequested(turn) for turn in range(more)]
    log = chain(key.run_id, opened, *between, RunFinished(status, output, reason))
    database.transact_now(lambda connection: add_events(connection, key, log[1:]))
    set_run(
        database,
        key,
        status=status,
        owner=None,
        steps=more,
        head_seq=log[-1].seq,
        head_hash=log[-1].hash,
        finished_at=now_us() - ago_us,
    )


def add_events(connection: Connection, key: RunKey, log: list[StoredEvent]) -> None:
    rows = [
        {
            "tenant": key.tenant,
            "run_id": key.run_id,
            "seq": one.seq,
            "prev_hash": one.prev_hash,
            "hash": one.hash,
            "body": one.body,
        }
        for one in log
    ]
    connection.execute(insert(events), rows)


def age_key(database: Database, key: str, ago_us: int) -> None:
    """Let an idempotency key be older than it is."""
    database.transact_now(
        lambda connection: connection.execute(
            update(idempotency_keys).where(idempotency_keys.c.key == key).values(created_at=now_us() - ago_us)
        )
    )


def add(connection: Connection, name: str = "one") -> str:
    """Write one row, whatever it means."""
    connection.execute(insert(workers).values(id=name, expires_at=0))
    return name


def names(database: Database) -> list[str]:
    """Return what `add` added."""
    return column(database, workers, "id")


def column(database: Database, table: Any, name: str) -> list[Any]:
    """Return one column of all rows, sorted."""
    return sorted(database.read_now(lambda connection: connection.execute(select(table.c[name])).scalars().all()))


async def get(store: SqlRunStore, key: RunKey) -> Run:
    run = await store.get(key)
    assert run is not None
    return run


def leave_a_commit_unanswered(database: Database, *, commit: bool) -> list[int]:
    """Let the next COMMIT go unanswered, after it took place or before; return a list that grows when it has."""
    happened: list[int] = []

    def break_off(connection: Connection) -> None:
        if not happened:
            happened.append(1)
            raw: Any = connection.connection.driver_connection
            if commit:
                raw.commit()
            raw.close()

    for engine in {database.write_engine, database.tenant_engine} - {None}:
        event.listen(engine, "commit", break_off)
    return happened


@contextmanager
def another(database: Database, data_dir: Any = None) -> Iterator[Database]:
    """Open the same Postgres database once more, as another process would."""
    assert database.conninfo is not None
    second = Database.open(data_dir, database.conninfo, patience_s=5)
    try:
        yield second
    finally:
        second.close()
