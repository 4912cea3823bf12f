"""Asking a model again: which failures are worth it, after how long, and when it is another model's turn."""

from __future__ import annotations

import random
from collections.abc import Sequence
from math import inf
from typing import Final

from msgspec import Struct

from ..errors import LLMBadResponseError, LLMRateLimitedError, LLMTimeoutError, LLMUnavailableError
from .events import ModelFailed

BASE_S: Final = 0.5
LONGEST_S: Final = 20.0
PATIENCE_S: Final = 5.0
"""How long a provider is waited for that says when to come back, if there is another model to ask."""

INTERRUPTED: Final = "interrupted"
"""The code of an attempt that the process did not live to see the end of."""

WORTH_RETRYING: Final = frozenset(
    {LLMRateLimitedError.code, LLMUnavailableError.code, LLMTimeoutError.code, LLMBadResponseError.code}
)
"""Overload, outage, time-out, an answer that broke off. Who refuses a request or a key does so again."""


class Attempt(Struct, frozen=True):
    """Which model of the line-up to ask next, and after how many seconds."""

    index: int
    delay_s: float = 0.0


def next_attempt(
    failures: Sequence[ModelFailed],
    line_up: Sequence[str],
    answering: str | None,
    max_retries: int,
    left_s: float = inf,
) -> Attempt | None:
    """Return how to go on after these failures to get one decision; None if there is no use in it.

    Each model of the line-up is tried once, and `max_retries` times more, beginning with the one that answered
    last; those before it have their turn after the others. The pause doubles with each try, and differs by chance
    so that many runs do not come back at once; what a provider asks for is honoured. A pause that does
    not fit into the `left_s` seconds that there are is not made if there is another model.
    """
    first = line_up.index(answering) if answering in line_up else 0
    turn, tries, delay_s = 0, 0, 0.0
    for failure in failures:
        if failure.code == INTERRUPTED:
            continue
        if failure.code not in WORTH_RETRYING:
            return None
        if failure.model in line_up:
            asked = (line_up.index(failure.model) - first) % len(line_up)
            if asked != turn:
                turn, tries = asked, 0
        tries += 1
        wanted_s = failure.retry_after_s or 0.0
        delay_s = max(wanted_s * random.uniform(1.0, 1.1), _back_off(tries))  # noqa: S311
        has_another = turn + 1 < len(line_up)
        if tries > max_retries or (has_another and wanted_s > PATIENCE_S):
            if not has_another:
                return None
            turn, tries, delay_s = turn + 1, 0, 0.0
    if delay_s >= left_s and turn + 1 < len(line_up):
        turn, delay_s = turn + 1, 0.0
    return Attempt((first + turn) % len(line_up), delay_s)


def _back_off(tries: int) -> float:
    return float(min(LONGEST_S, BASE_S * 2 ** (tries - 1)) * random.uniform(0.5, 1.0))  # noqa: S311
