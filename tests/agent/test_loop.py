from __future__ import annotations

import asyncio
import math
import threading
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from fakes import FakeTool, ScriptedModel, answer, call, calls, kinds

import app.timelimit as timelimit
from app.agent.core import Agent
from app.agent.events import ModelRejected, RunFinished, ToolCompleted, ToolIntended
from app.agent.journal import ListJournal
from app.agent.planner import MAX_ANSWER_CHARS, MAX_CALLS_PER_TURN
from app.agent.state import AgentState
from app.errors import ToolRejected
from app.llm.interface import CorrectionMessage, LLMResponse, ToolCall, ToolMessage, Usage
from app.tools.base import Effect


def one_step(tool: FakeTool, **agent: Any) -> Agent:
    return Agent(ScriptedModel(call(tool.name, x=1), answer()), [tool], **agent)


async def error_of(tool: FakeTool, **agent: Any) -> str:
    """Run the tool once; the run has to survive it and the step has to have failed."""
    result = await one_step(tool, **agent).arun("go")
    assert result.status == "success"
    assert result.trace[0].output is None
    assert result.trace[0].error is not None
    return result.trace[0].error


async def test_a_run_plans_acts_observes_and_answers() -> None:
    model = ScriptedModel(call("probe", x=1), answer("all good"))
    result = await Agent(model, [FakeTool(lambda given: {"got": given["x"]})]).arun("go", "background")
    assert (result.status, result.output) == ("success", "all good")
    step = result.trace[0]
    assert (step.step, step.tool, step.input, step.output, step.error) == (1, "probe", {"x": 1}, {"got": 1}, None)
    assert model.seen[1][-1] == ToolMessage("probe", {"got": 1}, None)


async def test_every_event_of_a_run_is_recorded_in_order() -> None:
    events = [event async for event in one_step(FakeTool()).stream("go")]
    assert kinds(events) == [
        "ModelRequested",
        "ModelDecided",
        "ToolIntended",
        "ToolCompleted",
        "ModelRequested",
        "ModelDecided",
        "RunFinished",
    ]


async def test_the_journal_is_the_whole_truth() -> None:
    agent, journal, state = one_step(FakeTool()), ListJournal(), AgentState()
    async for _ in agent.advance(state, journal, agent.opening("go")):
        pass
    folded = AgentState.fold(journal.events)
    assert (folded.steps, folded.messages, folded.result) == (state.steps, state.messages, state.result)


@pytest.mark.parametrize("cut", range(1, 8))
async def test_a_run_resumes_from_any_event_and_ends_the_same(cut: int) -> None:
    ran = []

    def tool() -> FakeTool:
        return FakeTool(lambda given: ran.append(1) or {"ok": True}, effect="pure")

    class Model(ScriptedModel):
        async def complete(self, request: Any) -> LLMResponse:
            return answer("end") if len(request.messages) > 2 else call("probe", x=1)

    agent, whole = Agent(Model(), [tool()]), ListJournal()
    async for _ in agent.advance(AgentState(), whole, agent.opening("go")):
        pass
    assert len(whole.events) == 8
    state, journal = AgentState.fold(whole.events[:cut]), ListJournal()
    async for _ in Agent(Model(), [tool()]).advance(state, journal):
        pass
    assert state.result == RunFinished("success", "end")
    assert [(step.step, step.output) for step in state.steps] == [(1, {"ok": True})]
    # what was completed before the cut did not run again
    assert len(ran) == (2 if cut < 5 else 1)


@pytest.mark.parametrize("effect", list(Effect))
async def test_a_resumed_run_never_repeats_an_effect_silently(effect: Effect) -> None:
    ran: list[int] = []
    tool = FakeTool(lambda given: ran.append(1) or {}, effect=effect)
    agent, whole = Agent(ScriptedModel(call("probe"), answer("end")), [tool]), ListJournal()
    async for _ in agent.advance(AgentState(), whole, agent.opening("go")):
        pass
    assert isinstance(whole.events[3], ToolIntended)
    state = AgentState.fold(whole.events[:4])
    async for _ in Agent(ScriptedModel(answer("end")), [tool]).advance(state, ListJournal()):
        pass
    assert state.result is not None
    if effect in ("pure", "read", "keyed"):  # keyed: under the same key
        assert (state.result.status, len(ran)) == ("success", 2)
    else:
        assert (state.result.reason, len(ran)) == ("in_doubt", 1)
        assert "not repeated" in state.result.output


async def test_several_calls_in_one_turn_run_in_the_models_order() -> None:
    model = ScriptedModel(calls(("a", {"n": 1}), ("b", {"n": 2}), ("a", {"n": 3})), answer())
    result = await Agent(model, [FakeTool(name="a"), FakeTool(name="b")]).arun("go")
    assert [(step.step, step.tool, step.input["n"]) for step in result.trace] == [
        (1, "a", 1),
        (2, "b", 2),
        (3, "a", 3),
    ]
    assert len(model.requests) == 2


async def test_a_tool_that_raises_is_a_step_error_and_the_loop_goes_on() -> None:
    def fail(given: dict[str, Any]) -> dict[str, Any]:
        raise ValueError("no such ledger")

    assert await error_of(FakeTool(fail)) == "tool_failed: ValueError: no such ledger"


@pytest.mark.parametrize("error", [SystemExit(1), GeneratorExit(), asyncio.CancelledError(), BaseException("odd")])
@pytest.mark.parametrize("how", ["thread", "quick", "async", "async later"])
async def test_not_even_base_exceptions_of_a_tool_end_the_run(error: BaseException, how: str) -> None:
    def fail(given: dict[str, Any]) -> dict[str, Any]:
        raise error

    async def fail_async(given: dict[str, Any]) -> dict[str, Any]:
        if how == "async later":
            await asyncio.sleep(0)
        raise error

    tool = FakeTool(fail_async if how.startswith("async") else fail, quick=how == "quick")
    assert (await error_of(tool)).startswith("tool_failed: ")


async def test_ctrl_c_in_a_tool_still_works() -> None:
    def fail(given: dict[str, Any]) -> dict[str, Any]:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        await one_step(FakeTool(fail)).arun("go")


async def test_an_exception_whose_text_raises_is_still_described() -> None:
    class HostileError(Exception):
        def __str__(self) -> str:
            raise SystemExit

    def fail(given: dict[str, Any]) -> dict[str, Any]:
        raise HostileError

    assert await error_of(FakeTool(fail)) == "tool_failed: HostileError: (no message)"


async def test_what_an_exception_says_can_be_stored() -> None:
    def fail(given: dict[str, Any]) -> dict[str, Any]:
        raise ValueError("a\0b \ud800 " + "x" * 10_000)

    error = await error_of(FakeTool(fail))
    error.encode()
    assert "\0" not in error
    assert len(error) < 600


@pytest.mark.parametrize(
    ("sentence", "code", "expected"),
    [
        ("bad byte \udcff", "bad_byte", "bad_byte: bad byte ?"),
        ("x" * 10_000, "long", f"long: {'x' * 500}"),
        ("no", "Not A Code\n", "rejected: no"),
        ("no", None, "rejected: no"),
    ],
)
async def test_a_refusal_is_stored_short_and_clean(sentence: str, code: Any, expected: str) -> None:
    def refuse(given: dict[str, Any]) -> dict[str, Any]:
        raise ToolRejected(sentence, code)

    assert await error_of(FakeTool(refuse)) == expected


async def test_a_refusal_of_the_tool_has_its_own_code() -> None:
    def refuse(given: dict[str, Any]) -> dict[str, Any]:
        raise ToolRejected("The ledger is closed.", "ledger_closed")

    events = [event async for event in one_step(FakeTool(refuse)).stream("go")]
    completed = next(event for event in events if isinstance(event, ToolCompleted))
    assert completed.step.error == "ledger_closed: The ledger is closed."
    assert not completed.effect_unknown


@pytest.mark.parametrize(
    ("effect", "unknown"), [("pure", False), ("read", False), ("keyed", True), ("unsafe", True)]
)
async def test_a_failure_after_an_effectful_tool_started_is_of_unknown_effect(effect: str, unknown: bool) -> None:
    def fail(given: dict[str, Any]) -> dict[str, Any]:
        raise ValueError

    events = [event async for event in one_step(FakeTool(fail, effect=effect)).stream("go")]
    assert next(event for event in events if isinstance(event, ToolCompleted)).effect_unknown is unknown


@pytest.mark.parametrize("kind", ["async", "sync"])
async def test_a_tool_that_hangs_is_given_up(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    release = threading.Event()

    async def hang_async(given: dict[str, Any]) -> dict[str, Any]:
        await asyncio.get_running_loop().create_future()
        return {}

    def hang(given: dict[str, Any]) -> dict[str, Any]:
        release.wait(10)
        return {}

    tool = FakeTool(hang_async if kind == "async" else hang, timeout_s=0.02)
    assert await error_of(tool) == "timeout: probe did not answer within 0.02 s."
    release.set()


async def test_a_tool_that_swallows_its_cancellation_is_abandoned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timelimit, "GRACE_S", 0.01)

    async def stubborn(given: dict[str, Any]) -> dict[str, Any]:
        for _ in range(1000):
            try:
                await asyncio.get_running_loop().create_future()
            except asyncio.CancelledError:
                continue
        return {}

    assert (await error_of(FakeTool(stubborn, timeout_s=0.01))).startswith("timeout: ")


async def test_a_tool_that_raises_a_timeout_of_its_own_failed() -> None:
    async def fail(given: dict[str, Any]) -> dict[str, Any]:
        await asyncio.sleep(0)
        raise TimeoutError("the ledger timed out")

    assert await error_of(FakeTool(fail)) == "tool_failed: TimeoutError: the ledger timed out"


def _cycle() -> dict[str, Any]:
    value: dict[str, Any] = {}
    value["self"] = value
    return value


@pytest.mark.parametrize(
    ("output", "code"),
    [
        ({"x": math.nan}, "invalid_output"),
        ({"x": b"bytes"}, "invalid_output"),
        ({"x": "\ud800"}, "invalid_output"),
        ({1: "x"}, "invalid_output"),
        (_cycle(), "invalid_output"),
        ("text", "invalid_output"),
        (None, "invalid_output"),
        ([], "invalid_output"),
        ({"x": "y" * 300_000}, "output_too_large"),
        ({"x": ["y"] * 300_000}, "output_too_large"),
    ],
)
async def test_what_is_not_a_json_object_is_a_step_error(output: object, code: str) -> None:
    assert (await error_of(FakeTool(lambda given: output))).split(":")[0] == code


async def test_a_hundred_megabytes_are_refused_without_being_walked() -> None:
    huge = {"x": "y" * 100_000_000}
    assert (
        await error_of(FakeTool(lambda given: huge))
    ) == "output_too_large: probe returned more than 262144 bytes."


async def test_an_output_that_raises_while_it_is_read_is_a_step_error() -> None:
    class Broken(dict[str, int]):
        def items(self) -> Any:
            raise RuntimeError("gone")

    assert await error_of(FakeTool(lambda given: Broken())) == "tool_failed: RuntimeError: gone"


async def test_an_output_that_breaks_the_tools_own_schema_is_a_step_error() -> None:
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    error = await error_of(FakeTool(lambda given: {"n": "one"}, output_schema=schema))
    assert error == 'invalid_output: probe broke its output schema: n: "one" is not of type "integer"'
    result = await one_step(FakeTool(lambda given: {"n": 1}, output_schema=schema)).arun("go")
    assert result.trace[0].output == {"n": 1}


async def test_a_tool_cannot_change_what_was_recorded() -> None:
    kept: list[dict[str, Any]] = []

    def meddle(given: dict[str, Any]) -> dict[str, Any]:
        given["x"], given["more"] = "changed", {}
        output = {"list": [1]}
        kept.append(output)
        return output

    model = ScriptedModel(call("probe", x=1), answer())
    result = await Agent(model, [FakeTool(meddle)]).arun("go")
    kept[0]["list"].append(2)
    assert result.trace[0].input == {"x": 1}
    assert result.trace[0].output == {"list": [1]}


async def test_bad_arguments_and_unknown_tools_go_back_to_the_model_and_nothing_runs() -> None:
    ran = []
    schema = {"type": "object", "properties": {"x": {"type": "integer"}}, "additionalProperties": False}
    tool = FakeTool(lambda given: ran.append(1) or {}, input_schema=schema)
    model = ScriptedModel(call("probe", x="one"), call("nothing", x=1), call("probe", x=1), answer())
    result = await Agent(model, [tool]).arun("go")
    assert [step.error for step in result.trace] == [
        'invalid_input: x: "one" is not of type "integer"',
        "unknown_tool: There is no tool 'nothing'. Available: probe.",
        None,
    ]
    assert ran == [1]
    assert model.seen[1][-1].error == result.trace[0].error  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "garbage",
    [
        LLMResponse(),
        LLMResponse(content="x" * (MAX_ANSWER_CHARS + 1)),
        LLMResponse(content="a\0b"),
        LLMResponse(content="\ud800"),
        LLMResponse(content=7),  # type: ignore[arg-type]
        LLMResponse(tool_calls=("probe",)),  # type: ignore[arg-type]
        LLMResponse(tool_calls=(ToolCall("probe", [1]),)),  # type: ignore[arg-type]
        LLMResponse(tool_calls=(ToolCall("probe", {"x": math.nan}),)),
        LLMResponse(tool_calls=(ToolCall("probe", {"x": "y" * 300_000}),)),
        LLMResponse(tool_calls=(ToolCall("", {}),)),
        LLMResponse(tool_calls=(ToolCall("probe", {}),) * (MAX_CALLS_PER_TURN + 1)),
        None,
        "text",
        {"content": "x"},
    ],
)
async def test_garbage_from_the_model_is_told_to_it_so_that_it_can_mend_it(garbage: object) -> None:
    model = ScriptedModel(garbage, answer("mended"))
    result = await Agent(model, []).arun("go")
    assert (result.status, result.output, result.trace) == ("success", "mended", [])
    told = model.seen[1][-1]
    assert isinstance(told, CorrectionMessage)
    assert told.problem


async def test_a_model_that_never_mends_its_reply_is_stopped() -> None:
    model = ScriptedModel(LLMResponse())
    events = [event async for event in Agent(model, []).stream("go")]
    assert sum(isinstance(event, ModelRejected) for event in events) == len(model.requests) == 3
    end = events[-1]
    assert isinstance(end, RunFinished)
    assert (end.status, end.reason) == ("error", "model_response_invalid")
    assert "no usable reply 3 times in a row" in end.output


async def test_corrections_are_counted_in_a_row() -> None:
    bad = LLMResponse()
    model = ScriptedModel(bad, bad, call("probe"), bad, bad, answer("end"))
    assert (await Agent(model, [FakeTool()]).arun("go")).output == "end"


async def test_a_model_that_raises_ends_the_run_as_an_error(caplog: pytest.LogCaptureFixture) -> None:
    events = [event async for event in Agent(ScriptedModel(ConnectionError("refused")), []).stream("go")]
    assert events[-1] == RunFinished(
        "error", "The language model failed. Its client raised ConnectionError; the log says more.", "model_failed"
    )


@pytest.mark.parametrize("error", [SystemExit(1), GeneratorExit(), asyncio.CancelledError(), BaseException("odd")])
async def test_not_even_base_exceptions_of_a_model_escape(error: BaseException) -> None:
    result = await Agent(ScriptedModel(error), []).arun("go")
    assert result.status == "error"
    assert type(error).__name__ in result.output


async def test_ctrl_c_in_a_model_still_works() -> None:
    with pytest.raises(KeyboardInterrupt):
        await Agent(ScriptedModel(KeyboardInterrupt()), []).arun("go")


async def test_text_of_a_subclass_becomes_plain() -> None:
    class Marked(str):
        __slots__ = ()

    model = ScriptedModel(LLMResponse(content=Marked("hi"), model=Marked("m"), usage="?"))  # type: ignore[arg-type]
    assert '"output":"hi"' in (await Agent(model, []).arun("go")).model_dump_json()


async def test_cancelling_a_run_cancels_its_model() -> None:
    entered = asyncio.Event()

    class Waiting:
        async def complete(self, request: object) -> LLMResponse:
            entered.set()
            await asyncio.get_running_loop().create_future()
            return answer()

    task = asyncio.create_task(Agent(Waiting(), []).arun("go"))
    await entered.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_cancelling_a_run_whose_tool_swallows_it_still_cancels_the_run() -> None:
    entered = asyncio.Event()

    async def swallow(given: dict[str, Any]) -> dict[str, Any]:
        entered.set()
        try:
            await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError:
            return {"swallowed": True}
        return {}

    task = asyncio.create_task(one_step(FakeTool(swallow)).arun("go"))
    await entered.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_what_failed_is_in_the_log_with_its_traceback(caplog: pytest.LogCaptureFixture) -> None:
    def fail(given: dict[str, Any]) -> dict[str, Any]:
        raise ValueError("no such ledger")

    await one_step(FakeTool(fail)).arun("go")
    await Agent(ScriptedModel(ConnectionError("https://provider/?key=sk-1")), []).arun("go")
    assert [(record.getMessage(), record.exc_info is not None) for record in caplog.records] == [
        ("the tool probe failed", True),
        ("the language model failed", True),
    ]


async def test_an_endless_loop_is_stopped_at_the_step_limit() -> None:
    model = ScriptedModel(call("probe"))
    events = [event async for event in Agent(model, [FakeTool()], max_steps=5).stream("go")]
    end = events[-1]
    assert isinstance(end, RunFinished)
    assert (end.status, end.reason) == ("error", "step_limit")
    assert "5 steps" in end.output
    assert sum(isinstance(event, ToolIntended) for event in events) == 5


async def test_a_run_may_answer_after_its_last_step() -> None:
    model = ScriptedModel(call("probe"), call("probe"), answer("just enough"))
    assert (await Agent(model, [FakeTool()], max_steps=2).arun("go")).output == "just enough"


async def test_wall_time_is_limited_while_the_model_is_asked() -> None:
    class Slow:
        async def complete(self, request: object) -> LLMResponse:
            await asyncio.get_running_loop().create_future()
            return answer()

    result = await Agent(Slow(), [], max_seconds=0.02).arun("go")
    assert result.status == "error"
    assert "0.02 seconds" in result.output


async def test_wall_time_is_limited_while_a_tool_runs() -> None:
    async def hang(given: dict[str, Any]) -> dict[str, Any]:
        await asyncio.get_running_loop().create_future()
        return {}

    result = await one_step(FakeTool(hang), max_seconds=0.02).arun("go")
    assert result.status == "error"
    assert "limit of this run" in result.output
    assert (result.trace[0].error or "").startswith("timeout: ")


async def test_cancelling_a_run_cancels_its_tool() -> None:
    entered, stopped = asyncio.Event(), asyncio.Event()

    async def hang(given: dict[str, Any]) -> dict[str, Any]:
        entered.set()
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            stopped.set()
        return {}

    task = asyncio.create_task(one_step(FakeTool(hang)).arun("go"))
    await entered.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert stopped.is_set()


async def test_a_blocking_tool_does_not_stop_the_event_loop() -> None:
    release = threading.Event()
    run = asyncio.create_task(one_step(FakeTool(lambda given: {"woken": release.wait(10)})).arun("go"))
    for _ in range(3):
        await asyncio.sleep(0)  # the loop is alive while the tool waits for what only the loop will do
    release.set()
    assert (await run).trace[0].output == {"woken": True}


@pytest.mark.parametrize(("quick", "same"), [(True, True), (False, False)])
async def test_only_a_quick_tool_runs_on_the_event_loops_own_thread(quick: bool, same: bool) -> None:
    tool = FakeTool(lambda given: {"thread": threading.get_ident()}, quick=quick)
    result = await one_step(tool).arun("go")
    assert ((result.trace[0].output or {})["thread"] == threading.get_ident()) is same


async def test_a_sync_tool_may_return_an_awaitable() -> None:
    async def later() -> dict[str, Any]:
        return {"late": True}

    assert (await one_step(FakeTool(lambda given: later())).arun("go")).trace[0].output == {"late": True}


@pytest.mark.parametrize("effect", list(Effect))
async def test_an_effect_waits_for_its_intent_to_be_durable(effect: Effect) -> None:
    order: list[str] = []

    class Journal(ListJournal):
        async def commit(self) -> None:
            order.append(f"commit after {type(self.events[-1]).__name__}")

    tool = FakeTool(lambda given: order.append("effect") or {}, effect=effect, quick=True)
    model = ScriptedModel(call(tool.name, x=1), answer())
    model.is_free = True
    agent, state = Agent(model, [tool]), AgentState()
    loop = agent._loop(state, Journal(), agent.opening("go"))
    while state.result is None:
        await loop.next_event()
    barrier = [] if effect in ("pure", "read") else ["commit after ToolIntended"]
    assert order == [*barrier, "effect", "commit after RunFinished"]


async def test_nothing_is_shown_before_it_is_durable() -> None:
    class Journal(ListJournal):
        durable = 0

        async def commit(self) -> None:
            self.durable = len(self.events)

    agent, journal = one_step(FakeTool(effect="pure")), Journal()
    async for event in agent.advance(AgentState(), journal, agent.opening("go")):
        assert event in journal.events[: journal.durable]


async def test_what_is_stored_is_what_is_seen() -> None:
    """A journal may cap or redact; state, model and caller see its form, not the loop's."""

    class Redacting(ListJournal):
        def append(self, event: Any) -> Any:
            if isinstance(event, ToolCompleted):
                step = event.step
                hidden = type(step)(step.step, step.tool, step.input, {"secret": "***"}, None, step.timestamp)
                event = ToolCompleted(hidden)
            return super().append(event)

    model = ScriptedModel(call("probe"), answer())
    agent, state = Agent(model, [FakeTool(lambda given: {"secret": "hunter2"})]), AgentState()
    async for _ in agent.advance(state, Redacting(), agent.opening("go")):
        pass
    assert state.steps[0].output == {"secret": "***"}
    assert model.seen[1][-1].output == {"secret": "***"}  # type: ignore[attr-defined]


async def test_the_clock_is_injected() -> None:
    now = datetime(2026, 1, 2, 3, 4, 5, 678000, UTC)
    ticks = (now + timedelta(seconds=second) for second in range(10))
    model = ScriptedModel(call("probe"), call("probe"), answer())
    result = await Agent(model, [FakeTool()], clock=lambda: next(ticks)).arun("go")
    assert [step["timestamp"] for step in result.model_dump()["trace"]] == [
        "2026-01-02T03:04:05.678000Z",
        "2026-01-02T03:04:06.678000Z",
    ]


async def test_usage_and_model_are_kept_in_the_events() -> None:
    reply = LLMResponse(content="hi", usage=Usage(10, 2), model="scripted-1")
    events = [event async for event in Agent(ScriptedModel(reply), []).stream("go")]
    assert (events[1].usage, events[1].model) == (Usage(10, 2), "scripted-1")  # type: ignore[union-attr]


async def test_a_declined_goal_is_an_error_with_the_models_sentence() -> None:
    result = await Agent(ScriptedModel(LLMResponse(content="I cannot fly.", declined=True)), []).arun("go")
    assert (result.status, result.output) == ("error", "I cannot fly.")


async def test_a_long_run_costs_the_same_a_step() -> None:
    """Flat in the number of steps: the messages are handed on, not copied."""
    model = ScriptedModel(*[call("probe")] * 50, answer())
    await Agent(model, [FakeTool(quick=True)], max_steps=100).arun("go")
    assert len({id(request.messages) for request in model.requests}) == 1
