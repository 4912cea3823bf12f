"""What the loop does about effects: doubts, attempts under one key, transactions, and what is durable first."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest
from fakes import FakeTool, ScriptedModel, answer, call, calls, kinds

from app.agent.core import Agent
from app.agent.events import (
    Event,
    ModelDecided,
    ModelRequested,
    RunFinished,
    ToolCompleted,
    ToolIntended,
    ToolInterrupted,
    ToolResolved,
)
from app.agent.journal import ListJournal
from app.agent.loop import MAX_ATTEMPTS, Loop
from app.agent.planner import MAX_ARGUMENT_BYTES
from app.agent.state import AgentState
from app.errors import StepError, ToolRejected
from app.jsonvalue import JsonObject
from app.llm.interface import LLMResponse, ToolCall
from app.tools.base import Effect, Transaction
from app.tools.call import ToolCallContext, current_call


class Kept:
    """A run that is kept, as far as the loop goes: it can wait for somebody."""

    def __init__(
        self, *tools: FakeTool, replies: tuple[Any, ...] = (), journal: ListJournal | None = None
    ) -> None:
        self.model = ScriptedModel(*(replies or (call(tools[0].name, x=1), answer("end"))))
        self.agent = Agent(self.model, tools)
        self.journal = ListJournal() if journal is None else journal
        self.state = AgentState()
        self.state.apply(self.journal.append(self.agent.opening("go")))

    def loop(self, seconds: float | None = None) -> Loop:
        return self.agent.loop(self.state, self.journal, "run-1", seconds)

    async def run(self, loop: Loop | None = None) -> list[Event]:
        """Carry it on until it ends or waits, and return the events after the opening."""
        loop = loop or self.loop()
        while self.state.result is None and not loop.is_waiting:
            await loop.next_event()
        return self.journal.events[1:]

    def resume(self) -> None:
        """Let the process that drove it be another one."""
        self.state = AgentState.fold(self.journal.events)

    def add(self, event: Event) -> None:
        self.state.apply(self.journal.append(event))


def of(kind: type, events: list[Event]) -> list[Any]:
    return [event for event in events if isinstance(event, kind)]


class Attempts:
    """A tool's `run` that does something else each time, and notes the calls it was in."""

    def __init__(self, *outcomes: Callable[[], Any]) -> None:
        self.calls: list[ToolCallContext] = []
        self._outcomes = outcomes

    async def __call__(self, given: JsonObject) -> Any:
        self.calls.append(current_call())
        outcome = self._outcomes[min(len(self.calls), len(self._outcomes)) - 1]()
        return await outcome if asyncio.iscoroutine(outcome) else outcome


def raising(error: BaseException) -> Callable[[], Any]:
    def fail() -> Any:
        raise error

    return fail


async def hang() -> Any:
    await asyncio.get_running_loop().create_future()


def done() -> JsonObject:
    return {"ok": True}


BROKEN_OFF = [hang, raising(SystemExit(1)), raising(asyncio.CancelledError()), raising(BaseException("odd"))]
"""The ways in which a call ends without getting as far as failing."""


def tool_of(run: Any, effect: str, **attributes: Any) -> FakeTool:
    return FakeTool(run, effect=effect, **{"timeout_s": 0.01, **attributes})


@pytest.mark.parametrize("broken", BROKEN_OFF)
async def test_a_call_that_honours_a_key_is_made_again_under_the_same_key(broken: Any) -> None:
    attempts = Attempts(broken, done)
    kept = Kept(tool_of(attempts, "keyed"))
    events = await kept.run()
    assert kinds(events)[2:5] == ["ToolIntended", "ToolInterrupted", "ToolCompleted"]
    interrupted = of(ToolInterrupted, events)[0]
    assert (interrupted.step, interrupted.tool, interrupted.attempt, interrupted.in_doubt) == (
        1,
        "probe",
        1,
        False,
    )
    assert [(made.attempt, made.idempotency_key, made.run_id, made.step) for made in attempts.calls] == [
        (1, "run-1:1", "run-1", 1),
        (2, "run-1:1", "run-1", 1),
    ]
    assert of(ToolCompleted, events)[0].step.output == {"ok": True}
    assert kept.state.result == RunFinished("success", "end")


async def test_after_three_attempts_the_step_is_in_doubt_and_the_run_waits() -> None:
    attempts = Attempts(hang)
    kept = Kept(tool_of(attempts, "keyed"))
    loop = kept.loop()
    events = await kept.run(loop)
    assert loop.is_waiting
    assert kept.state.result is None
    assert [(event.attempt, event.in_doubt) for event in of(ToolInterrupted, events)] == [
        (1, False),
        (2, False),
        (MAX_ATTEMPTS, True),
    ]
    assert {made.idempotency_key for made in attempts.calls} == {"run-1:1"}
    assert len(attempts.calls) == MAX_ATTEMPTS == 3


async def test_attempts_go_on_counting_after_a_restart() -> None:
    attempts = Attempts(hang)
    kept = Kept(tool_of(attempts, "keyed"))
    loop = kept.loop()
    while not of(ToolInterrupted, kept.journal.events):
        await loop.next_event()
    kept.resume()
    await kept.run()
    assert [made.attempt for made in attempts.calls] == [1, 2, 3]


async def test_in_the_library_a_call_that_never_answers_is_a_failed_step_of_unknown_effect() -> None:
    attempts = Attempts(hang)
    agent = Agent(ScriptedModel(call("probe"), answer("end")), [tool_of(attempts, "keyed")])
    events = [event async for event in agent.stream("go")]
    assert [event.in_doubt for event in of(ToolInterrupted, events)] == [False, False]
    completed = of(ToolCompleted, events)[0]
    assert completed.effect_unknown
    assert completed.step.error == "timeout: probe did not answer within 0.01 s."
    assert len({made.idempotency_key for made in attempts.calls}) == 1
    assert len(attempts.calls) == 3
    assert isinstance(events[-1], RunFinished)


async def test_two_runs_never_share_a_key() -> None:
    attempts = Attempts(done)
    agent = Agent(ScriptedModel(calls(("probe", {}), ("probe", {})), answer()), [tool_of(attempts, "keyed")])
    await agent.arun("go")
    await Agent(ScriptedModel(call("probe"), answer()), [tool_of(attempts, "keyed")]).arun("go")
    assert len({made.idempotency_key for made in attempts.calls}) == 3


@pytest.mark.parametrize("effect", ["unsafe", "transactional"])
@pytest.mark.parametrize("broken", BROKEN_OFF)
async def test_an_unsafe_call_that_is_broken_off_leaves_its_step_in_doubt(broken: Any, effect: str) -> None:
    attempts = Attempts(broken)
    kept = Kept(tool_of(attempts, effect))
    loop = kept.loop()
    events = await kept.run(loop)
    assert kinds(events)[2:] == ["ToolIntended", "ToolInterrupted"]
    assert (events[-1].attempt, events[-1].in_doubt) == (1, True)  # type: ignore[union-attr]
    assert loop.is_waiting
    assert len(attempts.calls) == 1


@pytest.mark.parametrize("broken", BROKEN_OFF)
async def test_in_the_library_an_unsafe_call_that_is_broken_off_is_a_step_of_unknown_effect(broken: Any) -> None:
    agent = Agent(ScriptedModel(call("probe"), answer("end")), [tool_of(Attempts(broken), "unsafe")])
    events = [event async for event in agent.stream("go")]
    assert not of(ToolInterrupted, events)
    assert of(ToolCompleted, events)[0].effect_unknown
    assert events[-1] == RunFinished("success", "end")


@pytest.mark.parametrize("effect", ["pure", "read"])
@pytest.mark.parametrize("broken", BROKEN_OFF)
async def test_a_call_that_may_be_repeated_is_never_in_doubt(broken: Any, effect: str) -> None:
    events = await Kept(tool_of(Attempts(broken), effect)).run()
    assert not of(ToolInterrupted, events)
    completed = of(ToolCompleted, events)[0]
    assert completed.step.error
    assert not completed.effect_unknown


@pytest.mark.parametrize(
    ("effect", "unknown"),
    [("pure", False), ("read", False), ("transactional", True), ("keyed", True), ("unsafe", True)],
)
@pytest.mark.parametrize("waits", [True, False])
async def test_an_ordinary_exception_is_a_step_error(effect: str, unknown: bool, waits: bool) -> None:
    attempts = Attempts(raising(ValueError("no such ledger")))
    tool = tool_of(attempts, effect)
    if waits:
        events = await Kept(tool).run()
    else:
        agent = Agent(ScriptedModel(call("probe"), answer("end")), [tool])
        events = [event async for event in agent.stream("go")]
    completed = of(ToolCompleted, events)[0]
    assert completed.step.error == "tool_failed: ValueError: no such ledger"
    assert completed.effect_unknown is unknown
    assert not of(ToolInterrupted, events)
    assert len(attempts.calls) == 1
    assert isinstance(events[-1], RunFinished)


@pytest.mark.parametrize("effect", list(Effect))
async def test_a_refusal_says_that_nothing_happened(effect: Effect) -> None:
    events = await Kept(tool_of(Attempts(raising(ToolRejected("Closed.", "closed"))), effect)).run()
    completed = of(ToolCompleted, events)[0]
    assert completed.step.error == "closed: Closed."
    assert not completed.effect_unknown


async def test_a_tool_may_say_that_a_doubt_fails_the_run() -> None:
    kept = Kept(tool_of(Attempts(hang), "unsafe", on_in_doubt="fail"))
    loop = kept.loop()
    events = await kept.run(loop)
    assert not loop.is_waiting
    assert kinds(events)[2:] == ["ToolIntended", "ToolInterrupted", "RunFinished"]
    end = kept.state.result
    assert end is not None
    assert (end.status, end.reason) == ("error", "in_doubt")


async def waiting(effect: str = "unsafe") -> tuple[Kept, Attempts]:
    attempts = Attempts(hang, done)
    kept = Kept(tool_of(attempts, effect))
    await kept.run()
    assert kept.state.doubt is not None
    return kept, attempts


@pytest.mark.parametrize("output", [{"sent": 1}, None])
async def test_a_step_that_somebody_says_happened_is_completed_with_what_they_say(output: Any) -> None:
    kept, attempts = await waiting()
    kept.add(ToolResolved(1, happened=True, output=output))
    kept.resume()
    events = await kept.run()
    completed = of(ToolCompleted, events)[0]
    assert (completed.step.output, completed.step.error, completed.effect_unknown) == (output or {}, None, False)
    assert completed.step.input == {"x": 1}
    assert len(attempts.calls) == 1
    assert kept.model.seen[1][-1].output == (output or {})  # type: ignore[attr-defined]
    assert kept.state.result == RunFinished("success", "end")


async def test_a_step_that_did_not_happen_is_carried_out_under_the_same_key() -> None:
    kept, attempts = await waiting()
    kept.add(ToolResolved(1, happened=False))
    kept.resume()
    events = await kept.run()
    assert kinds(events)[2:7] == [
        "ToolIntended",
        "ToolInterrupted",
        "ToolResolved",
        "ToolIntended",
        "ToolCompleted",
    ]
    assert [made.idempotency_key for made in attempts.calls] == ["run-1:1", "run-1:1"]
    assert kept.state.result == RunFinished("success", "end")


@pytest.mark.parametrize("gone", [False, True])
async def test_a_resumed_run_never_makes_an_unsafe_call_again_by_itself(gone: bool) -> None:
    attempts = Attempts(done)
    kept = Kept(tool_of(attempts, "unsafe"))
    kept.add(ModelRequested(1))
    kept.add(ModelDecided(1, "", (ToolCall("probe", {"x": 1}),)))
    kept.add(ToolIntended(1, "probe", {"x": 1}))
    kept.resume()
    if gone:  # nobody knows any more what it did
        kept.agent = Agent(kept.model, [])
    loop = kept.loop()
    events = await kept.run(loop)
    reason = "The run had stopped while probe was under way."
    assert events[-1] == ToolInterrupted(1, "probe", 1, reason, in_doubt=True)
    assert loop.is_waiting
    assert not attempts.calls


async def test_a_tool_that_has_gone_is_told_to_the_model_once_the_doubt_is_settled() -> None:
    kept, _ = await waiting()
    kept.add(ToolResolved(1, happened=False))
    kept.resume()
    kept.agent = Agent(kept.model, [])
    events = await kept.run()
    assert (of(ToolCompleted, events)[0].step.error or "").startswith("unknown_tool: ")
    assert kept.state.result == RunFinished("success", "end")


# transactions


class Written:
    """A transaction: what effects write in it."""

    def __init__(self) -> None:
        self.rows: list[object] = []
        self.tenant, self.run_id, self.step, self.connection = "default", "run-1", 1, self

    def will_be_retried(self, error: Exception) -> bool:
        return isinstance(error, ConnectionError)


class TransactionalList(ListJournal):
    """A journal that carries effects out with the events that record them: both or neither."""

    def __init__(self, failures: int = 0) -> None:
        super().__init__()
        self.rows: list[object] = []
        self.performed: list[int] = []
        self._failures = failures

    async def perform(
        self,
        step: int,
        effect: Callable[[Transaction], JsonObject],
        completed: Callable[[JsonObject | None, StepError | None], ToolCompleted],
    ) -> ToolCompleted:
        self.performed.append(step)
        while True:
            transaction = Written()
            try:
                event = completed(await asyncio.to_thread(effect, transaction), None)  # type: ignore[arg-type]
            except StepError as error:
                transaction.rows.clear()
                event = completed(None, error)
            except ConnectionError:
                continue
            if self._failures:
                self._failures -= 1
                continue
            self.rows += transaction.rows
            self.append(event)
            return event


def writing(run_in: Callable[[Any, JsonObject], Any], **attributes: Any) -> FakeTool:
    return FakeTool(raising(AssertionError), effect="transactional", run_in=run_in, **attributes)


async def test_a_transactional_tool_runs_where_its_step_is_recorded() -> None:
    def run_in(transaction: Any, given: JsonObject) -> JsonObject:
        transaction.rows.append(given["x"])
        return {"rows": len(transaction.rows)}

    journal = TransactionalList()
    events = await Kept(writing(run_in), journal=journal).run()
    assert (journal.rows, journal.performed) == ([1], [1])
    completed = of(ToolCompleted, events)
    assert [(event.step.output, event.effect_unknown) for event in completed] == [({"rows": 1}, False)]
    assert kinds(events).count("ToolIntended") == 1


@pytest.mark.parametrize(
    ("outcome", "error"),
    [
        (raising(ToolRejected("Full.", "store_full")), "store_full: Full."),
        (raising(ValueError("bad")), "tool_failed: ValueError: bad"),
        (raising(SystemExit(3)), "tool_failed: SystemExit: 3"),
        (lambda: "text", "invalid_output: probe returned str, not an object."),
        (lambda: {"x": "y" * 300_000}, "output_too_large: probe returned more than 262144 bytes."),
    ],
)
async def test_a_transactional_tool_that_fails_leaves_nothing_but_its_step(outcome: Any, error: str) -> None:
    def run_in(transaction: Any, given: JsonObject) -> Any:
        transaction.rows.append("half")
        return outcome()

    journal = TransactionalList()
    events = await Kept(writing(run_in), journal=journal).run()
    assert journal.rows == []
    completed = of(ToolCompleted, events)[0]
    assert (completed.step.error, completed.step.output, completed.effect_unknown) == (error, None, False)
    assert isinstance(events[-1], RunFinished)


async def test_a_transactional_tool_runs_again_with_its_transaction() -> None:
    outcomes = [raising(ConnectionError()), done, done]

    def run_in(transaction: Any, given: JsonObject) -> Any:
        transaction.rows.append(current_call().idempotency_key)
        return outcomes.pop(0)()

    journal = TransactionalList(failures=1)
    events = await Kept(writing(run_in), journal=journal).run()
    assert journal.rows == ["run-1:1"]
    assert len(of(ToolCompleted, events)) == 1


async def test_a_resumed_run_makes_a_transactional_call_since_neither_effect_nor_event_is_there() -> None:
    journal = TransactionalList()
    tool = writing(lambda transaction, given: transaction.rows.append(1) or {})
    kept = Kept(tool, replies=(answer("end"),), journal=journal)
    kept.add(ModelRequested(1))
    kept.add(ModelDecided(1, "", (ToolCall("probe", {"x": 1}),)))
    kept.add(ToolIntended(1, "probe", {"x": 1}))
    kept.resume()
    await kept.run()
    assert journal.rows == [1]
    assert kept.state.result == RunFinished("success", "end")


async def test_without_a_journal_in_a_database_a_transactional_tool_runs_like_an_unsafe_one() -> None:
    ran: list[int] = []
    tool = FakeTool(lambda given: ran.append(1) or {}, effect="transactional", run_in=raising(AssertionError()))
    kept = Kept(tool)
    assert kept.loop()._may_rerun(ToolIntended(1, "probe", {})) is False
    await kept.run()
    assert ran == [1]


# what a tool can know of its call


@pytest.mark.parametrize("effect", list(Effect))
@pytest.mark.parametrize("how", ["thread", "quick", "async", "a task of its own"])
async def test_a_tool_can_ask_which_call_it_is_in(how: str, effect: Effect) -> None:
    seen: list[ToolCallContext] = []

    def run(given: JsonObject) -> JsonObject:
        seen.append(current_call())
        return {}

    async def run_async(given: JsonObject) -> JsonObject:
        await asyncio.sleep(0)
        return run(given)

    async def run_in_task(given: JsonObject) -> JsonObject:
        return await asyncio.create_task(run_async(given))

    chosen: Any = {"async": run_async, "a task of its own": run_in_task}.get(how, run)
    replies = (calls(("probe", {}), ("probe", {})), answer())
    await Kept(FakeTool(chosen, effect=effect, quick=how == "quick"), replies=replies).run()
    assert seen == [ToolCallContext("run-1", 1, 1), ToolCallContext("run-1", 2, 1)]
    assert [call.idempotency_key for call in seen] == ["run-1:1", "run-1:2"]


async def test_outside_of_a_tool_there_is_no_call() -> None:
    with pytest.raises(RuntimeError, match="current_call"):
        current_call()
    await Kept(FakeTool(quick=True)).run()
    with pytest.raises(RuntimeError, match="current_call"):
        current_call()


async def test_a_run_inside_a_tool_has_calls_of_its_own() -> None:
    seen: list[ToolCallContext] = []
    inner = FakeTool(lambda given: seen.append(current_call()) or {}, name="inner", effect="pure", quick=True)

    async def outer(given: JsonObject) -> JsonObject:
        before = current_call()
        await Agent(ScriptedModel(call("inner"), answer()), [inner]).arun("go")
        assert current_call() == before
        return {}

    events = await Kept(FakeTool(outer)).run()
    assert of(ToolCompleted, events)[0].step.error is None
    assert seen[0].run_id != "run-1"


async def test_an_abandoned_thread_still_knows_its_own_call() -> None:
    release, told = threading.Event(), threading.Event()
    seen: list[ToolCallContext] = []

    def run(given: JsonObject) -> JsonObject:
        if given["x"] == 1:
            release.wait(10)
            seen.append(current_call())
            told.set()
        return {}

    replies = (calls(("probe", {"x": 1}), ("probe", {"x": 2})), answer())
    await Kept(FakeTool(run, effect="read", timeout_s=0.02), replies=replies).run()
    release.set()
    assert await asyncio.to_thread(told.wait, 10)
    assert seen == [ToolCallContext("run-1", 1, 1)]


# limits


async def test_a_run_may_have_a_step_limit_of_its_own() -> None:
    agent = Agent(ScriptedModel(call("probe")), [FakeTool()], max_steps=20)
    state, journal = AgentState(), ListJournal()
    state.apply(journal.append(agent.opening("go", max_steps=2)))
    loop = agent.loop(state, journal, "run-1")
    while state.result is None:
        await loop.next_event()
    assert len(state.steps) == 2
    assert state.result.reason == "step_limit"
    assert "2 steps" in state.result.output


async def test_a_deadline_says_so() -> None:
    kept = Kept(FakeTool())
    await kept.run(kept.loop(seconds=-1.0))
    end = kept.state.result
    assert end is not None
    assert (end.reason, end.output) == ("deadline", "Stopped without an answer: the run's deadline has passed.")


async def test_a_later_deadline_does_not_extend_the_agents_own_limit() -> None:
    kept = Kept(FakeTool())
    kept.agent = Agent(kept.model, [FakeTool()], max_seconds=1e-9)
    await kept.run(kept.loop(seconds=1000.0))
    assert kept.state.result is not None
    assert kept.state.result.reason == "time_limit"


@pytest.mark.parametrize("effect", list(Effect))
async def test_a_call_that_there_is_no_time_for_is_not_begun(effect: Effect) -> None:
    attempts = Attempts(done)
    kept = Kept(tool_of(attempts, effect))
    loop = kept.loop(seconds=100)
    while kept.state.intended is None:
        await loop.next_event()
    loop._deadline = 0.0
    await kept.run(loop)
    assert not attempts.calls
    assert kept.state.result is not None
    assert kept.state.result.reason == "deadline"


async def test_time_that_passes_while_an_intent_becomes_durable_counts() -> None:
    class Slow(ListJournal):
        async def commit(self) -> None:
            if isinstance(self.events[-1], ToolIntended):
                loop._deadline = 0.0

    attempts = Attempts(done)
    kept = Kept(tool_of(attempts, "unsafe"), journal=Slow())
    loop = kept.loop(seconds=100)
    await kept.run(loop)
    assert not attempts.calls
    assert kept.state.result is not None
    assert kept.state.result.reason == "deadline"


async def test_a_call_under_a_key_that_was_begun_and_has_no_time_left_is_in_doubt() -> None:
    attempts = Attempts(hang)
    kept = Kept(tool_of(attempts, "keyed"))
    loop = kept.loop(seconds=100)
    while not of(ToolInterrupted, kept.journal.events):
        await loop.next_event()
    loop._deadline = 0.0
    events = await kept.run(loop)
    assert [(event.attempt, event.in_doubt) for event in of(ToolInterrupted, events)] == [(1, False), (1, True)]
    assert len(attempts.calls) == 1
    assert loop.is_waiting


async def test_the_last_of_a_runs_time_is_not_spent_on_attempts_that_have_none() -> None:
    attempts = Attempts(hang)
    kept = Kept(tool_of(attempts, "keyed", timeout_s=30))
    loop = kept.loop(seconds=0.02)
    events = await kept.run(loop)
    assert [(event.attempt, event.in_doubt) for event in of(ToolInterrupted, events)] == [(1, True)]
    assert len(attempts.calls) == 1
    assert loop.is_waiting


# what is durable before what


class Barriers(ListJournal):
    """Notes what was the last event whenever something had to be durable."""

    def __init__(self) -> None:
        super().__init__()
        self.barriers: list[str] = []

    async def commit(self) -> None:
        self.barriers.append(type(self.events[-1]).__name__)


async def test_a_free_model_and_pure_steps_wait_for_the_end_only() -> None:
    journal = Barriers()
    kept = Kept(FakeTool(effect="pure", quick=True), replies=(*[call("probe")] * 20, answer()), journal=journal)
    kept.model.is_free = True  # type: ignore[misc]
    kept.agent = Agent(kept.model, [FakeTool(effect="pure", quick=True)])
    await kept.run()
    assert len(kept.state.steps) == 20
    assert journal.barriers == ["RunFinished"]


async def test_what_a_paid_model_is_asked_and_what_it_decides_is_durable_before_anything_follows() -> None:
    journal = Barriers()
    asked: list[list[str]] = []

    class Paid(ScriptedModel):
        async def complete(self, request: Any) -> Any:
            asked.append(list(journal.barriers))
            return await super().complete(request)

    kept = Kept(FakeTool(effect="pure", quick=True), journal=journal)
    kept.agent = Agent(Paid(call("probe"), LLMResponse(), answer()), [FakeTool(effect="pure", quick=True)])
    await kept.run()
    assert journal.barriers == [
        "ModelRequested",
        "ModelDecided",
        "ModelRequested",
        "ModelRejected",
        "ModelRequested",
        "ModelDecided",
        "RunFinished",
    ]
    assert [len(barriers) for barriers in asked] == [1, 3, 5]


@pytest.mark.parametrize(
    ("effect", "attributes", "stops", "for_good"),
    [
        ("pure", {}, False, False),
        ("read", {}, False, False),
        ("keyed", {}, False, True),
        ("unsafe", {}, True, True),
        ("transactional", {}, True, True),
    ],
)
def test_stopping_in_a_call_leaves_open_what_nobody_would_find_out(
    effect: str, attributes: dict[str, Any], stops: bool, for_good: bool
) -> None:
    kept = Kept(tool_of(Attempts(done), effect, **attributes))
    loop = kept.loop()
    assert not loop.leaves_open(for_good=True)
    kept.add(ModelDecided(1, "", (ToolCall("probe", {"x": 1}),)))
    assert not loop.leaves_open(for_good=True)
    kept.add(ToolIntended(1, "probe", {"x": 1}))
    assert loop.leaves_open(for_good=False) is stops
    assert loop.leaves_open(for_good=True) is for_good
    kept.add(ToolInterrupted(1, "probe", 1, "why", in_doubt=True))
    assert not loop.leaves_open(for_good=True)  # that is known already
    kept.add(ToolResolved(1, happened=True, output={}))
    assert not loop.leaves_open(for_good=True)


def test_stopping_in_a_transaction_leaves_nothing_open() -> None:
    kept = Kept(writing(lambda transaction, given: {}), journal=TransactionalList())
    kept.add(ModelDecided(1, "", (ToolCall("probe", {"x": 1}),)))
    kept.add(ToolIntended(1, "probe", {"x": 1}))
    assert not kept.loop().leaves_open(for_good=True)


# the planner's bound


def sized(size: int, count: int = 1) -> LLMResponse:
    """A turn whose calls are so many bytes of JSON, each of them small enough alone."""
    empty = len('[{"name":"probe","arguments":{"t":""},"id":""}]') + (count - 1) * len(
        ',{"name":"probe","arguments":{"t":""},"id":""}'
    )
    texts = ["x" * ((size - empty) // count)] * (count - 1)
    texts.append("x" * (size - empty - sum(map(len, texts))))
    return calls(*[("probe", {"t": text}) for text in texts])


@pytest.mark.parametrize("count", [1, 3])
async def test_the_calls_of_a_turn_have_to_fit_into_an_event_uncut(count: int) -> None:
    model = ScriptedModel(sized(MAX_ARGUMENT_BYTES, count), answer())
    result = await Agent(model, [FakeTool()]).arun("go")
    assert len(result.trace) == count
    model = ScriptedModel(sized(MAX_ARGUMENT_BYTES + 1, count), answer("smaller"))
    result = await Agent(model, [FakeTool()]).arun("go")
    assert (result.output, result.trace) == ("smaller", [])
    assert str(MAX_ARGUMENT_BYTES) in model.seen[1][-1].problem  # type: ignore[attr-defined]


async def test_escapes_count_as_what_they_take_in_an_event() -> None:
    model = ScriptedModel(call("probe", t="\x01" * (MAX_ARGUMENT_BYTES // 5)), answer("smaller"))
    assert (await Agent(model, [FakeTool()]).arun("go")).trace == []
