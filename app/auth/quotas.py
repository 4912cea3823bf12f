"""Quotas of a day: how many steps and tokens a run that is about to begin may use."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from time import time
from typing import Final, Protocol

from msgspec import Struct

from ..errors import QuotaExceededError
from .charges import Charge, charges
from .principal import UNLIMITED, Limits, Principal
from .sharing import Shared

DAY_S: Final = 86_400
FRESH_S: Final = 0.5
"""How old a reading may be while what is left by it is enough for all that was admitted since."""

MAX_ACCOUNTS: Final = 10_000


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


class _Account(Struct):
    """A subject: what it has used of a day, when reading that began, and what this process has admitted for it.

    `admitted` only grows; `before` is what it was when the reading began. What was admitted since may have been
    used by now, and `used` does not say so.
    """

    used: DailyUse = NOTHING
    read_at: float = -math.inf
    day: int = -1
    admitted: DailyUse = NOTHING
    before: DailyUse = NOTHING

    def is_fresh(self, now: float) -> bool:
        return 0 <= now - self.read_at < FRESH_S and self.day == int(now // DAY_S)

    def suffices(self, limits: Limits, wanted: Allowance) -> bool:
        """Say whether so much is left even if all that was admitted since it was read uses all that it may."""
        return _suffices(
            limits.steps_per_day, self.used.steps, self.admitted.steps - self.before.steps, wanted.steps
        ) and _suffices(
            limits.tokens_per_day, self.used.tokens, self.admitted.tokens - self.before.tokens, wanted.tokens
        )

    def admit(self, allowance: Allowance) -> None:
        self.admitted = DailyUse(
            self.admitted.steps + (allowance.steps or 0), self.admitted.tokens + (allowance.tokens or 0)
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
        self._accounts: OrderedDict[tuple[str, str], _Account] = OrderedDict()
        self._under_way: Shared[tuple[str, tuple[str, ...]], list[_Account]] = Shared()

    async def admit(self, principal: Principal, wanted: Allowance) -> Allowance:
        """Return how much of what a run wants it may have: at least 1, or None where there is no quota.

        Where nobody has a quota nothing is read. What was used is read anew before more is admitted than was left,
        so that of runs one after another, whoever asks for them, none gets what another has used. What runs under
        way use is known half a second late: side by side, and beside those, they may use more than is left.

        Raises:
            QuotaExceededError: nothing, until the day (UTC) is over.
            StorageError: it cannot be told.
        """
        charged = _limited(principal, self._key, self._tenant)
        if not charged:
            return Allowance()
        tenant, subjects = principal.tenant, tuple([one.subject for one in charged])
        now = self._clock()
        accounts = [self._account(tenant, subject) for subject in subjects]
        if not all(account.is_fresh(now) for account in accounts):
            read = partial(self._read, tenant, subjects)
            accounts = await self._under_way.get((tenant, subjects), read)
        limits = [one.limits for one in charged]
        if not all(account.suffices(its, wanted) for account, its in zip(accounts, limits, strict=True)):
            if any(account.read_at < now for account in accounts):
                accounts = await self._read(tenant, subjects)
            self._check(charged, accounts)
        allowance = Allowance(
            _granted(wanted.steps, [its.steps_per_day for its in limits], [one.used.steps for one in accounts]),
            _granted(wanted.tokens, [its.tokens_per_day for its in limits], [one.used.tokens for one in accounts]),
        )
        for account in accounts:
            account.admit(allowance)
        return allowance

    def _check(self, charged: Sequence[Charge], accounts: Sequence[_Account]) -> None:
        for one, account in zip(charged, accounts, strict=True):
            for what, limit, used in (
                ("steps", one.limits.steps_per_day, account.used.steps),
                ("tokens", one.limits.tokens_per_day, account.used.tokens),
            ):
                if limit is not None and used >= limit:
                    until_midnight = math.ceil(DAY_S - self._clock() % DAY_S)
                    raise QuotaExceededError(
                        f"The {what} of this {one.whose} for today (UTC) are used up: {limit}.", until_midnight
                    )

    async def _read(self, tenant: str, subjects: tuple[str, ...]) -> list[_Account]:
        began = self._clock()
        day = int(began // DAY_S)
        accounts = [self._account(tenant, subject) for subject in subjects]
        before = [account.admitted for account in accounts]
        used = await self._usage.used(tenant, subjects, day)
        for account, subject, admitted in zip(accounts, subjects, before, strict=True):
            account.used = used.get(subject, NOTHING)
            account.read_at, account.day, account.before = began, day, admitted
        return accounts

    def _account(self, tenant: str, subject: str) -> _Account:
        account = self._accounts.get((tenant, subject))
        if account is None:
            account = self._accounts[tenant, subject] = _Account()
            if len(self._accounts) > MAX_ACCOUNTS:
                self._accounts.popitem(last=False)
        self._accounts.move_to_end((tenant, subject))
        return account


@lru_cache(maxsize=1024)
def _limited(principal: Principal, key: Limits, tenant: Limits) -> tuple[Charge, ...]:
    """Return those charges that have a quota of a day."""
    return tuple(
        one
        for one in charges(principal, key, tenant)
        if one.limits.steps_per_day is not None or one.limits.tokens_per_day is not None
    )


def _suffices(limit: int | None, used: int, promised: int, wanted: int | None) -> bool:
    return limit is None or (used < limit and wanted is not None and used + promised + wanted <= limit)


def _granted(wanted: int | None, limits: Sequence[int | None], used: Sequence[int]) -> int | None:
    left = [limit - taken for limit, taken in zip(limits, used, strict=True) if limit is not None]
    if not left:
        return None
    return min(left) if wanted is None else min(*left, wanted)
