"""What models took: of one call, as it is booked, and of many, as it is asked for. Money is in nano-dollars."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from decimal import ROUND_FLOOR, Decimal
from typing import Final, Literal, TypeAlias

from msgspec import Struct

from ..agent.events import ModelDecided, ModelFailed, ModelRejected
from ..jsonvalue import text_problem
from ..llm.interface import Usage

By: TypeAlias = Literal["day", "model", "tenant"]
"""What usage is summed by."""

UNNAMED: Final = "unnamed"
"""What the model of a client is called that says no name."""

MAX_NAME_CHARS: Final = 200
MAX_TOKENS_BOOKED: Final = 10**12
MAX_COST_BOOKED: Final = 10**15
"""More than one call can take (tokens; nano-dollars, a million of dollars). Whatever a server claims, sums of what
is booked fit the database's integers."""

_NANO: Final = Decimal("1e-9")
_DAY_0: Final = date(1970, 1, 1)


class Used(Struct, frozen=True):
    """What some calls took together.

    `cost` is that of the calls whose price is known; `unpriced_calls` are the others, those among them that failed
    and of which nobody knows whether they were paid.
    """

    calls: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    cost: int = 0
    unpriced_calls: int = 0

    def __add__(self, other: Used) -> Used:
        return Used(
            self.calls + other.calls,
            self.input_tokens + other.input_tokens,
            self.output_tokens + other.output_tokens,
            self.cache_read_tokens + other.cache_read_tokens,
            self.cache_write_tokens + other.cache_write_tokens,
            self.cost + other.cost,
            self.unpriced_calls + other.unpriced_calls,
        )


class ModelUse(Struct, frozen=True):
    """What one call took: on which day (days since 1970, UTC), and of which model."""

    day: int
    model: str
    used: Used


def use_of(event: ModelDecided | ModelRejected | ModelFailed, asked: str | None, at: datetime) -> ModelUse | None:
    """Return what is booked of how a call ended, None if nothing is: it was free, or is known to be unpaid.

    `asked` is the model's name in the settings, None if it has none there.
    """
    if isinstance(event, ModelFailed):
        name = asked or event.model
        return _use(name, at, None, None) if event.may_be_paid and name else None
    if event.usage is None and asked is None:
        return None
    answered = event.model if isinstance(event, ModelDecided) else None
    return _use(asked or answered, at, event.usage, event.cost)


def _use(name: str | None, at: datetime, usage: Usage | None, cost: int | None) -> ModelUse:
    tokens = Usage() if usage is None else usage
    used = Used(
        1,
        _bounded(tokens.input_tokens, MAX_TOKENS_BOOKED),
        _bounded(tokens.output_tokens, MAX_TOKENS_BOOKED),
        _bounded(tokens.cache_read_tokens, MAX_TOKENS_BOOKED),
        _bounded(tokens.cache_write_tokens, MAX_TOKENS_BOOKED),
        0 if cost is None else _bounded(cost, MAX_COST_BOOKED),
        int(cost is None),
    )
    if not name or text_problem(name):  # what the database cannot hold as text
        name = UNNAMED
    return ModelUse(day_of(at.date()), name[:MAX_NAME_CHARS], used)


def _bounded(number: int, most: int) -> int:
    return min(max(number, 0), most)


def day_of(day: date) -> int:
    """Return how many days lie between 1970 and that one."""
    return (day - _DAY_0).days


def date_of(day: int) -> date:
    """Return the day that `day_of` counted."""
    return _DAY_0 + timedelta(days=day)


def to_nano(usd: float | Decimal) -> int:
    """Return dollars in nano-dollars, as they are written in decimals: 0.1 is 100,000,000."""
    return int((Decimal(str(usd)) / _NANO).to_integral_value(ROUND_FLOOR))


def to_usd(nano: int) -> Decimal:
    """Return nano-dollars in dollars, exactly."""
    return nano * _NANO
