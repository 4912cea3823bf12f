"""Every statement of the stores reads through an index: none grows with a table."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import Connection, event, insert
from stored_runs import HOUR_US, age_key, chain, create, finish, new_key, opening, store_of

from app.agent.events import RunStarted
from app.errors import QuotaExceededError
from app.runs.models import Bound, Claim, IdempotencyKey, Job, NewRun
from app.runs.ports import Unit
from app.runs.usage import ModelUse, Used
from app.storage.database import Database
from app.storage.notes import SqlNoteStore
from app.storage.retention import prune
from app.storage.tables import events, idempotency_keys, run_usage, runs
from app.storage.usage import SqlUsageStore, book

Statement = tuple[str, Any]

WHOLE_INDEXES = {"runs_to_prune"}
"""Indexes that may be walked from an end: they hold what is looked for, in order, and there is a limit."""

SMALL = {"workers", "anon_1", "some_unfinished"}
"""What may be read as a whole: a row for each process, the sizes of a page of events, what a limit has picked."""


@contextmanager
def recorded(database: Database) -> Iterator[list[Statement]]:
    """Record what is executed."""
    found: list[Statement] = []

    def note(_c: object, _cursor: object, statement: str, parameters: Any, _context: object, many: bool) -> None:
        if statement.startswith(("SELECT", "INSERT", "UPDATE", "DELETE", "WITH")):
            found.append((statement, parameters[0] if many else parameters))

    for engine in {database.read_engine, database.write_engine, database.tenant_engine} - {None}:
        event.listen(engine, "before_cursor_execute", note)
    yield found
    for engine in {database.read_engine, database.write_engine, database.tenant_engine} - {None}:
        event.remove(engine, "before_cursor_execute", note)


def fill(connection: Connection) -> None:
    """Write enough rows that it matters how they are found."""
    rows = []
    for number in range(2000):
        is_over = number % 2 == 0
        rows.append(
            {
                "tenant": "default",
                "id": f"filler-{number:05}",
                "status": "success" if is_over else ("queued", "running", "waiting")[number % 3],
                "epoch": 1,
                "claims": 0,
                "head_seq": 1,
                "head_hash": b"",
                "steps": 0,
                "priority": 0,
                "created_at": number,
                "finished_at": number if is_over else None,
                "deadline_at": number + 4_000_000_000_000_000 if number % 5 == 0 else None,
                "submitted_by": f"key:ann\nkey:{number % 100}" if number % 9 == 0 else "key:bob",
            }
        )
    connection.execute(insert(runs), rows)
    log = [chain(str(row["id"]), RunStarted("x", None, ()))[0] for row in rows]
    connection.execute(
        insert(events),
        [
            {"tenant": "default", "run_id": row["id"], "seq": 1, "prev_hash": b"", "hash": b"", "body": one.body}
            for row, one in zip(rows, log, strict=True)
        ],
    )
    connection.execute(
        insert(run_usage),
        [
            {
                "tenant": "default" if number % 2 else "other",
                "run_id": row["id"],
                "day": number,
                "model": "m",
                **dict.fromkeys(Used.__struct_fields__, 1),
            }
            for number, row in enumerate(rows)
        ],
    )
    connection.execute(
        insert(idempotency_keys),
        [
            {
                "tenant": "default",
                "key": row["id"],
                "fingerprint": b"",
                "run_id": row["id"],
                "created_at": row["created_at"],
            }
            for row in rows
        ],
    )


async def use_everything(database: Database) -> None:
    """Call every method of the stores, with what makes it go all the way."""
    store = store_of(database)
    key, with_key = new_key(), new_key()
    await store.create(NewRun(key), opening(key), None, Job(key))
    for _ in range(2):
        await store.create(NewRun(with_key), opening(with_key), IdempotencyKey("k", b"print"), None)
    await store.create(NewRun(new_key()), [], IdempotencyKey("k", b"print"), None)
    bounds = (Bound("key", "key:1", 2000), Bound("parent", "key:ann", 2000))
    await store.create(NewRun(new_key(), subjects=("key:1", "key:ann"), bounds=bounds), [], None, None)
    with pytest.raises(QuotaExceededError):
        await create(store, subjects=("key:ann",), bounds=(Bound("key", "key:ann", 5), Bound("tenant", "", 900)))
    await store.beat("me", 60)
    await store.beat("me", 60)
    claim = await store.claim(key, "me", statuses=("queued",), tenant_limit=100_000)
    assert isinstance(claim, Claim)
    await store.claim(key, "other", statuses=("running",))
    await store.release(claim)
    await store.release(claim)
    await store.get(key)
    for status in (None, "queued", "success"):
        page = await store.page("default", status, 5, None)  # type: ignore[arg-type]
        assert len((await store.page("default", status, 5, page.next_cursor)).runs) == 5  # type: ignore[arg-type]
    await store.events(key, 0, 100)
    await store.request_cancel(key)
    await store.cancels([key, with_key])
    assert len(await store.unclaimed(10)) == 10
    assert len(await store.unclaimed(10, orphaned_only=True)) == 10
    await store.retire("me")
    unit = Unit(key, 1, 0, lambda *_: None)
    unit.usage = [ModelUse(20_779, name, Used(1)) for name in ("one", "two")]
    database.transact_now(lambda connection: book(connection, [unit]))
    for by in ("day", "model", "tenant"):
        assert await SqlUsageStore(database).used("default", by, 1_000, 1_029)  # type: ignore[arg-type]
    notes = SqlNoteStore(database)
    notes.add_note("PROP-2025-001", "x")
    notes.get_notes("PROP-2025-001")
    notes.read_notes("PROP-2025-001")
    finish(database, with_key, ago_us=HOUR_US)
    age_key(database, "k", 48 * HOUR_US)
    assert prune(database, older_than_s=60 * 60 * 24 * 365, keep=500).runs > 400


async def test_no_statement_scans_a_table(database: Database) -> None:
    database.transact_now(fill)
    with recorded(database) as statements:
        await use_everything(database)
    distinct = dict(statements)
    assert len(distinct) > 30
    explain = explain_sqlite if database.is_sqlite else explain_postgres
    database.transact_now(lambda connection: connection.exec_driver_sql("ANALYZE"))
    scans = []
    for statement, parameters in distinct.items():
        if not statement.startswith("UPDATE idempotency_keys"):  # that is what the test does to them
            found = database.transact_now(lambda c, s=statement, p=parameters: explain(c, s, p))
            scans += [f"{step}: {statement}" for step in found]
    assert not scans, "\n\n".join(scans)


def explain_sqlite(connection: Connection, statement: str, parameters: Any) -> list[str]:
    """Return the steps that read a whole table or index, or that sort what an index could give in order."""
    rows = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters).all()
    details = [str(row[-1]) for row in rows]
    return [detail for detail in details if _is_scan(detail) or detail == "USE TEMP B-TREE FOR ORDER BY"]


def _is_scan(detail: str) -> bool:
    found = re.match(r"SCAN (\w+)(?: USING (?:COVERING )?INDEX (\w+))?", detail)
    if found is None or found[1] in SMALL or detail.endswith(("VALUES CLAUSE", "CONSTANT ROW")):
        return False
    return found[2] not in WHOLE_INDEXES


def explain_postgres(connection: Connection, statement: str, parameters: Any) -> list[str]:
    """Return the plan's nodes that read a whole table or index, although they need not."""
    connection.exec_driver_sql("SET LOCAL enable_seqscan = off")
    plan = connection.exec_driver_sql(f"EXPLAIN (FORMAT JSON) {statement}", parameters).scalar_one()
    return list(_whole(json.loads(plan) if isinstance(plan, str) else plan))


def _whole(plans: Sequence[dict[str, Any]]) -> Iterator[str]:
    for plan in plans:
        node = plan.get("Plan", plan)
        kind = str(node["Node Type"])
        if node.get("Relation Name") in SMALL:
            continue
        if kind == "Seq Scan":
            yield f"Seq Scan on {node['Relation Name']}"
        if "Index" in kind and "Index Cond" not in node and node["Index Name"] not in WHOLE_INDEXES:
            yield f"{kind} using all of {node['Index Name']}"
        yield from _whole(node.get("Plans", ()))


def test_a_statement_that_scans_would_be_found(database: Database) -> None:
    database.transact_now(fill)
    explain = explain_sqlite if database.is_sqlite else explain_postgres
    for statement in (
        "SELECT * FROM runs WHERE metadata = 'x'",
        "SELECT id FROM runs WHERE owner = 'x' ORDER BY priority",
        "SELECT body FROM events ORDER BY hash",
        "DELETE FROM idempotency_keys WHERE fingerprint = 'x'",
    ):
        assert database.transact_now(lambda c, s=statement: explain(c, s, ())), statement


@pytest.mark.parametrize("status", [None, "queued"])
async def test_a_page_costs_the_same_however_many_runs_there_are(
    sqlite_database: Database, status: str | None
) -> None:
    """Counted in SQLite's own steps, of which a sort or a scan would take thousands."""
    store = store_of(sqlite_database)
    for _ in range(12):
        await create(store)
    few = await _steps_of_a_page(sqlite_database, status)
    sqlite_database.transact_now(fill)
    assert await _steps_of_a_page(sqlite_database, status) <= few * 1.5


async def _steps_of_a_page(database: Database, status: Any) -> int:
    steps = 0

    def count() -> int:
        nonlocal steps
        steps += 1
        return 0

    with database.read_engine.connect() as connection:
        raw: Any = connection.connection.driver_connection
        raw.apsw.set_progress_handler(count, 10)
    await store_of(database).page("default", status, 10, None)
    raw.apsw.set_progress_handler(None, 0)
    return steps
