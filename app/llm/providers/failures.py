"""What went wrong with a provider, as our typed errors: short sentences without keys, addresses or long bodies."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from pydantic_ai.exceptions import (
    ContentFilterError,
    ModelAPIError,
    ModelAuthenticationError,
    ModelConnectionError,
    ModelContextWindowExceededError,
    ModelHTTPError,
    ModelQuotaExceededError,
    ModelRateLimitError,
    ModelRequestRejectedError,
    ModelRequestTimeout,
    ModelServerError,
    ModelTimeoutError,
    ModelUnavailableError,
    UnexpectedModelBehavior,
    UserError,
)

from ...errors import (
    LLMAuthError,
    LLMBadResponseError,
    LLMContextOverflowError,
    LLMRateLimitedError,
    LLMRefusedError,
    LLMTimeoutError,
    LLMUnavailableError,
    ModelFailedError,
)

MAX_BODY_CHARS: Final = 200
"""How much of what a provider says is told on."""

_MASK: Final = "[key]"

_NOT_SENT: Final = ("pool", "connect")

_OVERFLOW_WORDS: Final = (
    "context length",
    "context window",
    "context_length_exceeded",
    "context size",  # llama.cpp
    "prompt is too long",  # Anthropic
    "input is too long",
    "maximum number of tokens",
    "input token count",  # Google
    "request_too_large",
)

_GATEWAY_TIMEOUTS: Final = (504, 524)
"""Statuses of a gateway that stopped waiting: what is behind it may have worked on, and be charged for."""


class Failures:
    """Reads the failures of one provider's calls. It knows the key only to keep it out of sentences."""

    __slots__ = ("_provider", "_secrets")

    def __init__(self, provider: str, *secrets: str | None) -> None:
        self._provider = provider
        self._secrets = [secret for secret in secrets if secret]

    def read(self, error: Exception, *, begun: bool = False) -> ModelFailedError:
        """Return what to raise instead of `error`; `begun` says that a part of the answer had come."""
        match error:
            case ModelRequestTimeout():
                waited_for = "begin to answer" if error.setting == "first_event_timeout" else "finish its answer"
                return LLMTimeoutError(f"{self._provider} did not {waited_for} within {error.timeout:g} s.")
            case ModelConnectionError():
                return self._connection(error, begun=begun)
            case ModelAPIError():
                return self._answer(error, begun=begun or error.in_stream)
            case ContentFilterError():
                return LLMRefusedError(f"The content filter of {self._provider} stopped the answer.")
            case UserError():
                return LLMRefusedError(
                    f"The request has a form that {self._provider} does not take: {self._clean(error.message)}",
                    may_be_paid=False,
                )
            case UnexpectedModelBehavior():
                return LLMBadResponseError(f"{self._provider} sent a broken answer: {self._clean(error.message)}")
            case _:
                return LLMBadResponseError(
                    f"{self._provider} sent something that cannot be read ({type(error).__name__})."
                )

    def _connection(self, error: ModelConnectionError, *, begun: bool) -> ModelFailedError:
        sent = error.phase not in _NOT_SENT
        if isinstance(error, ModelTimeoutError):
            what = "did not go on" if begun else "did not answer" if sent else "could not be reached"
            return LLMTimeoutError(f"{self._provider} {what} in time.", may_be_paid=sent)
        what = "broke off the connection" if sent else "cannot be reached"
        return LLMUnavailableError(f"{self._provider} {what}.", may_be_paid=sent)

    def _answer(self, error: ModelAPIError, *, begun: bool) -> ModelFailedError:
        status = error.status_code if isinstance(error, ModelHTTPError) else None
        kind = _kind(error, status)
        told = self._clean(_message(error))
        if kind is LLMBadResponseError:
            return kind(f"{self._provider} sent a broken answer: {told}")
        how = f"answered {status}" if status is not None else "reported a failure"
        sentence = f"{self._provider} {how}: {told}" if told else f"{self._provider} {how}."
        return kind(
            sentence, retry_after_s=error.retry_after, may_be_paid=begun or status in (None, *_GATEWAY_TIMEOUTS)
        )

    def _clean(self, text: str) -> str:
        """Return a line of printable text without secrets, cut to MAX_BODY_CHARS."""
        for secret in self._secrets:
            text = text.replace(secret, _MASK)
        line = " ".join("".join([char if char.isprintable() else " " for char in text[:10_000]]).split())
        return line if len(line) <= MAX_BODY_CHARS else line[: MAX_BODY_CHARS - 1] + "…"


def _kind(error: ModelAPIError, status: int | None) -> type[ModelFailedError]:
    if status == 413:  # before all others: Google calls that an exhausted resource, as it does a rate limit
        return LLMContextOverflowError
    if status == 429 or isinstance(error, ModelRateLimitError):
        return LLMRateLimitedError
    if isinstance(error, ModelAuthenticationError | ModelQuotaExceededError):
        return LLMAuthError  # an account without credit is one whose key may not use the model
    if isinstance(error, ModelContextWindowExceededError):
        return LLMContextOverflowError
    if status == 408 or status in _GATEWAY_TIMEOUTS:
        return LLMTimeoutError
    if isinstance(error, ModelUnavailableError | ModelServerError) or (status is not None and status >= 500):
        return LLMUnavailableError
    if isinstance(error, ModelRequestRejectedError) or status is not None:
        return LLMContextOverflowError if _speaks_of_overflow(_message(error)) else LLMRefusedError
    return LLMBadResponseError


def _speaks_of_overflow(message: str) -> bool:
    lowered = message.lower()
    return any(words in lowered for words in _OVERFLOW_WORDS)


def _message(error: ModelAPIError) -> str:
    """The provider's own sentence, where its body has one."""
    body: object = error.body
    while isinstance(body, Mapping):
        inner = body.get("error")
        body = inner if isinstance(inner, Mapping | str) else body.get("message", body.get("detail", ""))
    if isinstance(body, str) and body:
        return body
    return "" if isinstance(error, ModelHTTPError) else error.message
