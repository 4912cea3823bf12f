from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest
from pydantic_ai.exceptions import (
    ContentFilterError,
    ModelAPIError,
    ModelConnectionError,
    ModelHTTPError,
    ModelQuotaExceededError,
    ModelRequestTimeout,
    ModelTimeoutError,
    UnexpectedModelBehavior,
    UserError,
)

from app.errors import (
    LLMAuthError,
    LLMBadResponseError,
    LLMContextOverflowError,
    LLMRateLimitedError,
    LLMRefusedError,
    LLMTimeoutError,
    LLMUnavailableError,
    ModelFailedError,
)
from app.llm.providers.failures import MAX_BODY_CHARS, Failures

KEY = "sk-secret"
read = Failures("anthropic", KEY).read


def http(status: int, body: object = None, **fields: Any) -> ModelHTTPError:
    return ModelHTTPError(status, "m", body, **fields)


def quota(status: int) -> ModelHTTPError:
    return ModelHTTPError.for_category(ModelQuotaExceededError, status_code=status, model_name="m")


@pytest.mark.parametrize(
    ("error", "kind", "paid"),
    [
        (http(400), LLMRefusedError, False),
        (http(418), LLMRefusedError, False),
        (http(429), LLMRateLimitedError, False),
        (quota(429), LLMRateLimitedError, False),
        (quota(402), LLMAuthError, False),
        (http(408), LLMTimeoutError, False),
        (http(413), LLMContextOverflowError, False),
        (http(500), LLMUnavailableError, False),
        (http(504), LLMTimeoutError, True),
        (http(524), LLMTimeoutError, True),
        (http(529, in_stream=True), LLMUnavailableError, True),
        (ModelConnectionError("m", "x", phase="connect"), LLMUnavailableError, False),
        (ModelConnectionError("m", "x", phase="pool"), LLMUnavailableError, False),
        (ModelConnectionError("m", "x", phase="write"), LLMUnavailableError, True),
        (ModelConnectionError("m", "x", phase="read"), LLMUnavailableError, True),
        (ModelConnectionError("m", "x"), LLMUnavailableError, True),
        (ModelTimeoutError("m", "x", phase="connect"), LLMTimeoutError, False),
        (ModelTimeoutError("m", "x", phase="read"), LLMTimeoutError, True),
        (ModelRequestTimeout("m", 3), LLMTimeoutError, True),
        (ModelRequestTimeout("m", 3, setting="first_event_timeout"), LLMTimeoutError, True),
        (ModelAPIError("m", "no JSON"), LLMBadResponseError, True),
        (UnexpectedModelBehavior("odd", '{"a": 1}'), LLMBadResponseError, True),
        (ContentFilterError("no"), LLMRefusedError, True),
        (UserError("cannot"), LLMRefusedError, False),
        (RuntimeError("bug"), LLMBadResponseError, True),
    ],
)
def test_each_failure_has_its_type_and_says_whether_it_may_be_paid(
    error: Exception, kind: type[ModelFailedError], paid: bool
) -> None:
    failure = read(error)
    assert type(failure) is kind
    assert failure.may_be_paid is paid
    assert str(failure).startswith(("anthropic ", "The "))


@pytest.mark.parametrize("status", [429, 500, 400])
def test_what_fails_after_the_first_piece_may_be_paid(status: int) -> None:
    assert read(http(status), begun=True).may_be_paid


@pytest.mark.parametrize(
    "message",
    [
        "This model's maximum context length is 8192 tokens.",
        "prompt is too long: 210000 tokens > 200000 maximum",
        "The input token count (1200000) exceeds the maximum number of tokens allowed (1048576).",
        "the request exceeds the available context size, try increasing it",
        "Your input exceeds the context window of this model.",
    ],
)
def test_every_provider_s_words_for_too_long_are_understood(message: str) -> None:
    assert type(read(http(400, {"error": {"message": message}}))) is LLMContextOverflowError


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"Retry-After": "7"}, 7.0),
        ({"retry-after-ms": "1500"}, 1.5),
        ({"Retry-After": "soon"}, None),
        ({"Retry-After": "-1"}, None),
        ({}, None),
    ],
)
def test_the_wait_that_the_provider_asks_for_is_told(headers: dict[str, str], seconds: float | None) -> None:
    assert read(http(429, headers=headers)).retry_after_s == seconds


def test_the_wait_may_be_a_date() -> None:
    then = format_datetime(datetime.now(UTC) + timedelta(seconds=60), usegmt=True)
    wait_s = read(http(503, headers={"Retry-After": then})).retry_after_s
    assert wait_s is not None
    assert 50 < wait_s <= 60


@pytest.mark.parametrize(
    "body",
    [
        {"error": {"message": f"Incorrect API key: {KEY}."}},
        {"message": f"bad {KEY}"},
        {"detail": f"bad {KEY}"},
        {"error": f"bad {KEY}"},
        f"<html>{KEY}</html>",
        {"error": {"message": "x" * (MAX_BODY_CHARS - 3) + KEY}},
        {"error": {"message": f"a\x00b\n\x1b[31m\ud800{KEY}"}},
    ],
)
def test_neither_keys_nor_long_or_unprintable_bodies_are_told(body: object) -> None:
    sentence = str(read(http(401, body)))
    assert KEY not in sentence
    assert KEY[:-1] not in sentence
    assert sentence.isprintable()
    assert len(sentence) <= MAX_BODY_CHARS + 40


def test_a_body_without_words_adds_none() -> None:
    assert str(read(http(500))) == "anthropic answered 500."
    assert str(read(http(500, {"error": {"code": 3}}))) == "anthropic answered 500."
    assert str(read(http(500, {"error": {"message": "Overloaded"}}))) == "anthropic answered 500: Overloaded"
