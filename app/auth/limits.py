"""Rate limits: how many requests whoever asks, and their tenant, may make in a while."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from functools import lru_cache
from math import ceil
from time import monotonic, time
from typing import TYPE_CHECKING, Final

from msgspec import Struct

from ..errors import MissingExtraError, RateLimitedError
from .principal import UNLIMITED, Limits, Principal, ancestry

if TYPE_CHECKING:
    from limits import RateLimitItem

log = logging.getLogger(__name__)

PATIENCE_S: Final = 0.25
"""How long a request waits for Redis; then it is counted in this process."""

RETRY_S: Final = 5.0
"""How long Redis is left alone after that."""

MAX_CONNECTIONS: Final = 32
FEW_SUBJECTS: Final = 1000
"""So many are remembered whether or not they are of interest."""


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


class _Policy(Struct, frozen=True):
    name: str
    item: RateLimitItem
    requests: int
    window_s: int
    subject: tuple[str, ...]

    @classmethod
    def of(cls, name: str, rate: str, *subject: str) -> _Policy:
        item = read_rate(rate)
        return cls(name, item, item.amount, item.get_expiry(), subject)


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
        self._key_rate = key.requests
        self._tenant_rate = tenant.requests
        self._redis = None if redis_url is None else _RedisCounter(redis_url)
        self._memory: _MemoryCounter | None = None
        self._try_at = 0.0
        self._is_out = False
        for rate in (self._key_rate, self._tenant_rate):
            if rate is not None:
                read_rate(rate)  # which loads what it takes, and the first request need not wait for that

    async def hit(self, principal: Principal) -> Standing | None:
        """Count a request and return how they stand; None where nothing limits them, which costs nothing."""
        tenant = principal.tenant
        policies = []
        rate = self._rate(principal.limits)
        if rate is not None:
            policies.append(_Policy.of("key", rate, "key", tenant, principal.name))
        for number, ancestor in enumerate(principal.ancestors, 1):
            rate = self._rate(ancestor.limits)
            if rate is not None:
                policies.append(_Policy.of(ancestry(number), rate, "key", tenant, ancestor.name))
        if self._tenant_rate is not None:
            policies.append(_Policy.of("tenant", self._tenant_rate, "tenant", tenant))
        return _standing(policies, await self._count(policies)) if policies else None

    def _rate(self, own: Limits | None) -> str | None:
        return self._key_rate if own is None or own.requests is None else own.requests

    async def aclose(self) -> None:
        """Let go of the connections."""
        if self._redis is not None:
            await self._redis.aclose()

    async def _count(self, policies: Sequence[_Policy]) -> list[tuple[bool, int, float]]:
        if self._redis is not None and monotonic() >= self._try_at:
            if self._is_out:
                self._try_at = monotonic() + RETRY_S  # one request finds out, and the others need not wait with it
            try:
                async with asyncio.timeout(PATIENCE_S):
                    counts = await self._redis.hit(policies)
            except self._redis.failures as error:
                self._note_outage(error)
            else:
                self._note_answer()
                return counts
        if self._memory is None:
            self._memory = _MemoryCounter()
        return self._memory.hit(policies)

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


class _Window:
    """What was counted of a subject in the window of this number, and in the one before."""

    __slots__ = ("current", "number", "previous", "until")

    def __init__(self) -> None:
        self.number = -1
        self.current = self.previous = 0
        self.until = 0.0

    def move_to(self, number: int, window_s: int) -> None:
        """Begin another window, and forget what is no longer of interest."""
        self.previous = self.current if self.number == number - 1 else 0
        self.current = 0
        self.number = number
        self.until = (number + 2) * window_s


class _MemoryCounter:
    """Counts in this process, as the sliding window counter of `limits` does and in a sixth of its time.

    `limits` keeps time-outs by a thread that it starts a hundred times a second and that looks at every subject.
    """

    def __init__(self) -> None:
        self.windows: dict[tuple[str, ...], _Window] = {}
        self._look_at = FEW_SUBJECTS

    def hit(self, policies: Sequence[_Policy]) -> list[tuple[bool, int, float]]:
        """Count a request in each policy up to the first that refuses it.

        Returns:
            of each, whether it has room for it, how many are left, and when more are.
        """
        now, counts = time(), True
        found = []
        for policy in policies:
            found.append(self._hit(policy, now, counts=counts))
            counts = counts and found[-1][0]
        return found

    def _hit(self, policy: _Policy, now: float, *, counts: bool) -> tuple[bool, int, float]:
        limit, window_s = policy.requests, policy.window_s
        number, since = int(now // window_s), now % window_s
        window = self.windows.get(policy.subject)
        if window is None:
            window = self._new(policy.subject, now)
        if window.number != number:
            window.move_to(number, window_s)
        count = window.previous * (1 - since / window_s) + window.current
        may = count + 1 <= limit
        if may and counts:
            window.current += 1
            count += 1
        return may, int(limit - count), now + _wait(window, limit, window_s, since, may=may)

    def _new(self, subject: tuple[str, ...], now: float) -> _Window:
        if len(self.windows) >= self._look_at:
            self.windows = {name: window for name, window in self.windows.items() if window.until > now}
            self._look_at = max(FEW_SUBJECTS, 2 * len(self.windows))
        window = self.windows[subject] = _Window()
        return window


def _wait(window: _Window, limit: int, window_s: int, since: float, *, may: bool) -> float:
    """Return in how many seconds there are more requests: one that may be made now, if none may be."""
    rest = window_s - since
    if may:
        return min(rest, window_s / window.previous) if window.previous else rest
    if window.current < limit:  # those before, which count less and less, are what is in the way
        return max(0.0, rest - window_s * (limit - 1 - window.current) / window.previous)
    return rest + max(0.0, window_s * (1 - (limit - 1) / window.current))


class _RedisCounter:
    """Counts in Redis, for all processes that do."""

    def __init__(self, url: str) -> None:
        try:
            from redis.asyncio import BlockingConnectionPool
            from redis.exceptions import RedisError
        except ImportError as error:
            raise MissingExtraError(
                "RATE_LIMIT_STORAGE needs packages of its own: uv sync --extra redis"
            ) from error
        from limits.aio.storage import RedisStorage
        from limits.aio.strategies import SlidingWindowCounterRateLimiter

        self.failures = (RedisError, OSError)  # a time-out is an OSError
        self._pool = BlockingConnectionPool.from_url(url, max_connections=MAX_CONNECTIONS)
        storage = RedisStorage(url, implementation="redispy", connection_pool=self._pool)  # type: ignore[arg-type]  # it does take one
        self._limiter = SlidingWindowCounterRateLimiter(storage)

    async def hit(self, policies: Sequence[_Policy]) -> list[tuple[bool, int, float]]:
        """Do what `_MemoryCounter.hit` does."""
        have_room: list[bool] = []
        for policy in policies:
            ask = self._limiter.hit if all(have_room) else self._limiter.test
            have_room.append(await ask(policy.item, *policy.subject))
        return await asyncio.gather(*map(self._standing, policies, have_room))

    async def _standing(self, policy: _Policy, has_room: bool) -> tuple[bool, int, float]:
        stats = await self._limiter.get_window_stats(policy.item, *policy.subject)
        return has_room, stats.remaining, stats.reset_time

    async def aclose(self) -> None:
        await self._pool.aclose()


@lru_cache(maxsize=1024)
def read_rate(text: str) -> RateLimitItem:
    """Read a rate such as 600/minute; a ValueError says that it is none."""
    from limits import parse

    return parse(text)


def _standing(policies: Sequence[_Policy], counts: Sequence[tuple[bool, int, float]]) -> Standing:
    now = time()
    standings = []
    refused: Count | None = None
    for policy, (may, remaining, reset_at) in zip(policies, counts, strict=True):
        reset_s = max(1, ceil(reset_at - now))
        count = Count(policy.name, policy.requests, policy.window_s, remaining, reset_s)
        standings.append(count)
        if not may and (refused is None or count.reset_s > refused.reset_s):
            refused = count
    return Standing(tuple(standings), refused)


def policy_text(standing: Standing) -> str:
    """Return what RateLimit-Policy says (draft-ietf-httpapi-ratelimit-headers-11 section 3): every policy."""
    return ", ".join(f'"{count.policy}";q={count.requests};w={count.window_s}' for count in standing.counts)


def limit_text(standing: Standing) -> str:
    """Return what RateLimit says (section 4 of that draft): the policy that is used up the furthest."""
    count = standing.tightest
    return f'"{count.policy}";r={count.remaining};t={count.reset_s}'
