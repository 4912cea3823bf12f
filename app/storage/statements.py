"""The writer's statements for many rows at once.

One statement for all rows, since what runs row by row gives up and retakes the interpreter's lock for each: next
to a busy event loop that makes 450 rows a second, and one multi-row INSERT tens of thousands.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from itertools import chain
from operator import itemgetter
from typing import Any, Final, TypeVar

from sqlalchemy import (
    BigInteger,
    Connection,
    CursorResult,
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
    select,
    text,
    update,
    values,
)
from sqlalchemy.engine import Dialect

from .dialect import now_us
from .tables import events, runs

MAX_ROWS: Final = 512
"""How many rows a statement takes: within SQLite's 32,766 variables, of which a run has sixteen, and within the
16 KB of text up to which apsw keeps statements prepared, of which a row takes up to some thirty."""

ANY_SIZE: Final = 64
"""Beyond so many rows, a statement has a power of two of them: the driver can then keep all sizes prepared."""

EventRow = tuple[str, str, int, bytes, bytes, str]
"""tenant, run_id, seq, prev_hash, hash, body."""

HeadRow = tuple[str, str, int, int, int, bytes | None, str, int, int]
"""tenant, id, epoch, expected head_seq, new head_seq, new head_hash (None: unchanged), status, steps, 1 if it has
ended."""

RunRow = tuple[
    str,
    str,
    str,
    int,
    str | None,
    int,
    int,
    bytes,
    int,
    int,
    str | None,
    str | None,
    int,
    int,
    int | None,
    int | None,
]
"""tenant, id, status, epoch, owner, claims, head_seq, head_hash, steps, priority, metadata, submitted_by, 1 if it
has started, 1 if it has ended, not_before, microseconds to the deadline."""

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
    "submitted_by",
)
"""What a row of a new run brings as it is; the times of its life are the database's."""

Row = TypeVar("Row", bound=tuple[Any, ...])


def insert_events(connection: Connection, rows: Sequence[EventRow]) -> None:
    """Insert rows into `events`."""
    if connection.dialect.name == "postgresql":
        if rows:
            columns = tuple(map(list, zip(*rows, strict=True)))
            connection.exec_driver_sql(_INSERT_COLUMNS_OF_EVENTS, columns)
        return
    write_rows(connection, _insert_events, rows)


def move_heads(connection: Connection, rows: Sequence[HeadRow]) -> dict[tuple[str, str], bool]:
    """Move the heads of runs whose epoch and head are as expected.

    Returns:
        the (tenant, id) of those that were, each with whether it was asked to stop. The others are fenced.
    """
    moved: dict[tuple[str, str], bool] = {}
    for some in _chunks(sorted(rows, key=itemgetter(0, 1))):  # locks are taken in one order by everybody
        result = _execute(connection, _move_heads, some)
        moved.update(((row.tenant, row.id), bool(row.cancel_requested)) for row in result)
    return moved


def insert_runs(connection: Connection, rows: Sequence[RunRow]) -> None:
    """Insert rows into `runs`."""
    write_rows(connection, _insert_runs, rows)


def write_rows(connection: Connection, make: Callable[[int], Any], rows: Sequence[Row]) -> None:
    """Write rows by statements of `make`, which returns one for so many rows; what differs is in their middle."""
    for some in _chunks(rows):
        _execute(connection, make, some)


def _chunks(rows: Sequence[Row]) -> Iterator[Sequence[Row]]:
    start = 0
    while start < len(rows):
        size = left = len(rows) - start
        if left > ANY_SIZE:
            size = min(1 << (left.bit_length() - 1), MAX_ROWS)
        yield rows[start : start + size]
        start += size


def _execute(connection: Connection, make: Callable[[int], Any], rows: Sequence[Row]) -> CursorResult[Any]:
    statement = _text(make, connection.dialect, len(rows))
    return connection.exec_driver_sql(statement, tuple(chain.from_iterable(rows)))


_INSERT_COLUMNS_OF_EVENTS: Final = (
    "INSERT INTO events (tenant, run_id, seq, prev_hash, hash, body) "
    "SELECT * FROM unnest(%b::text[], %b::text[], %b::bigint[], %b::bytea[], %b::bytea[], %b::text[])"
)
"""On Postgres: all rows as six binary arrays. It costs what COPY does (6 us a row, 16 as VALUES), but COPY is not
allowed on tables with row-level security."""


@lru_cache(maxsize=512)
def _text(make: Callable[[int], Any], dialect: Dialect, size: int) -> str:
    """Return the text of `make(size)` with positional parameters, in the order of its values.

    To compile a row takes 0.1 ms, so no more than two are: what the second one adds, each further one does.
    """
    one, two = _compiled(make, dialect, 1), _compiled(make, dialect, 2)
    added = len(two) - len(one)
    at = next((at for at, pair in enumerate(zip(one, two, strict=False)) if pair[0] != pair[1]), len(one))
    return one[:at] + two[at : at + added] * (size - 1) + one[at:]


@lru_cache(maxsize=64)
def _compiled(make: Callable[[int], Any], dialect: Dialect, size: int) -> str:
    positional: Any = type(dialect)
    style = "qmark" if dialect.name == "sqlite" else "format"
    return str(make(size).compile(dialect=positional(paramstyle=style)))


def _insert_events(size: int) -> Any:
    names = [column.name for column in events.c]
    rows: list[dict[str, Any]] = [{name: bindparam(f"{name}_{row}") for name in names} for row in range(size)]
    return insert(events).values(rows)


def _insert_runs(size: int) -> Any:
    row = ("", "", "", 0, "", 0, 0, b"", 0, 0, "", "", 0, 0, 0, 0)
    new = (
        values(
            *(column(name, runs.c[name].type) for name in RUN_COLUMNS),
            column("started", Integer),
            column("ended", Integer),
            column("not_before", BigInteger),
            column("deadline", BigInteger),
            name="new",
        )
        .data([row] * size)
        .cte("new")
    )
    now: Any = now_us()
    columns = {
        **{name: new.c[name] for name in RUN_COLUMNS},
        "not_before": new.c.not_before,
        "created_at": now,
        "started_at": case((new.c.started == text("1"), now), else_=null()),
        "finished_at": case((new.c.ended == text("1"), now), else_=null()),
        "deadline_at": now + new.c.deadline,
    }
    return insert(runs).from_select(list(columns), select(*columns.values()))


def _move_heads(size: int) -> Any:
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
    return (
        update(runs)
        .values(
            head_seq=new.c.head_seq,
            # the cast: where no row brings a hash, Postgres would take the column for text
            head_hash=func.coalesce(cast(new.c.head_hash, LargeBinary), runs.c.head_hash),
            status=new.c.status,
            steps=new.c.steps,
            # a step more is what counts as getting further: less may be written anew by each that dies of it
            claims=case(
                (new.c.status != text("'running'"), literal_column("0")),
                (new.c.steps > runs.c.steps, literal_column("1")),
                else_=runs.c.claims,
            ),
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
