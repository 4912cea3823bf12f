from __future__ import annotations

from hashlib import sha256
from typing import Any

import msgspec
import pytest
from fake_models import NamedModel, end_of, events_of, resumed
from fakes import FakeTool, answer, call
from hypothesis import given
from hypothesis import strategies as st

from app.agent.candidates import Candidate
from app.agent.context import FULL, MAX_SHOWN_BYTES, UNKNOWN_SIZE, Conversation, KnownSize, digested
from app.agent.core import Agent
from app.agent.events import (
    ContextCompacted,
    Event,
    ModelDecided,
    ModelFailed,
    ModelRejected,
    ModelRequested,
    RunFinished,
)
from app.agent.planner import Planner
from app.agent.state import AgentState
from app.errors import LLMContextOverflowError, ModelResponseError
from app.jsonvalue import JsonObject
from app.llm.interface import (
    AssistantMessage,
    CorrectionMessage,
    LLMRequest,
    LLMResponse,
    Message,
    ModelCard,
    ToolCall,
    ToolMessage,
    ToolSpec,
    Usage,
    UserMessage,
)

encode = msgspec.json.encode


def result(size: int, **fields: Any) -> ToolMessage:
    return ToolMessage("probe", {"text": "x" * size}, **fields)


def conversation(*messages: Message) -> Conversation:
    made = Conversation("You carry out one goal.", (), None)
    made.follow(messages, 0)
    return made


def page(size: int) -> FakeTool:
    """A tool whose results are large, and tell their number."""
    number = iter(range(1, 1000))
    return FakeTool(lambda given: {"page": next(number), "text": "x" * size}, effect="read", quick=True)


def compactions(events: list[Event]) -> list[tuple[int, ...]]:
    return [event.steps for event in events if isinstance(event, ContextCompacted)]


# what a model is shown


async def test_a_result_that_is_too_large_is_cut_for_the_model_and_whole_in_the_trace() -> None:
    model = NamedModel("a", call("probe"), answer())
    events = await events_of(Agent(model, [page(100_000)]))
    whole = AgentState.fold(events).steps[0].output
    assert whole == {"page": 1, "text": "x" * 100_000}
    shown = model.seen[1][-1]
    assert isinstance(shown, ToolMessage)
    assert isinstance(shown.output, dict)
    text = encode(whole)
    assert shown.output == {
        "truncated": True,
        "bytes": len(text),
        "sha256": sha256(text).hexdigest(),
        "head": text.decode()[:8_000],
    }
    assert len(encode(shown)) < MAX_SHOWN_BYTES


@pytest.mark.parametrize("char", ["x", '"', "\x01", "é", "語", "🙂"])
def test_whatever_a_large_result_is_made_of_it_is_shown_small(char: str) -> None:
    shown = conversation(ToolMessage("probe", {"text": char * 40_000})).shown[0]
    assert len(encode(shown)) < 2 * MAX_SHOWN_BYTES


def test_a_result_that_just_fits_is_shown_whole() -> None:
    empty = len(encode(result(0)))
    fits, too_large = result(MAX_SHOWN_BYTES - empty), result(MAX_SHOWN_BYTES - empty + 1)
    assert conversation(fits, too_large).shown[0] is fits
    assert conversation(fits, too_large).shown[1] != too_large


# how large that is


@given(
    st.text(max_size=300),
    st.lists(st.text(max_size=300), max_size=5),
    st.dictionaries(st.text(max_size=20), st.text(max_size=50), max_size=3),
)
def test_no_request_has_more_tokens_than_is_thought(goal: str, results: list[str], schema: JsonObject) -> None:
    tools = (ToolSpec("probe", "Does it.", schema),)
    messages: list[Message] = [UserMessage(goal)]
    for text in results:
        messages += [AssistantMessage("", (ToolCall("probe", {"t": text}),)), ToolMessage("probe", {"t": text})]
    made = Conversation("system", tools, schema)
    made.follow(messages, 0)
    said = b"".join([b"system", encode(tools), encode(schema), *(encode(message) for message in messages)])
    assert made.most_tokens(UNKNOWN_SIZE) >= len(said)
    assert made.probable_tokens(UNKNOWN_SIZE) <= made.most_tokens(UNKNOWN_SIZE)


def test_what_the_provider_has_counted_is_not_guessed_again() -> None:
    made = conversation(UserMessage("go"), AssistantMessage("", ()), result(300))
    known = KnownSize("a", 2, 1_000)
    assert made.most_tokens(known) == 1_000 + 32 + len(encode(result(300)))
    assert made.probable_tokens(known) == 1_000 + len(encode(result(300))) // 3


# what makes room


def turns(*sizes: int) -> list[Message]:
    messages: list[Message] = [UserMessage("go")]
    for size in sizes:
        messages += [AssistantMessage("", (ToolCall("probe", {}),)), result(size)]
    return messages


def to_compact(messages: list[Message], window: int | None, *, overflown: bool = False) -> tuple[int, ...]:
    card = ModelCard("a", context_tokens=window)
    return conversation(*messages).to_compact(card, UNKNOWN_SIZE, overflown=overflown)


@pytest.mark.parametrize(
    ("sizes", "window", "overflown", "steps"),
    [
        ([3_000] * 4, None, False, ()),
        ([3_000] * 4, 100_000, False, ()),
        ([3_000] * 4, 4_000, False, (1, 2)),
        ([3_000] * 4, 1_000, False, (1, 2, 3)),  # never the one that it has yet to see
        ([3_000] * 4, None, True, (1, 2, 3)),
        ([3_000] * 8, None, True, (1, 2, 3, 4, 5)),
        ([100] * 4, 10, False, ()),  # no gain
        ([100, 3_000, 100, 3_000, 100], 1_000, False, (2, 4)),
        ([3_000], 100, True, ()),
        ([], 10, True, ()),
    ],
)
def test_the_oldest_results_make_room_until_there_is_some(
    sizes: list[int], window: int | None, overflown: bool, steps: tuple[int, ...]
) -> None:
    assert to_compact(turns(*sizes), window, overflown=overflown) == steps


def test_the_window_may_be_nearly_full() -> None:
    messages = turns(3_000, 3_000)
    tokens = conversation(*messages).probable_tokens(UNKNOWN_SIZE)
    assert to_compact(messages, int(tokens / FULL) + 1) == ()
    assert to_compact(messages, int(tokens / FULL) - 1) == (1,)


def test_all_results_of_the_turn_that_the_model_has_yet_to_see_are_kept() -> None:
    messages = [*turns(3_000), AssistantMessage("", ()), result(3_000), result(3_000), CorrectionMessage("no")]
    assert to_compact(messages, 100) == (1,)


def test_failed_steps_and_digests_make_no_room() -> None:
    messages = turns(3_000, 3_000, 10)
    messages[2] = digested(result(3_000, call_id="c" * 200))
    messages[4] = ToolMessage("probe", None, "tool_failed: " + "x" * 500)
    assert to_compact(messages, 10) == ()


def test_a_tool_cannot_keep_its_result_by_calling_it_a_digest() -> None:
    lie: JsonObject = {"compacted": True, "bytes": 1, "sha256": "x" * 3_000}
    messages = turns(10, 10)
    messages[2] = ToolMessage("probe", lie)
    assert to_compact(messages, 10) == (1,)
    messages[2] = ToolMessage("probe", {"compacted": True, "text": "x" * 3_000})
    assert to_compact(messages, 10) == (1,)


# in a run


async def compacted_run() -> tuple[NamedModel, Agent, list[Event]]:
    model = NamedModel("a", *[call("probe")] * 6, answer(), context_tokens=4_000)
    agent = Agent(model, [page(3_000)])
    return model, agent, await events_of(agent)


async def test_a_run_that_outgrows_the_window_is_compacted_and_the_journal_says_so() -> None:
    model, _, events = await compacted_run()
    assert end_of(events).status == "success"
    assert compactions(events) == [(1, 2, 3), (4, 5)]
    steps = AgentState.fold(events).steps
    assert [step.output["page"] for step in steps if step.output] == [1, 2, 3, 4, 5, 6]
    last = [message for message in model.seen[-1] if isinstance(message, ToolMessage)]
    for step, message in zip(steps, last, strict=True):
        text = encode(step.output)
        digest = {"compacted": True, "bytes": len(text), "sha256": sha256(text).hexdigest()}
        assert message.output == (digest if step.step <= 5 else step.output)


@pytest.mark.parametrize("cut", range(1, 30))
async def test_a_resumed_run_shows_its_model_the_same(cut: int) -> None:
    model, _, events = await compacted_run()
    if cut >= len(events):
        return
    left = AgentState.fold(events[:cut])
    second = NamedModel("a", *[call("probe")] * (6 - left.turns + (left.asked is not None)), answer())
    second.card = model.card
    tool = page(3_000)
    for _ in left.steps:
        tool.run({})
    again = await resumed(Agent(second, [tool]), events[:cut])
    assert compactions(again) == compactions(events)
    assert AgentState.fold(again).messages == AgentState.fold(events).messages
    if second.seen:
        assert second.seen == model.seen[-len(second.seen) :]


async def test_a_provider_that_says_it_is_too_much_is_asked_again_with_half_of_it() -> None:
    overflow = LLMContextOverflowError("Too long.", may_be_paid=False)
    model = NamedModel("a", *[call("probe")] * 4, overflow, answer())
    events = await events_of(Agent(model, [page(3_000)]))
    assert end_of(events).status == "success"
    assert compactions(events) == [(1, 2, 3)]
    at = events.index(ContextCompacted((1, 2, 3)))
    assert isinstance(events[at - 1], ModelFailed)
    assert isinstance(events[at + 1], ModelRequested)
    assert len(encode(model.seen[-1])) < len(encode(model.seen[-2])) / 2


@pytest.mark.parametrize("steps", [0, 1, 3])
async def test_a_provider_that_goes_on_saying_so_ends_the_run(steps: int) -> None:
    overflow = LLMContextOverflowError("Too long.", may_be_paid=False)
    model = NamedModel("a", *[call("probe")] * steps, overflow)
    events = await events_of(Agent(model, [page(3_000)], fallbacks=[NamedModel("b", answer())]))
    assert end_of(events) == RunFinished("error", "The language model failed. Too long.", "llm_context_overflow")
    assert len(model.requests) <= steps + 1 + len(compactions(events))


async def test_what_the_provider_counts_decides_when_it_is_full() -> None:
    """Tokens of a few bytes each, as of another script: thirty times as many as was thought."""
    crowded = LLMResponse("", (ToolCall("probe", {}),), Usage(30_000, 10))
    model = NamedModel("a", call("probe"), crowded, answer(), context_tokens=32_000)
    events = await events_of(Agent(model, [page(3_000)]))
    assert compactions(events) == [(1,)]


async def test_a_client_of_nothing_but_text_is_shown_less_too() -> None:
    class Text:
        def __init__(self) -> None:
            self.prompts: list[str] = []

        async def generate(self, prompt: str, system_prompt: str = "") -> LLMResponse:
            self.prompts.append(prompt)
            if len(self.prompts) == 4:
                raise LLMContextOverflowError("Too long.", may_be_paid=False)
            return call("probe") if len(self.prompts) < 4 else answer()

    client = Text()
    events = await events_of(Agent(client, [page(3_000)]))
    assert (end_of(events).status, compactions(events)) == ("success", [(1, 2)])
    assert len(client.prompts[4]) < len(client.prompts[3]) / 2


# what a call took


class Prices:
    """A caller's own pricing."""

    def __init__(self, cost: Any) -> None:
        self._cost = cost

    def cost(self, usage: Usage) -> Any:
        if isinstance(self._cost, Exception):
            raise self._cost
        return self._cost


async def move_of(usage: Usage, cost: object, *, refused: bool = False) -> ModelDecided | ModelRejected:
    class Client:
        card = ModelCard("priced", pricing=Prices(cost))

        async def complete(self, request: LLMRequest) -> LLMResponse:
            if refused:
                error = ModelResponseError("no")
                error.usage = usage
                raise error
            return LLMResponse("done", usage=usage)

    return await Planner(()).next_move(Candidate(Client(), None), [UserMessage("go")], 1, 5.0)


@pytest.mark.parametrize("refused", [False, True])
@pytest.mark.parametrize("cost", [ValueError("no price"), -1, 1.5, "7"])
async def test_a_pricing_that_cannot_say_what_a_call_cost_leaves_its_answer(
    cost: object, refused: bool, caplog: pytest.LogCaptureFixture
) -> None:
    move = await move_of(Usage(10, 5), cost, refused=refused)
    assert type(move) is (ModelRejected if refused else ModelDecided)
    assert (move.usage, move.cost) == (Usage(10, 5), None)
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert (await move_of(Usage(10, 5), 7, refused=refused)).cost == 7


@pytest.mark.parametrize("usage", [Usage(0, 0), Usage(0, 5), Usage(0, 5, 10)])
async def test_a_usage_without_input_is_no_usage(usage: Usage) -> None:
    assert (await move_of(usage, 7)).usage is None
    assert (await move_of(Usage(1), 7)).usage == Usage(1)
