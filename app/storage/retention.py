"""Retention: pruning the events of runs that ended long ago, and forgetting old idempotency keys and quotas."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Final

from msgspec import Struct
from sqlalchemy import ColumnElement, Connection, Select, delete, exists, func, or_, select, tuple_, update

from .database import Database
from .dialect import now_us
from .tables import daily_usage, events, idempotency_keys, runs

KEYS_KEPT_US: Final = 24 * 3600 * 1_000_000
"""How long an idempotency key, and whatever its run has to answer with, is kept in any case."""

QUOTA_DAYS_KEPT: Final = 7
"""For how many days it stays what counted against their quotas, of which only the last is asked for."""

DAY_US: Final = 24 * 3600 * 1_000_000

BATCH: Final = 50


class Pruned(Struct, frozen=True):
    """How many runs lost their events, how many events that were, and how many keys were forgotten."""

    runs: int
    events: int
    keys: int


def prune(
    database: Database, older_than_s: float | None = None, keep: int | None = None, batch: int = BATCH
) -> Pruned:
    """Prune runs that ended more than `older_than_s` seconds ago, and all but the `keep` that ended last.

    None is no limit. A pruned run keeps its row, with the head of its chain. Runs that have not ended, or whose
    idempotency key may still be asked for, are left alone. Keys older than a day are forgotten if their run has
    ended, days of quotas after a week. Each `batch` of runs is a short transaction of its own, the oldest first.

    Raises:
        StorageUnavailableError: the database does not answer; what was pruned by then is pruned.
    """
    found_runs = found_events = 0
    for too_old in _limits(database, older_than_s, keep):
        while True:
            some = database.transact_now(partial(_prune_some, too_old=too_old, batch=batch))
            found_runs += some.runs
            found_events += some.events
            if some.runs < batch:
                break
    forgotten = _in_batches(database, _forget_keys, batch)
    _in_batches(database, _forget_days, batch)
    return Pruned(found_runs, found_events, forgotten)


def count_prunable(database: Database, older_than_s: float | None = None, keep: int | None = None) -> int:
    """Return how many runs `prune` would prune; nothing is written.

    Raises:
        StorageUnavailableError: the database does not answer.
    """
    limits = _limits(database, older_than_s, keep)
    if not limits:
        return 0
    counted = select(func.count()).select_from(runs).where(*_PRUNABLE, or_(*limits), ~_HAS_YOUNG_KEY)
    return database.read_now(lambda connection: int(connection.execute(counted).scalar_one()))


def _limits(database: Database, older_than_s: float | None, keep: int | None) -> list[ColumnElement[bool]]:
    limits: list[ColumnElement[bool]] = []
    if older_than_s is not None:
        limits.append(runs.c.finished_at < now_us() - round(older_than_s * 1e6))
    if keep is not None:
        first = database.read_now(lambda connection: connection.execute(select_first_beyond(keep)).first())
        if first is not None:
            limits.append(_by_age <= tuple_(*first))
    return limits


_by_age: Final = tuple_(runs.c.finished_at, runs.c.tenant, runs.c.id)
_PRUNABLE: Final = (runs.c.finished_at.is_not(None), runs.c.pruned_at.is_(None))
_HAS_YOUNG_KEY: Final = exists().where(
    idempotency_keys.c.tenant == runs.c.tenant,
    idempotency_keys.c.run_id == runs.c.id,
    idempotency_keys.c.created_at >= now_us() - KEYS_KEPT_US,
)


def select_first_beyond(keep: int) -> Select[Any]:
    """Select the place of the newest ended run that is one too many."""
    return (
        select(runs.c.finished_at, runs.c.tenant, runs.c.id)
        .where(*_PRUNABLE)
        .order_by(runs.c.finished_at.desc(), runs.c.tenant.desc(), runs.c.id.desc())
        .offset(keep)
        .limit(1)
    )


def select_prunable(too_old: ColumnElement[bool], batch: int) -> Select[Any]:
    """Select the oldest runs that may be pruned, and that nobody else is pruning."""
    return (
        select(runs.c.tenant, runs.c.id)
        .where(*_PRUNABLE, too_old, ~_HAS_YOUNG_KEY)
        .order_by(runs.c.finished_at, runs.c.tenant, runs.c.id)
        .limit(batch)
        .with_for_update(skip_locked=True)
    )


def select_old_keys(batch: int) -> Select[Any]:
    """Select the oldest keys that nobody may rely on any more."""
    run_ended = or_(runs.c.finished_at.is_not(None), runs.c.id.is_(None))
    its_run = runs.c.tenant == idempotency_keys.c.tenant, runs.c.id == idempotency_keys.c.run_id
    return (
        select(idempotency_keys.c.tenant, idempotency_keys.c.key)
        .outerjoin(runs, its_run[0] & its_run[1])
        .where(idempotency_keys.c.created_at < now_us() - KEYS_KEPT_US, run_ended)
        .order_by(idempotency_keys.c.created_at)
        .limit(batch)
    )


def select_old_days(batch: int) -> Select[Any]:
    """Select the oldest of what counted against the quotas of a day that is long over."""
    columns = daily_usage.c
    return (
        select(columns.tenant, columns.subject, columns.day)
        .where(columns.day < now_us() // DAY_US - QUOTA_DAYS_KEPT)
        .order_by(columns.day)
        .limit(batch)
    )


def _prune_some(connection: Connection, too_old: ColumnElement[bool], batch: int) -> Pruned:
    some = [tuple(row) for row in connection.execute(select_prunable(too_old, batch))]
    if not some:
        return Pruned(0, 0, 0)
    # first the mark, without which the database refuses to delete an event
    connection.execute(update(runs).where(tuple_(runs.c.tenant, runs.c.id).in_(some)).values(pruned_at=now_us()))
    gone = connection.execute(delete(events).where(tuple_(events.c.tenant, events.c.run_id).in_(some)))
    return Pruned(len(some), gone.rowcount, 0)


def _in_batches(database: Database, forget: Callable[[Connection, int], int], batch: int) -> int:
    forgotten = 0
    while True:
        some = database.transact_now(lambda connection: forget(connection, batch))
        forgotten += some
        if some < batch:
            return forgotten


def _forget_keys(connection: Connection, batch: int) -> int:
    some = [tuple(row) for row in connection.execute(select_old_keys(batch))]
    if some:
        named = tuple_(idempotency_keys.c.tenant, idempotency_keys.c.key).in_(some)
        connection.execute(delete(idempotency_keys).where(named))
    return len(some)


def _forget_days(connection: Connection, batch: int) -> int:
    some = [tuple(row) for row in connection.execute(select_old_days(batch))]
    if some:
        named = tuple_(daily_usage.c.tenant, daily_usage.c.subject, daily_usage.c.day).in_(some)
        connection.execute(delete(daily_usage).where(named))
    return len(some)
