"""The store of runs in SQL."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import msgspec
from msgspec import Struct
from sqlalchemy import ColumnElement, Connection, delete, null, select, tuple_, update

from ..errors import StorageUnavailableError
from ..runs.chain import GENESIS
from ..runs.models import (
    UNFINISHED,
    Claim,
    IdempotencyKey,
    Job,
    NewRun,
    Refusal,
    Run,
    RunKey,
    RunPage,
    RunStatus,
    StoredEvent,
)
from ..runs.ports import Created, RunQueue
from . import claims
from .database import Database
from .dialect import insert_into, now_us
from .moments import to_us
from .pages import read_cursor, read_events, select_page, write_cursor
from .postgres import end_sessions_of_the_dead
from .run_rows import SELECT_RUNS, to_run
from .slots import check_bounds, path_of
from .statements import insert_events
from .tables import idempotency_keys, runs, workers
from .units import UnitTransaction

KEYS_A_QUERY: Final = 200


class SqlRunStore:
    """A `RunStore` in SQLite or Postgres; jobs are put into `queue` in the transactions that write their runs."""

    def __init__(self, database: Database, queue: RunQueue) -> None:
        self._database = database
        self._queue = queue

    async def create(
        self, new: NewRun, events: Sequence[StoredEvent], key: IdempotencyKey | None, job: Job | None
    ) -> tuple[Created, str]:
        creation = _Creation(new, events, key, None if job is None else self._put(job))
        return await self._database.transact(creation, new.key.tenant)

    async def made_under(self, tenant: str, key: IdempotencyKey) -> tuple[Created, str] | None:
        return await self._database.read(lambda connection: _made_under(connection, tenant, key), tenant)

    async def claim(
        self, key: RunKey, owner: str, *, statuses: Sequence[RunStatus], tenant_limit: int = 0, now: bool = False
    ) -> Claim | Refusal:
        return await self._database.transact(claims.Claiming(key, owner, statuses, tenant_limit, now))

    async def release(self, claim: Claim, job: Job | None = None) -> bool:
        return await self._database.transact(claims.Releasing(claim, None if job is None else self._put(job)))

    async def get(self, key: RunKey) -> Run | None:
        statement = SELECT_RUNS.where(*claims.one(key))
        row = await self._database.read(lambda connection: connection.execute(statement).first(), key.tenant)
        return None if row is None else to_run(row)

    async def page(self, tenant: str, status: RunStatus | None, limit: int, cursor: str | None) -> RunPage:
        after = None if cursor is None else read_cursor(cursor)
        statement = select_page(tenant, status, limit + 1, after)
        rows = await self._database.read(lambda connection: connection.execute(statement).all(), tenant)
        has_more = len(rows) > limit
        rows = rows[:limit]
        cursor = write_cursor((rows[-1].created_at, rows[-1].id)) if has_more else None
        return RunPage([to_run(row) for row in rows], cursor)

    async def events(self, key: RunKey, after: int, limit: int, max_bytes: int = 1 << 20) -> list[StoredEvent]:
        return await self._database.read(
            lambda connection: read_events(connection, key, after, limit, max_bytes), key.tenant
        )

    async def request_cancel(self, key: RunKey) -> RunStatus | None:
        return await self._database.transact(lambda connection: _request_cancel(connection, key), key.tenant)

    async def cancels(self, keys: Sequence[RunKey]) -> list[RunKey]:
        return await self._database.read(lambda connection: _cancels(connection, keys)) if keys else []

    async def unclaimed(self, limit: int, *, orphaned_only: bool = False) -> list[Job]:
        if not self._database.is_sqlite:
            await self._database.read(end_sessions_of_the_dead)
        return await self._database.read(lambda connection: claims.unclaimed(connection, limit, orphaned_only))

    async def beat(self, owner: str, lease_s: float) -> None:
        await self._database.transact(lambda connection: claims.beat(connection, owner, round(lease_s * 1e6)))

    async def retire(self, owner: str) -> None:
        gone = delete(workers).where(workers.c.id == owner)
        await self._database.transact(lambda connection: connection.execute(gone))

    def _put(self, job: Job) -> Callable[[Connection], None]:
        key = job.key
        return lambda connection: self._queue.put_in(UnitTransaction(key.tenant, key.run_id, 0, connection), job)


class _Creation(Struct, frozen=True):
    """One attempt to write a run; it may be made again, for the run's id tells whether it was made before."""

    new: NewRun
    events: Sequence[StoredEvent]
    key: IdempotencyKey | None
    put_job: Callable[[Connection], None] | None

    def __call__(self, connection: Connection) -> tuple[Created, str]:
        key = self.new.key
        if self.key is not None:
            known = _take_key(connection, key, self.key)
            if known is not None:
                return known
        if self.new.bounds:
            check_bounds(connection, self.new)
        if _insert_run(connection, self.new, self.events):
            insert_events(
                connection,
                [
                    (key.tenant, key.run_id, event.seq, event.prev_hash, event.hash, event.body)
                    for event in self.events
                ],
            )
            if self.put_job is not None:
                self.put_job(connection)
        return "new", key.run_id


def _take_key(connection: Connection, run: RunKey, key: IdempotencyKey) -> tuple[Created, str] | None:
    """Take an idempotency key for a run; if it is taken, return what it was taken for."""
    row = insert_into(connection, idempotency_keys).values(
        tenant=run.tenant, key=key.key, fingerprint=key.fingerprint, run_id=run.run_id, created_at=now_us()
    )
    # whoever writes the same key in a transaction that has not ended is waited for
    taken = row.on_conflict_do_nothing().returning(idempotency_keys.c.key)
    if connection.execute(taken).first() is not None:
        return None
    known = _made_under(connection, run.tenant, key)
    if known is None:
        raise StorageUnavailableError("The idempotency key expired at this very moment; send the request again.")
    return None if known[1] == run.run_id else known  # if so, we were here before, and did not hear of it


def _made_under(connection: Connection, tenant: str, key: IdempotencyKey) -> tuple[Created, str] | None:
    known = connection.execute(
        select(idempotency_keys.c.run_id, idempotency_keys.c.fingerprint).where(
            idempotency_keys.c.tenant == tenant, idempotency_keys.c.key == key.key
        )
    ).first()
    if known is None:
        return None
    return ("replay" if known.fingerprint == key.fingerprint else "mismatch"), known.run_id


def _insert_run(connection: Connection, new: NewRun, events: Sequence[StoredEvent]) -> bool:
    """Insert the row of a run; False if it is there."""
    now: ColumnElement[int] = now_us()
    is_running = new.owner is not None
    row = insert_into(connection, runs).values(
        tenant=new.key.tenant,
        id=new.key.run_id,
        status="running" if is_running else "queued",
        epoch=int(is_running),
        owner=new.owner,
        claims=int(is_running),
        head_seq=events[-1].seq if events else 0,
        head_hash=events[-1].hash if events else GENESIS,
        steps=0,
        priority=new.priority,
        metadata=None if new.metadata is None else msgspec.json.encode(new.metadata).decode(),
        submitted_by=path_of(new.subjects),
        created_at=now,
        started_at=now if is_running else null(),
        not_before=to_us(new.not_before),
        deadline_at=null() if new.deadline_s is None else now + round(new.deadline_s * 1e6),
    )
    return connection.execute(row.on_conflict_do_nothing().returning(runs.c.id)).first() is not None


def _request_cancel(connection: Connection, key: RunKey) -> RunStatus | None:
    run = claims.one(key)
    status: RunStatus | None = connection.execute(
        update(runs).where(*run, runs.c.status.in_(UNFINISHED)).values(cancel_requested=1).returning(runs.c.status)
    ).scalar()
    if status is None:
        status = connection.execute(select(runs.c.status).where(*run)).scalar()
    return status


def _cancels(connection: Connection, keys: Sequence[RunKey]) -> list[RunKey]:
    found: list[RunKey] = []
    for start in range(0, len(keys), KEYS_A_QUERY):
        some = [(key.tenant, key.run_id) for key in keys[start : start + KEYS_A_QUERY]]
        rows = connection.execute(
            select(runs.c.tenant, runs.c.id).where(
                tuple_(runs.c.tenant, runs.c.id).in_(some), runs.c.cancel_requested == 1
            )
        )
        found.extend(RunKey(row.tenant, row.id) for row in rows)
    return found
