"""The client of every real model: one attempt a call, over the provider library's model requests."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from functools import partial

from pydantic_ai.direct import model_request, model_request_stream
from pydantic_ai.messages import (
    ModelMessage,
    ModelResponseStreamEvent,
    PartDeltaEvent,
    PartStartEvent,
    TextPart,
    TextPartDelta,
)
from pydantic_ai.models import Model, ModelRequestParameters
from pydantic_ai.settings import ModelSettings

from ..interface import LLMRequest, LLMResponse, ModelCard, TextDelta
from .access import Access, Timeouts
from .answers import read_response
from .backends import backend, max_output_tokens
from .failures import Failures
from .http import close_responses, note_responses, open_http
from .messages import messages_of, parameters_of
from .names import ModelName
from .prices import context_window, pricing
from .sessions import Sessions


def open_client(name: ModelName, access: Access, timeouts: Timeouts) -> PydanticAIClient:
    """Return the client of a model; nothing is connected yet.

    Raises:
        ImportError: a library of its provider is not installed.
    """
    provider = name.family.provider
    make_model = backend(name, access)
    http = partial(open_http, timeouts, access)
    card = ModelCard(str(name), provider, context_window(name), max_output_tokens(name), pricing(name))
    return PydanticAIClient(card, Sessions(http, make_model), Failures(provider, access.api_key), timeouts)


class PydanticAIClient:
    """A `NamedClient`. It never retries, and holds connections for each event loop that it is used in."""

    def __init__(self, card: ModelCard, sessions: Sessions, failures: Failures, timeouts: Timeouts) -> None:
        self.card = card
        self._sessions = sessions
        self._failures = failures
        self._timeouts = timeouts

    def __repr__(self) -> str:
        return f"PydanticAIClient({self.card.name!r})"

    async def complete(self, request: LLMRequest) -> LLMResponse:
        """Ask once, and return what the model decided.

        Raises:
            ModelFailedError: the provider failed; the subclass says how.
            ModelResponseError: the model's answer is no decision; the message tells it why.
        """
        model = await self._sessions.model()
        messages, parameters = _translated(request, model)
        opened = note_responses()
        try:
            response = await model_request(
                model,
                messages,
                model_settings=self._settings(request),
                model_request_parameters=parameters,
                instrument=False,
            )
        except Exception as error:
            # without its cause: an SDK's exception holds the request, its headers and the provider's whole answer
            raise self._failures.read(error) from None
        finally:
            await close_responses(opened)
        return read_response(response, request.tools)

    async def stream(self, request: LLMRequest) -> AsyncGenerator[TextDelta | LLMResponse, None]:
        """Ask once; yield the text as it comes, and last the response. Raises as `complete` does."""
        model = await self._sessions.model()
        messages, parameters = _translated(request, model)
        begun, opened = False, note_responses()
        try:
            async with model_request_stream(
                model,
                messages,
                model_settings=self._settings(request),
                model_request_parameters=parameters,
                instrument=False,
            ) as stream:
                async for event in stream:
                    begun = True
                    text = _text_of(event)
                    if text:
                        yield TextDelta(text)
                response = stream.get()
        except Exception as error:
            raise self._failures.read(error, begun=begun) from None
        finally:
            await close_responses(opened)
        yield read_response(response, request.tools)

    async def aclose(self) -> None:
        """Close the running event loop's connections; the next call opens new ones."""
        await self._sessions.aclose()

    def _settings(self, request: LLMRequest) -> ModelSettings:
        settings = ModelSettings(
            request_timeout=self._timeouts.timeout_s,
            first_event_timeout=self._timeouts.first_token_timeout_s,
            max_retries=0,
        )
        if request.max_output_tokens is not None:
            settings["max_tokens"] = request.max_output_tokens
        return settings


def _translated(request: LLMRequest, model: Model) -> tuple[list[ModelMessage], ModelRequestParameters]:
    native = bool(model.profile.get("supports_json_schema_output", False))
    return messages_of(request, native_schema=native), parameters_of(request, native_schema=native)


def _text_of(event: ModelResponseStreamEvent) -> str:
    if isinstance(event, PartDeltaEvent) and isinstance(event.delta, TextPartDelta):
        return event.delta.content_delta
    if isinstance(event, PartStartEvent) and isinstance(event.part, TextPart):
        return event.part.content
    return ""
