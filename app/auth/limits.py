"""Rate limits: how many requests whoever asks, and their tenant, may make in a while."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Sequence
from functools import lru_cache
from math import ceil
from time import monotonic, time
from typing import Final, TypeVar

from msgspec import Struct

from ..errors import RateLimitedError
from .charges import TENANT, charges
from .counters import Hit, MemoryCounter, Policy, RedisCounter, read_rate
from .principal import UNLIMITED, Limits, Principal

T = TypeVar("T")

log = logging.getLogger(__name__)

PATIENCE_S: Final = 0.25
"""How long a request waits for Redis; then it is counted in this process."""

RETRY_S: Final = 5.0
"""How long Redis is left alone after that."""


class Count(Struct, frozen=True):
    """How one policy stands: `remaining` of `requests` in `window_s` seconds; more of them come in `reset_s`."""

    policy: str
    requests: int
    window_s: int
    remaining: int
    reset_s: int


class Standing(Struct, frozen=True):
    """How whoever asks stands in every policy that there is for them; there is one at least.

    `refused` is the one that has no room for their request, of several the one that has for the longest.
    """

    counts: tuple[Count, ...]
    refused: Count | None = None

    def check(self) -> None:
        """Raise RateLimitedError if the request was one too many."""
        refused = self.refused
        if refused is not None:
            raise RateLimitedError(
                f"There were too many requests of this {refused.policy}: {refused.requests} in "
                f"{refused.window_s} s are allowed.",
                refused.reset_s,
            )

    @property
    def tightest(self) -> Count:
        """The one that is used up the furthest."""
        return min(self.counts, key=lambda count: count.remaining / count.requests)


class RateLimiter:
    """Counts requests against the limits of whoever makes them, of their key's ancestors, and of their tenant.

    These are asked in this order, and once one has refused a request the others do not count it: who has used up
    theirs takes nothing from the others. The window slides: they get them back bit by bit.

    Args:
        key: the limits of each one who asks, where they have none of their own.
        tenant: the limits of each tenant.
        redis_url: where the counts are kept that many processes share; None keeps them in this one.

    Raises:
        MissingExtraError: the package for Redis is not installed.
    """

    def __init__(self, key: Limits = UNLIMITED, tenant: Limits = UNLIMITED, redis_url: str | None = None) -> None:
        self._key = key
        self._tenant = tenant
        self._redis = None if redis_url is None else RedisCounter(redis_url)
        self._memory: MemoryCounter | None = None
        self._try_at = 0.0
        self._is_out = False
        for limits in (key, tenant):
            if limits.requests is not None:
                # which loads what it takes, so that the first request need not wait for that
                read_rate(limits.requests)

    async def hit(self, principal: Principal) -> Standing | None:
        """Count a request and return how they stand; None where nothing limits them, which costs nothing."""
        policies = _policies(principal, self._key, self._tenant)
        return _standing(policies, await self._count(policies)) if policies else None

    async def check(self) -> None:
        """Log it now if Redis is where the counts are to be kept, and does not answer."""
        if self._redis is not None:
            await self._of_redis(self._redis, self._redis.ping())

    async def aclose(self) -> None:
        """Let go of the connections."""
        if self._redis is not None:
            await self._redis.aclose()

    async def _count(self, policies: Sequence[Policy]) -> list[Hit]:
        if self._redis is not None and monotonic() >= self._try_at:
            if self._is_out:
                self._try_at = monotonic() + RETRY_S  # one request finds out, and the others need not wait with it
            hits = await self._of_redis(self._redis, self._redis.hit(policies))
            if hits is not None:
                return hits
        if self._memory is None:
            self._memory = MemoryCounter()
        return self._memory.hit(policies)

    async def _of_redis(self, redis: RedisCounter, answer: Awaitable[T]) -> T | None:
        """Return what Redis answers, or None if it does not in time, and take note of either."""
        try:
            async with asyncio.timeout(PATIENCE_S):
                answered = await answer
        except redis.failures as error:
            self._note_outage(error)
            return None
        self._note_answer()
        return answered

    def _note_outage(self, error: Exception) -> None:
        self._try_at = monotonic() + RETRY_S
        if not self._is_out:
            self._is_out = True
            # without what it says, which may be an address with a password
            log.warning(
                "Redis does not answer (%s): until it does, rate limits hold for each process by itself",
                type(error).__name__,
            )

    def _note_answer(self) -> None:
        self._try_at = 0.0
        if self._is_out:
            self._is_out = False
            log.warning("Redis answers: rate limits hold for all processes together again")


@lru_cache(maxsize=1024)
def _policies(principal: Principal, key: Limits, tenant: Limits) -> tuple[Policy, ...]:
    where = principal.tenant
    return tuple(
        Policy.of(
            one.whose,
            one.limits.requests,
            *(("tenant", where) if one.subject == TENANT else ("key", where, one.subject)),
        )
        for one in charges(principal, key, tenant)
        if one.limits.requests is not None
    )


def _standing(policies: Sequence[Policy], hits: Sequence[Hit]) -> Standing:
    now = time()
    standings = []
    refused: Count | None = None
    for policy, hit in zip(policies, hits, strict=True):
        reset_s = max(1, ceil(hit.reset_at - now))
        count = Count(policy.name, policy.requests, policy.window_s, hit.remaining, reset_s)
        standings.append(count)
        if not hit.has_room and (refused is None or count.reset_s > refused.reset_s):
            refused = count
    return Standing(tuple(standings), refused)


def policy_text(standing: Standing) -> str:
    """Return what RateLimit-Policy says (draft-ietf-httpapi-ratelimit-headers-11 section 3): every policy."""
    return ", ".join(f'"{count.policy}";q={count.requests};w={count.window_s}' for count in standing.counts)


def limit_text(standing: Standing) -> str:
    """Return what RateLimit says (section 4 of that draft): the policy that is used up the furthest."""
    count = standing.tightest
    return f'"{count.policy}";r={count.remaining};t={count.reset_s}'
