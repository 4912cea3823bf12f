"""The writer's statements for many rows at once, compiled once for each number of rows.

One statement for all rows, since what runs row by row gives up and retakes the interpreter's lock for each: next to a
busy event loop that makes 450 rows a second, and one multi-row INSERT tens of thousands.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import chain
from operator import itemgetter
from typing import Any, Final, TypeVar

from sqlalchemy import (
    BigInteger,
    Connection,
    Integer,
    LargeBinary,
    Text,
    bindparam,
    case,
    cast,
    column,
    func,
    insert,
    literal_column,
    null,
    text,
    update,
    values,
)
from sqlalchemy.engine import Dialect

from .dialect import now_us
from .tables import events, runs

MAX_ROWS: Final = 128
"""How many rows a statement takes: within SQLite's 32,766 variables, and few enough sizes to keep them all."""

EventRow = tuple[str, str, int, bytes, bytes, str]
"""tenant, run_id, seq, prev_hash, hash, body."""

HeadRow = tuple[str, str, int, int, int, bytes | None, str, int, int]
"""tenant, id, epoch, expected head_seq, new head_seq, new head_hash (None: unchanged), status, steps, 1 if ended."""

RunRow = tuple[
    str, str, str, int, str | None, int, int, bytes, int, int, str | None, int, int, int | None, int | None
]
"""tenant, id, status, epoch, owner, claims, head_seq, head_hash, steps, priority, metadata, 1 if it has started, 1 if
it has ended, not_before, microseconds to the deadline."""

RUN_COLUMNS: Final = (
    "tenant",
    "id",
    "status",
    "epoch",
    "owner",
    "claims",
    "head_seq",
    "head_hash",
    "steps",
    "priority",
    "metadata",
    "not_before",
)
"""What a row of a new run brings; the times of its life are the database's."""

Row = TypeVar("Row", bound=tuple[Any, ...])


def insert_events(connection: Connection, rows: Sequence[EventRow]) -> None:
    """Insert rows into `events`."""
    if connection.dialect.name == "postgresql":
        driver = connection.connection.driver_connection
        assert driver is not None
        with driver.cursor() as cursor, cursor.copy(_COPY_EVENTS) as copy:
            for row in rows:
                copy.write_row(row)
        return
    for some in _chunks(rows):
        connection.exec_driver_sql(_insert_events(connection.dialect, len(some)), tuple(chain.from_iterable(some)))


def move_heads(connection: Connection, rows: Sequence[HeadRow]) -> dict[tuple[str, str], bool]:
    """Move the heads of runs whose epoch and head are as expected.

    Returns:
        the (tenant, id) of those that were, each with whether it was asked to stop. The others are fenced.
    """
    moved: dict[tuple[str, str], bool] = {}
    for some in _chunks(sorted(rows, key=itemgetter(0, 1))):  # locks are taken in one order by everybody
        statement = _move_heads(connection.dialect, len(some))
        result = connection.exec_driver_sql(statement, tuple(chain.from_iterable(some)))
        moved.update(((tenant, run_id), bool(cancel)) for tenant, run_id, cancel in result)
    return moved


def insert_runs(connection: Connection, rows: Sequence[RunRow]) -> None:
    """Insert rows into `runs`."""
    for some in _chunks(rows):
        connection.exec_driver_sql(_insert_runs(connection.dialect, len(some)), tuple(chain.from_iterable(some)))


def _chunks(rows: Sequence[Row]) -> Iterator[Sequence[Row]]:
    return (rows[start : start + MAX_ROWS] for start in range(0, len(rows), MAX_ROWS))


_COPY_EVENTS: Final = "COPY events (tenant, run_id, seq, prev_hash, hash, body) FROM STDIN"


@lru_cache(maxsize=2 * MAX_ROWS)
def _insert_events(dialect: Dialect, size: int) -> str:
    names = [column.name for column in events.c]
    rows: list[dict[str, Any]] = [{name: bindparam(f"{name}_{row}") for name in names} for row in range(size)]
    return _positional(dialect, insert(events).values(rows))


@lru_cache(maxsize=2 * MAX_ROWS)
def _insert_runs(dialect: Dialect, size: int) -> str:
    return _positional(dialect, insert(runs).values([_run_row(row) for row in range(size)]))


def _run_row(row: int) -> dict[str, Any]:
    columns: dict[str, Any] = {name: bindparam(f"{name}_{row}", type_=runs.c[name].type) for name in RUN_COLUMNS}
    now: Any = now_us()
    columns["created_at"] = now
    columns["started_at"] = case((bindparam(f"started_{row}", type_=Integer) == text("1"), now), else_=null())
    columns["finished_at"] = case((bindparam(f"ended_{row}", type_=Integer) == text("1"), now), else_=null())
    columns["deadline_at"] = now + bindparam(f"deadline_{row}", type_=BigInteger)
    return columns


@lru_cache(maxsize=2 * MAX_ROWS)
def _move_heads(dialect: Dialect, size: int) -> str:
    row = ("", "", 0, 0, 0, b"", "", 0, 0)
    new = (
        values(
            column("tenant", Text),
            column("id", Text),
            column("epoch", BigInteger),
            column("expected", BigInteger),
            column("head_seq", BigInteger),
            column("head_hash", LargeBinary),
            column("status", Text),
            column("steps", Integer),
            column("ended", Integer),
            name="new",
        )
        .data([row] * size)
        .cte("new")
    )
    is_running = new.c.status == text("'running'")
    statement = (
        update(runs)
        .values(
            head_seq=new.c.head_seq,
            head_hash=func.coalesce(new.c.head_hash, runs.c.head_hash),
            status=new.c.status,
            steps=new.c.steps,
            claims=case((is_running, literal_column("1")), else_=literal_column("0")),
            owner=case((is_running, runs.c.owner), else_=cast(null(), Text)),
            finished_at=case((new.c.ended == text("1"), now_us()), else_=null()),
        )
        .where(
            runs.c.tenant == new.c.tenant,
            runs.c.id == new.c.id,
            runs.c.epoch == new.c.epoch,
            runs.c.head_seq == new.c.expected,
        )
        .returning(runs.c.tenant, runs.c.id, runs.c.cancel_requested)
    )
    return _positional(dialect, statement)


def _positional(dialect: Dialect, statement: Any) -> str:
    """Return the statement's text with positional parameters, in the order of its values."""
    positional: Any = type(dialect)
    style = "qmark" if dialect.name == "sqlite" else "format"
    return str(statement.compile(dialect=positional(paramstyle=style)))
