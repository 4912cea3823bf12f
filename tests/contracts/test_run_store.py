"""What every store of runs promises, on both databases."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from msgspec.structs import replace
from sqlalchemy.exc import IntegrityError
from stored_runs import (
    ListQueue,
    chain,
    column,
    create,
    finish,
    get,
    key_of,
    new_key,
    opening,
    set_run,
    store_of,
)

from app.agent.events import ModelRequested
from app.errors import InvalidCursorError, QuotaExceededError
from app.runs.chain import GENESIS
from app.runs.models import Bound, Claim, IdempotencyKey, Job, NewRun, Refusal, RunKey, RunStatus
from app.runs.ports import RunStore
from app.storage.database import Database
from app.storage.dialect import now_us
from app.storage.runs import SqlRunStore
from app.storage.tables import events, idempotency_keys, runs, workers
from app.storage.writer import GroupWriter

UNFINISHED: tuple[RunStatus, ...] = ("queued", "running", "waiting")


class Silence:
    """News that nobody listens to."""

    def committed(self, key: RunKey, events: object, status: RunStatus) -> None: ...

    def changed(self, key: RunKey) -> None: ...


@pytest.fixture(params=["sqlite", "sqlite with its writer", "postgres"])
async def database(request: pytest.FixtureRequest) -> AsyncIterator[Database]:
    """Each database; SQLite as commands use it, and as a server does."""
    kind, _, has_writer = request.param.partition(" with ")
    found: Database = request.getfixturevalue(f"{kind}_database")
    if not has_writer:
        yield found
        return
    writer = GroupWriter(found, Silence())
    writer.start()
    found.attach(writer)
    yield found
    await writer.stop()


@pytest.fixture
def store(database: Database) -> SqlRunStore:
    return store_of(database)


def satisfies(store: SqlRunStore) -> RunStore:
    return store  # the type checker's part of the contract


async def claimed(store: RunStore, run: object, owner: str = "me", **options: object) -> Claim:
    claim = await store.claim(run, owner, **{"statuses": ("queued", "running"), **options})  # type: ignore[arg-type]
    assert isinstance(claim, Claim), claim
    return claim


async def refused(store: RunStore, run: object, owner: str = "me", **options: object) -> str:
    refusal = await store.claim(run, owner, **{"statuses": ("queued", "running"), **options})  # type: ignore[arg-type]
    assert isinstance(refusal, Refusal), refusal
    return refusal.reason


# creating


async def test_a_run_that_was_created_is_there_as_it_was_submitted(store: SqlRunStore) -> None:
    key = new_key()
    not_before = datetime(2031, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
    metadata = {"label": "Zürich 🙂", "n": 2**63 + 1, "deep": [{"x": None}]}
    new = NewRun(key, priority=-5, deadline_s=90.5, not_before=not_before, metadata=metadata)
    log = opening(key, "Calculate 2+2", "please")
    assert await store.create(new, log, None, None) == ("new", key.run_id)
    run = await get(store, key)
    assert (run.run_id, run.tenant, run.status) == (key.run_id, "default", "queued")
    assert (run.goal, run.context, run.max_steps) == ("Calculate 2+2", "please", 7)
    assert (run.output, run.reason, run.steps) == (None, None, 0)
    assert (run.events, run.head_hash, run.priority) == (1, log[0].hash, -5)
    assert (run.metadata, run.not_before) == (metadata, not_before)
    assert (run.started_at, run.finished_at, run.pruned_at, run.cancel_requested) == (None, None, None, False)
    assert run.deadline_at == run.created_at + timedelta(seconds=90.5)
    assert abs(run.created_at - datetime.now(UTC)) < timedelta(minutes=1)
    assert await store.events(key, 0, 10) == log


async def test_a_run_with_an_owner_is_running_from_the_start(store: SqlRunStore) -> None:
    key = await create(store, owner="me")
    run = await get(store, key)
    assert run.status == "running"
    assert run.started_at == run.created_at
    claim = await claimed(store, key)
    assert claim.epoch == 2


async def test_a_run_of_another_tenant_does_not_exist(store: SqlRunStore) -> None:
    key = await create(store, key_of("a-run", "blue"))
    other = key_of("a-run", "red")
    assert await store.get(other) is None
    assert await store.events(other, 0, 10) == []
    assert (await store.page("red", None, 10, None)).runs == []
    assert await store.request_cancel(other) is None
    assert await refused(store, other) == "unknown"
    await create(store, other)
    assert (await get(store, key)).tenant == "blue"


async def test_creating_the_same_run_again_writes_nothing(database: Database) -> None:
    queue = ListQueue()
    store = store_of(database, queue)
    key = new_key()
    for _ in range(2):
        made = await store.create(NewRun(key), opening(key), IdempotencyKey("k", b"print"), Job(key))
        assert made == ("new", key.run_id)
    assert len(queue.jobs) == 1
    assert column(database, events, "seq") == [1]


async def test_a_job_is_in_the_queue_if_and_only_if_its_run_is_written(database: Database) -> None:
    key, lost = new_key(), new_key()
    await store_of(database).create(NewRun(key), opening(key), None, Job(key))
    broken = store_of(database, ListQueue(ValueError("no more jobs today")))
    with pytest.raises(ValueError, match="no more jobs"):
        await broken.create(NewRun(lost), opening(lost), IdempotencyKey("k", b"print"), Job(lost))
    assert await broken.get(lost) is None
    assert column(database, workers, "id") == [f"job of {key.run_id}"]
    assert column(database, idempotency_keys, "key") == []


async def test_a_key_makes_one_run(database: Database) -> None:
    queue = ListQueue()
    store = store_of(database, queue)
    first, second = new_key(), new_key()
    made = IdempotencyKey("k", b"print")
    assert await store.create(NewRun(first), opening(first), made, Job(first)) == ("new", first.run_id)
    assert await store.create(NewRun(second), opening(second), made, Job(second)) == ("replay", first.run_id)
    other = IdempotencyKey("k", b"another")
    assert await store.create(NewRun(second), opening(second), other, Job(second)) == ("mismatch", first.run_id)
    assert await store.get(second) is None
    assert queue.jobs == [Job(first)]


async def test_tenants_do_not_share_keys(store: SqlRunStore) -> None:
    made = IdempotencyKey("k", b"print")
    for tenant in ("red", "blue"):
        key = new_key(tenant)
        assert await store.create(NewRun(key), opening(key), made, None) == ("new", key.run_id)


async def test_many_at_once_with_one_key_make_one_run(database: Database) -> None:
    store = store_of(database)
    keys = [new_key() for _ in range(40)]
    made = IdempotencyKey("k", b"print")
    answers = await asyncio.gather(*(store.create(NewRun(key), opening(key), made, Job(key)) for key in keys))
    assert sorted(kind for kind, _ in answers) == ["new", *["replay"] * 39]
    assert len({run_id for _, run_id in answers}) == 1
    assert column(database, runs, "id") == [answers[0][1]]


async def test_a_run_beyond_a_bound_is_refused_and_nothing_of_it_kept(
    store: SqlRunStore, database: Database
) -> None:
    limited = {"subjects": ("key:ann",), "bounds": (Bound("key", "key:ann", 2), Bound("tenant", "", 4))}
    first = await create(store, **limited)
    await create(store, **limited)
    await create(store, new_key("other"), **limited)
    asked, late = IdempotencyKey("k", b"print"), new_key()
    with pytest.raises(QuotaExceededError, match="This key has 2 unfinished runs"):
        await store.create(NewRun(late, **limited), opening(late), asked, Job(late))
    assert late.run_id not in column(database, runs, "id")
    assert late.run_id not in column(database, events, "run_id")
    assert column(database, idempotency_keys, "key") == []
    assert column(database, workers, "id") == []
    await create(store, subjects=("key:bob",), bounds=(Bound("key", "key:bob", 1), Bound("tenant", "", 3)))
    with pytest.raises(QuotaExceededError, match="This tenant has 3 unfinished runs"):
        await create(store, subjects=("key:eve",), bounds=(Bound("tenant", "", 3),))
    await create(store)  # nobody asked for it, and nobody is counted for
    finish(database, first)
    await create(store, late, **limited)


async def test_a_run_that_was_created_before_is_not_refused_the_second_time(store: SqlRunStore) -> None:
    key, asked = new_key(), IdempotencyKey("k", b"print")
    new = NewRun(key, subjects=("key:ann",), bounds=(Bound("key", "key:ann", 1),))
    for _ in range(2):
        assert await store.create(new, opening(key), asked, None) == ("new", key.run_id)
    again = replace(new, key=new_key())
    assert await store.create(again, opening(again.key), asked, None) == ("replay", key.run_id)
    with pytest.raises(QuotaExceededError):
        await store.create(again, opening(again.key), None, None)


async def test_the_runs_of_a_key_are_those_of_all_that_descend_from_it(
    store: SqlRunStore, database: Database
) -> None:
    line = ("key:c", "key:b", "key:a")
    others = [("key:b",), ("key:b2", "key:a"), ("key:a2",), ("key:a/x",), ("key:ä", "key:a2"), ("token:key:a",)]
    for subjects in (*others, line, line[1:], line[2:]):
        await create(store, subjects=subjects)
    for subject, unfinished in (("key:c", 1), ("key:b", 2), ("key:a", 4)):
        with pytest.raises(QuotaExceededError):
            await create(store, subjects=line, bounds=(Bound("key", subject, unfinished),))
        made = await create(store, subjects=line, bounds=(Bound("key", subject, unfinished + 1),))
        set_run(database, made, finished_at=1, status="success")
    await create(store, subjects=("key:a", "key:z"), bounds=(Bound("key", "key:a", 1),))


# claiming


async def test_a_claim_says_how_the_run_stands(store: SqlRunStore) -> None:
    key = await create(store, priority=3, deadline_s=100)
    claim = await claimed(store, key)
    assert (claim.key, claim.epoch, claim.status, claim.claims) == (key, 1, "queued", 1)
    assert (claim.head_seq, claim.head_hash) == (1, opening(key)[0].hash)
    assert (claim.steps, claim.priority, claim.cancel_requested) == (0, 3, False)
    assert claim.seconds_left is not None
    assert 90 < claim.seconds_left <= 100
    run = await get(store, key)
    assert run.status == "running"
    assert run.started_at is not None


async def test_a_run_without_a_deadline_has_no_seconds_left(store: SqlRunStore) -> None:
    assert (await claimed(store, await create(store))).seconds_left is None


async def test_a_deadline_that_has_passed_leaves_less_than_nothing(store: SqlRunStore) -> None:
    claim = await claimed(store, await create(store, deadline_s=-1))
    assert claim.seconds_left is not None
    assert claim.seconds_left < 0


async def test_every_claim_has_its_own_epoch_and_is_counted(store: SqlRunStore) -> None:
    key = await create(store)
    claims = [await claimed(store, key, owner) for owner in ("one", "two", "three")]
    assert [claim.epoch for claim in claims] == [1, 2, 3]
    assert [claim.claims for claim in claims] == [1, 2, 3]
    assert [claim.status for claim in claims] == ["queued", "running", "running"]


async def test_it_started_when_it_was_first_claimed(store: SqlRunStore) -> None:
    key = await create(store)
    await claimed(store, key, "one")
    started_at = (await get(store, key)).started_at
    await claimed(store, key, "two")
    assert (await get(store, key)).started_at == started_at


async def test_a_running_run_is_held_while_its_owner_is_alive(database: Database) -> None:
    store = store_of(database)
    key = await create(store)
    await store.beat("one", 60)
    await claimed(store, key, "one")
    assert await refused(store, key, "two") == "held"
    await store.beat("one", -1)
    assert (await claimed(store, key, "two")).epoch == 2


async def test_an_owner_may_claim_what_it_holds(store: SqlRunStore) -> None:
    key = await create(store)
    await store.beat("one", 60)
    await claimed(store, key, "one")
    assert (await claimed(store, key, "one")).epoch == 2


async def test_who_has_retired_is_not_alive(store: SqlRunStore) -> None:
    key = await create(store)
    await store.beat("one", 60)
    await claimed(store, key, "one")
    await store.retire("one")
    assert (await claimed(store, key, "two")).epoch == 2


async def test_a_beat_says_how_long_from_now(store: SqlRunStore) -> None:
    key = await create(store)
    await store.beat("one", -1)
    await store.beat("one", 60)
    await claimed(store, key, "one")
    assert await refused(store, key, "two") == "held"


async def test_the_dead_are_forgotten(database: Database) -> None:
    store = store_of(database)
    await store.beat("long dead", -2 * 24 * 3600)
    await store.beat("just dead", -60)
    await store.beat("new", 60)
    assert column(database, workers, "id") == ["just dead", "new"]


@pytest.mark.parametrize("status", ["success", "error", "cancelled"])
async def test_a_run_that_has_ended_cannot_be_claimed(database: Database, status: RunStatus) -> None:
    store = store_of(database)
    key = await create(store)
    finish(database, key, status)
    assert await refused(store, key, statuses=UNFINISHED) == "finished"


async def test_only_what_waits_can_be_claimed_as_waiting(database: Database) -> None:
    store = store_of(database)
    key = await create(store)
    assert await refused(store, key, statuses=("waiting",)) == "held"
    set_run(database, key, status="waiting")
    assert await refused(store, key) == "waiting"
    assert (await claimed(store, key, statuses=("waiting",))).status == "waiting"
    assert (await get(store, key)).status == "running"


async def test_a_run_for_later_is_not_claimed_earlier_unless_it_has_to_be(store: SqlRunStore) -> None:
    key = await create(store, not_before=datetime.now(UTC) + timedelta(hours=1))
    assert await refused(store, key) == "too_early"
    assert (await get(store, key)).status == "queued"
    assert (await claimed(store, key, now=True)).epoch == 1


async def test_a_run_whose_time_has_come_is_claimed(store: SqlRunStore) -> None:
    key = await create(store, not_before=datetime.now(UTC) - timedelta(hours=1))
    assert (await claimed(store, key)).epoch == 1


async def test_no_more_of_a_tenant_run_at_once_than_may(store: SqlRunStore) -> None:
    keys = [await create(store) for _ in range(3)]
    other = await create(store, new_key("blue"))
    for key in keys[:2]:
        await claimed(store, key, tenant_limit=2)
    assert await refused(store, keys[2], tenant_limit=2) == "tenant_full"
    await claimed(store, other, tenant_limit=2)
    # whoever takes over what runs already makes it no more
    await claimed(store, keys[0], "two", tenant_limit=2)
    await claimed(store, keys[2], tenant_limit=0)


async def test_claiming_at_once_gives_the_run_to_one(database: Database) -> None:
    store = store_of(database)
    owners = [f"owner {number}" for number in range(12)]
    for owner in owners:
        await store.beat(owner, 60)
    for _ in range(5):
        key = await create(store)
        answers = await asyncio.gather(
            *(store.claim(key, owner, statuses=("queued", "running")) for owner in owners)
        )
        won = [answer for answer in answers if isinstance(answer, Claim)]
        assert [claim.epoch for claim in won] == [1]
        assert {answer.reason for answer in answers if isinstance(answer, Refusal)} == {"held"}


async def test_claiming_at_once_does_not_go_past_the_tenants_limit(database: Database) -> None:
    store = store_of(database)
    keys = [await create(store) for _ in range(12)]
    answers = await asyncio.gather(*(store.claim(key, "me", statuses=("queued",), tenant_limit=3) for key in keys))
    assert sum(isinstance(answer, Claim) for answer in answers) == 3
    assert sum(answer == Refusal("tenant_full") for answer in answers) == 9


# handing back


async def test_a_run_that_is_handed_back_is_queued_with_its_job(database: Database) -> None:
    queue = ListQueue()
    store = store_of(database, queue)
    key = await create(store)
    claim = await claimed(store, key)
    assert await store.release(claim, Job(key, 2))
    assert (await get(store, key)).status == "queued"
    assert queue.jobs == [Job(key, 2)]
    again = await claimed(store, key, "two")
    assert (again.claims, again.status) == (1, "queued")
    assert again.epoch > claim.epoch


async def test_a_run_that_another_has_claimed_cannot_be_handed_back(database: Database) -> None:
    queue = ListQueue()
    store = store_of(database, queue)
    key = await create(store)
    old = await claimed(store, key, "one")
    await claimed(store, key, "two")
    assert not await store.release(old, Job(key))
    assert (await get(store, key)).status == "running"
    assert queue.jobs == []


async def test_a_run_that_has_ended_cannot_be_handed_back(database: Database) -> None:
    store = store_of(database)
    key = await create(store)
    claim = await claimed(store, key)
    finish(database, key)
    assert not await store.release(claim)
    assert (await get(store, key)).status == "success"


async def test_what_was_handed_back_has_another_epoch_so_that_late_appends_fail(database: Database) -> None:
    store = store_of(database)
    key = await create(store)
    claim = await claimed(store, key)
    await store.release(claim)
    assert column(database, runs, "epoch") == [claim.epoch + 1]
    assert not await store.release(claim)


async def test_if_the_job_cannot_be_put_in_the_run_is_not_handed_back(database: Database) -> None:
    key = await create(store_of(database))
    store = store_of(database, ListQueue(ValueError("full")))
    claim = await claimed(store, key)
    with pytest.raises(ValueError, match="full"):
        await store.release(claim, Job(key))
    assert (await get(store, key)).status == "running"


# cancelling


async def test_a_cancellation_is_noted_and_told(store: SqlRunStore) -> None:
    keys = [await create(store) for _ in range(3)]
    assert await store.cancels(keys) == []
    assert await store.request_cancel(keys[1]) == "queued"
    assert await store.request_cancel(keys[1]) == "queued"
    assert await store.cancels([*keys, key_of("nobody")]) == [keys[1]]
    assert (await get(store, keys[1])).cancel_requested
    assert (await claimed(store, keys[1])).cancel_requested
    assert await store.cancels([]) == []


async def test_many_runs_can_be_asked_about_at_once(store: SqlRunStore) -> None:
    key = await create(store)
    await store.request_cancel(key)
    others = [key_of(f"other-{number}") for number in range(1000)]
    assert await store.cancels([*others, key]) == [key]


async def test_what_has_ended_is_not_cancelled(database: Database) -> None:
    store = store_of(database)
    key = await create(store)
    finish(database, key)
    assert await store.request_cancel(key) == "success"
    assert not (await get(store, key)).cancel_requested
    assert await store.request_cancel(key_of("nobody")) is None


# reading


async def test_a_run_that_has_ended_tells_what_came_of_it(database: Database) -> None:
    store = store_of(database)
    key = await create(store)
    finish(database, key, "error", "The model failed.", "model_failed", more=3)
    run = await get(store, key)
    assert (run.status, run.output, run.reason) == ("error", "The model failed.", "model_failed")
    assert (run.steps, run.events, run.goal) == (3, 5, "Calculate 2+2")
    assert run.finished_at is not None


async def test_events_come_in_order_from_any_number_on(database: Database) -> None:
    store = store_of(database)
    key = await create(store)
    finish(database, key, more=8)
    log = await store.events(key, 0, 100)
    assert [event.seq for event in log] == list(range(1, 11))
    assert log[0].prev_hash == GENESIS
    assert all(later.prev_hash == earlier.hash for earlier, later in pairwise(log))
    assert await store.events(key, 3, 4) == log[3:7]
    assert await store.events(key, 10, 4) == []
    assert await store.events(key_of("nobody"), 0, 4) == []


async def test_a_page_of_events_is_no_larger_than_asked_but_never_empty(database: Database) -> None:
    store = store_of(database)
    key = new_key()
    log = opening(key, "é" * 1000)
    await store.create(
        NewRun(key), [*log, *chain(key.run_id, *[ModelRequested(n) for n in range(6)])[1:]], None, None
    )
    everything = await store.events(key, 0, 100)
    sizes = [len(event.body.encode()) for event in everything]
    assert len(everything) == 6
    assert len(await store.events(key, 0, 100, sizes[0] + sizes[1])) == 2
    assert len(await store.events(key, 0, 100, sizes[0] + sizes[1] - 1)) == 1
    assert len(await store.events(key, 0, 100, 1)) == 1
    assert len(await store.events(key, 1, 100, sizes[1] + sizes[2] + sizes[3])) == 3
    assert len(await store.events(key, 5, 100, 0)) == 1


async def test_an_event_comes_back_byte_for_byte(store: SqlRunStore) -> None:
    key = new_key()
    goal = "line\nbreak \u2028 'quoted' \"twice\" \\ Zürich 以太坊 🙂 %s {0} :name"
    log = opening(key, goal)
    await store.create(NewRun(key), log, None, None)
    assert await store.events(key, 0, 1) == log
    assert (await get(store, key)).goal == goal


async def test_one_unreadable_event_does_not_hide_the_other_runs(database: Database) -> None:
    store = store_of(database)
    await create(store)
    key = new_key()
    (event,) = opening(key)
    newer = type(event)(1, event.body.replace('"v":1', '"v":99'), event.prev_hash, event.hash)
    await store.create(NewRun(key), [newer], None, None)
    assert [run.goal for run in (await store.page("default", None, 10, None)).runs] == [None, "Calculate 2+2"]


async def test_pages_go_from_the_newest_to_the_oldest_without_gap_or_repetition(database: Database) -> None:
    store = store_of(database)
    keys = [await create(store) for _ in range(7)]
    for key in keys:  # half of them of one moment: the id decides
        set_run(database, key, created_at=1_000_000 if key in keys[:4] else 2_000_000)
    cursor, seen = None, []
    for _ in range(4):
        page = await store.page("default", None, 2, cursor)
        seen += [run.run_id for run in page.runs]
        cursor = page.next_cursor
    assert cursor is None
    assert seen == [key.run_id for key in reversed(keys)]


async def test_new_runs_do_not_disturb_who_reads_on(store: SqlRunStore) -> None:
    keys = [await create(store) for _ in range(4)]
    page = await store.page("default", None, 2, None)
    await create(store)
    rest = await store.page("default", None, 10, page.next_cursor)
    assert [run.run_id for run in rest.runs] == [key.run_id for key in reversed(keys[:2])]
    assert rest.next_cursor is None


async def test_a_page_can_be_of_one_status(database: Database) -> None:
    store = store_of(database)
    keys = [await create(store) for _ in range(6)]
    for key in keys[::2]:
        finish(database, key)
    page = await store.page("default", "success", 2, None)
    rest = await store.page("default", "success", 2, page.next_cursor)
    assert [run.run_id for run in [*page.runs, *rest.runs]] == [key.run_id for key in reversed(keys[::2])]
    assert [run.output for run in page.runs] == ["4", "4"]
    assert (await store.page("default", "waiting", 2, None)).runs == []


async def test_a_full_last_page_has_no_next_one(store: SqlRunStore) -> None:
    for _ in range(2):
        await create(store)
    assert (await store.page("default", None, 2, None)).next_cursor is None


@pytest.mark.parametrize(
    "cursor",
    [
        "",
        "x",
        "nonsense",
        "é",
        "a b",
        "123",
        "-1_a",
        "1_",
        "01_a",
        "1__a",
        "1_a\n",
        "1" * 30 + "_a",
        "1_" + "a" * 500,
        "１_a",
        "1_a=",
        "1_' OR 1",
        "A" * 10_000,
    ],
)
async def test_a_cursor_that_was_not_given_out_is_refused(store: SqlRunStore, cursor: str) -> None:
    with pytest.raises(InvalidCursorError):
        await store.page("default", None, 10, cursor)


# finding work


async def test_what_nobody_works_on_is_found_oldest_first(database: Database) -> None:
    store = store_of(database)
    at = datetime(2031, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
    queued = await create(store, priority=4, not_before=at)
    held, orphan, waiting, ended = [await create(store, new_key("blue")) for _ in range(4)]
    await store.beat("alive", 60)
    await claimed(store, held, "alive")
    await claimed(store, orphan, "dead")
    set_run(database, waiting, status="waiting")
    finish(database, ended)
    for number, key in enumerate((orphan, queued)):
        set_run(database, key, created_at=number)
    assert await store.unclaimed(10) == [Job(orphan), Job(queued, 4, at)]
    assert await store.unclaimed(1) == [Job(orphan)]
    assert await store.unclaimed(10, orphaned_only=True) == [Job(orphan)]


async def test_runs_for_later_hide_none_that_are_due(store: SqlRunStore) -> None:
    later = datetime.now(UTC) + timedelta(days=1)
    for _ in range(3):
        await create(store, not_before=later)
    due = await create(store, not_before=datetime.now(UTC) - timedelta(days=1))
    new = await create(store)
    assert [job.key for job in await store.unclaimed(2)] == [due, new]
    assert len(await store.unclaimed(10)) == 5


async def test_a_waiting_run_past_its_deadline_is_found(database: Database) -> None:
    store = store_of(database)
    late, early, endless = (
        await create(store, deadline_s=-1),
        await create(store, deadline_s=60),
        await create(store),
    )
    for key in (late, early, endless):
        set_run(database, key, status="waiting")
    assert await store.unclaimed(10, orphaned_only=True) == [Job(late)]
    assert await store.unclaimed(10) == []


async def test_the_statuses_of_the_table_are_those_of_the_code(database: Database) -> None:
    key = await create(store_of(database))
    with pytest.raises(IntegrityError):
        set_run(database, key, status="asleep")


async def test_the_clock_is_the_databases(database: Database) -> None:
    from sqlalchemy import select

    now = database.read_now(lambda connection: connection.execute(select(now_us())).scalar_one())
    assert isinstance(now, int)
    assert abs(now / 1e6 - datetime.now(UTC).timestamp()) < 60


async def test_a_waiting_run_whose_canceller_died_is_delivered(database: Database) -> None:
    store, key = store_of(database), new_key()
    await create(store, key)
    set_run(database, key, status="waiting")
    assert await store.unclaimed(10, orphaned_only=True) == []
    assert await store.request_cancel(key) == "waiting"
    assert [job.key for job in await store.unclaimed(10, orphaned_only=True)] == [key]
