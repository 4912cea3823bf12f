"""The closed sets that labels are taken from: whatever happens, there are no more series than these make."""

from __future__ import annotations

from typing import Final

from ..errors import (
    InvalidBudgetError,
    LLMAuthError,
    LLMBadResponseError,
    LLMContextOverflowError,
    LLMRateLimitedError,
    LLMRefusedError,
    LLMTimeoutError,
    LLMUnavailableError,
    ModelFailedError,
    ModelResponseError,
    PermissionDeniedError,
    QuotaExceededError,
    RateLimitedError,
    UnauthenticatedError,
    UnpricedModelError,
)

UNKNOWN: Final = "unknown"
"""A tool that is not registered, a model that the settings do not name."""

OTHER: Final = "other"

METHODS: Final = frozenset({"GET", "POST"})

REFUSALS: Final = (
    UnauthenticatedError.code,
    PermissionDeniedError.code,
    RateLimitedError.code,
    QuotaExceededError.code,
)
"""Why requests are refused for who sends them, or how many."""

BUDGETS: Final = {
    "token_limit": "tokens",
    "cost_limit": "cost",
    InvalidBudgetError.code: "too_large",
    UnpricedModelError.code: "unpriced",
}
"""What a budget had a run end for (the first two), or not begin."""

MODEL_FAILURES: Final = {
    error.code: error.code.removeprefix("llm_")
    for error in (
        LLMRateLimitedError,
        LLMUnavailableError,
        LLMTimeoutError,
        LLMAuthError,
        LLMContextOverflowError,
        LLMRefusedError,
        LLMBadResponseError,
    )
} | {"interrupted": "interrupted"}
"""How calls of models fail, by the code of it; every other code is an "error"."""

_MODEL_ENDS: Final = {"llm_error", ModelFailedError.code, ModelResponseError.code, *MODEL_FAILURES}

REASONS: Final = (
    dict.fromkeys(("token_limit", "cost_limit"), "budget")
    | dict.fromkeys(("step_limit", "time_limit", "deadline"), "limit")
    | dict.fromkeys(_MODEL_ENDS, "model")
    | dict.fromkeys(("poison", "unreadable"), "lost")
    | {"cancelled": "cancelled", "declined": "declined", "in_doubt": "in_doubt"}
)
"""Why runs end, in groups, by the code of it; every other code is "other"."""
