"""Quotas of a day: how many steps and tokens a run that is about to begin may use."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from math import ceil
from time import time
from typing import Final, Protocol, TypeAlias

from msgspec import Struct

from ..errors import QuotaExceededError
from .charges import Charge, charges
from .principal import UNLIMITED, Limits, Principal
from .sharing import Shared

DAY_S: Final = 86_400
FRESH_S: Final = 0.5
"""How old a reading may be while what is left by it is enough for all that was admitted since."""

MAX_READINGS: Final = 10_000


class DailyUse(Struct, frozen=True):
    """What was used on a day."""

    steps: int = 0
    tokens: int = 0


NOTHING: Final = DailyUse()


class DailyUsage(Protocol):
    """Knows what was used on a day."""

    async def used(self, tenant: str, subjects: Sequence[str], day: int) -> dict[str, DailyUse]:
        """Return it by subject, on a day (days since 1970, UTC); who has used nothing may be left out.

        A subject is the name of a principal, or TENANT.

        Raises:
            StorageError: it cannot be read.
        """
        ...


class Allowance(Struct, frozen=True):
    """How many steps and tokens; None is any number."""

    steps: int | None = None
    tokens: int | None = None


_Place: TypeAlias = tuple[str, tuple[str, ...]]
"""A tenant, and subjects of it."""


class _Reading(Struct):
    """What was used, and what the runs may use that were admitted since."""

    use: dict[str, DailyUse]
    read_at: float
    day: int
    steps: int = 0
    tokens: int = 0

    def left(self, charged: Sequence[Charge]) -> Allowance:
        """Return the least that is left of all quotas; None where there is none."""
        steps = tokens = None
        for one in charged:
            taken = self.use.get(one.subject, NOTHING)
            steps = _least(steps, one.limits.steps_per_day, taken.steps)
            tokens = _least(tokens, one.limits.tokens_per_day, taken.tokens)
        return Allowance(steps, tokens)

    def suffices(self, left: Allowance, wanted: Allowance) -> bool:
        """Say whether so much is left even if all that was admitted since uses all that it may."""
        return _suffices(left.steps, self.steps, wanted.steps) and _suffices(
            left.tokens, self.tokens, wanted.tokens
        )


class Quotas:
    """Says before a run whether, and within which bounds, it may begin.

    Args:
        key: the limits of each one who asks, where they have none of their own.
        tenant: the limits of each tenant.
        clock: seconds since 1970.
    """

    def __init__(
        self,
        usage: DailyUsage,
        key: Limits = UNLIMITED,
        tenant: Limits = UNLIMITED,
        *,
        clock: Callable[[], float] = time,
    ) -> None:
        self._usage = usage
        self._key = key
        self._tenant = tenant
        self._clock = clock
        self._readings: OrderedDict[_Place, _Reading] = OrderedDict()
        self._under_way: Shared[_Place, _Reading] = Shared()

    async def admit(self, principal: Principal, wanted: Allowance) -> Allowance:
        """Return how much of what a run wants it may have: at least 1, or None where there is no quota.

        Where nobody has a quota nothing is read. What a run has used is known when the next one begins, but not
        what those under way will: side by side they may use more than is left.

        Raises:
            QuotaExceededError: nothing, until the day (UTC) is over.
            StorageError: it cannot be told.
        """
        charged = charges(principal, self._key, self._tenant)
        if all(one.limits.steps_per_day is one.limits.tokens_per_day is None for one in charged):
            return Allowance()
        place = principal.tenant, tuple([one.subject for one in charged])
        now = self._clock()
        reading = self._readings.get(place)
        if reading is None or now - reading.read_at >= FRESH_S or reading.day != int(now // DAY_S):
            reading = await self._read(place)
        left = reading.left(charged)
        if not reading.suffices(left, wanted):
            if reading.read_at < now:
                reading = await self._read(place)
                left = reading.left(charged)
            self._check(charged, reading)
        granted = Allowance(_granted(left.steps, wanted.steps), _granted(left.tokens, wanted.tokens))
        reading.steps += granted.steps or 0
        reading.tokens += granted.tokens or 0
        return granted

    def _check(self, charged: Sequence[Charge], reading: _Reading) -> None:
        for one in charged:
            taken = reading.use.get(one.subject, NOTHING)
            for what, limit, used in (
                ("steps", one.limits.steps_per_day, taken.steps),
                ("tokens", one.limits.tokens_per_day, taken.tokens),
            ):
                if limit is not None and used >= limit:
                    until_midnight = ceil(DAY_S - self._clock() % DAY_S)
                    raise QuotaExceededError(
                        f"The {what} of this {one.whose} for today (UTC) are used up: {limit}.", until_midnight
                    )

    async def _read(self, place: _Place) -> _Reading:
        return await self._under_way.get(place, lambda: self._read_anew(place))

    async def _read_anew(self, place: _Place) -> _Reading:
        began = self._clock()
        day = int(began // DAY_S)
        reading = _Reading(await self._usage.used(*place, day), began, day)
        self._readings[place] = reading
        self._readings.move_to_end(place)
        if len(self._readings) > MAX_READINGS:
            self._readings.popitem(last=False)
        return reading


def _least(left: int | None, limit: int | None, taken: int) -> int | None:
    if limit is None:
        return left
    return limit - taken if left is None else min(left, limit - taken)


def _suffices(left: int | None, promised: int, wanted: int | None) -> bool:
    return left is None or (left > 0 and wanted is not None and left - promised >= wanted)


def _granted(left: int | None, wanted: int | None) -> int | None:
    return left if left is None or wanted is None else min(left, wanted)
