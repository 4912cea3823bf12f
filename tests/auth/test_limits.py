"""Rate limits, as one process counts them and as many do together in Redis, and what answers say of them."""

from __future__ import annotations

import asyncio
import logging
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from time import monotonic

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis_server import WITHOUT, RedisServer

import app.auth.counters as counters_module
import app.auth.limits as limits_module
from app.auth.limits import PATIENCE_S, RETRY_S, Count, RateLimiter, Standing, limit_text, policy_text
from app.auth.principal import Account, Limits, Principal
from app.errors import MissingExtraError, RateLimitedError

ANN = Principal("key:ann", "desk")
BOB = Principal("key:bob", "desk")
EVE = Principal("key:eve", "other")


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisServer]:
    if shutil.which("redis-server") is None:
        pytest.skip(WITHOUT)
    server = RedisServer()
    server.start()
    yield server
    server.stop()


class Limiters:
    """Makes limiters over one storage, and closes them."""

    def __init__(self, url: str | None) -> None:
        self.url = url
        self._made: list[RateLimiter] = []

    def limiter(self, key: str | None = None, tenant: str | None = None) -> RateLimiter:
        made = RateLimiter(Limits(requests=key), Limits(requests=tenant), self.url)
        self._made.append(made)
        return made

    async def close(self) -> None:
        for made in self._made:
            await made.aclose()


@pytest.fixture(params=["memory", "redis"])
async def limiters(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Limiters]:
    url: str | None = None
    if request.param == "memory":  # no test is about an hour that ends
        since_the_hour = time.time() % 3600 - 10
        for module in (limits_module, counters_module):
            monkeypatch.setattr(module, "time", lambda: time.time() - since_the_hour)
    if request.param == "redis":
        server: RedisServer = request.getfixturevalue("redis")
        url = server.url
        from redis.asyncio import Redis

        async with Redis.from_url(url) as client:
            await client.flushall()
    made = Limiters(url)
    yield made
    await made.close()


async def refused(limiter: RateLimiter, who: Principal) -> RateLimitedError:
    with pytest.raises(RateLimitedError) as caught:
        await request(limiter, who)
    return caught.value


async def request(limiter: RateLimiter, who: Principal) -> Standing:
    """Make a request, as the guard lets one pass."""
    standing = await limiter.hit(who)
    assert standing is not None
    standing.check()
    return standing


def remaining(standing: Standing | None) -> dict[str, int]:
    assert standing is not None
    return {count.policy: count.remaining for count in standing.counts}


async def test_so_many_requests_may_be_made_and_no_more(limiters: Limiters) -> None:
    limiter = limiters.limiter("5/hour")
    assert [remaining(await limiter.hit(ANN))["key"] for _ in range(5)] == [4, 3, 2, 1, 0]
    for _ in range(3):
        error = await refused(limiter, ANN)
        assert 1 <= error.retry_after_s <= 7200
    assert str(error) == "There were too many requests of this key: 5 in 3600 s are allowed."


async def test_everybody_is_counted_alone_and_their_tenant_together(limiters: Limiters) -> None:
    limiter = limiters.limiter("4/hour", "6/hour")
    for _ in range(4):
        await limiter.hit(ANN)
    assert remaining(await limiter.hit(BOB)) == {"key": 3, "tenant": 1}
    assert remaining(await limiter.hit(EVE)) == {"key": 3, "tenant": 5}
    await limiter.hit(BOB)
    assert "of this tenant: 6 in 3600 s" in str(await refused(limiter, BOB))
    assert remaining(await limiter.hit(EVE)) == {"key": 2, "tenant": 4}


async def test_the_same_name_in_another_tenant_is_somebody_else(limiters: Limiters) -> None:
    limiter = limiters.limiter("1/hour")
    await limiter.hit(Principal("token:a/b", "x"))
    await limiter.hit(Principal("token:a/b", "y"))
    await limiter.hit(Principal("token:b", "x"))
    await refused(limiter, Principal("token:a/b", "x"))


async def test_a_limit_of_ones_own_stands_before_the_usual_one(limiters: Limiters) -> None:
    limiter = limiters.limiter("1/hour")
    rich = Principal("key:rich", limits=Limits(requests="3/hour"))
    assert [remaining(await limiter.hit(rich))["key"] for _ in range(3)] == [2, 1, 0]
    await refused(limiter, rich)
    other = Principal("key:other", limits=Limits(runs=3))
    await limiter.hit(other)
    await refused(limiter, other)


async def test_a_line_of_keys_gets_no_more_than_the_one_it_began_with(limiters: Limiters) -> None:
    limiter, three = limiters.limiter(), Limits(requests="3/hour")
    root, middle = Account("key:root", three), Account("key:middle", three)
    line = (
        Principal("key:root", "desk", limits=three),
        Principal("key:middle", "desk", limits=three, ancestors=(root,)),
        Principal("key:last", "desk", limits=three, ancestors=(middle, root)),
    )
    standings = [await request(limiter, who) for who in line[::-1]]
    assert [remaining(standing) for standing in standings] == [
        {"key": 2, "parent": 2, "parent-2": 2},
        {"key": 1, "parent": 1},
        {"key": 0},
    ]
    assert policy_text(standings[0]) == '"key";q=3;w=3600, "parent";q=3;w=3600, "parent-2";q=3;w=3600'
    assert "of this parent-2: 3 in 3600 s" in str(await refused(limiter, line[2]))
    for who in line:
        await refused(limiter, who)


async def test_an_ancestor_without_limits_of_its_own_has_the_usual_ones(limiters: Limiters) -> None:
    limiter = limiters.limiter("3/hour")
    for number in range(3):
        child = Principal(f"key:{number}", limits=Limits(requests="2/hour"), ancestors=(Account("key:ann"),))
        assert remaining(await limiter.hit(child)) == {"key": 1, "parent": 2 - number}
    await refused(limiter, Principal("key:ann"))


async def test_who_is_refused_takes_nothing_from_their_parent_and_tenant(limiters: Limiters) -> None:
    limiter = limiters.limiter(tenant="8/hour")
    parent = Principal("key:parent", "desk", limits=Limits(requests="6/hour"))
    child = Principal(
        "key:child", "desk", limits=Limits(requests="2/hour"), ancestors=(Account(parent.name, parent.limits),)
    )
    for _ in range(2):
        await request(limiter, child)
    for _ in range(20):
        assert (await refused(limiter, child)).retry_after_s >= 1
    assert remaining(await limiter.hit(child)) == {"key": 0, "parent": 4, "tenant": 6}
    assert remaining(await limiter.hit(parent)) == {"key": 3, "tenant": 5}


async def test_many_at_once_do_not_get_more(limiters: Limiters) -> None:
    limiter = limiters.limiter("10/hour")
    outcomes = await asyncio.gather(*(request(limiter, ANN) for _ in range(30)), return_exceptions=True)
    assert sum(isinstance(outcome, Standing) for outcome in outcomes) == 10
    assert sum(isinstance(outcome, RateLimitedError) for outcome in outcomes) == 20


async def test_requests_come_back_when_their_time_is_over(limiters: Limiters) -> None:
    limiter = limiters.limiter("2/second")
    for _ in range(2):
        await limiter.hit(ANN)
    assert (await refused(limiter, ANN)).retry_after_s in (1, 2)
    give_up_at = monotonic() + 5
    while True:
        try:
            await request(limiter, ANN)
        except RateLimitedError:
            assert monotonic() < give_up_at
            await asyncio.sleep(0.05)
        else:
            return


async def test_the_windows_of_many_processes_are_one(redis: RedisServer) -> None:
    both = Limiters(redis.url)
    who = Principal("key:of-many")
    one, two = both.limiter("3/hour"), both.limiter("3/hour")
    assert [remaining(await each.hit(who))["key"] for each in (one, two, one)] == [2, 1, 0]
    await refused(two, who)
    await both.close()


async def test_a_redis_that_is_not_there_is_named_before_the_first_request(
    redis: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    for url, warnings in ((redis.url, 0), ("redis://:s3cret@127.0.0.1:1/0", 1)):
        limiter = RateLimiter(Limits(requests="3/hour"), redis_url=url)
        await limiter.check()
        await limiter.aclose()
        assert len(caplog.records) == warnings
    assert "Redis does not answer" in caplog.text
    assert "s3cret" not in caplog.text


async def test_while_redis_is_out_each_process_counts_for_itself(caplog: pytest.LogCaptureFixture) -> None:
    if shutil.which("redis-server") is None:
        pytest.skip(WITHOUT)
    server = RedisServer()
    server.start()
    limiter = RateLimiter(Limits(requests="3/hour"), redis_url=server.url)
    try:
        assert remaining(await limiter.hit(ANN))["key"] == 2
        server.stop()
        assert [remaining(await limiter.hit(ANN))["key"] for _ in range(3)] == [2, 1, 0]
        await refused(limiter, ANN)
        assert [record.levelno for record in caplog.records] == [logging.WARNING], "once an outage"
        server.start()
        limiter._try_at = 0.0
        assert remaining(await limiter.hit(ANN))["key"] == 2
        assert len(caplog.records) == 2
    finally:
        await limiter.aclose()
        server.stop()


class Deaf:
    """A server that takes connections, and says nothing."""

    def __init__(self, listening: socket.socket) -> None:
        self.url = f"redis://:s3cret@127.0.0.1:{listening.getsockname()[1]}/0"
        self._listening = listening
        self._taken: list[socket.socket] = []

    def count(self) -> int:
        """Return how many have come so far."""
        self._listening.setblocking(False)
        with suppress(BlockingIOError):
            while True:
                self._taken.append(self._listening.accept()[0])
        return len(self._taken)

    def close(self) -> None:
        for one in self._taken:
            one.close()


@pytest.fixture
def heard() -> Iterator[Deaf]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        server = Deaf(listening)
        yield server
        server.close()


async def test_a_redis_that_says_nothing_is_not_waited_for(heard: Deaf, caplog: pytest.LogCaptureFixture) -> None:
    limiter = RateLimiter(Limits(requests="1000/hour"), redis_url=heard.url)
    began = monotonic()
    await asyncio.gather(*(limiter.hit(ANN) for _ in range(10)))
    assert monotonic() - began < PATIENCE_S * 4
    before = heard.count()
    assert remaining(await limiter.hit(ANN))["key"] == 989
    assert heard.count() == before, "nobody asks it again so soon"
    assert len(caplog.records) == 1
    assert "s3cret" not in caplog.text
    limiter._try_at = 0.0
    before = heard.count()
    await asyncio.gather(*(limiter.hit(ANN) for _ in range(10)))
    assert heard.count() == before + 1, "one request finds out for all"
    assert limiter._try_at > monotonic() + RETRY_S / 2
    assert len(caplog.records) == 1
    await limiter.aclose()


async def test_where_nothing_is_limited_nothing_is_counted() -> None:
    assert await RateLimiter().hit(ANN) is None
    assert await RateLimiter().hit(Principal("key:x", limits=Limits(runs=1))) is None


def test_what_counts_is_not_even_loaded_then() -> None:
    code = (
        "import asyncio, sys; from app.auth.limits import RateLimiter; from app.auth.principal import ANONYMOUS;"
        "asyncio.run(RateLimiter().hit(ANONYMOUS)); assert not {'limits', 'redis'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


class Clock:
    """A time that a test sets, in place of the one that the limiter in this process reads."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1_000_000.25
        for module in (limits_module, counters_module):
            monkeypatch.setattr(module, "time", lambda: self.now)


async def test_who_is_gone_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    limiter = RateLimiter(Limits(requests="5/second"))
    for number in range(counters_module.FEW_SUBJECTS):
        await limiter.hit(Principal(f"key:{number}"))
    assert limiter._memory is not None
    assert len(limiter._memory.windows) == counters_module.FEW_SUBJECTS
    clock.now += 10
    await limiter.hit(ANN)
    assert len(limiter._memory.windows) == 1


@given(st.integers(1, 9), st.lists(st.floats(0, 0.7), min_size=1, max_size=60))
async def test_in_no_while_there_are_more_than_allowed_and_waiting_as_told_is_enough(
    limit: int, pauses: list[float]
) -> None:
    """In any second there may be twice as many at most, as with any two windows; after the wait there is room."""
    with pytest.MonkeyPatch.context() as patched:
        clock = Clock(patched)
        limiter = RateLimiter(Limits(requests=f"{limit}/second"))
        passed: list[float] = []
        for pause in pauses:
            clock.now += pause
            try:
                await request(limiter, ANN)
            except RateLimitedError as error:
                clock.now += error.retry_after_s
                await request(limiter, ANN)
            passed.append(clock.now)
        for start in passed:
            assert sum(start <= moment < start + 1 for moment in passed) <= 2 * limit
            whole = int(start)
            assert sum(whole <= moment < whole + 1 for moment in passed) <= limit


def test_without_its_package_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "redis.asyncio", None)
    with pytest.raises(MissingExtraError, match=r"^RATE_LIMIT_STORAGE needs .*: uv sync --extra redis$"):
        RateLimiter(redis_url="redis://:s3cret@127.0.0.1:9/0")


def test_answers_say_every_policy_and_how_the_tightest_stands() -> None:
    standing = Standing((Count("key", 600, 60, 599, 60), Count("tenant", 1000, 3600, 10, 1200)))
    assert policy_text(standing) == '"key";q=600;w=60, "tenant";q=1000;w=3600'
    assert limit_text(standing) == '"tenant";r=10;t=1200'


async def test_what_is_said_of_a_first_request() -> None:
    standing = await RateLimiter(Limits(requests="600/minute")).hit(ANN)
    assert standing is not None
    (count,) = standing.counts
    assert (count.policy, count.requests, count.window_s, count.remaining) == ("key", 600, 60, 599)
    assert 1 <= count.reset_s <= 60
