"""Several processes on one Postgres: who gets a run, a key or a turn, and what an unanswered COMMIT does to it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from threading import Event

import pytest
from sqlalchemy import text, update
from stored_runs import (
    ListQueue,
    another,
    column,
    create,
    get,
    leave_a_commit_unanswered,
    new_key,
    opening,
    store_of,
)

from app.errors import QuotaExceededError
from app.runs.models import Bound, Claim, IdempotencyKey, Job, NewRun, Refusal
from app.storage.database import Database
from app.storage.runs import SqlRunStore
from app.storage.tables import events, idempotency_keys, runs, workers


@pytest.fixture
def second(postgres_database: Database) -> Iterator[Database]:
    """The same database, as another process has it open."""
    with another(postgres_database) as database:
        yield database


@pytest.fixture
def stores(postgres_database: Database, second: Database) -> list[SqlRunStore]:
    return [store_of(postgres_database), store_of(second)]


async def test_200_posts_with_one_key_over_two_processes_make_one_run(
    postgres_database: Database, stores: list[SqlRunStore]
) -> None:
    asked = IdempotencyKey("k", b"print")
    keys = [new_key() for _ in range(200)]
    answers = await asyncio.gather(
        *(stores[number % 2].create(NewRun(key), opening(key), asked, Job(key)) for number, key in enumerate(keys))
    )
    assert sorted({kind for kind, _ in answers}) == ["new", "replay"]
    assert sum(kind == "new" for kind, _ in answers) == 1
    (made,) = {run_id for _, run_id in answers}
    assert column(postgres_database, runs, "id") == [made]
    assert column(postgres_database, events, "run_id") == [made]
    assert column(postgres_database, idempotency_keys, "run_id") == [made]
    assert column(postgres_database, workers, "id") == [f"job of {made}"]


async def test_if_the_first_with_a_key_fails_the_next_one_gets_it(
    postgres_database: Database, second: Database
) -> None:
    """The one that waited for the key is not told of a run that was never written."""
    asked = IdempotencyKey("k", b"print")
    lost, key = new_key(), new_key()
    queue = WaitingQueue(second)
    failing = store_of(postgres_database, queue).create(NewRun(lost), opening(lost), asked, Job(lost))
    first = asyncio.create_task(failing)
    assert await asyncio.to_thread(queue.was_called.wait, 10)
    assert await store_of(second).create(NewRun(key), opening(key), asked, None) == ("new", key.run_id)
    with pytest.raises(ValueError, match="no more jobs"):
        await first
    assert column(postgres_database, runs, "id") == [key.run_id]


class WaitingQueue(ListQueue):
    """Fails, but not before somebody waits for a lock."""

    def __init__(self, database: Database) -> None:
        super().__init__()
        self._database = database
        self.was_called = Event()

    def put_in(self, transaction: object, job: Job) -> None:
        self.was_called.set()
        until_somebody_waits(self._database)
        raise ValueError("no more jobs today")


def until_somebody_waits(database: Database) -> None:
    """Return when a session of the database waits for a lock that another one has."""
    waiting = text(
        "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    )
    for _ in range(5000):
        if database.read_now(lambda connection: connection.execute(waiting).scalar_one()):
            return
    raise AssertionError("nobody waits")


async def test_of_many_processes_one_gets_the_run(stores: list[SqlRunStore]) -> None:
    owners = [f"owner {number}" for number in range(16)]
    for owner in owners:
        await stores[0].beat(owner, 60)
    key = await create(stores[0])
    answers = await asyncio.gather(
        *(
            stores[number % 2].claim(key, owner, statuses=("queued", "running"))
            for number, owner in enumerate(owners)
        )
    )
    assert [answer.epoch for answer in answers if isinstance(answer, Claim)] == [1]
    assert answers.count(Refusal("held")) == 15


async def test_the_tenants_limit_holds_over_processes(stores: list[SqlRunStore]) -> None:
    keys = [await create(stores[0]) for _ in range(20)]
    answers = await asyncio.gather(
        *(
            stores[number % 2].claim(key, "me", statuses=("queued",), tenant_limit=4)
            for number, key in enumerate(keys)
        )
    )
    assert sum(isinstance(answer, Claim) for answer in answers) == 4


async def test_runs_created_at_once_do_not_go_past_a_limit(
    postgres_database: Database, stores: list[SqlRunStore]
) -> None:
    bounds = (Bound("parent", "key:ann", 2), Bound("tenant", "", 7))
    news = [NewRun(new_key(), subjects=(f"key:{number}", "key:ann"), bounds=bounds) for number in range(20)]
    answers = await asyncio.gather(
        *(stores[number % 2].create(new, opening(new.key), None, Job(new.key)) for number, new in enumerate(news)),
        return_exceptions=True,
    )
    made = [answer[1] for answer in answers if isinstance(answer, tuple)]
    assert len(made) == 2
    assert sum(isinstance(answer, QuotaExceededError) for answer in answers) == 18
    assert sorted(column(postgres_database, runs, "id")) == sorted(made)
    assert sorted(column(postgres_database, workers, "id")) == sorted(f"job of {one}" for one in made)


async def test_a_limited_run_whose_commit_was_not_answered_is_made_once(
    postgres_database: Database, stores: list[SqlRunStore]
) -> None:
    key = new_key()
    new = NewRun(key, subjects=("key:ann",), bounds=(Bound("key", "key:ann", 1),))
    broken = leave_a_commit_unanswered(postgres_database, commit=True)
    assert await stores[0].create(new, opening(key), None, None) == ("new", key.run_id)
    assert broken
    assert column(postgres_database, runs, "id") == [key.run_id]


async def test_an_owner_who_was_heard_of_while_the_claimant_waited_keeps_its_run(
    postgres_database: Database, second: Database
) -> None:
    """Waiting for a row, one must not judge its owner by what one knew before."""
    store = store_of(second)
    key = await create(store)
    await store.beat("owner", 60)
    await store.claim(key, "owner", statuses=("queued",))
    await store.beat("owner", -1)
    with postgres_database.write_engine.begin() as connection:  # its owner appends
        connection.execute(update(runs).values(steps=1))
        claim = asyncio.create_task(store.claim(key, "other", statuses=("running",)))
        await asyncio.to_thread(until_somebody_waits, second)
        await store.beat("owner", 60)
    assert await claim == Refusal("held")


# COMMITs that nobody answers, after they took place and before


@pytest.mark.parametrize("took_place", [True, False])
async def test_a_run_is_created_once(postgres_database: Database, took_place: bool) -> None:
    queue = ListQueue()
    store = store_of(postgres_database, queue)
    key = new_key()
    happened = leave_a_commit_unanswered(postgres_database, commit=took_place)
    made = await store.create(NewRun(key), opening(key), IdempotencyKey("k", b"print"), Job(key))
    assert happened
    assert made == ("new", key.run_id)
    assert column(postgres_database, runs, "id") == [key.run_id]
    assert column(postgres_database, events, "seq") == [1]
    assert column(postgres_database, workers, "id") == [f"job of {key.run_id}"]


@pytest.mark.parametrize("took_place", [True, False])
@pytest.mark.parametrize("status", ["queued", "waiting"])
async def test_a_claim_is_given_once(postgres_database: Database, took_place: bool, status: str) -> None:
    store = store_of(postgres_database)
    await store.beat("me", 60)
    key = await create(store)
    postgres_database.transact_now(lambda connection: connection.execute(update(runs).values(status=status)))
    happened = leave_a_commit_unanswered(postgres_database, commit=took_place)
    claim = await store.claim(key, "me", statuses=(status,))  # type: ignore[arg-type]
    assert happened
    assert isinstance(claim, Claim)
    assert (claim.epoch, claim.claims, claim.status) == (1, 1, status)
    assert column(postgres_database, runs, "epoch") == [1]


@pytest.mark.parametrize("took_place", [True, False])
async def test_a_run_is_handed_back_once(postgres_database: Database, took_place: bool) -> None:
    queue = ListQueue()
    store = store_of(postgres_database, queue)
    key = await create(store)
    claim = await store.claim(key, "me", statuses=("queued",))
    assert isinstance(claim, Claim)
    happened = leave_a_commit_unanswered(postgres_database, commit=took_place)
    assert await store.release(claim, Job(key))
    assert happened
    assert (await get(store, key)).status == "queued"
    assert column(postgres_database, workers, "id") == [f"job of {key.run_id}"]


@pytest.mark.parametrize("took_place", [True, False])
async def test_a_cancellation_and_a_beat_may_be_done_twice(postgres_database: Database, took_place: bool) -> None:
    store = store_of(postgres_database)
    key = await create(store)
    leave_a_commit_unanswered(postgres_database, commit=took_place)
    assert await store.request_cancel(key) == "queued"
    leave_a_commit_unanswered(postgres_database, commit=took_place)
    await store.beat("me", 60)
    assert column(postgres_database, workers, "id") == ["me"]
    assert await store.cancels([key]) == [key]
