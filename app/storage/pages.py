"""Pages of runs and of events: the statements, and the cursor that says where the next page begins."""

from __future__ import annotations

import re
from typing import Any, Final

from sqlalchemy import BigInteger, Connection, Integer, Select, bindparam, func, select, tuple_
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement

from ..errors import InvalidCursorError
from ..runs.models import CURSOR_PATTERN, RunKey, RunStatus, StoredEvent
from .dialect import read_text, stored_text
from .run_rows import SELECT_RUNS
from .tables import events, runs

_POSITION: Final = re.compile(CURSOR_PATTERN, re.ASCII)

Position = tuple[int, str]
"""When a run was created (microseconds), and its id."""


def write_cursor(position: Position) -> str:
    """Return where the page after the run at `position` begins, in characters that a URL holds as they are."""
    created_at, run_id = position
    return f"{created_at}_{run_id}"


def read_cursor(cursor: str) -> Position:
    """Return what `write_cursor` wrote.

    Raises:
        InvalidCursorError: it wrote no such thing.
    """
    found = _POSITION.fullmatch(cursor)
    if found is None:
        raise InvalidCursorError("The cursor is none that a listing of runs has given out.")
    return int(found[1]), found[2]


def select_page(tenant: str, status: RunStatus | None, limit: int, after: Position | None) -> Select[Any]:
    """Select runs older than `after`, newest first."""
    statement = SELECT_RUNS.where(runs.c.tenant == tenant)
    if status is not None:
        statement = statement.where(runs.c.status == status)
    if after is not None:
        statement = statement.where(tuple_(runs.c.created_at, runs.c.id) < tuple_(*after))
    return statement.order_by(runs.c.created_at.desc(), runs.c.id.desc()).limit(limit)


class octets(FunctionElement[int]):  # noqa: N801 - reads as the SQL function it is
    """SQL: how many bytes a text has in UTF-8."""

    type = Integer()
    inherit_cache = True


@compiles(octets, "sqlite")
def _sqlite_octets(element: octets, compiler: Any, **options: Any) -> str:
    return f"length(CAST({compiler.process(element.clauses, **options)} AS BLOB))"


@compiles(octets, "postgresql")
def _postgres_octets(element: octets, compiler: Any, **options: Any) -> str:
    return f"octet_length({compiler.process(element.clauses, **options)})"


def _select_events() -> Select[Any]:
    after, last_of_all = bindparam("after", type_=BigInteger), bindparam("last", type_=BigInteger)
    of_run = (
        events.c.tenant == bindparam("tenant"),
        events.c.run_id == bindparam("run_id"),
        events.c.seq > after,
    )
    sizes = (
        select(events.c.seq, func.sum(octets(events.c.body)).over(order_by=events.c.seq).label("total"))
        .where(*of_run, events.c.seq <= last_of_all)
        .subquery()
    )
    most = bindparam("max_bytes", type_=BigInteger)
    last = select(func.max(sizes.c.seq)).where(sizes.c.total <= most).scalar_subquery()
    return (
        select(events.c.seq, stored_text(events.c.body).label("body"), events.c.prev_hash, events.c.hash)
        .where(*of_run, events.c.seq <= func.coalesce(last, after + 1))
        .order_by(events.c.seq)
    )


_SELECT_EVENTS: Final = _select_events()
"""Made once: that takes longer than most reads of events do."""


def read_events(connection: Connection, key: RunKey, after: int, limit: int, max_bytes: int) -> list[StoredEvent]:
    """Read the events beyond `after` that together have no more than `max_bytes`, and the first in any case.

    Their sizes are added up before any text is fetched.
    """
    parameters = {
        "tenant": key.tenant,
        "run_id": key.run_id,
        "after": after,
        "last": after + limit,
        "max_bytes": max_bytes,
    }
    rows = connection.execute(_SELECT_EVENTS, parameters)
    return [StoredEvent(row.seq, read_text(row.body), row.prev_hash, row.hash) for row in rows]
