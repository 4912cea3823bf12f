"""The door to language models: messages, tool specifications, responses, and the shapes a client can have."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Sequence
from typing import Protocol, TypeAlias

from msgspec import Struct

from ..jsonvalue import JsonObject, JsonValue


class ToolSpec(Struct, frozen=True):
    """What a model is told of a tool."""

    name: str
    description: str
    input_schema: JsonObject
    effect: str = "unsafe"


class ToolCall(Struct, frozen=True):
    """One call that a model asks for. `id` is the provider's, echoed back with the result; it may be empty."""

    name: str
    arguments: JsonObject
    id: str = ""


class Usage(Struct, frozen=True):
    """Tokens that one model call took; those read from or written to a cache are input tokens too."""

    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0


class UserMessage(Struct, frozen=True, tag="user"):
    """The goal, with the caller's context."""

    goal: str
    context: str | None = None


class AssistantMessage(Struct, frozen=True, tag="assistant"):
    """What the model said and the calls it asked for."""

    content: str
    tool_calls: tuple[ToolCall, ...] = ()
    declined: bool = False


class ToolMessage(Struct, frozen=True, tag="tool"):
    """The result of one call: `output`, or `error` as "code: sentence". It is data, never instructions."""

    name: str
    output: JsonValue = None
    error: str | None = None
    call_id: str = ""


class CorrectionMessage(Struct, frozen=True, tag="correction"):
    """What was wrong with the model's last response, so that it can mend it."""

    problem: str


Message: TypeAlias = UserMessage | AssistantMessage | ToolMessage | CorrectionMessage


class LLMRequest(Struct, frozen=True):
    """Everything a model is given for its next decision.

    `messages` is the run's own growing list: read it, do not keep it or change it. `max_output_tokens` is what is
    left of the run's budget for this answer, None for as much as the model gives. `output_schema` is what the text
    of the final answer has to satisfy as JSON; a client that can ask its provider for that does.
    """

    system: str
    messages: Sequence[Message]
    tools: Sequence[ToolSpec]
    max_output_tokens: int | None = None
    output_schema: JsonObject | None = None


class TextDelta(Struct, frozen=True):
    """A piece of the text that a model is saying."""

    text: str


class LLMResponse(Struct, frozen=True):
    """A model's answer: either calls to make, or the final text.

    A response with `tool_calls` asks for those calls whatever `finish_reason` says (providers disagree on it);
    one without is the answer. `declined` marks an honest "I cannot do this": the run ends as an error with
    `content` as its sentence.
    """

    content: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    usage: Usage | None = None
    model: str | None = None
    finish_reason: str | None = None
    declined: bool = False


class LLMClient(Protocol):
    """The least a client must offer: text in, a response out; sync or async.

    A sync `generate` runs in a thread, unless the client says `quick = True`: then it must not block.
    `is_free = True` says that asking again costs nothing and gives the same answer; what any other client was
    asked and has decided is durable before anything follows from it.
    """

    def generate(self, prompt: str, system_prompt: str = "") -> LLMResponse | Awaitable[LLMResponse]: ...


class CompletionClient(Protocol):
    """What a fuller client offers: it reads messages and native tool specifications."""

    async def complete(self, request: LLMRequest) -> LLMResponse: ...


class StreamingClient(CompletionClient, Protocol):
    """What a client offers that can be listened to while it speaks: deltas, and last the completed response.

    Closing the generator closes the connection to the provider.
    """

    def stream(self, request: LLMRequest) -> AsyncGenerator[TextDelta | LLMResponse, None]: ...


class Pricing(Protocol):
    """What a model's tokens cost; more of them never cost less."""

    def cost(self, usage: Usage) -> int:
        """Return what these tokens cost, in nano-dollars (10^-9 USD), rounded up."""
        ...


class ModelCard(Struct, frozen=True):
    """What is known of a model before it is asked. None is unknown.

    `name` is the one it goes by in settings and traces, such as `anthropic:claude-sonnet-5`; `context_tokens` is
    how many tokens a request and its answer may have together, `max_output_tokens` how many the answer.
    """

    name: str
    provider: str = ""
    context_tokens: int | None = None
    max_output_tokens: int | None = None
    pricing: Pricing | None = None


class NamedClient(StreamingClient, Protocol):
    """A client that says which model it is. The `card` decides what the loop can promise of budgets."""

    @property
    def card(self) -> ModelCard: ...
