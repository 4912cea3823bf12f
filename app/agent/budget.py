"""Keeping a run within its budget: what a call may take at most, before it is made."""

from __future__ import annotations

from decimal import Decimal
from typing import Final

from msgspec import Struct

from ..errors import InvalidBudgetError
from ..llm.interface import ModelCard, Pricing, Usage
from .events import Reserved
from .spending import Spending

LEAST_OUTPUT: Final = 16
"""With fewer tokens left, no answer worth paying for fits; some providers refuse to be asked for fewer."""

USUAL_OUTPUT: Final = 4_096
"""How long an answer may be where nobody knows how much the model gives."""

ENOUGH_OUTPUT: Final = 1_024
"""So long an answer is reserved, if there is budget for it, before some of that is kept for another call."""

_MANY: Final = 1_000_000


class Budget(Struct, frozen=True):
    """What a run may take: tokens, and nano-dollars (10^-9 USD). None is any number."""

    max_tokens: int | None = None
    max_cost: int | None = None

    def __bool__(self) -> bool:
        return self.max_tokens is not None or self.max_cost is not None

    def narrowed(self, max_tokens: int | None, max_cost: int | None, *, clip: bool = False) -> Budget:
        """Return this budget with what a run asks for itself.

        Raises:
            InvalidBudgetError: a limit is no positive number, or more than this allows. With `clip` it is
                then what this allows: the run had begun where it was allowed more.
        """
        if max_tokens is None and max_cost is None:
            return self
        return Budget(
            _narrower("max_tokens", self.max_tokens, max_tokens, clip=clip),
            _narrower("max_cost", self.max_cost, max_cost, clip=clip),
        )


def _narrower(name: str, ceiling: int | None, wanted: int | None, *, clip: bool) -> int | None:
    if wanted is None:
        return ceiling
    if wanted <= 0:
        raise InvalidBudgetError(f"{name} has to be positive.")
    if ceiling is not None and wanted > ceiling:
        if not clip:
            allowed = f"{usd(ceiling)} USD" if name == "max_cost" else f"{ceiling}"
            raise InvalidBudgetError(f"{name} is more than runs are allowed here, which is {allowed}.")
        return ceiling
    return wanted


def usd(nano_dollars: int) -> str:
    """Return a sum in dollars as decimal digits, exactly."""
    return f"{Decimal(nano_dollars).scaleb(-9).normalize():f}"


class Grant(Struct, frozen=True):
    """Leave to make one call: its answer may have so many tokens, and so much is reserved for it.

    `is_last` says that there is no budget for a longer answer, nor for another call after it.
    """

    max_output_tokens: int
    reserved: Reserved
    is_last: bool


class Shortage(Struct, frozen=True):
    """There is too little left for another call: of "max_tokens" or "max_cost", how much, and what it takes."""

    limit: str
    left: int
    needed: int


def grant(
    budget: Budget, spending: Spending, card: ModelCard, input_tokens: int, room: int | None = None
) -> Grant | Shortage:
    """Return leave to make a call whose request has at most `input_tokens`, or what there is too little of.

    `room` is about what the request leaves of the window: several providers refuse at once to give more.
    The call cannot take more than is reserved, if the provider keeps to the limit that it is given.
    """
    most = card.max_output_tokens or USUAL_OUTPUT
    if room is not None:
        most = min(most, max(room, LEAST_OUTPUT))
    output = most
    if budget.max_tokens is not None:
        left = budget.max_tokens - spending.tokens
        if left < input_tokens + LEAST_OUTPUT:
            return Shortage("max_tokens", max(left, 0), input_tokens + LEAST_OUTPUT)
        output = min(output, left - input_tokens)
    cost: int | None = None
    if budget.max_cost is not None and card.pricing is not None:
        left = budget.max_cost - spending.cost
        output = min(output, _affordable(card.pricing, input_tokens, left))
        if output < LEAST_OUTPUT:
            return Shortage("max_cost", max(left, 0), _most(card.pricing, input_tokens, LEAST_OUTPUT))
    is_last = output < most
    if is_last and output // 2 >= ENOUGH_OUTPUT:
        # a call that fails may keep all that was reserved for it: let there be something left for another
        output, is_last = output // 2, False
    if budget.max_cost is not None and card.pricing is not None:
        cost = _most(card.pricing, input_tokens, output)
    return Grant(output, Reserved(input_tokens + output, cost), is_last)


def _most(pricing: Pricing, input_tokens: int, output_tokens: int) -> int:
    """Return what a call costs at most: what goes through a cache may cost more than what does not."""
    return max(
        pricing.cost(Usage(input_tokens, output_tokens)),
        pricing.cost(Usage(input_tokens, output_tokens, cache_read_tokens=input_tokens)),
        pricing.cost(Usage(input_tokens, output_tokens, cache_write_tokens=input_tokens)),
    )


def _affordable(pricing: Pricing, input_tokens: int, left: int) -> int:
    """Return how many tokens an answer may have, so that the whole call costs no more than `left`."""
    without = _most(pricing, input_tokens, 0)
    if without > left:
        return 0
    for_many = max(_most(pricing, input_tokens, _MANY) - without, 1)
    output = min((left - without) * _MANY // for_many, _MANY)
    while output > 0 and _most(pricing, input_tokens, output) > left:  # it is rounded up
        output -= 1
    return output
