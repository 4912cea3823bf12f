"""Quotas: whose limits hold for somebody, and how many steps and tokens a day these may still use."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Sequence
from math import ceil
from time import time
from typing import Final, Protocol, TypeAlias

from msgspec import Struct

from ..errors import QuotaExceededError
from .principal import UNLIMITED, Limits, Principal, ancestry

TENANT: Final = ""
"""The subject under which a tenant's own sum stands; nobody is called so."""

DAY_S: Final = 86_400
FRESH_S: Final = 0.5
"""How old a reading may be; with what is under way meanwhile, a quota can be exceeded by that much."""

MAX_READINGS: Final = 10_000


class Charge(Struct, frozen=True):
    """Against whose limits something counts: `whose` is what answers call them."""

    whose: str
    subject: str
    limits: Limits


class DailyUse(Struct, frozen=True):
    """What was used on a day."""

    steps: int = 0
    tokens: int = 0


class DailyUsage(Protocol):
    """Knows what was used on a day."""

    async def used(self, tenant: str, subjects: Sequence[str], day: int) -> dict[str, DailyUse]:
        """Return it by subject, on a day (days since 1970, UTC); who has used nothing may be left out.

        A subject is the name of a principal, or TENANT.

        Raises:
            StorageError: it cannot be read.
        """
        ...


class Left(Struct, frozen=True):
    """What a run may use before a quota is reached; None is any number. Both are at least 1."""

    steps: int | None = None
    tokens: int | None = None


_Place: TypeAlias = tuple[str, tuple[str, ...]]
"""A tenant, and subjects of it."""


class _Reading(Struct, frozen=True):
    use: dict[str, DailyUse]
    read_at: float
    day: int


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
        self._under_way: dict[_Place, asyncio.Task[_Reading]] = {}

    async def admit(self, principal: Principal) -> Left:
        """Return what they have left of today; where nobody has a quota nothing is read.

        Raises:
            QuotaExceededError: nothing, until the day (UTC) is over.
            StorageError: it cannot be told.
        """
        charged = charges(principal, self._key, self._tenant)
        if all(one.limits.steps_per_day is one.limits.tokens_per_day is None for one in charged):
            return Left()
        use = await self._read(principal.tenant, tuple(one.subject for one in charged))
        used = [(one, use.get(one.subject, DailyUse())) for one in charged]
        return Left(
            self._left("steps", [(one.whose, one.limits.steps_per_day, taken.steps) for one, taken in used]),
            self._left("tokens", [(one.whose, one.limits.tokens_per_day, taken.tokens) for one, taken in used]),
        )

    def _left(self, what: str, used: Sequence[tuple[str, int | None, int]]) -> int | None:
        left: list[int] = []
        for whose, limit, taken in used:
            if limit is not None and taken >= limit:
                until_midnight = ceil(DAY_S - self._clock() % DAY_S)
                raise QuotaExceededError(
                    f"The {what} of this {whose} for today (UTC) are used up: {limit}.", until_midnight
                )
            if limit is not None:
                left.append(limit - taken)
        return min(left, default=None)

    async def _read(self, tenant: str, subjects: tuple[str, ...]) -> dict[str, DailyUse]:
        place = (tenant, subjects)
        day, now = int(self._clock() // DAY_S), self._clock()
        known = self._readings.get(place)
        if known is not None and known.day == day and now - known.read_at < FRESH_S:
            return known.use
        reading = self._under_way.get(place)
        if reading is None:
            reading = asyncio.create_task(self._read_anew(place, day))
            self._under_way[place] = reading
            reading.add_done_callback(lambda done: self._end(place, done))
        return (await asyncio.shield(reading)).use

    def _end(self, place: _Place, reading: asyncio.Task[_Reading]) -> None:
        del self._under_way[place]
        if not reading.cancelled():
            reading.exception()  # seen, even if nobody waits for it any more

    async def _read_anew(self, place: _Place, day: int) -> _Reading:
        began = self._clock()
        reading = _Reading(await self._usage.used(*place, day), began, day)
        self._readings[place] = reading
        self._readings.move_to_end(place)
        if len(self._readings) > MAX_READINGS:
            self._readings.popitem(last=False)
        return reading


def charges(principal: Principal, key: Limits, tenant: Limits) -> list[Charge]:
    """Return against whose limits it counts what somebody does: theirs, their key's ancestors', their tenant's.

    `key` are the limits of each one who has none of their own, `tenant` those of each tenant.
    """
    return [
        Charge("key", principal.name, _limits_of(principal.limits, key)),
        *(
            Charge(ancestry(number), ancestor.name, _limits_of(ancestor.limits, key))
            for number, ancestor in enumerate(principal.ancestors, 1)
        ),
        Charge("tenant", TENANT, tenant),
    ]


def _limits_of(own: Limits | None, usual: Limits) -> Limits:
    if own is None:
        return usual
    return Limits(
        usual.requests if own.requests is None else own.requests,
        usual.runs if own.runs is None else own.runs,
        usual.steps_per_day if own.steps_per_day is None else own.steps_per_day,
        usual.tokens_per_day if own.tokens_per_day is None else own.tokens_per_day,
    )
