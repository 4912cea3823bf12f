"""Unfinished runs, counted in the database by who asked for them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, ScalarSelect, func, select, true

from ..auth.charges import TENANT
from ..errors import QuotaExceededError
from ..runs.models import Bound, NewRun, RunKey
from ..runs.slots import check_bound
from .database import Database
from .tables import runs

SEPARATOR: Final = "\n"
"""What stands between names in `runs.submitted_by`; no name has a control character."""

AFTER_SEPARATOR: Final = chr(ord(SEPARATOR) + 1)


def path_of(subjects: Sequence[str]) -> str | None:
    """Return what `runs.submitted_by` says: the names from the root down to who asked, None if there are none."""
    return SEPARATOR.join(reversed(subjects)) or None


def check_bounds(connection: Connection, new: NewRun) -> None:
    """Make sure that there is room for a run; until this transaction ends no other of its tenant gets any.

    Raises:
        QuotaExceededError: one of its bounds is reached.
    """
    if connection.dialect.name == "postgresql":
        # locked before anything is counted: then what all before have written is seen
        connection.execute(select(func.pg_advisory_xact_lock(func.hashtextextended(new.key.tenant, 2))))
    counted = connection.execute(select(*(_count(new, bound) for bound in new.bounds))).one()
    try:
        for bound, unfinished in zip(new.bounds, counted, strict=True):
            check_bound(bound, unfinished)
    except QuotaExceededError:
        if not _is_there(connection, new.key):  # else this is done again, since nobody knew whether it had been
            raise


def _count(new: NewRun, bound: Bound) -> ScalarSelect[Any]:
    """Count the unfinished runs of a bound's subject, and no more of them than are of interest."""
    found = select(true()).where(
        runs.c.tenant == new.key.tenant,
        runs.c.finished_at.is_(None),
        runs.c.submitted_by.is_not(None),
        *_of_subject(new.subjects, bound.subject),
    )
    return select(func.count()).select_from(found.limit(bound.most).subquery("some_unfinished")).scalar_subquery()


def _of_subject(subjects: Sequence[str], subject: str) -> tuple[ColumnElement[bool], ...]:
    """Return the conditions of a path of one of `subjects`, or of what descends from it; of a tenant's all are."""
    if subject == TENANT:
        return ()
    path = path_of(subjects[subjects.index(subject) :]) or ""
    # together with its descendants it is one range, for in no name a character comes before the separator
    return runs.c.submitted_by >= path, runs.c.submitted_by < path + AFTER_SEPARATOR


def _is_there(connection: Connection, key: RunKey) -> bool:
    its = select(runs.c.id).where(runs.c.tenant == key.tenant, runs.c.id == key.run_id)
    return connection.execute(its).first() is not None


async def read_unfinished(database: Database) -> list[tuple[RunKey, tuple[str, ...]]]:
    """Return all unfinished runs that somebody asked for, each with its subjects: who did, and their ancestors."""
    statement = select(runs.c.tenant, runs.c.id, runs.c.submitted_by).where(
        runs.c.finished_at.is_(None), runs.c.submitted_by.is_not(None)
    )
    rows = await database.read(lambda connection: connection.execute(statement).all())
    return [(RunKey(row.tenant, row.id), tuple(reversed(row.submitted_by.split(SEPARATOR)))) for row in rows]
