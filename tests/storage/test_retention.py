"""Pruning: what goes, what stays, and what a pruned run still says."""

from __future__ import annotations

from functools import partial
from time import time

import pytest
from sqlalchemy import Connection, event, insert
from stored_runs import HOUR_US, age_key, column, create, finish, get, new_key, opening, set_run, store_of

from app.runs.models import IdempotencyKey, NewRun, RunKey, RunStatus
from app.storage.database import Database
from app.storage.notes import SqlNoteStore
from app.storage.retention import Pruned, prune
from app.storage.tables import daily_usage, events, idempotency_keys


async def ended(
    database: Database, hours_ago: float, key: str | None = None, *, key_hours_ago: float = 0
) -> RunKey:
    """Create a run that ended some hours ago, perhaps under an idempotency key."""
    run = new_key()
    made = None if key is None else IdempotencyKey(key, b"print")
    await store_of(database).create(NewRun(run), opening(run), made, None)
    finish(database, run, ago_us=round(hours_ago * HOUR_US))
    if key is not None:
        age_key(database, key, round(key_hours_ago * HOUR_US))
    return run


async def test_runs_that_ended_long_ago_are_pruned(database: Database) -> None:
    store = store_of(database)
    old, young = await ended(database, 3), await ended(database, 1)
    before = await get(store, old)
    assert prune(database, older_than_s=2 * 3600) == Pruned(1, 3, 0)
    after = await get(store, old)
    assert after.pruned_at is not None
    assert (after.goal, after.context, after.output, after.reason, after.max_steps) == (None,) * 5
    assert (after.status, after.head_hash, after.events) == ("success", before.head_hash, 3)
    assert (after.created_at, after.finished_at) == (before.created_at, before.finished_at)
    assert await store.events(old, 0, 10) == []
    assert (await get(store, young)).pruned_at is None
    assert len(await store.events(young, 0, 10)) == 3


async def test_all_but_the_last_ones_are_pruned(database: Database) -> None:
    keys = [await ended(database, hours) for hours in (5, 4, 3, 2, 1)]
    assert prune(database, keep=2) == Pruned(3, 9, 0)
    store = store_of(database)
    assert [(await get(store, key)).pruned_at is None for key in keys] == [False, False, False, True, True]
    assert prune(database, keep=2) == Pruned(0, 0, 0)
    assert prune(database, keep=0) == Pruned(2, 6, 0)


async def test_runs_that_ended_in_one_moment_are_counted_one_by_one(database: Database) -> None:
    for _ in range(5):
        set_run(database, await ended(database, 1), finished_at=1_000_000)
    assert prune(database, keep=2).runs == 3


async def test_age_and_number_both_count(database: Database) -> None:
    for hours in (9, 8, 7, 1, 1, 1):
        await ended(database, hours)
    assert prune(database, older_than_s=6 * 3600, keep=2).runs == 4


async def test_without_limits_nothing_is_pruned(database: Database) -> None:
    await ended(database, 24 * 365)
    assert prune(database) == Pruned(0, 0, 0)


@pytest.mark.parametrize("status", ["queued", "running", "waiting"])
async def test_a_run_that_has_not_ended_is_never_pruned(database: Database, status: RunStatus) -> None:
    key = await create(store_of(database))
    set_run(database, key, status=status, created_at=0)
    assert prune(database, older_than_s=0, keep=0) == Pruned(0, 0, 0)


async def test_a_run_stays_as_long_as_its_key_may_be_asked_for(database: Database) -> None:
    store = store_of(database)
    run = await ended(database, 23, "k", key_hours_ago=23.9)
    assert prune(database, older_than_s=3600, keep=0) == Pruned(0, 0, 0)
    asked = IdempotencyKey("k", b"print")
    assert await store.create(NewRun(new_key()), [], asked, None) == ("replay", run.run_id)
    age_key(database, "k", round(24.1 * HOUR_US))
    assert prune(database, older_than_s=3600) == Pruned(1, 3, 1)
    new = new_key()
    assert await store.create(NewRun(new), opening(new), asked, None) == ("new", new.run_id)


async def test_a_key_stays_as_long_as_its_run_has_not_ended(database: Database) -> None:
    run = new_key()
    await store_of(database).create(NewRun(run), opening(run), IdempotencyKey("k", b"print"), None)
    age_key(database, "k", 100 * HOUR_US)
    assert prune(database) == Pruned(0, 0, 0)
    finish(database, run)
    assert prune(database) == Pruned(0, 0, 1)
    assert column(database, idempotency_keys, "key") == []


async def test_a_young_key_stays_whatever_became_of_its_run(database: Database) -> None:
    await ended(database, 0, "k", key_hours_ago=1)
    assert prune(database).keys == 0


async def test_pruning_goes_in_small_transactions(database: Database) -> None:
    for hours in range(1, 8):
        await ended(database, hours, f"k{hours}", key_hours_ago=30)
    sizes: list[int] = []
    event.listen(
        database.write_engine, "commit", lambda _connection: sizes.append(len(column(database, events, "seq")))
    )
    assert prune(database, older_than_s=0, batch=3) == Pruned(7, 21, 7)
    # each of the three commits took the events of at most three runs
    assert sizes[:3] == [21, 12, 3]
    assert len(sizes) == 7


async def test_days_of_quotas_go_after_a_week(database: Database) -> None:
    today = int(time() // 86_400)
    for tenant, age in (("acme", 400), ("acme", 0), ("desk", 8), ("desk", 6)):
        row = {"tenant": tenant, "subject": "key:ann", "day": today - age, "steps": 1, "tokens": 0}
        database.transact_now(partial(Connection.execute, statement=insert(daily_usage).values(row)))
    assert prune(database) == Pruned(0, 0, 0)
    assert sorted(column(database, daily_usage, "day")) == [today - 6, today]


async def test_notes_are_never_pruned(database: Database) -> None:
    SqlNoteStore(database).add_note("PROP-2025-001", "stays")
    await ended(database, 100)
    prune(database, older_than_s=0, keep=0)
    assert SqlNoteStore(database).get_notes("PROP-2025-001") == ["stays"]


async def test_a_pruned_run_is_still_listed(database: Database) -> None:
    await ended(database, 3)
    prune(database, keep=0)
    page = await store_of(database).page("default", "success", 10, None)
    assert [run.goal for run in page.runs] == [None]


async def test_two_may_prune_at_once(postgres_database: Database) -> None:
    """One that another is pruning is passed over, not waited for."""
    from sqlalchemy import select, text

    from app.storage.tables import runs

    first, second = await ended(postgres_database, 3), await ended(postgres_database, 2)
    with postgres_database.write_engine.begin() as connection:
        connection.execute(select(runs.c.id).where(runs.c.id == first.run_id).with_for_update())
        connection.execute(text("SET LOCAL idle_in_transaction_session_timeout = 0"))
        assert prune(postgres_database, older_than_s=0).runs == 1
    assert (await get(store_of(postgres_database), second)).pruned_at is not None
    assert prune(postgres_database, older_than_s=0).runs == 1
