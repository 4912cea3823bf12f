"""What the models of a run have taken of its budget: tokens and money, used or reserved."""

from __future__ import annotations

from ..llm.interface import Usage
from .events import ModelRequested, Reserved


class Spending:
    """The tokens and nano-dollars of one run, a part of its fold.

    `tokens` and `cost` are what counts against a budget: what was used, and what was reserved for calls of which
    nobody knows whether they were paid. `usage` and `used_cost` are what the providers said, and `is_priced` says
    whether all of it has a price.
    """

    __slots__ = ("cost", "is_priced", "tokens", "usage", "used_cost")

    def __init__(self) -> None:
        self.tokens = 0
        self.cost = 0
        self.usage = Usage()
        self.used_cost = 0
        self.is_priced = True

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Spending) and all(
            getattr(self, name) == getattr(other, name) for name in self.__slots__
        )

    __hash__ = None  # type: ignore[assignment] # it changes

    def settle(self, asked: ModelRequested | None, usage: Usage | None, cost: int | None) -> None:
        """Count a call that was answered; one of which the provider tells nothing has used all its reservation."""
        reserved = None if asked is None else asked.reserved
        if usage is None:
            self._count(reserved)
            return
        self.tokens += usage.input_tokens + usage.output_tokens
        self.usage = sum_of(self.usage, usage)
        if cost is None:
            self.is_priced = False
            self.cost += 0 if reserved is None else reserved.cost or 0
        else:
            self.cost += cost
            self.used_cost += cost

    def give_up(self, asked: ModelRequested | None, *, may_be_paid: bool) -> None:
        """Count a call that failed."""
        if may_be_paid and asked is not None:
            self._count(asked.reserved)

    def _count(self, reserved: Reserved | None) -> None:
        if reserved is not None:
            self.tokens += reserved.tokens
            self.cost += reserved.cost or 0


def sum_of(one: Usage, other: Usage) -> Usage:
    """Return the tokens of both."""
    return Usage(
        one.input_tokens + other.input_tokens,
        one.output_tokens + other.output_tokens,
        one.cache_read_tokens + other.cache_read_tokens,
        one.cache_write_tokens + other.cache_write_tokens,
    )
