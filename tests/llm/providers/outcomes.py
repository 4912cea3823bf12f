"""Every provider x plain and streamed x every fault: what becomes of the call, measured, and as a table."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from llmock.scenarios import Delay, Fail, Match, Reply, SlowFirstToken, StreamFault, ToolFault
from llmock.scenarios import ToolCall as MockedCall
from llmock.testing import LLMockServer

from app.errors import ModelError, ModelFailedError
from app.llm.interface import LLMRequest, LLMResponse, TextDelta, ToolSpec, UserMessage
from app.llm.providers.client import PydanticAIClient
from app.llm.providers.opening import open_model

DOCUMENT = Path(__file__).parents[3] / "docs" / "providers.md"
BEGIN, END = "<!-- outcomes -->", "<!-- /outcomes -->"

KEY = "sk-this-is-the-secret-key"
ANSWER = "The answer is four, as two and two make four and nothing else."
GIVEN_UP_AFTER_S = 10.0

MODELS = {
    "openai:gpt-5-mini": "openai",
    "openai-responses:gpt-5": "openai",
    "anthropic:claude-sonnet-5": "anthropic",
    "google:gemini-2.5-flash": "gemini",
    "vercel:anthropic/claude-sonnet-5": "openai",
    "ollama:llama3.2:1b": "openai",
    "openai-compatible:some-model": "openai",
}
"""The models, and what llmock calls the protocol that they are asked by."""

PROBE = ToolSpec(
    "probe", "Does it.", {"type": "object", "properties": {"x": {"type": "integer"}}, "required": ["x"]}
)
ARGUMENTS = {"x": 17}

Behaviour = Delay | Fail | Reply | SlowFirstToken | StreamFault | ToolFault


class Fault(NamedTuple):
    """What goes wrong, and what has to become of it: plain, streamed, and where a provider differs."""

    name: str
    behaviours: tuple[Behaviour, ...]
    plain: str
    streamed: str
    with_tools: bool = False
    exceptions: dict[str, str] = {}

    def expected(self, model: str, *, stream: bool) -> str:
        return self.exceptions.get(model.partition(":")[0], self.streamed if stream else self.plain)


CALL = (MockedCall("probe", ARGUMENTS),)
OK = "correct"


def _status(status: int, outcome: str) -> Fault:
    return Fault(f"status {status}", (Fail(status),), outcome, outcome)


def _broken(name: str, behaviour: StreamFault | SlowFirstToken, outcome: str) -> Fault:
    # a plain answer has no middle to break in, but the library asks Anthropic by stream for long answers
    return Fault(name, (behaviour,), OK, outcome, exceptions={"anthropic": outcome})


def _called(name: str, behaviours: tuple[Behaviour, ...], outcome: str) -> Fault:
    return Fault(name, behaviours, outcome, outcome, with_tools=True)


UNPAID = ", not paid"
FAULTS = (
    Fault("none", (), OK, OK),
    Fault(
        "status 429, Retry-After: 7",
        (Fail(429, retry_after=7),),
        "llm_rate_limited after 7 s" + UNPAID,
        "llm_rate_limited after 7 s" + UNPAID,
    ),
    *(_status(status, "llm_refused" + UNPAID) for status in (400, 404, 409, 422)),
    *(_status(status, "llm_auth" + UNPAID) for status in (401, 403)),
    _status(408, "llm_timeout" + UNPAID),
    _status(413, "llm_context_overflow" + UNPAID),
    Fault(
        "status 400, context too long",
        (Fail(400, code="context_length_exceeded", message="This model's maximum context length was exceeded."),),
        "llm_context_overflow" + UNPAID,
        "llm_context_overflow" + UNPAID,
    ),
    *(_status(status, "llm_unavailable" + UNPAID) for status in (500, 502)),
    *(_status(status, "llm_unavailable after 1 s" + UNPAID) for status in (503, 529)),
    _status(504, "llm_timeout after 1 s"),
    _broken("connection lost before the first piece", StreamFault("disconnect", 0), "llm_unavailable"),
    _broken("connection lost in the middle", StreamFault("disconnect", 5), "llm_unavailable"),
    _broken("stream ends before the first piece", StreamFault("truncate", 0), "llm_bad_response"),
    _broken("stream ends in the middle", StreamFault("truncate", 5), "llm_bad_response"),
    _broken("a piece is not JSON", StreamFault("malformed", 5), "llm_bad_response"),
    _broken("stream stalls", StreamFault("stall", 5, stall_seconds=2.5), "llm_timeout"),
    _broken("no first piece", SlowFirstToken(2.5), "llm_timeout"),
    Fault("no answer at all", (Delay(2.5),), "llm_timeout", "llm_timeout"),
    Fault("empty answer", (Reply(text=""),), "model_response_invalid", "model_response_invalid"),
    Fault(
        "content filter",
        (Reply(text=ANSWER, finish_reason="content_filter"),),
        "llm_refused",
        "llm_refused",
        exceptions={"openai-responses": OK},  # llmock has no filter in this protocol
    ),
    _called("a tool call", (Reply(tool_calls=CALL),), OK),
    _called('a tool call, finish reason "stop"', (Reply(tool_calls=CALL, finish_reason="stop"),), OK),
    _called(
        'a tool call, finish reason "length"',
        (Reply(tool_calls=CALL, finish_reason="length"),),
        "model_response_invalid",
    ),
    _called("arguments that are not JSON", (ToolFault("malformed_arguments"),), "model_response_invalid"),
    _called("a tool that was not offered", (ToolFault("unknown_tool"),), "unknown tool, for the loop to refuse"),
)


def request(*, with_tools: bool = False) -> LLMRequest:
    return LLMRequest("Be kind.", [UserMessage("What is 2 + 2?", "some context")], (PROBE,) if with_tools else ())


def open_client(server: LLMockServer, model: str, *, impatient: bool = False) -> PydanticAIClient:
    timeout_s, first_s = (0.4, 0.3) if impatient else (GIVEN_UP_AFTER_S, GIVEN_UP_AFTER_S)
    return open_model(
        model,
        api_key=KEY,
        base_url=server.base_url(MODELS[model]),
        timeout_s=timeout_s,
        first_token_timeout_s=first_s,
        environ={},
    )


async def ask(client: PydanticAIClient, asked: LLMRequest, *, stream: bool) -> LLMResponse:
    """Ask, and hold a streamed answer against its pieces."""
    if not stream:
        return await client.complete(asked)
    said, response = "", None
    async for piece in client.stream(asked):
        assert response is None, "something came after the response"
        if isinstance(piece, TextDelta):
            said += piece.text
        else:
            response = piece
    assert response is not None
    assert said == response.content
    return response


async def outcome(client: PydanticAIClient, asked: LLMRequest, *, stream: bool) -> str:
    """Return how a call ends, in words."""
    try:
        response = await asyncio.wait_for(ask(client, asked, stream=stream), GIVEN_UP_AFTER_S * 2)
    except ModelFailedError as error:
        wait = f" after {error.retry_after_s:g} s" if error.retry_after_s is not None else ""
        return f"{error.code}{wait}{'' if error.may_be_paid else UNPAID}"
    except ModelError as error:
        return error.code
    return _judged(response)


def _judged(response: LLMResponse) -> str:
    calls = [(call.name, call.arguments) for call in response.tool_calls]
    if (response.content, calls) in [(ANSWER, []), ("", [("probe", ARGUMENTS)])]:
        return OK
    if [name for name, _ in calls] == ["llmock_unknown_tool"]:
        return "unknown tool, for the loop to refuse"
    return f"WRONG: {response}"


Outcomes = dict[tuple[str, str, bool], str]
"""By fault, model, and whether it was streamed."""


async def measure(server: LLMockServer, faults: Iterable[Fault] = FAULTS) -> Outcomes:
    patient = {model: open_client(server, model) for model in MODELS}
    impatient = {model: open_client(server, model, impatient=True) for model in MODELS}
    outcomes: Outcomes = {}
    for fault in faults:
        for stream in (False, True):
            # whoever does not meet the fault has its time, however busy the machine is
            in_haste = {model for model in MODELS if fault.expected(model, stream=stream) == "llm_timeout"}
            clients = {model: (impatient if model in in_haste else patient)[model] for model in MODELS}
            _script(server, fault)
            asked = request(with_tools=fault.with_tools)
            ends = await asyncio.gather(*[outcome(client, asked, stream=stream) for client in clients.values()])
            outcomes.update({(fault.name, model, stream): end for model, end in zip(clients, ends, strict=True)})
    for client in (*patient.values(), *impatient.values()):
        await client.aclose()
    return outcomes


def _script(server: LLMockServer, fault: Fault) -> None:
    """Have each model meet the fault once; every one of them says ANSWER unless the fault says otherwise."""
    server.state.scenarios.clear()
    behaviours = fault.behaviours
    if not any(isinstance(behaviour, Reply | ToolFault) for behaviour in behaviours):
        behaviours = (*behaviours, Reply(text=ANSWER))
    for behaviour in behaviours:
        for model in MODELS:
            match = Match(model=model.partition(":")[2].replace("[", "[[]"), stream=behaviour.match.stream)
            server.state.scenarios.add(behaviour.__class__(**{**vars(behaviour), "match": match}))


def table(outcomes: Outcomes) -> str:
    """Return the outcomes as Markdown: what all providers have in common once, then who differs."""
    lines = ["| fault | plain | streamed |", "|---|---|---|"]
    for fault in FAULTS:
        cells = [
            _cell({model: outcomes[fault.name, model, stream] for model in MODELS}) for stream in (False, True)
        ]
        lines.append(f"| {fault.name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _cell(by_model: dict[str, str]) -> str:
    ends = list(by_model.values())
    common = max(ends, key=ends.count)
    others = [f"{model.partition(':')[0]}: {end}" for model, end in by_model.items() if end != common]
    return "; ".join([common, *others])


def written(text: str, generated: str) -> str:
    """Return a document with the generated table between its marks."""
    before, _, rest = text.partition(BEGIN)
    return f"{before}{BEGIN}\n{generated}\n{END}{rest.partition(END)[2]}"


def measured_table() -> str:
    with LLMockServer() as server:
        return table(asyncio.run(measure(server)))
