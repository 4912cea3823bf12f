"""What the group writer promises, on both databases: each unit durable once, whatever fails meanwhile."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from datetime import UTC, datetime
from itertools import count
from typing import Any

import pytest
from durable_runs import until
from fakes import FakeTool
from sqlalchemy import Connection, event, insert, select, text, update

from app.agent.events import Event, ModelRequested, RunFinished, RunStarted, Step, ToolCompleted
from app.agent.toolbox import call_tool_in
from app.errors import FencedError, StepError, StorageError, StorageUnavailableError, ToolRejected
from app.jsonvalue import JsonObject
from app.queues.in_process import InProcessQueue
from app.runs.codec import read_all
from app.runs.journal import DurableJournal
from app.runs.models import Claim, NewRun, RunKey, RunStatus, StoredEvent
from app.runs.ports import Unit
from app.storage import committer, writer
from app.storage.database import Database
from app.storage.notes import SqlNoteStore
from app.storage.runs import SqlRunStore
from app.storage.tables import events, notes, runs
from app.storage.writer import GroupWriter
from app.tools.base import Transaction, prepare

NOW = datetime(2026, 11, 22, 9, 30, tzinfo=UTC)
_numbers = count(1)


class News:
    """Notes what it is told, and what was durable by then."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.told: list[tuple[str, list[int], RunStatus]] = []
        self.seen: list[bool] = []
        self.failing = False

    def committed(self, key: RunKey, told: Sequence[StoredEvent], status: RunStatus) -> None:
        if self.failing:
            raise RuntimeError("a listener is broken")
        self.told.append((key.run_id, [one.seq for one in told], status))
        written = stored(self._database, key)
        self.seen.append(all(one in written for one in told))

    def changed(self, key: RunKey) -> None: ...


class Desk:
    """A writer at work, and journals of new runs on it."""

    def __init__(self, database: Database, **options: Any) -> None:
        self.database = database
        self.news = News(database)
        self.writer = GroupWriter(database, self.news, **{"patience_s": 5.0, **options})

    def journal(self, key: RunKey | None = None) -> DurableJournal:
        """Return the journal of a new run, which has one event that is not written yet."""
        key = key or RunKey("default", f"run-{next(_numbers)}")
        journal = DurableJournal(self.writer, NewRun(key, owner="me"), lambda: NOW)
        journal.append(RunStarted("go", None, ()))
        return journal

    async def kept(self) -> DurableJournal:
        """Return the journal of a run whose first event is durable."""
        journal = self.journal()
        await journal.commit()
        return journal

    async def claimed(self, key: RunKey, owner: str = "another") -> Claim:
        claim = await SqlRunStore(self.database, InProcessQueue()).claim(key, owner, statuses=("running",))
        assert isinstance(claim, Claim)
        return claim


@asynccontextmanager
async def at_work(database: Database, **options: Any) -> AsyncIterator[Desk]:
    desk = Desk(database, **options)
    desk.writer.start()
    yield desk
    await desk.writer.stop()


@pytest.fixture(params=["sqlite_database", "emptied_postgres_database"], ids=["sqlite", "postgres"])
def database(request: pytest.FixtureRequest) -> Database:
    found: Database = request.getfixturevalue(request.param)
    return found


@pytest.fixture
async def desk(database: Database) -> AsyncIterator[Desk]:
    async with at_work(database) as opened:
        yield opened


def stored(database: Database, key: RunKey) -> list[StoredEvent]:
    statement = (
        select(events).where(events.c.tenant == key.tenant, events.c.run_id == key.run_id).order_by(events.c.seq)
    )
    rows = database.read_now(lambda connection: connection.execute(statement).all())
    return [StoredEvent(row.seq, row.body, row.prev_hash, row.hash) for row in rows]


def written(database: Database, journal: DurableJournal) -> list[Event]:
    """Return the run's events, which end at its head and at the journal's."""
    found = stored(database, journal.key)
    row = row_of(database, journal)
    assert (row.head_seq, row.head_hash) == (found[-1].seq, found[-1].hash)
    assert [one.prev_hash for one in found[1:]] == [one.hash for one in found[:-1]]
    return read_all(found)


def row_of(database: Database, journal: DurableJournal) -> Any:
    statement = select(runs).where(runs.c.tenant == journal.key.tenant, runs.c.id == journal.key.run_id)
    return database.read_now(lambda connection: connection.execute(statement).one())


def change(database: Database, journal: DurableJournal, **values: object) -> None:
    statement = update(runs).where(runs.c.tenant == journal.key.tenant, runs.c.id == journal.key.run_id)
    database.transact_now(lambda connection: connection.execute(statement.values(**values)))


def noted(database: Database, proposal: str = "PROP-2025-001") -> list[str]:
    return SqlNoteStore(database).get_notes(proposal)


def completed(output: JsonObject | None, error: StepError | None) -> ToolCompleted:
    """Return the event of an effect; of two tries it is never the same."""
    step = Step(1, "note", {}, output, None if error is None else error.as_text(), NOW)
    return ToolCompleted(step, duration_s=float(next(_numbers)))


def performing(
    journal: DurableJournal, effect: Callable[[Transaction], JsonObject] | None = None
) -> asyncio.Task[ToolCompleted]:
    """Perform an effect in a task: by default a note that names the run."""
    return asyncio.create_task(journal.perform(1, effect or noting(journal.key.run_id), completed))


def noting(note: str, then: Callable[[], object] = lambda: None) -> Callable[[Transaction], JsonObject]:
    def effect(transaction: Transaction) -> JsonObject:
        connection = transaction.connection
        number = connection.execute(select(notes.c.number).order_by(notes.c.number.desc())).scalar() or 0
        connection.execute(
            insert(notes).values(
                tenant=transaction.tenant,
                proposal_id="PROP-2025-001",
                number=number + 1,
                note=note,
                run_id=transaction.run_id,
                step=transaction.step,
                created_at=0,
            )
        )
        then()
        return {"number": number + 1}

    return effect


def raising(error: BaseException) -> Callable[..., Any]:
    def fail(*_: object) -> Any:
        raise error

    return fail


# groups


async def test_what_many_runs_have_at_one_time_is_one_transaction(desk: Desk) -> None:
    journals = [desk.journal() for _ in range(200)]
    await asyncio.gather(*[journal.commit() for journal in journals])
    first = desk.writer.commits
    for journal in journals:
        journal.append(ModelRequested(1))
        journal.append(RunFinished("success", "done"))
    await asyncio.gather(*[journal.commit() for journal in journals])
    # an idle writer takes the first few before all have come
    assert (first, desk.writer.commits) <= (2, 4)
    assert desk.writer.units == 400
    for journal in journals:
        assert written(desk.database, journal) == [
            RunStarted("go", None, ()),
            ModelRequested(1),
            RunFinished("success", "done"),
        ]
        row = row_of(desk.database, journal)
        assert (row.status, row.owner, row.claims, row.finished_at is None) == ("success", None, 0, False)


async def test_units_of_a_run_are_written_in_the_order_they_came_however_they_are_grouped(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "MAX_GROUP", 3)
    journals = [await desk.kept() for _ in range(4)]
    for number in range(1, 21):
        for journal in journals:
            journal.append(ModelRequested(number))
        await asyncio.sleep(0)
    await asyncio.gather(*[journal.commit() for journal in journals])
    for journal in journals:
        assert written(desk.database, journal)[1:] == [ModelRequested(number) for number in range(1, 21)]
    assert row_of(desk.database, journals[0]).claims == 1


async def test_a_new_run_and_all_it_does_in_one_turn_is_one_unit(desk: Desk) -> None:
    journal = desk.journal()
    journal.append(completed({}, None))
    journal.append(RunFinished("error", "no", "declined"))
    await journal.commit()
    row = row_of(desk.database, journal)
    assert (row.status, row.epoch, row.owner, row.claims, row.steps, row.head_seq) == ("error", 1, None, 0, 1, 3)
    assert (row.started_at is None, row.finished_at is None) == (False, False)
    assert (desk.writer.commits, desk.writer.units) == (1, 1)


@pytest.mark.parametrize("status", ["queued", "waiting"])
async def test_a_run_that_is_handed_back_has_no_owner(desk: Desk, status: RunStatus) -> None:
    known, new = await desk.kept(), desk.journal()
    await asyncio.gather(known.end(status), new.end(status))
    for journal in (known, new):
        row = row_of(desk.database, journal)
        assert (row.status, row.owner, row.claims, row.head_seq, row.finished_at) == (status, None, 0, 1, None)
        assert written(desk.database, journal) == [RunStarted("go", None, ())]


async def test_that_a_run_is_to_stop_comes_back_with_its_appends(desk: Desk) -> None:
    plain, effectful, other = [await desk.kept() for _ in range(3)]
    change(desk.database, plain, cancel_requested=1)
    change(desk.database, effectful, cancel_requested=1)
    plain.append(ModelRequested(1))
    other.append(ModelRequested(1))
    await asyncio.gather(plain.commit(), other.commit(), performing(effectful))
    assert [journal.cancel_requested for journal in (plain, effectful, other)] == [True, True, False]


async def test_news_is_told_when_it_is_durable_and_in_order(desk: Desk) -> None:
    journal = await desk.kept()
    await performing(journal)
    journal.append(RunFinished("success", "done"))
    await journal.commit()
    run_id = journal.key.run_id
    assert desk.news.told == [(run_id, [1], "running"), (run_id, [2], "running"), (run_id, [3], "success")]
    assert desk.news.seen == [True, True, True]


async def test_a_broken_listener_holds_nobody_up(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    desk.news.failing = True
    journals = [desk.journal() for _ in range(3)]
    await asyncio.wait_for(asyncio.gather(*[journal.commit() for journal in journals]), 5)
    assert "could not be told" in caplog.text


# the fence


@pytest.mark.parametrize("stale", [{"epoch": 2}, {"head_seq": 9}])
async def test_who_is_not_the_owner_any_more_appends_nothing_and_the_others_do(
    desk: Desk, stale: dict[str, int]
) -> None:
    journals = [await desk.kept() for _ in range(3)]
    change(desk.database, journals[1], **stale)
    for journal in journals:
        journal.append(ModelRequested(1))
    results = await asyncio.gather(*[journal.commit() for journal in journals], return_exceptions=True)
    assert [type(result) for result in results] == [type(None), FencedError, type(None)]
    assert len(stored(desk.database, journals[1].key)) == 1
    assert row_of(desk.database, journals[1]).claims == 1
    assert [len(written(desk.database, journal)) for journal in (journals[0], journals[2])] == [2, 2]
    assert [told for told in desk.news.told if told[0] == journals[1].key.run_id] == [
        (journals[1].key.run_id, [1], "running")
    ]


async def test_what_follows_a_unit_that_was_refused_is_refused_too(desk: Desk) -> None:
    journal = await desk.kept()
    change(desk.database, journal, epoch=2)
    journal.append(ModelRequested(1))
    await asyncio.sleep(0)
    journal.append(ModelRequested(2))
    for waiting in (performing(journal), journal.commit()):
        with pytest.raises(FencedError):
            await waiting
    assert (len(stored(desk.database, journal.key)), noted(desk.database)) == (1, [])


async def test_the_effect_of_who_is_not_the_owner_any_more_is_undone(desk: Desk) -> None:
    journals = [await desk.kept() for _ in range(3)]
    change(desk.database, journals[1], epoch=2)
    results = await asyncio.gather(*[performing(journal) for journal in journals], return_exceptions=True)
    assert [type(result) for result in results] == [ToolCompleted, FencedError, ToolCompleted]
    assert noted(desk.database) == [journals[0].key.run_id, journals[2].key.run_id]
    assert len(stored(desk.database, journals[1].key)) == 1


@pytest.mark.parametrize("first", ["old", "new"])
async def test_a_former_owner_in_the_same_group_does_not_harm_the_present_one(desk: Desk, first: str) -> None:
    old = await desk.kept()
    new = DurableJournal(desk.writer, await desk.claimed(old.key), lambda: NOW)
    for journal in (old, new) if first == "old" else (new, old):
        journal.append(ModelRequested(1 if journal is new else 9))
    results = await asyncio.gather(old.commit(), new.commit(), return_exceptions=True)
    assert [type(result) for result in results] == [FencedError, type(None)]
    assert written(desk.database, new)[1:] == [ModelRequested(1)]


# what fails


async def test_a_unit_that_cannot_be_written_fails_its_run_and_no_other(desk: Desk) -> None:
    known = await desk.kept()
    twin = desk.journal(known.key)  # a second run of the same name
    others = [desk.journal() for _ in range(3)]
    results = await asyncio.gather(
        twin.commit(), *[journal.commit() for journal in others], return_exceptions=True
    )
    assert [type(result) for result in results] == [StorageError, *[type(None)] * 3]
    with pytest.raises(StorageError):
        twin.append(ModelRequested(1))
    known.append(ModelRequested(1))
    await known.commit()
    assert written(desk.database, known)[1:] == [ModelRequested(1)]
    assert all(written(desk.database, journal) for journal in others)


async def test_an_effect_whose_event_cannot_be_made_fails_its_run_and_no_other(desk: Desk) -> None:
    bad, good, other = await desk.kept(), await desk.kept(), await desk.kept()
    failing = asyncio.create_task(bad.perform(1, noting("bad"), raising(ValueError("a bug"))))
    other.append(ModelRequested(1))
    results = await asyncio.gather(failing, performing(good), other.commit(), return_exceptions=True)
    assert [type(result) for result in results] == [StorageError, ToolCompleted, type(None)]
    assert noted(desk.database) == [good.key.run_id]
    with pytest.raises(StorageError):
        bad.append(ModelRequested(1))


async def test_effects_of_several_runs_in_a_group_see_and_keep_what_they_should(desk: Desk) -> None:
    journals = [await desk.kept() for _ in range(4)]

    def full(transaction: Transaction) -> JsonObject:
        noting("half")(transaction)
        raise ToolRejected("Full.", "store_full")

    effects = [None, full, None, None]
    done = await asyncio.gather(*[performing(*pair) for pair in zip(journals, effects, strict=True)])
    assert [event.step.output or event.step.error for event in done] == [
        {"number": 1},
        "store_full: Full.",
        {"number": 2},
        {"number": 3},
    ]
    assert noted(desk.database) == [journals[at].key.run_id for at in (0, 2, 3)]
    assert [written(desk.database, journal)[1:] for journal in journals] == [[event] for event in done]


async def test_a_run_goes_on_around_its_effect_in_one_group(desk: Desk) -> None:
    journal = desk.journal()
    task = performing(journal)
    event = await task
    journal.append(RunFinished("success", "done"))
    await journal.commit()
    assert written(desk.database, journal) == [RunStarted("go", None, ()), event, RunFinished("success", "done")]
    row = row_of(desk.database, journal)
    assert (row.status, row.steps, noted(desk.database)) == ("success", 1, [journal.key.run_id])


@pytest.mark.parametrize("how", ["commit", "rollback", "close"])
async def test_an_effect_that_ends_the_transaction_harms_its_own_run_only(desk: Desk, how: str) -> None:
    bad, good, other = await desk.kept(), await desk.kept(), await desk.kept()

    def effect(transaction: Transaction) -> JsonObject:
        noting("bad")(transaction)
        getattr(transaction.connection, how)()
        return {}

    task = performing(bad, effect)
    other.append(ModelRequested(1))
    results = await asyncio.gather(task, performing(good), other.commit(), return_exceptions=True)
    assert isinstance(results[0], StorageError)
    assert [type(result) for result in results[1:]] == [ToolCompleted, type(None)]
    assert noted(desk.database) == [good.key.run_id]
    assert [len(written(desk.database, journal)) for journal in (bad, good, other)] == [1, 2, 2]


async def test_an_effect_that_goes_over_an_error_of_the_database_is_a_failed_step(desk: Desk) -> None:
    bad, good = await desk.kept(), await desk.kept()

    def effect(transaction: Transaction) -> JsonObject:
        noting("bad")(transaction)
        with suppress(Exception):
            transaction.connection.execute(text("SELECT * FROM nowhere"))
        return {"went": "over it"}

    event, _ = await asyncio.gather(performing(bad, effect), performing(good))
    if desk.database.is_sqlite:  # which undoes a statement, and not more
        assert (event.step.error, noted(desk.database)) == (None, ["bad", good.key.run_id])
    else:
        assert (event.step.error or "").startswith("tool_failed: ")
        assert noted(desk.database) == [good.key.run_id]
    assert written(desk.database, bad)[1:] == [event]


# calls


def insert_note(connection: Connection) -> str:
    noting("called")(Context(connection))  # type: ignore[arg-type]
    return "called"


class Context:
    """Just enough of a transaction."""

    tenant, run_id, step = "default", "none", 0

    def __init__(self, connection: Connection) -> None:
        self.connection = connection


async def test_a_call_returns_what_it_does_when_that_is_durable(desk: Desk) -> None:
    assert await desk.writer.transact(insert_note) == "called"
    assert noted(desk.database) == ["called"]


async def test_a_call_that_raises_undoes_what_it_did_and_nothing_else(desk: Desk) -> None:
    journal = desk.journal()

    def fail(connection: Connection) -> None:
        insert_note(connection)
        raise LookupError("no")

    results = await asyncio.gather(
        desk.writer.transact(fail), desk.writer.transact(insert_note), journal.commit(), return_exceptions=True
    )
    assert [type(result) for result in results] == [LookupError, str, type(None)]
    assert noted(desk.database) == ["called"]
    assert written(desk.database, journal)


async def test_a_call_whose_caller_is_gone_is_carried_out(desk: Desk) -> None:
    task = asyncio.create_task(desk.writer.transact(insert_note))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await (await desk.kept()).commit()
    assert noted(desk.database) == ["called"]


# a database in trouble


def error_of(database: Database, kind: str) -> Exception:
    """Return what the driver raises: for want of luck, of a connection, or for good."""
    dbapi: Any = database.write_engine.dialect.dbapi
    if not database.is_sqlite:
        return {
            "transient": dbapi.errors.SerializationFailure("could not serialize access"),
            "unavailable": dbapi.OperationalError("server closed the connection unexpectedly"),
            "fault": dbapi.errors.CheckViolation("a bug"),
        }[kind]
    code = {"transient": 5, "unavailable": 10, "fault": 19}[kind]
    error: Exception = dbapi.OperationalError(f"code {code}")
    error.sqlite_errorcode = code  # type: ignore[attr-defined]
    return error


@contextmanager
def trouble(database: Database, at: str, *actions: Callable[[Connection], None]) -> Iterator[list[int]]:
    """Do something when the writer comes to a point: one thing each time, then nothing; yield how often."""
    left, times = list(actions), [0]

    def act(connection: Connection, *_: Any) -> None:
        if threading.current_thread().name == "journal-writer":
            times[0] += 1
            if left:
                left.pop(0)(connection)

    event.listen(database.write_engine, at, act)
    yield times
    event.remove(database.write_engine, at, act)


def go_on(_connection: Connection) -> None:
    """Do nothing this time."""


def commit_and(error: Exception) -> Callable[[Connection], None]:
    """Let the COMMIT take place, and its answer be lost."""

    def act(connection: Connection) -> None:
        driver: Any = connection.connection.driver_connection
        driver.commit()
        raise error

    return act


class Busy:
    """A writer that has one of everything for its next group, and is held up before it."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        self.journals: list[DurableJournal] = []
        self.waiting: list[asyncio.Future[Any]] = []
        self._reached, self._open = threading.Event(), threading.Event()

    async def gather(self) -> Busy:
        known, noter, handed = [await self.desk.kept() for _ in range(3)]
        holding = asyncio.ensure_future(self.desk.writer.transact(self._hold))
        await until(self._reached.is_set)
        new = self.desk.journal()
        known.append(ModelRequested(1))
        self.journals = [known, noter, new, handed]
        self.waiting = [
            asyncio.ensure_future(known.commit()),
            performing(noter),
            asyncio.ensure_future(new.commit()),
            asyncio.ensure_future(handed.end("queued")),
            asyncio.ensure_future(self.desk.writer.transact(seven)),
        ]
        for _ in range(3):
            await asyncio.sleep(0)
        self.waiting.append(holding)
        return self

    async def results(self, within_s: float = 10.0, *, raising: bool = True) -> list[Any]:
        """Let the writer go on, and return what came of it."""
        self._open.set()
        async with asyncio.timeout(within_s):
            return (await asyncio.gather(*self.waiting, return_exceptions=not raising))[:-1]

    def _hold(self, _connection: Connection) -> None:
        self._reached.set()
        self._open.wait(10)


def seven(connection: Connection) -> object:
    return connection.execute(text("SELECT 7")).scalar()


def check_all_is_done_once(busy: Busy, results: list[Any]) -> None:
    desk = busy.desk
    known, noter, new, handed = busy.journals
    assert [type(result) for result in results] == [type(None), ToolCompleted, type(None), type(None), int]
    assert written(desk.database, known)[1:] == [ModelRequested(1)]
    assert written(desk.database, noter)[1:] == [results[1]]
    assert written(desk.database, new) == [RunStarted("go", None, ())]
    assert row_of(desk.database, handed).status == "queued"
    assert noted(desk.database) == [noter.key.run_id]
    for journal in busy.journals[:3]:  # and they go on from there
        assert journal.head_hash == stored(desk.database, journal.key)[-1].hash


@pytest.mark.parametrize("at", ["before_cursor_execute", "commit"])
@pytest.mark.parametrize("kind", ["transient", "unavailable"])
async def test_a_group_is_written_again_after_trouble_that_may_pass(desk: Desk, kind: str, at: str) -> None:
    busy = await Busy(desk).gather()
    fail = raising(error_of(desk.database, kind))
    with trouble(desk.database, at, fail, fail, fail):
        results = await busy.results()
    check_all_is_done_once(busy, results)


@pytest.mark.parametrize("kind", ["transient", "unavailable", "fault"])
@pytest.mark.parametrize("took_place", [True, False])
async def test_a_commit_that_nobody_answers_is_looked_up_before_it_is_tried_again(
    desk: Desk, took_place: bool, kind: str
) -> None:
    busy = await Busy(desk).gather()
    error = error_of(desk.database, kind)
    with trouble(desk.database, "commit", go_on, commit_and(error) if took_place else raising(error)) as times:
        results = await busy.results()
    check_all_is_done_once(busy, results)
    assert times[0] == 2 if took_place else times[0] >= 3


async def test_an_effect_whose_commit_took_place_is_not_even_tried_again(desk: Desk) -> None:
    journal = await desk.kept()
    tries: list[int] = []
    with trouble(desk.database, "commit", commit_and(error_of(desk.database, "unavailable"))) as times:
        event = await performing(journal, noting("once", lambda: tries.append(1)))
    assert (len(tries), times[0], noted(desk.database)) == (1, 1, ["once"])
    assert written(desk.database, journal)[1:] == [event]


async def test_whether_it_took_place_is_asked_until_the_database_answers(desk: Desk) -> None:
    busy = await Busy(desk).gather()
    error = error_of(desk.database, "unavailable")
    refusals = [raising(error)] * 3
    asked = [0]

    def refuse(_connection: Connection, *_: Any) -> None:
        if threading.current_thread().name == "journal-writer" and asked[0] and refusals:
            refusals.pop()(_connection)

    def lose(connection: Connection) -> None:
        asked[0] = 1
        commit_and(error)(connection)

    event.listen(desk.database.read_engine, "before_cursor_execute", refuse)
    with trouble(desk.database, "commit", go_on, lose) as times:
        results = await busy.results()
    event.remove(desk.database.read_engine, "before_cursor_execute", refuse)
    check_all_is_done_once(busy, results)
    assert (times[0], refusals) == (2, [])


async def test_who_could_not_find_out_says_that_it_is_not_known(database: Database) -> None:
    async with at_work(database, patience_s=0.1) as desk:
        journal = await desk.kept()
        journal.append(ModelRequested(1))
        error = error_of(database, "unavailable")
        waiting = asyncio.ensure_future(journal.commit())
        with (
            trouble(database, "commit", commit_and(error)),
            unreadable(database),
            pytest.raises(StorageUnavailableError),
        ):
            await waiting
        assert len(stored(database, journal.key)) == 2
        # whoever takes the run up next finds what there is
        claim = await desk.claimed(journal.key)
        assert claim.head_seq == 2


@contextmanager
def unreadable(database: Database) -> Iterator[None]:
    """Let the writer's thread read nothing."""
    error = error_of(database, "unavailable")

    def refuse(_connection: Connection, *rest: Any) -> None:
        statement = str(rest[1]) if len(rest) > 1 else ""
        if threading.current_thread().name == "journal-writer" and statement.startswith("SELECT events.hash"):
            raise error

    event.listen(database.read_engine, "before_cursor_execute", refuse)
    yield
    event.remove(database.read_engine, "before_cursor_execute", refuse)


async def test_a_writer_gives_up_after_its_patience_and_nobody_hangs(database: Database) -> None:
    async with at_work(database, patience_s=0.1) as desk:
        busy = await Busy(desk).gather()
        fail = raising(error_of(database, "unavailable"))
        with trouble(database, "before_cursor_execute", *[fail] * 1000):
            results = await busy.results(raising=False)
        assert {type(result) for result in results} == {StorageUnavailableError}
        assert len({id(result) for result in results}) == len(results)
        for journal in busy.journals:
            with pytest.raises(StorageUnavailableError):
                journal.append(ModelRequested(2))
        # and it is there again for those who come later
        later = desk.journal()
        await later.commit()
        assert written(database, later)
        assert noted(database) == []


async def test_a_unit_that_cannot_be_written_after_a_commit_that_nobody_answered_fails_its_run_only(
    desk: Desk,
) -> None:
    bad, good, other = await desk.kept(), await desk.kept(), await desk.kept()
    tries: list[int] = []

    def complete(output: JsonObject | None, error: StepError | None) -> ToolCompleted:
        tries.append(1)
        if len(tries) > 1:
            raise ValueError("a bug that shows the second time")
        return completed(output, error)

    failing = asyncio.create_task(bad.perform(1, noting("bad"), complete))
    other.append(ModelRequested(1))
    lose = raising(error_of(desk.database, "unavailable"))

    def lose_if_tried(connection: Connection) -> None:
        if len(tries) == 1:
            lose(connection)

    with trouble(desk.database, "commit", *[lose_if_tried] * 3):
        results = await asyncio.wait_for(
            asyncio.gather(failing, performing(good), other.commit(), return_exceptions=True), 4
        )
    assert [type(result) for result in results] == [StorageError, ToolCompleted, type(None)]
    assert noted(desk.database) == [good.key.run_id]


async def test_patience_is_for_the_group_and_not_for_each_part_of_it(database: Database) -> None:
    async with at_work(database, patience_s=0.2) as desk:
        journals = [await desk.kept() for _ in range(30)]
        waiting = [performing(journal) for journal in journals]
        fail = raising(error_of(database, "unavailable"))
        began = asyncio.get_running_loop().time()
        with trouble(database, "before_cursor_execute", *[fail] * 10_000):
            results = await asyncio.gather(*waiting, return_exceptions=True)
        assert {type(result) for result in results} == {StorageUnavailableError}
        assert asyncio.get_running_loop().time() - began < 2.0


async def test_an_effect_that_brings_its_connection_down_is_its_own_runs_trouble(database: Database) -> None:
    async with at_work(database, patience_s=0.15) as desk:
        bad, good, other = await desk.kept(), await desk.kept(), await desk.kept()
        broken = error_of(database, "unavailable")
        task = asyncio.create_task(bad.perform(1, raising(broken), completed))
        other.append(ModelRequested(1))
        results = await asyncio.gather(task, performing(good), other.commit(), return_exceptions=True)
        assert [type(result) for result in results] == [StorageUnavailableError, ToolCompleted, type(None)]
        assert noted(database) == [good.key.run_id]


# the end


async def test_stopping_writes_what_was_submitted(database: Database) -> None:
    desk = Desk(database)
    desk.writer.start()
    journals = [desk.journal() for _ in range(50)]
    waiting = [asyncio.ensure_future(journal.commit()) for journal in journals]
    await desk.writer.stop()
    await asyncio.wait_for(asyncio.gather(*waiting), 1)
    assert all(written(database, journal) for journal in journals)


async def test_what_comes_after_the_end_fails_at_once(database: Database) -> None:
    desk = Desk(database)
    desk.writer.start()
    journal = await desk.kept()
    await desk.writer.stop()
    journal.append(ModelRequested(1))
    with pytest.raises(StorageUnavailableError):
        await asyncio.wait_for(journal.commit(), 1)
    with pytest.raises(StorageUnavailableError):
        await asyncio.wait_for(desk.writer.transact(insert_note), 1)
    await desk.writer.stop()  # once more does no harm
    assert (len(stored(database, journal.key)), noted(database)) == (1, [])


async def test_a_writer_that_never_began_can_be_stopped(database: Database) -> None:
    await Desk(database).writer.stop()


async def test_a_stop_does_not_wait_for_a_database_that_is_away(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(committer, "STOP_PATIENCE_S", 0.05)
    desk = Desk(database, patience_s=60.0)
    desk.writer.start()
    journals = [await desk.kept() for _ in range(3)]
    fail = raising(error_of(database, "unavailable"))
    with trouble(database, "before_cursor_execute", *[fail] * 1000) as times:
        waiting = [performing(journal) for journal in journals]
        await until(lambda: times[0])
        await asyncio.wait_for(desk.writer.stop(), 3)
        results = await asyncio.wait_for(asyncio.gather(*waiting, return_exceptions=True), 1)
    assert {type(result) for result in results} == {StorageUnavailableError}


async def test_a_stop_goes_on_trying_for_a_moment(database: Database) -> None:
    desk = Desk(database)
    desk.writer.start()
    journal = await desk.kept()
    fail = raising(error_of(database, "transient"))
    with trouble(database, "before_cursor_execute", fail, fail):
        journal.append(ModelRequested(1))
        waiting = asyncio.ensure_future(journal.commit())
        await desk.writer.stop()
        await waiting
    assert len(written(database, journal)) == 2


# Postgres: real locks, and a COMMIT that is late


@pytest.fixture
async def on_postgres(emptied_postgres_database: Database) -> AsyncIterator[Desk]:
    async with at_work(emptied_postgres_database) as opened:
        yield opened


def commit_later(done: threading.Event, go: threading.Event) -> Callable[[Connection], None]:
    """Lose the connection at COMMIT, which the server carries out when `go` is set."""

    def act(connection: Connection) -> None:
        fairy: Any = connection.connection
        driver: Any = fairy.driver_connection
        fairy.detach()
        commit, driver.commit, driver.rollback, driver.close = driver.commit, *[lambda: None] * 3

        def late() -> None:
            go.wait(10)
            commit()
            done.set()
            del driver.close
            driver.close()

        threading.Thread(target=late, daemon=True).start()
        raise connection.dialect.dbapi.OperationalError("server closed the connection unexpectedly")  # type: ignore[union-attr]

    return act


async def test_a_commit_that_comes_late_is_not_carried_out_twice(on_postgres: Desk) -> None:
    desk = on_postgres
    busy = await Busy(desk).gather()
    done, go = threading.Event(), threading.Event()
    with trouble(desk.database, "commit", go_on, commit_later(done, go)):
        answered = asyncio.create_task(busy.results())
        # the writer asks, is told that nothing is there, and tries again: it waits for the locks of the late one
        await until(lambda: locks_waited_for(desk.database))
        go.set()
        results = await answered
    assert done.is_set()
    check_all_is_done_once(busy, results)


async def test_what_a_late_commit_has_written_is_what_is_seen(on_postgres: Desk) -> None:
    """The effect was tried once more meanwhile, and that came to nothing."""
    desk = on_postgres
    journal = await desk.kept()
    tries: list[int] = []
    done, go = threading.Event(), threading.Event()

    def effect(transaction: Transaction) -> JsonObject:
        tries.append(1)
        return noting("late")(transaction)

    with trouble(desk.database, "commit", commit_later(done, go)):
        task = performing(journal, effect)
        # the second try waits for what the first has written
        await until(lambda: len(tries) == 2 and locks_waited_for(desk.database))
        go.set()
        event = await task
    assert noted(desk.database) == ["late"]
    assert written(desk.database, journal)[1:] == [event]
    assert journal.head_hash == stored(desk.database, journal.key)[-1].hash
    journal.append(RunFinished("success", "done"))
    await journal.commit()


def locks_waited_for(database: Database) -> int:
    statement = text("SELECT count(*) FROM pg_locks WHERE NOT granted")
    return database.read_now(lambda connection: connection.execute(statement).scalar_one())


async def test_a_connection_that_the_server_ends_is_replaced(on_postgres: Desk) -> None:
    desk = on_postgres
    journal = await desk.kept()

    def end_session(connection: Connection) -> None:
        pid = connection.connection.driver_connection.info.backend_pid  # type: ignore[union-attr]
        desk.database.read_now(
            lambda other: other.execute(text("SELECT pg_terminate_backend(:pid)"), {"pid": pid})
        )

    with trouble(desk.database, "commit", end_session, end_session, go_on):
        await performing(journal)
    assert (len(written(desk.database, journal)), noted(desk.database)) == (2, [journal.key.run_id])


async def test_an_effect_whose_statement_takes_too_long_is_a_failed_step_and_not_tried_again(
    on_postgres: Desk,
) -> None:
    slow, other = await on_postgres.kept(), await on_postgres.kept()
    tries: list[int] = []
    tool = prepare(
        FakeTool(
            raising(AssertionError()), effect="transactional", run_in=lambda transaction, _: sleep(transaction)
        )
    )

    def sleep(transaction: Transaction) -> JsonObject:
        tries.append(1)
        transaction.connection.execute(text("SET LOCAL statement_timeout = '20ms'"))
        transaction.connection.execute(text("SELECT pg_sleep(10)"))
        return {}

    task = performing(slow, lambda transaction: call_tool_in(tool, transaction, {}))
    other.append(ModelRequested(1))
    event, _ = await asyncio.gather(task, other.commit())
    assert (event.step.error or "").startswith("tool_failed: ")
    assert "statement timeout" in (event.step.error or "")
    assert len(tries) == 1
    assert written(on_postgres.database, slow)[1:] == [event]


class Gate:
    """Holds a writer in the middle of its transaction, after it has written."""

    def __init__(self) -> None:
        self.reached, self.open = threading.Event(), threading.Event()
        self.open.set()

    def __call__(self, connection: Connection, units: Sequence[Unit]) -> None:
        self.reached.set()
        self.open.wait(10)

    def shut(self) -> None:
        self.reached.clear()
        self.open.clear()


async def test_a_take_over_waits_for_an_append_that_is_under_way_and_goes_on_after_it(
    emptied_postgres_database: Database,
) -> None:
    gate = Gate()
    async with (
        at_work(emptied_postgres_database, notify=gate) as zombie,
        at_work(emptied_postgres_database) as heir,
    ):
        journal = await zombie.kept()
        gate.shut()
        journal.append(ModelRequested(1))
        await until(gate.reached.is_set)
        claiming = asyncio.create_task(heir.claimed(journal.key))
        await until(lambda: locks_waited_for(emptied_postgres_database))
        assert not claiming.done()
        gate.open.set()
        await journal.commit()
        claim = await claiming
        assert (claim.epoch, claim.head_seq, claim.head_hash) == (2, 2, journal.head_hash)
        # from now on the old one can write nothing
        journal.append(ModelRequested(2))
        new = DurableJournal(heir.writer, claim, lambda: NOW)
        new.append(ModelRequested(3))
        results = await asyncio.gather(journal.commit(), new.commit(), return_exceptions=True)
        assert [type(result) for result in results] == [FencedError, type(None)]
        assert written(emptied_postgres_database, new)[1:] == [ModelRequested(1), ModelRequested(3)]


@pytest.mark.parametrize("with_effect", [False, True])
async def test_an_append_that_was_under_way_when_its_owner_died_is_not_there_for_the_next(
    emptied_postgres_database: Database, with_effect: bool
) -> None:
    gate = Gate()
    async with (
        at_work(emptied_postgres_database, notify=gate) as zombie,
        at_work(emptied_postgres_database) as heir,
    ):
        journal = await zombie.kept()
        gate.shut()
        if with_effect:
            waiting: asyncio.Future[Any] = performing(journal)
        else:
            journal.append(ModelRequested(1))
            waiting = asyncio.ensure_future(journal.commit())
        await until(gate.reached.is_set)
        claiming = asyncio.create_task(heir.claimed(journal.key))
        await until(lambda: locks_waited_for(emptied_postgres_database))
        # as the server does with a session that is idle in its transaction for too long
        end = text(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE state = 'idle in transaction' AND datname = current_database()"
        )
        emptied_postgres_database.read_now(lambda connection: connection.execute(end).all())
        claim = await claiming
        assert (claim.epoch, claim.head_seq) == (2, 1)
        new = DurableJournal(heir.writer, claim, lambda: NOW)
        new.append(ModelRequested(3))
        await new.commit()
        gate.open.set()
        with pytest.raises(FencedError):
            await waiting
        assert written(emptied_postgres_database, new)[1:] == [ModelRequested(3)]
        assert noted(emptied_postgres_database) == []
