"""Where requests are counted: in the memory of this process, or in Redis for many."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import lru_cache
from time import time
from typing import TYPE_CHECKING, Final, NamedTuple

from msgspec import Struct

from ..errors import MissingExtraError

if TYPE_CHECKING:
    from limits import RateLimitItem

MAX_CONNECTIONS: Final = 32
FEW_SUBJECTS: Final = 1000
"""So many are remembered whether or not they are of interest."""


class Policy(Struct, frozen=True):
    """So many `requests` in `window_s` seconds; `name` is what answers call it, `subject` who is counted by it."""

    name: str
    item: RateLimitItem
    requests: int
    window_s: int
    subject: tuple[str, ...]

    @classmethod
    def of(cls, name: str, rate: str, *subject: str) -> Policy:
        """Return it; a ValueError says that `rate` is none."""
        item = read_rate(rate)
        return cls(name, item, item.amount, item.get_expiry(), subject)


class Hit(NamedTuple):
    """Whether there was room for a request, how many are left, and when more are (seconds since 1970)."""

    has_room: bool
    remaining: int
    reset_at: float


@lru_cache(maxsize=1024)
def read_rate(text: str) -> RateLimitItem:
    """Read a rate such as 600/minute; a ValueError says that it is none."""
    from limits import parse

    return parse(text)


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

    def wait(self, limit: int, window_s: int, since: float, *, has_room: bool) -> float:
        """Return in how many seconds there are more requests: one that may be made now, if none may be."""
        rest = window_s - since
        if has_room:
            return min(rest, window_s / self.previous) if self.previous else rest
        if self.current < limit:  # those before, which count less and less, are what is in the way
            return max(0.0, rest - window_s * (limit - 1 - self.current) / self.previous)
        return rest + max(0.0, window_s * (1 - (limit - 1) / self.current))


class MemoryCounter:
    """Counts in this process, as the sliding window counter of `limits` does and in a sixth of its time.

    `limits` keeps time-outs by a thread that it starts a hundred times a second and that looks at every subject.
    """

    def __init__(self) -> None:
        self.windows: dict[tuple[str, ...], _Window] = {}
        self._look_at = FEW_SUBJECTS

    def hit(self, policies: Sequence[Policy]) -> list[Hit]:
        """Count a request in each policy up to the first that refuses it, and return how each stands."""
        now, counts = time(), True
        hits = []
        for policy in policies:
            hits.append(self._hit(policy, now, counts=counts))
            counts = counts and hits[-1].has_room
        return hits

    def _hit(self, policy: Policy, now: float, *, counts: bool) -> Hit:
        limit, window_s = policy.requests, policy.window_s
        number, since = int(now // window_s), now % window_s
        window = self.windows.get(policy.subject)
        if window is None:
            window = self._new(policy.subject, now)
        if window.number != number:
            window.move_to(number, window_s)
        count = window.previous * (1 - since / window_s) + window.current
        has_room = count + 1 <= limit
        if has_room and counts:
            window.current += 1
            count += 1
        return Hit(has_room, int(limit - count), now + window.wait(limit, window_s, since, has_room=has_room))

    def _new(self, subject: tuple[str, ...], now: float) -> _Window:
        if len(self.windows) >= self._look_at:
            self.windows = {name: window for name, window in self.windows.items() if window.until > now}
            self._look_at = max(FEW_SUBJECTS, 2 * len(self.windows))
        window = self.windows[subject] = _Window()
        return window


class RedisCounter:
    """Counts in Redis, for all processes that do. What it raises is one of its `failures`.

    Raises:
        MissingExtraError: the package for Redis is not installed.
    """

    def __init__(self, url: str) -> None:
        try:
            from redis.asyncio import BlockingConnectionPool, Redis
            from redis.exceptions import RedisError
        except ImportError as error:
            raise MissingExtraError(
                "RATE_LIMIT_STORAGE needs packages of its own: uv sync --extra redis"
            ) from error
        from limits.aio.storage import RedisStorage
        from limits.aio.strategies import SlidingWindowCounterRateLimiter

        self.failures = (RedisError, OSError)  # a time-out is an OSError
        self._pool = BlockingConnectionPool.from_url(url, max_connections=MAX_CONNECTIONS)
        self._redis = Redis(connection_pool=self._pool)
        storage = RedisStorage(url, implementation="redispy", connection_pool=self._pool)  # type: ignore[arg-type]  # it does take one
        self._limiter = SlidingWindowCounterRateLimiter(storage)

    async def ping(self) -> None:
        """Ask whether it is there."""
        await self._redis.ping()

    async def hit(self, policies: Sequence[Policy]) -> list[Hit]:
        """Do what `MemoryCounter.hit` does."""
        have_room: list[bool] = []
        for policy in policies:
            ask = self._limiter.hit if all(have_room) else self._limiter.test
            have_room.append(await ask(policy.item, *policy.subject))
        return await asyncio.gather(*map(self._standing, policies, have_room))

    async def _standing(self, policy: Policy, has_room: bool) -> Hit:
        stats = await self._limiter.get_window_stats(policy.item, *policy.subject)
        return Hit(has_room, stats.remaining, stats.reset_time)

    async def aclose(self) -> None:
        """Let go of the connections."""
        await self._pool.aclose()
