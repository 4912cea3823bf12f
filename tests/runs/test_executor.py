"""What executing runs promises, on both databases: taken up wherever they stand, stopped wherever they are."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from durable_runs import House, nothing_is_held, of, until
from fakes import FakeTool, answer, call, calls, kinds
from sqlalchemy import Connection, event, text
from sqlalchemy.exc import DatabaseError
from stored_runs import add_events

import app.timelimit as timelimit
from app.agent.core import Agent
from app.agent.events import (
    ModelDecided,
    ModelRequested,
    RunFinished,
    RunStarted,
    Step,
    ToolCompleted,
    ToolIntended,
    ToolInterrupted,
)
from app.errors import FencedError, StorageUnavailableError, UnreadableRunError
from app.jsonvalue import JsonObject
from app.llm.interface import LLMRequest, LLMResponse, ToolMessage
from app.runs import executor as executor_module
from app.runs.capping import seal
from app.runs.chain import GENESIS, link
from app.runs.executor import RETRY_HELD_S, RETRY_STORAGE_S, RETRY_UNREADABLE_S, Executor
from app.runs.held import HeldRun, Stop
from app.runs.models import Claim, NewRun, Refusal, RunKey, StoredEvent
from app.runs.ports import Unit, UnitWriter
from app.runs.trace import finished
from app.storage.database import Database
from app.storage.tables import notes
from app.storage.writer import GroupWriter
from app.tools.base import Transaction
from app.tools.call import current_call

KEY = RunKey("default", "run-1")


class Plan:
    """A model that decides by how much it has seen, and so goes on from anywhere; after its plan it answers."""

    def __init__(self, *turns: LLMResponse, is_free: bool = False) -> None:
        self._turns = turns
        self.is_free = is_free
        self.asked = 0

    async def complete(self, request: LLMRequest) -> LLMResponse:
        self.asked += 1
        done = sum(isinstance(message, ToolMessage) for message in request.messages)
        for turn in self._turns:
            if done < len(turn.tool_calls):
                return turn
            done -= len(turn.tool_calls)
        return answer("end")


class Ledger:
    """A tool of each effect class, and what they did."""

    def __init__(self) -> None:
        self.done: list[tuple[str, str]] = []
        self.tools = [
            FakeTool(self._noting(effect), name=effect, effect=effect, quick=effect != "read")
            for effect in ("pure", "read", "keyed", "unsafe")
        ]
        self.tools.append(
            FakeTool(self._noting("in a thread"), name="transactional", effect="transactional", run_in=self._write)
        )

    def _noting(self, effect: str) -> Callable[[JsonObject], JsonObject]:
        def run(given: JsonObject) -> JsonObject:
            self.done.append((effect, current_call().idempotency_key))
            return {"did": effect, "n": given["n"]}

        return run

    def _write(self, transaction: Transaction, given: JsonObject) -> JsonObject:
        self.done.append(("transactional", current_call().idempotency_key))
        statement = notes.insert().values(
            tenant=transaction.tenant,
            proposal_id=transaction.run_id,
            number=transaction.step,
            note="written",
            run_id=transaction.run_id,
            step=transaction.step,
            created_at=0,
        )
        transaction.connection.execute(statement)
        return {"did": "transactional", "n": given["n"]}


@pytest.fixture
def ledger() -> Ledger:
    return Ledger()


def written(database: Database, tenant: str) -> int:
    statement = text("SELECT count(*) FROM notes WHERE tenant = :tenant")
    return database.read_now(lambda connection: connection.execute(statement, {"tenant": tenant}).scalar_one())


@pytest.fixture(autouse=True)
async def _nothing_is_left_behind(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[None]:
    """No test leaves a run held, a task, or a stop that nobody has taken note of."""
    opened: list[House] = []
    enter = House.__aenter__

    async def note(house: House) -> House:
        opened.append(house)
        return await enter(house)

    monkeypatch.setattr(House, "__aenter__", note)
    yield
    await until(lambda: nothing_is_held(*opened))
    for house in opened:
        assert not house.executor._tasks
        assert not house.executor.driver._to_cancel
    current = asyncio.current_task()
    assert current is not None
    assert not current.cancelling()


async def begun(house: House, key: RunKey = KEY, owner: str = "dead", **new: Any) -> RunKey:
    """Write a run that a process has begun and not gone on with."""
    opening = house.agent.opening("go")
    _, stored = seal(key.run_id, 1, GENESIS, datetime(2026, 1, 1, tzinfo=UTC), opening)
    await house.store.create(NewRun(key, owner=owner, **new), [stored], None, None)
    return key


async def start(house: House, key: RunKey = KEY, **new: Any) -> Any:
    new_run = NewRun(key, owner=house.executor.owner, **new)
    return await house.executor.start(new_run, house.agent.opening("go"))


# from wherever it stands


EVERY = calls(*[(effect, {"n": number}) for number, effect in enumerate(("pure", "read", "transactional"), 1)])
REST = calls(("keyed", {"n": 4}), ("unsafe", {"n": 5}))


async def whole_run(database: Database) -> list[StoredEvent]:
    """Return the events of a run that has one step of each effect class, in two turns."""
    async with House(database, Agent(Plan(EVERY, REST), Ledger().tools)) as house:
        ended = await start(house)
        assert ended.status == "success"
        await house.events(KEY)
        return await house.stored(KEY)


async def test_a_run_goes_on_from_every_event_and_no_effect_is_repeated_silently(
    database: Database, ledger: Ledger
) -> None:
    stored = await whole_run(database)
    order = ["pure", "read", "transactional", "keyed", "unsafe"]
    model = Plan(EVERY, REST)
    async with House(database, Agent(model, ledger.tools), owner="next") as house:
        known = await house.events(KEY)
        assert [event.step.tool for event in of(ToolCompleted, known)] == order
        for cut in range(1, len(stored)):
            prefix = known[:cut]
            key = await house.crashed(KEY, stored[:cut], f"cut-{cut}")
            ledger.done.clear()
            model.asked = 0
            assert await house.execute(key) is None
            events = await house.events(key)
            completed = [event.step.tool for event in of(ToolCompleted, prefix)]
            last = prefix[-1]
            did = [effect for effect, _ in ledger.done]
            assert all(given == f"run-1:{order.index(effect) + 1}" for effect, given in ledger.done), cut
            if isinstance(last, ToolIntended) and last.tool == "unsafe":
                assert did == []
                assert (await house.run(key)).status == "waiting"
                assert events[-1] == ToolInterrupted(
                    5, "unsafe", 1, "The run had stopped while unsafe was under way.", in_doubt=True
                )
            else:
                assert did == order[len(completed) :], cut
                assert (await house.run(key)).status == "success"
                assert len(of(RunFinished, events)) == 1
                assert [event.step.tool for event in of(ToolCompleted, events)] == order
            # an answer that was given is not paid for twice
            assert model.asked == 3 - len(of(ModelDecided, prefix)) - ((await house.run(key)).status == "waiting")
            assert written(database, key.tenant) == ("transactional" not in completed)
            assert events[:cut] == prefix


async def test_a_run_goes_on_with_what_it_was_given_however_large_the_numbers(database: Database) -> None:
    exact: JsonObject = {"n": 2**53 + 1, "huge": 10**4000, "least": -(10**4000)}
    seen: list[JsonObject] = []
    tool = FakeTool(lambda given: seen.append(given) or dict(given), effect="pure", quick=True)
    plan = Plan(call("probe", **exact), call("probe", n=2))
    async with House(database, Agent(plan, [tool])) as house:
        first = await start(house)
        stored = await house.stored(KEY)
        at = next(
            number for number, event in enumerate(await house.events(KEY)) if isinstance(event, ToolIntended)
        )
        key = await house.crashed(KEY, stored[: at + 1], "again")
        seen.clear()
        assert await house.execute(key) is None
        assert seen == [exact, {"n": 2}]
        again = await finished(house.store, await house.run(key))
        assert again.trace[0].output == exact == first.run.trace[0].output
        assert first.run == await finished(house.store, await house.run(KEY))


async def test_a_long_run_is_read_page_by_page(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.runs.folding.PAGE", 3)
    stored = await whole_run(database)
    async with House(database, Agent(Plan(EVERY, REST), Ledger().tools)) as house:
        key = await house.crashed(KEY, stored[:-1], "again")
        assert await house.execute(key) is None
        assert (await house.run(key)).status == "success"


# whose it is


async def test_a_delivery_of_a_run_that_is_under_way_here_does_nothing(database: Database) -> None:
    go = asyncio.Event()

    async def wait(given: JsonObject) -> JsonObject:
        await go.wait()
        return {}

    async with House(database, Agent(Plan(call("probe")), [FakeTool(wait, effect="pure")])) as house:
        running = asyncio.create_task(start(house))
        await until(lambda: house.executor.held)
        epoch = await until_value(house, KEY, "epoch")
        assert await house.execute(KEY) is None
        go.set()
        assert (await running).status == "success"
        assert house.value(KEY, "epoch") == epoch
        assert await house.execute(KEY) is None
        assert house.value(KEY, "epoch") == epoch
        assert await house.execute(RunKey("default", "nobody's")) is None


async def until_value(house: House, key: RunKey, column: str) -> Any:
    await until(lambda: house.value(key, column) is not None)
    return house.value(key, column)


async def test_two_deliveries_at_once_are_one_execution(database: Database, ledger: Ledger) -> None:
    async with House(database, Agent(Plan(REST), ledger.tools)) as house:
        key = await house.submit()
        assert await asyncio.gather(*[house.execute(key) for _ in range(5)]) == [None] * 5
        assert [effect for effect, _ in ledger.done] == ["keyed", "unsafe"]
        assert house.value(key, "epoch") == 1


async def test_a_claim_of_a_run_that_is_under_way_here_is_not_driven_twice(database: Database) -> None:
    model = Stuck(answers=0)
    async with House(database, Agent(model, [])) as house:
        key = await house.submit()
        claim = await house.store.claim(key, "me", statuses=("queued",))
        assert isinstance(claim, Claim)
        first = asyncio.create_task(house.executor.resume(claim))
        await model.stuck.wait()
        with pytest.raises(FencedError):
            await house.executor.resume(claim)
        assert house.executor.cancel(key)
        assert (await first).status == "cancelled"


async def test_who_has_lost_a_run_has_no_effects_any_more(database: Database, ledger: Ledger) -> None:
    """A process that was suspended between two steps wakes up when somebody else has its run."""
    asked, go = asyncio.Event(), asyncio.Event()

    class Slow(Plan):
        async def complete(self, request: LLMRequest) -> LLMResponse:
            asked.set()
            await go.wait()
            return await super().complete(request)

    async with House(database, Agent(Slow(REST), ledger.tools)) as house:
        key = await house.submit()
        delivery = asyncio.create_task(house.execute(key))
        await asked.wait()
        heir = await house.store.claim(key, "another", statuses=("running",))
        assert isinstance(heir, Claim)
        go.set()
        assert await delivery == RETRY_HELD_S
        assert ledger.done == []
        assert kinds(await house.events(key)) == ["RunStarted", "ModelRequested"]
        assert house.value(key, "owner") == "another"


async def test_a_run_of_a_living_process_is_left_to_it_and_one_of_a_dead_process_is_not(
    database: Database,
) -> None:
    async with House(database, Agent(Plan(), [])) as house:
        key = await begun(house, owner="another")
        await house.store.beat("another", 60.0)
        assert await house.execute(key) == RETRY_HELD_S
        await house.store.retire("another")
        assert await house.execute(key) is None
        assert (await house.run(key)).status == "success"


async def test_what_this_version_cannot_read_is_left_to_one_that_can(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    async with House(database, Agent(Plan(), [])) as house:
        body = '{"v":2,"something":"else"}'
        newer = StoredEvent(1, body, GENESIS, link(GENESIS, body.encode()))
        await house.store.create(NewRun(KEY), [newer], None, None)
        for _ in range(5):
            assert await house.execute(KEY) == RETRY_UNREADABLE_S
        assert (house.value(KEY, "status"), house.value(KEY, "claims")) == ("queued", 0)
        assert "cannot be read by this version" in caplog.text
        assert (await house.service.cancel(KEY.run_id)).status == "cancelled"
        assert len(await house.stored(KEY)) == 2


async def test_what_processes_died_of_is_given_up_whatever_version_has_written_it(database: Database) -> None:
    async with House(database, Agent(Plan(), [])) as house:
        body = '{"v":2,"something":"else"}'
        newer = StoredEvent(1, body, GENESIS, link(GENESIS, body.encode()))
        await house.store.create(NewRun(KEY, owner="dead"), [newer], None, None)
        house.change(KEY, claims=3)
        assert await house.execute(KEY) is None
        assert (await house.run(KEY)).reason == "poison"


# runs whose events are damaged


async def damaged(house: House, how: str, *, owner: str | None = "dead", **values: Any) -> RunKey:
    """Return a run that a process has left behind, and whose stored events are not what they were."""
    await start(house)
    stored = await house.stored(KEY)
    if how == "missing":
        return await house.crashed(KEY, [stored[0], *stored[2:4]], "hurt", owner=owner, head_seq=4, **values)
    if how == "cut off":
        return await house.crashed(KEY, stored[:2], "hurt", owner=owner, head_seq=3, **values)
    second = stored[1]
    body = {
        "no JSON": "\x7f",
        "another type": second.body.replace("model.requested", "model.xequested"),
        "another meaning": second.body.replace('"turn":1', '"turn":2'),
    }.get(how)
    assert body != second.body
    if body is None:
        third = seal(KEY.run_id, 3, second.hash, datetime(2026, 1, 1, tzinfo=UTC), LOST)[1]
        return await house.crashed(KEY, [*stored[:2], third], "hurt", owner=owner, **values)
    key = await house.crashed(KEY, stored[:1], "hurt", owner=owner, head_seq=2, **values)
    changed = StoredEvent(2, body, second.prev_hash, second.hash)
    house.database.transact_now(lambda connection: add_events(connection, key, [changed]))
    return key


LOST = ToolCompleted(Step(1, "probe", {}, {}, None, datetime(2026, 1, 1, tzinfo=UTC)))

DAMAGES = ["missing", "cut off", "no JSON", "another type", "another meaning", "out of place"]


@pytest.mark.parametrize("how", DAMAGES)
async def test_a_run_whose_events_are_damaged_is_given_up_unread(database: Database, how: str) -> None:
    async with House(database, Agent(Plan(EVERY), Ledger().tools)) as house:
        key = await damaged(house, how, claims=0)
        for _ in range(3):
            with pytest.raises(UnreadableRunError):
                await house.execute(key)
            assert (await house.run(key)).status == "running"
            assert nothing_is_held(house)
        head = await house.run(key)
        assert await house.execute(key) is None
        run = await house.run(key)
        assert (run.status, run.reason, run.events) == ("error", "unreadable", head.events + 1)
        last = (await house.stored(key))[-1]
        assert (last.seq, last.prev_hash, last.hash) == (run.events, head.head_hash, run.head_hash)


@pytest.mark.parametrize("status", ["queued", "waiting", "running"])
@pytest.mark.parametrize("how", DAMAGES)
async def test_a_run_whose_events_are_damaged_can_be_cancelled(database: Database, how: str, status: str) -> None:
    async with House(database, Agent(Plan(EVERY), Ledger().tools)) as house:
        key = await damaged(house, how, owner="dead" if status == "running" else None)
        house.change(key, status=status)
        run = await house.service.cancel(key.run_id, tenant=key.tenant)
        assert (run.status, run.reason) == ("cancelled", "cancelled")


async def test_a_damaged_run_that_waits_for_a_person_ends_at_its_deadline(database: Database) -> None:
    async with House(database, Agent(Plan(EVERY), Ledger().tools)) as house:
        key = await damaged(house, "no JSON", owner=None)
        house.change(key, status="waiting", deadline_at=1)
        assert await house.execute(key) is None
        run = await house.run(key)
        assert (run.status, run.reason) == ("error", "deadline")


async def test_a_run_whose_reading_kills_processes_is_given_up_unread(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def die(*_: object) -> object:
        raise AssertionError("it was read")

    async with House(database, Agent(Plan(), [])) as house:
        await begun(house)
        house.change(KEY, claims=4)
        monkeypatch.setattr("app.runs.driver.folded", die)
        assert await house.execute(KEY) is None
        assert (await house.run(KEY)).reason == "poison"


async def test_a_database_that_cannot_read_a_run_does_not_keep_it_for_ever(database: Database) -> None:
    async with House(database, Agent(Plan(), [])) as house:
        key = await house.submit()
        events = house.store.events

        async def fail(*_: object) -> list[StoredEvent]:
            raise DatabaseError("SELECT", {}, Exception("database disk image is malformed"))

        house.store.events = fail  # type: ignore[method-assign, assignment]
        for _ in range(3):
            with pytest.raises(UnreadableRunError):
                await house.execute(key)
        assert await house.execute(key) is None
        house.store.events = events  # type: ignore[method-assign]
        assert (await house.run(key)).reason == "unreadable"


async def test_a_database_that_is_away_does_not_make_a_run_unreadable(database: Database) -> None:
    async with House(database, Agent(Plan(), [])) as house:
        key = await house.submit()
        house.change(key, claims=3)
        events = house.store.events

        async def fail(*_: object) -> list[StoredEvent]:
            raise StorageUnavailableError("away")

        house.store.events = fail  # type: ignore[method-assign, assignment]
        assert await house.execute(key) == RETRY_STORAGE_S
        house.store.events = events  # type: ignore[method-assign]
        assert (await house.run(key)).status == "running"
        house.change(key, status="queued", owner=None)


# runs that kill their process


class Stuck(Plan):
    """A model that answers so many times in this process, and then never."""

    def __init__(self, *turns: LLMResponse, answers: int) -> None:
        super().__init__(*turns)
        self._answers = answers
        self.stuck = asyncio.Event()

    async def complete(self, request: LLMRequest) -> LLMResponse:
        if not self._answers:
            self.stuck.set()
            await asyncio.get_running_loop().create_future()
        self._answers -= 1
        return await super().complete(request)


async def one_life(database: Database, key: RunKey, number: int, *, answers: int) -> House:
    """Let a process take the run up, and get nowhere after so many answers of the model."""
    model = Stuck(*[call("probe", n=turn) for turn in range(20)], answers=answers)
    house = House(database, Agent(model, [FakeTool(effect="pure", quick=True)]), owner=f"life-{number}")
    await house.__aenter__()
    delivery = asyncio.create_task(house.execute(key))
    await until(lambda: model.stuck.is_set() or delivery.done())
    return house


async def bury(*houses: House) -> None:
    for house in houses:
        house.executor.driver.held.clear()
        for task in list(house.executor._tasks):
            task.cancel()
        await house.__aexit__()


async def test_a_run_that_three_processes_in_a_row_have_died_on_is_given_up(database: Database) -> None:
    async with House(database, Agent(Plan(), []), owner="observer") as house:
        await begun(house)
        house.change(KEY, claims=0, owner=None, status="queued")
        lives = [await one_life(database, KEY, number, answers=0) for number in range(1, 4)]
        assert (house.value(KEY, "claims"), house.value(KEY, "status")) == (3, "running")
        lives.append(await one_life(database, KEY, 4, answers=0))
        run = await house.run(KEY)
        assert (run.status, run.reason) == ("error", "poison")
        assert "3 times in a row" in (run.output or "")
        await bury(*lives)


async def test_a_run_that_gets_further_each_time_is_not_given_up(database: Database) -> None:
    async with House(database, Agent(Plan(), [FakeTool()]), owner="observer") as house:
        await begun(house)
        lives = [await one_life(database, KEY, number, answers=1) for number in range(1, 7)]
        run = await house.run(KEY)
        assert (run.status, run.steps, house.value(KEY, "claims")) == ("running", 6, 1)
        await bury(*lives)


async def test_giving_up_says_which_call_may_have_had_its_effect(database: Database, ledger: Ledger) -> None:
    async with House(database, Agent(Plan(REST), ledger.tools)) as house:
        await start(house)
        at = next(
            number for number, event in enumerate(await house.events(KEY)) if isinstance(event, ToolIntended)
        )
        key = await house.crashed(KEY, (await house.stored(KEY))[: at + 1], "again", claims=3)
        ledger.done.clear()
        assert await house.execute(key) is None
        assert ledger.done == []
        interrupted, end = (await house.events(key))[-2:]
        assert isinstance(interrupted, ToolInterrupted)
        assert interrupted.in_doubt
        assert isinstance(end, RunFinished)
        assert end.reason == "poison"


# stopping


def hanging(effect: str, entered: asyncio.Event, stopped: asyncio.Event, **attributes: Any) -> FakeTool:
    async def hang(given: JsonObject) -> JsonObject:
        entered.set()
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            stopped.set()
        return {}

    return FakeTool(hang, effect=effect, **attributes)


@pytest.mark.parametrize("effect", ["pure", "keyed", "unsafe"])
async def test_a_cancelled_run_stops_at_the_tool_that_is_in_flight(database: Database, effect: str) -> None:
    entered, stopped = asyncio.Event(), asyncio.Event()
    async with House(database, Agent(Plan(call("probe")), [hanging(effect, entered, stopped)])) as house:
        key = await house.submit()
        delivery = asyncio.create_task(house.execute(key))
        await entered.wait()
        run = await house.service.cancel(key.run_id)
        assert (run.status, run.reason, run.output) == ("cancelled", "cancelled", "The run was cancelled.")
        assert stopped.is_set()
        assert await delivery is None
        interrupted = of(ToolInterrupted, await house.events(key))
        assert [event.in_doubt for event in interrupted] == ([] if effect == "pure" else [True])
        trace = await house.service.trace(key.run_id)
        assert [(step.error or "").split(":")[0] for step in trace.steps] == (
            [] if effect == "pure" else ["in_doubt"]
        )
        assert house.finished[0].status == "cancelled"


async def test_a_cancelled_run_abandons_a_tool_on_a_thread(database: Database) -> None:
    entered, release = threading.Event(), threading.Event()

    def block(given: JsonObject) -> JsonObject:
        entered.set()
        release.wait(10)
        return {}

    async with House(database, Agent(Plan(call("probe")), [FakeTool(block, effect="read")])) as house:
        key = await house.submit()
        delivery = asyncio.create_task(house.execute(key))
        await until(entered.is_set)
        run = await house.service.cancel(key.run_id)
        assert run.status == "cancelled"
        assert await delivery is None
        before = await house.events(key)
        release.set()
        await asyncio.sleep(0.02)
        assert await house.events(key) == before


async def test_a_cancelled_run_abandons_a_tool_that_will_not_stop(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(timelimit, "GRACE_S", 0.05)
    entered = asyncio.Event()

    async def stubborn(given: JsonObject) -> JsonObject:
        while True:
            try:
                entered.set()
                await asyncio.get_running_loop().create_future()
            except asyncio.CancelledError:
                continue

    async with House(database, Agent(Plan(call("probe")), [FakeTool(stubborn)])) as house:
        key = await house.submit()
        delivery = asyncio.create_task(house.execute(key))
        await entered.wait()
        began = asyncio.get_running_loop().time()
        run = await house.service.cancel(key.run_id)
        assert asyncio.get_running_loop().time() - began < 2.0
        assert run.status == "cancelled"
        assert await delivery is None


async def test_a_cancelled_run_does_not_wait_for_its_model(database: Database) -> None:
    model = Stuck(answers=0)
    async with House(database, Agent(model, [])) as house:
        running = asyncio.create_task(start(house))
        await model.stuck.wait()
        assert (await house.service.cancel("run-1")).status == "cancelled"
        assert (await running).run.status == "cancelled"


async def test_a_run_that_never_waits_for_anything_can_be_cancelled_all_the_same(database: Database) -> None:
    model = Plan(*[call("probe")] * 900, is_free=True)
    agent = Agent(model, [FakeTool(effect="pure", quick=True)], max_steps=1000)
    async with House(database, agent) as house:
        running = asyncio.create_task(start(house))
        await until(lambda: model.asked)
        assert house.executor.cancel(KEY)
        ended = await running
        assert ended.status == "cancelled"
        assert len(ended.run.trace) < 900


async def test_what_an_effect_did_before_the_cancellation_stands(database: Database) -> None:
    """The transaction that is under way ends first; then the run stops."""
    entered, release = threading.Event(), threading.Event()

    def run_in(transaction: Transaction, given: JsonObject) -> JsonObject:
        entered.set()
        release.wait(10)
        return {"written": True}

    tool = FakeTool(lambda given: {}, effect="transactional", run_in=run_in)
    async with House(database, Agent(Plan(call("probe"), call("probe")), [tool])) as house:
        running = asyncio.create_task(start(house))
        await until(entered.is_set)
        for _ in range(3):
            assert house.executor.cancel(KEY)
            await asyncio.sleep(0)
        release.set()
        ended = await running
        assert ended.status == "cancelled"
        assert [step.output for step in ended.run.trace] == [{"written": True}]
        assert kinds(await house.events(KEY))[-2:] == ["ToolCompleted", "RunFinished"]


class Gate:
    """A writer that holds units back when a test says so."""

    def __init__(self, writer: UnitWriter) -> None:
        self._writer = writer
        self._holds: Callable[[Unit], bool] = lambda unit: False
        self._after: Callable[[], None] = lambda: None
        self.held: list[Unit] = []

    def hold(self, unit_is_held: Callable[[Unit], bool]) -> None:
        self._holds = unit_is_held

    def submit(self, unit: Unit) -> None:
        asyncio.get_running_loop().call_soon(self._decide, unit)

    def _decide(self, unit: Unit) -> None:
        if self._holds(unit):
            unit.is_open = False
            self.held.append(unit)
        else:
            self._writer.submit(unit)

    def open(self) -> None:
        self._holds = lambda unit: False
        held, self.held = self.held, []
        for unit in held:
            self._writer.submit(unit)


class Gated(House):
    """A process whose writer has a gate."""

    gate: Gate

    def __init__(self, *arguments: Any, **options: Any) -> None:
        def gated(writer: GroupWriter) -> Gate:
            self.gate = Gate(writer)
            return self.gate

        super().__init__(*arguments, writer=gated, **options)


def ends(unit: Unit) -> bool:
    return unit.status not in ("running", "queued", "waiting")


def hands_back(unit: Unit) -> bool:
    return unit.status in ("queued", "waiting")


async def test_a_cancellation_that_comes_while_the_run_finishes_is_too_late(database: Database) -> None:
    async with Gated(database, Agent(Plan(), [])) as house:
        house.gate.hold(ends)
        running = asyncio.create_task(start(house))
        await until(lambda: house.gate.held)
        assert await house.store.request_cancel(KEY) == "running"
        for _ in range(3):
            assert house.executor.cancel(KEY)
            await asyncio.sleep(0)
        house.gate.open()
        ended = await running
        assert (ended.status, ended.run.output) == ("success", "end")
        assert len(of(RunFinished, await house.events(KEY))) == 1
        assert (await house.run(KEY)).status == "success"
        assert len(house.finished) == 1


@pytest.mark.parametrize("by_service", [True, False])
async def test_a_cancellation_that_comes_while_the_run_is_handed_back_ends_it(
    database: Database, by_service: bool
) -> None:
    async def hang(given: JsonObject) -> JsonObject:
        await asyncio.get_running_loop().create_future()
        return {}

    async with Gated(database, Agent(Plan(call("probe")), [FakeTool(hang, timeout_s=0.01)])) as house:
        house.gate.hold(hands_back)
        running = asyncio.create_task(start(house))
        await until(lambda: house.gate.held)
        if by_service:
            cancelling = asyncio.create_task(house.service.cancel("run-1"))
            await until(lambda: house.value(KEY, "cancel_requested"))
        else:
            cancelling = None
            assert await house.store.request_cancel(KEY) == "running"
        house.gate.open()
        assert (await running).status == "cancelled"
        assert (await house.run(KEY)).status == "cancelled"
        if cancelling is not None:
            assert (await cancelling).status == "cancelled"
        assert len(of(RunFinished, await house.events(KEY))) == 1


async def test_a_waiting_run_that_was_to_be_cancelled_is_ended_by_its_next_delivery(database: Database) -> None:
    """The process died, or lost its database, between handing it back and ending it."""
    async with House(database, Agent(Plan(REST), Ledger().tools)) as house:
        key = await in_doubt(house)
        house.change(key, cancel_requested=1)
        await house.execute(key)
        assert (await house.run(key)).status == "cancelled"


async def in_doubt(house: House, **values: Any) -> RunKey:
    """Return a run that waits for somebody to say what became of its unsafe step."""
    ended = await start(house)
    assert ended.status == "success"
    events = await house.events(KEY)
    at = max(number for number, event in enumerate(events) if isinstance(event, ToolIntended))
    key = await house.crashed(KEY, (await house.stored(KEY))[: at + 1], "doubtful", **values)
    assert await house.execute(key) is None
    assert (await house.run(key)).status == "waiting"
    return key


async def test_a_cancellation_between_the_claim_and_the_first_step_is_not_lost(
    database: Database, ledger: Ledger
) -> None:
    async with House(database, Agent(Plan(REST), ledger.tools)) as house:
        key = await house.submit()
        reading, go = asyncio.Event(), asyncio.Event()
        read = house.store.events

        async def slowly(*arguments: Any) -> Any:
            reading.set()
            await go.wait()
            return await read(*arguments)

        house.store.events = slowly  # type: ignore[method-assign]
        delivery = asyncio.create_task(house.execute(key))
        await reading.wait()
        assert house.executor.cancel(key)
        go.set()
        assert await delivery is None
        assert (await house.run(key)).status == "cancelled"
        assert ledger.done == []


async def test_a_request_to_stop_is_heard_of_with_the_next_append(database: Database, ledger: Ledger) -> None:
    """Nobody in this process was told: the request came through another one."""
    async with House(database, Agent(Plan(REST), ledger.tools)) as house:
        key = await house.submit()
        decide = house.agent._models._usual.candidates[0].client.complete

        async def requested(request: LLMRequest) -> LLMResponse:
            assert await house.store.request_cancel(key) == "running"
            return await decide(request)

        house.agent._models._usual.candidates[0].client.complete = requested  # type: ignore[method-assign]
        assert await house.execute(key) is None
        assert (await house.run(key)).status == "cancelled"
        assert ledger.done == []


@pytest.mark.parametrize("effect", ["pure", "unsafe"])
async def test_a_run_that_was_to_stop_when_its_process_died_does_nothing_more(
    database: Database, ledger: Ledger, effect: str
) -> None:
    model = Plan(call(effect, n=1))
    async with House(database, Agent(model, ledger.tools)) as house:
        await start(house)
        events = await house.events(KEY)
        at = next(number for number, event in enumerate(events) if isinstance(event, ToolIntended))
        key = await house.crashed(KEY, (await house.stored(KEY))[: at + 1], "again", cancel_requested=1)
        ledger.done.clear()
        model.asked = 0
        assert await house.execute(key) is None
        assert (await house.run(key)).status == "cancelled"
        assert (ledger.done, model.asked) == ([], 0)
        assert len(of(ToolInterrupted, await house.events(key))) == (effect == "unsafe")


async def test_cancelling_what_is_not_driven_here_says_so(database: Database) -> None:
    async with House(database, Agent(Plan(), [])) as house:
        assert not house.executor.cancel(KEY)
        assert not house.executor.driver._to_cancel


# handing back


async def test_a_stop_lets_the_step_end_and_hands_the_run_back(database: Database, ledger: Ledger) -> None:
    entered, go = asyncio.Event(), asyncio.Event()

    async def wait(given: JsonObject) -> JsonObject:
        entered.set()
        await go.wait()
        return {}

    plan = calls(("slow", {}), ("unsafe", {"n": 2}))
    async with House(database, Agent(Plan(plan), [FakeTool(wait, name="slow"), *ledger.tools])) as house:
        key = await house.submit()
        delivery = asyncio.create_task(house.execute(key))
        await entered.wait()
        stopping = asyncio.create_task(house.executor.stop(5.0))
        await asyncio.sleep(0)
        assert not house.executor.has_room()
        go.set()
        await stopping
        assert await delivery == 0.0
        assert (house.value(key, "status"), house.value(key, "owner"), house.value(key, "claims")) == (
            "queued",
            None,
            0,
        )
        assert (await house.run(key)).steps == 1
        assert ledger.done == []
        assert await house.execute(key) == RETRY_HELD_S  # nothing more is taken up
    async with House(
        database, Agent(Plan(plan), [FakeTool(wait, name="slow"), *ledger.tools]), owner="next"
    ) as house:
        assert await house.execute(key) is None
        assert (await house.run(key)).status == "success"
        assert [effect for effect, _ in ledger.done] == ["unsafe"]


@pytest.mark.parametrize(
    ("effect", "status"), [("pure", "queued"), ("read", "queued"), ("keyed", "queued"), ("unsafe", "waiting")]
)
async def test_a_step_that_does_not_end_in_time_is_broken_off(
    database: Database, effect: str, status: str
) -> None:
    entered, stopped = asyncio.Event(), asyncio.Event()
    async with House(database, Agent(Plan(call("probe")), [hanging(effect, entered, stopped)])) as house:
        key = await house.submit()
        delivery = asyncio.create_task(house.execute(key))
        await entered.wait()
        await house.executor.stop(0.02)
        assert stopped.is_set()
        assert await delivery == (0.0 if status == "queued" else None)
        assert (await house.run(key)).status == status
        assert bool(of(ToolInterrupted, await house.events(key))) is (status == "waiting")


async def test_a_tool_on_a_thread_is_abandoned_when_the_process_stops(database: Database) -> None:
    release = threading.Event()
    tool = FakeTool(lambda given: release.wait(10) and {}, effect="unsafe")
    async with House(database, Agent(Plan(call("probe")), [tool])) as house:
        running = asyncio.create_task(start(house))
        await until(lambda: house.value(KEY, "head_seq") == 4)
        await house.executor.stop(0.02)
        assert (await running).status == "waiting"
    release.set()


async def test_a_run_that_is_taken_up_while_the_process_stops_is_handed_back_untouched(
    database: Database, ledger: Ledger
) -> None:
    async with House(database, Agent(Plan(REST), ledger.tools)) as house:
        await start(house)
        events = await house.events(KEY)
        at = next(number for number, event in enumerate(events) if isinstance(event, ToolIntended))
        key = await house.crashed(KEY, (await house.stored(KEY))[: at + 1], "again")
        ledger.done.clear()
        reading, go = asyncio.Event(), asyncio.Event()
        read = house.store.events

        async def slowly(*arguments: Any) -> Any:
            reading.set()
            await go.wait()
            return await read(*arguments)

        house.store.events = slowly  # type: ignore[method-assign]
        delivery = asyncio.create_task(house.execute(key))
        await reading.wait()
        stopping = asyncio.create_task(house.executor.stop(0.05))
        await asyncio.sleep(0)
        go.set()
        await stopping
        assert await delivery == 0.0
        assert ledger.done == []
        assert (await house.run(key)).status == "queued"


async def test_a_run_that_begins_while_the_process_stops_is_kept_for_the_next(database: Database) -> None:
    async with House(database, Agent(Plan(), [])) as house:
        await house.executor.stop(0.0)
        assert (await start(house)).status == "queued"
        assert (house.value(KEY, "status"), house.value(KEY, "epoch"), house.value(KEY, "owner")) == (
            "queued",
            1,
            None,
        )


async def test_the_end_of_the_event_loop_hands_runs_back(database: Database) -> None:
    """What `asyncio.run` does to the tasks that are left."""
    entered, stopped = asyncio.Event(), asyncio.Event()
    async with House(database, Agent(Plan(call("probe")), [hanging("pure", entered, stopped)])) as house:
        running = asyncio.create_task(start(house))
        await entered.wait()
        for task in list(house.executor._tasks):
            task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert stopped.is_set()
        assert (await house.run(KEY)).status == "queued"


async def test_a_caller_who_goes_away_does_not_take_the_run_with_him(database: Database) -> None:
    entered, go = asyncio.Event(), asyncio.Event()

    async def wait(given: JsonObject) -> JsonObject:
        entered.set()
        await go.wait()
        return {}

    async with House(database, Agent(Plan(call("probe")), [FakeTool(wait)])) as house:
        caller = asyncio.create_task(start(house))
        await entered.wait()
        caller.cancel()
        with pytest.raises(asyncio.CancelledError):
            await caller
        assert house.executor.held == [KEY]
        go.set()
        await until(lambda: house.finished)
        assert (await house.run(KEY)).status == "success"
        assert not of(ToolInterrupted, await house.events(KEY))


async def test_a_failure_that_no_caller_sees_is_logged(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    model = Stuck(answers=0)
    async with House(database, Agent(model, [])) as house:
        caller = asyncio.create_task(start(house))
        await model.stuck.wait()
        caller.cancel()
        with pytest.raises(asyncio.CancelledError):
            await caller
        assert isinstance(await house.store.claim(KEY, "another", statuses=("running",)), Claim)
        house.executor.cancel(KEY)
        await until(lambda: not house.executor._tasks)
        assert "whose caller had gone has stopped" in caplog.text
        for task in house.executor._retries:
            task.cancel()


# time, turns and tenants


async def test_a_run_whose_deadline_passed_in_the_queue_ends_when_its_turn_comes(
    database: Database, ledger: Ledger
) -> None:
    model = Plan(REST)
    async with House(database, Agent(model, ledger.tools)) as house:
        key = await house.submit(deadline_s=100.0)
        house.change(key, deadline_at=1)
        assert await house.execute(key) is None
        run = await house.run(key)
        assert (run.status, run.reason) == ("error", "deadline")
        assert (ledger.done, model.asked) == ([], 0)


async def test_a_deadline_passes_while_the_run_is_under_way(database: Database) -> None:
    entered, stopped = asyncio.Event(), asyncio.Event()
    async with House(database, Agent(Plan(call("probe")), [hanging("read", entered, stopped)])) as house:
        ended = await start(house, deadline_s=0.1)
        assert (ended.status, (await house.run(KEY)).reason) == ("error", "deadline")
        assert entered.is_set() is stopped.is_set()


@pytest.mark.parametrize("is_over", [True, False])
async def test_a_deadline_passes_while_the_run_waits_for_a_person(database: Database, is_over: bool) -> None:
    async with House(database, Agent(Plan(REST), Ledger().tools)) as house:
        key = await in_doubt(house)
        house.change(key, deadline_at=1 if is_over else 4_000_000_000_000_000)
        assert await house.execute(key) is None
        run = await house.run(key)
        assert (run.status, run.reason) == (("error", "deadline") if is_over else ("waiting", None))
        trace = await house.service.trace(key.run_id, tenant=key.tenant)
        assert (trace.steps[-1].error or "").startswith("in_doubt: ")


async def test_a_run_that_waits_for_a_person_takes_no_notice_of_deliveries(database: Database) -> None:
    async with House(database, Agent(Plan(REST), Ledger().tools)) as house:
        key = await in_doubt(house)
        epoch = house.value(key, "epoch")
        assert await house.execute(key) is None
        assert house.value(key, "epoch") == epoch


async def test_a_run_does_not_start_before_its_time(database: Database) -> None:
    async with House(database, Agent(Plan(), [])) as house:
        key = await house.submit(not_before=datetime.now(UTC) + timedelta(hours=1))
        assert await house.execute(key) == RETRY_HELD_S
        assert (await house.run(key)).status == "queued"
        house.change(key, not_before=1)
        assert await house.execute(key) is None
        assert (await house.run(key)).status == "success"


async def test_a_tenant_has_no_more_running_than_it_may(database: Database) -> None:
    entered, stopped = asyncio.Event(), asyncio.Event()
    agent = Agent(Plan(call("probe")), [hanging("pure", entered, stopped)])
    async with House(database, agent, tenant_limit=1) as house:
        assert not house.executor.has_room()
        first, second = await house.submit(), await house.submit()
        delivery = asyncio.create_task(house.execute(first))
        await entered.wait()
        assert await house.execute(second) == 1.0
        assert (await house.run(second)).status == "queued"
        await house.service.cancel(first.run_id)
        await delivery
        entered.clear()
        delivery = asyncio.create_task(house.execute(second))
        await entered.wait()
        await house.service.cancel(second.run_id)
        await delivery


async def test_no_more_runs_are_under_way_than_there_is_room_for(database: Database) -> None:
    under_way, most = 0, 0

    async def count(given: JsonObject) -> JsonObject:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        await asyncio.sleep(0.005)
        under_way -= 1
        return {}

    agent = Agent(Plan(call("probe"), is_free=True), [FakeTool(count, effect="pure")])
    async with House(database, agent, concurrency=2) as house:
        starts = [start(house, RunKey("default", f"run-{number}")) for number in range(6)]
        ended = await asyncio.gather(*starts)
        assert {one.status for one in ended} == {"success"}
        assert most == 2


async def test_the_more_urgent_runs_come_first(database: Database) -> None:
    order: list[str] = []
    tool = FakeTool(lambda given: order.append(current_call().run_id) or {}, effect="pure", quick=True)
    async with House(database, Agent(Plan(call("probe")), [tool]), concurrency=1) as house:
        keys = [await house.submit(priority=priority) for priority in (0, -5, 100, 7)]
        house._consumer = asyncio.create_task(house.queue.consume(house.executor.execute, 1))
        await until(lambda: len(order) == 4)
        assert order == [keys[at].run_id for at in (2, 3, 0, 1)]


# a database that goes away


class Outage:
    """Lets a database refuse what is written, while it lasts."""

    def __init__(self, database: Database) -> None:
        self._engine = database.write_engine
        self._is_sqlite = database.is_sqlite
        self.is_on = False
        event.listen(self._engine, "before_cursor_execute", self._refuse)

    def _refuse(self, _connection: Connection, *_: Any) -> None:
        if self.is_on and threading.current_thread().name == "journal-writer":
            dbapi: Any = self._engine.dialect.dbapi
            error = dbapi.OperationalError("gone")
            error.sqlite_errorcode = 10
            raise error


async def test_a_run_outlives_a_database_that_was_away_for_too_long(database: Database, ledger: Ledger) -> None:
    outage = Outage(database)

    class Cut(Plan):
        async def complete(self, request: LLMRequest) -> LLMResponse:
            outage.is_on = self.asked == 0
            return await super().complete(request)

    async with House(database, Agent(Cut(REST), ledger.tools), patience_s=0.05) as house:
        key = await house.submit()
        assert await house.execute(key) == RETRY_STORAGE_S
        assert ledger.done == []
        assert nothing_is_held(house)
        outage.is_on = False
        assert await house.execute(key) is None
        assert (await house.run(key)).status == "success"
        assert [effect for effect, _ in ledger.done] == ["keyed", "unsafe"]


async def test_a_run_that_was_started_here_goes_on_when_the_database_is_back(
    database: Database, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No queue delivers it: its caller was told that it is not known to be kept, and the run goes on by itself."""
    monkeypatch.setattr(executor_module, "RETRY_STORAGE_S", 0.01)
    outage = Outage(database)

    class Cut(Plan):
        async def complete(self, request: LLMRequest) -> LLMResponse:
            outage.is_on = self.asked == 0
            return await super().complete(request)

    async with House(database, Agent(Cut(REST), ledger.tools), patience_s=0.02) as house:
        if not database.is_sqlite:
            await house.store.beat("me", 60.0)  # nobody else could take it up
        with pytest.raises(StorageUnavailableError):
            await start(house)
        outage.is_on = False
        await until(lambda: house.finished)
        assert (await house.run(KEY)).status == "success"
        assert [effect for effect, _ in ledger.done] == ["keyed", "unsafe"]


async def test_a_run_that_was_never_kept_does_not_come_back(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(executor_module, "RETRY_STORAGE_S", 0.01)
    outage = Outage(database)
    async with House(database, Agent(Plan(), []), patience_s=0.02) as house:
        outage.is_on = True
        with pytest.raises(StorageUnavailableError):
            await start(house)
        outage.is_on = False
        await until(lambda: not house.executor._retries)
        assert house.count() == 0


async def test_a_claim_that_cannot_be_made_is_tried_again_later(database: Database) -> None:
    async with House(database, Agent(Plan(), [])) as house:
        key = await house.submit()

        async def fail(*_: Any, **__: Any) -> Claim | Refusal:
            raise StorageUnavailableError("away")

        claim, house.store.claim = house.store.claim, fail  # type: ignore[method-assign]
        assert await house.execute(key) == RETRY_STORAGE_S
        house.store.claim = claim  # type: ignore[method-assign]
        assert await house.execute(key) is None


async def test_a_bug_in_a_run_does_not_hold_it_for_ever(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each failure is a claim without progress, so after three the run is given up."""
    async with House(database, Agent(Plan(), [])) as house:
        key = await house.submit()

        async def fail(*_: Any) -> Any:
            raise AssertionError("a bug")

        monkeypatch.setattr("app.agent.loop.Loop.next_event", fail)
        for _ in range(3):
            with pytest.raises(AssertionError):
                await house.execute(key)
            assert nothing_is_held(house)
        assert await house.execute(key) is None
        assert (await house.run(key)).reason == "poison"


async def test_a_run_that_another_process_takes_from_its_caller_says_so(database: Database) -> None:
    model = Stuck(answers=0)
    async with House(database, Agent(model, [])) as house:
        running = asyncio.create_task(start(house))
        await model.stuck.wait()
        assert isinstance(await house.store.claim(KEY, "another", statuses=("running",)), Claim)
        house.executor.cancel(KEY)
        with pytest.raises(FencedError):
            await running
        house.executor._stopping = True  # so that it is not taken up again here
        for task in house.executor._retries:
            task.cancel()


async def test_who_cannot_be_told_of_an_end_does_not_undo_it(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    async with House(database, Agent(Plan(), [])) as house:

        def fail(*_: object) -> None:
            raise BrokenPipeError

        house.executor.driver._on_finished = fail
        assert (await start(house)).run.output == "end"
        assert "could not be told" in caplog.text


# what it costs


async def test_a_run_of_twenty_pure_steps_waits_for_at_most_two_commits(database: Database) -> None:
    model = Plan(*[call("probe", n=number) for number in range(20)], is_free=True)
    async with House(database, Agent(model, [FakeTool(effect="pure", quick=True)], max_steps=50)) as house:
        ended = await start(house)
        assert len(ended.run.trace) == 20
        assert house.writer.commits <= 2


async def test_runs_leave_nothing_in_memory(database: Database) -> None:
    model = Plan(call("probe"), is_free=True)
    async with House(database, Agent(model, [FakeTool(effect="pure", quick=True)])) as house:
        await asyncio.gather(*[start(house, RunKey("default", f"run-{number}")) for number in range(50)])
        executor: Executor = house.executor
        assert not executor._taken
        assert not executor.driver.held
        assert not executor.driver._to_cancel
        assert not executor._retries
        assert not house.feed._channels
        assert not house.writer._open


async def test_the_outcome_is_the_same_whether_it_is_remembered_or_read(
    database: Database, ledger: Ledger
) -> None:
    async with House(database, Agent(Plan(EVERY, REST), ledger.tools)) as house:
        ended = await start(house)
        assert ended.run == await finished(house.store, await house.run(KEY))
        assert [event for event in await house.events(KEY) if isinstance(event, RunStarted | ModelRequested)]


def test_a_cancellation_weighs_more_than_a_stop() -> None:
    held = HeldRun(None, None, None, None, None)  # type: ignore[arg-type]
    held.interrupt(Stop.CANCEL)
    held.interrupt(Stop.HAND_BACK)
    assert held.stop is Stop.CANCEL
