"""Awaiting with a time limit: free for what answers at once, and final for what will not stop."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Generator
from contextlib import suppress
from types import coroutine
from typing import TypeVar

Result = TypeVar("Result")

GRACE_S = 2.0
"""How long something that was cancelled may take to clean up before it is abandoned."""


class TimeLimitError(Exception):
    """The time limit passed."""


async def within(seconds: float, work: Coroutine[object, None, Result]) -> Result:
    """Await `work` for at most `seconds`; then cancel it, and abandon it if it has not stopped GRACE_S later.

    The first step is taken before any timer exists. Most awaited calls (a scripted model, a tool that only
    computes) end there, and a timer is a third of what a whole step of the loop costs. `work` runs in the
    caller's own task throughout, so that the cancel scopes of asyncio and anyio inside it keep working.

    Raises:
        TimeLimitError: the limit passed.
        BaseException: whatever `work` raises.
    """
    try:
        waits_for = work.send(None)
    except StopIteration as stop:
        return stop.value  # type: ignore[no-any-return]
    outer = asyncio.timeout(seconds + GRACE_S)
    inner = asyncio.timeout(seconds)
    try:
        async with outer, inner:
            return await _rest(work, waits_for)
    except TimeoutError:
        if inner.expired() or outer.expired():
            raise TimeLimitError from None
        raise


@coroutine
def _rest(work: Coroutine[object, None, Result], waits_for: object) -> Generator[object, None, Result]:
    """Drive `work` on from its first suspension; the second cancellation closes it instead of asking again."""
    asked_to_stop = False
    while True:
        try:
            yield waits_for
        except asyncio.CancelledError as cancelled:
            if asked_to_stop:
                _abandon(work)
                raise
            asked_to_stop = True
            error: BaseException | None = cancelled
        except BaseException as thrown:  # GeneratorExit when the event loop is torn down
            error = thrown
        else:
            error = None
        try:
            waits_for = work.send(None) if error is None else work.throw(error)
        except StopIteration as stop:
            return stop.value  # type: ignore[no-any-return]


def _abandon(work: Coroutine[object, None, object]) -> None:
    with suppress(BaseException):  # it may refuse even this; it will never be resumed
        work.close()
