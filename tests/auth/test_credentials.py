"""Credentials that many show at once: looked up once for all of them, and never past a change."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from durable_runs import until

from app.auth.credentials import REMEMBER_S, Authenticator
from app.auth.principal import Principal
from app.errors import StorageUnavailableError, UnauthenticatedError

KEY = "lac_one"


class Desk:
    """Checks keys: it says so only once it may, and knows how often it was asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.may_answer = asyncio.Event()
        self.answer: Principal | Exception = Principal("key:one")
        self.now = 1000.0
        self.authenticator = Authenticator(self, clock=lambda: self.now)

    async def check(self, credential: str) -> Principal:
        self.asked.append(credential)
        answer = self.answer
        await self.may_answer.wait()
        if isinstance(answer, Exception):
            raise answer
        return answer

    def show(self, credential: str = KEY) -> asyncio.Task[Principal]:
        return asyncio.create_task(self.authenticator.authenticate(credential))

    async def are_asked(self, times: int) -> None:
        await until(lambda: len(self.asked) >= times)


async def test_what_many_show_at_once_is_looked_up_once() -> None:
    desk = Desk()
    many = [desk.show() for _ in range(50)]
    other = desk.show("lac_other")
    await desk.are_asked(2)
    desk.may_answer.set()
    assert {await each for each in many} == {Principal("key:one")}
    await other
    assert desk.asked == [KEY, "lac_other"]
    desk.now += REMEMBER_S
    await asyncio.gather(*(desk.show() for _ in range(50)))
    assert desk.asked == [KEY, "lac_other", KEY]


@pytest.mark.parametrize("error", [UnauthenticatedError("no"), StorageUnavailableError("gone")])
async def test_a_refusal_is_for_all_who_wait_and_is_not_remembered(error: Exception) -> None:
    desk = Desk()
    desk.answer = error
    desk.may_answer.set()
    for times in (1, 2):
        answers = await asyncio.gather(*(desk.show() for _ in range(5)), return_exceptions=True)
        assert answers == [error] * 5
        assert len(desk.asked) == times


def forget(desk: Desk) -> None:
    desk.authenticator.forget()


def let_time_pass(desk: Desk) -> None:
    desk.now += REMEMBER_S


@pytest.mark.parametrize("happening", [forget, let_time_pass])
async def test_what_is_looked_up_before_a_change_is_not_for_those_who_ask_after_it(
    happening: Callable[[Desk], None],
) -> None:
    """A change here is known at once; one elsewhere, also while a look-up takes long, after 2 s."""
    desk = Desk()
    before = desk.show()
    await desk.are_asked(1)
    desk.answer = UnauthenticatedError("revoked")
    happening(desk)
    after = desk.show()
    await desk.are_asked(2)
    desk.may_answer.set()
    assert await before == Principal("key:one")
    with pytest.raises(UnauthenticatedError):
        await after


async def test_what_was_looked_up_before_a_change_is_not_remembered() -> None:
    desk = Desk()
    before = desk.show()
    await desk.are_asked(1)
    desk.answer = UnauthenticatedError("revoked")
    desk.authenticator.forget()
    desk.may_answer.set()
    assert await before == Principal("key:one")
    with pytest.raises(UnauthenticatedError):
        await desk.show()


async def test_who_goes_away_takes_the_answer_from_nobody() -> None:
    desk = Desk()
    first, second = desk.show(), desk.show()
    await desk.are_asked(1)
    first.cancel()
    desk.may_answer.set()
    assert await second == Principal("key:one")
    assert len(desk.asked) == 1


async def test_who_is_still_the_same_is_the_same_object() -> None:
    """What is worked out of a principal, such as their limits, is remembered for it and not done again."""
    desk = Desk()
    desk.may_answer.set()
    first = await desk.show()
    desk.now += REMEMBER_S
    desk.answer = Principal("key:one")
    assert await desk.show() is first
    desk.now += REMEMBER_S
    desk.answer = Principal("key:one", "acme")
    assert (await desk.show()).tenant == "acme"
