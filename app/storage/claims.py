"""Who may append to a run: claiming it, handing it back, and who is alive."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from msgspec import Struct
from sqlalchemy import (
    ColumnElement,
    Connection,
    Row,
    Select,
    delete,
    exists,
    func,
    literal_column,
    null,
    or_,
    select,
    update,
)

from ..runs.models import FINISHED, Claim, Job, Refusal, RunKey, RunStatus
from .dialect import insert_into, now_us
from .moments import from_us
from .tables import runs, workers

FORGET_WORKERS_AFTER_US: Final = 24 * 3600 * 1_000_000

_CLAIMED: Final = (
    runs.c.epoch,
    runs.c.head_seq,
    runs.c.head_hash,
    runs.c.steps,
    runs.c.claims,
    runs.c.priority,
    runs.c.cancel_requested,
)


def one(key: RunKey) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    """Return the conditions that name one run."""
    return runs.c.tenant == key.tenant, runs.c.id == key.run_id


class Claiming(Struct):
    """One attempt to claim a run; when called again after an unanswered COMMIT, it knows its own claim."""

    key: RunKey
    owner: str
    statuses: Sequence[RunStatus]
    tenant_limit: int
    now: bool
    granted: Claim | None = None

    def __call__(self, connection: Connection) -> Claim | Refusal:
        row = connection.execute(_lock(self.key)).first()
        if row is None:
            return Refusal("unknown")
        if self.granted is not None and (row.epoch, row.owner) == (self.granted.epoch, self.owner):
            return self.granted
        refusal = self._refusal(connection, row)
        if refusal is not None:
            return refusal
        self.granted = self._grant(connection, row)
        return self.granted

    def _refusal(self, connection: Connection, row: Row[Any]) -> Refusal | None:
        status: RunStatus = row.status
        if status in FINISHED:
            return Refusal("finished")
        if status not in self.statuses:
            return Refusal("waiting" if status == "waiting" else "held")
        # a statement of its own, now that the row is locked: its owner may have been heard of while we waited
        if status == "running" and row.owner != self.owner and _is_alive(connection, row.owner):
            return Refusal("held")
        if not self.now and row.is_early:
            return Refusal("too_early")
        if self.tenant_limit and _others_running(connection, self.key) >= self.tenant_limit:
            return Refusal("tenant_full")
        return None

    def _grant(self, connection: Connection, before: Row[Any]) -> Claim:
        now: ColumnElement[int] = now_us()
        row = connection.execute(
            update(runs)
            .where(*one(self.key))
            .values(
                epoch=runs.c.epoch + 1,
                owner=self.owner,
                status="running",
                claims=runs.c.claims + 1,
                started_at=func.coalesce(runs.c.started_at, now),
            )
            .returning(*_CLAIMED, (runs.c.deadline_at - now).label("left_us"))
        ).one()
        return Claim(
            key=self.key,
            epoch=row.epoch,
            status=before.status,
            head_seq=row.head_seq,
            head_hash=row.head_hash,
            steps=row.steps,
            claims=row.claims,
            priority=row.priority,
            seconds_left=None if row.left_us is None else row.left_us / 1e6,
            cancel_requested=bool(row.cancel_requested),
        )


class Releasing(Struct):
    """One attempt to hand a run back as queued; when called again after an unanswered COMMIT, it knows its own.

    `hand_over` puts the run's job into the queue, in the same transaction. False: the claim had been lost.
    """

    claim: Claim
    hand_over: Callable[[Connection], None] | None
    was_done: bool = False

    def __call__(self, connection: Connection) -> bool:
        run = one(self.claim.key)
        # the next epoch, so that nothing that its former owner still has under way can be appended
        given_back = self.claim.epoch + 1
        done = connection.execute(
            update(runs)
            .where(*run, runs.c.epoch == self.claim.epoch, runs.c.finished_at.is_(None))
            .values(epoch=given_back, status="queued", owner=null(), claims=0)
            .returning(runs.c.id)
        ).first()
        if done is not None:
            self.was_done = True
            if self.hand_over is not None:
                self.hand_over(connection)
            return True
        mine = select(runs.c.id).where(*run, runs.c.epoch == given_back, runs.c.owner.is_(None))
        return self.was_done and connection.execute(mine).first() is not None


def unclaimed(connection: Connection, limit: int, orphaned_only: bool) -> list[Job]:
    """Return jobs for the runs that nobody works on, first those that have been due the longest.

    Those for later come last: however many there are, they hide none that could be carried out now.
    """
    selections = (select_orphaned(limit), select_overdue(limit) if orphaned_only else select_queued(limit))
    rows = sorted(
        (row for selection in selections for row in connection.execute(selection)), key=lambda row: row.due_at
    )
    return [Job(RunKey(row.tenant, row.id), row.priority, from_us(row.not_before)) for row in rows[:limit]]


_JOBS: Final = select(runs.c.tenant, runs.c.id, runs.c.priority, runs.c.not_before, runs.c.due_at).where(
    runs.c.finished_at.is_(None)
)


def select_queued(limit: int) -> Select[Any]:
    """Select the queued runs that have been due the longest."""
    return _JOBS.where(runs.c.status == "queued").order_by(runs.c.due_at).limit(limit)


def select_orphaned(limit: int) -> Select[Any]:
    """Select running runs whose owner is not alive."""
    alive = exists().where(workers.c.id == runs.c.owner, workers.c.expires_at > now_us())
    return _JOBS.where(runs.c.status == "running", ~alive).order_by(runs.c.due_at).limit(limit)


def select_overdue(limit: int) -> Select[Any]:
    """Select runs that wait for a person and are past their deadline, or were to be cancelled all the same."""
    # not a parameter: the index is one of the waiting
    return (
        _JOBS.where(
            runs.c.status == literal_column("'waiting'"),
            or_(runs.c.deadline_at <= now_us(), runs.c.cancel_requested == 1),
        )
        .order_by(runs.c.due_at)
        .limit(limit)
    )


def beat(connection: Connection, owner: str, lease_us: int) -> None:
    """Set until when `owner` is alive; with its first beat, forget those that have long been dead."""
    expires_at: ColumnElement[int] = now_us() + lease_us
    beaten = connection.execute(
        update(workers).where(workers.c.id == owner).values(expires_at=expires_at).returning(workers.c.id)
    ).first()
    if beaten is None:
        connection.execute(delete(workers).where(workers.c.expires_at < now_us() - FORGET_WORKERS_AFTER_US))
        row = insert_into(connection, workers).values(id=owner, expires_at=expires_at)
        connection.execute(row.on_conflict_do_nothing())


def _lock(key: RunKey) -> Select[Any]:
    is_early = (runs.c.not_before > now_us()).label("is_early")
    return select(runs.c.status, runs.c.epoch, runs.c.owner, is_early).where(*one(key)).with_for_update()


def _is_alive(connection: Connection, owner: str | None) -> bool:
    alive = select(workers.c.id).where(workers.c.id == owner, workers.c.expires_at > now_us())
    return connection.execute(alive).first() is not None


def _others_running(connection: Connection, key: RunKey) -> int:
    """Count the tenant's other running runs; until this transaction ends nobody else can make one more."""
    if connection.dialect.name == "postgresql":
        connection.execute(select(func.pg_advisory_xact_lock(func.hashtextextended(key.tenant, 1))))
    running = select(func.count()).where(
        runs.c.tenant == key.tenant, runs.c.status == "running", runs.c.id != key.run_id
    )
    return connection.execute(running).scalar_one()
