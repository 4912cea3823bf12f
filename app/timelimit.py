"""Awaiting with a time limit: free for what answers at once, and final for what will not stop."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Generator
from contextlib import suppress
from types import coroutine
from typing import TypeVar

Result = TypeVar("Result")

GRACE_S = 1.0
"""How long something that was cancelled may take to clean up before it is abandoned."""


class TimeLimitError(Exception):
    """The time limit passed."""


async def within(seconds: float, work: Coroutine[object, None, Result]) -> Result:
    """Await `work` for at most `seconds`; then cancel it, and abandon it if it has not stopped GRACE_S later.

    The first step is taken before any timer exists. Most awaited calls (a scripted model, a tool that only
    computes) end there, and a timer is a third of what a whole step of the loop costs. `work` runs in the
    caller's own task throughout, so that the cancel scopes of asyncio and anyio inside it keep working.

    A cancellation of the caller is never lost, whatever `work` makes of it: it too has GRACE_S, and then ends.

    Raises:
        TimeLimitError: the limit passed, and `work` gave no result in the time it had to clean up.
        asyncio.CancelledError: the caller was cancelled.
        BaseException: whatever `work` raises.
    """
    try:
        waits_for = work.send(None)
    except StopIteration as stop:
        return stop.value  # type: ignore[no-any-return]
    limit = _Limit(seconds)
    try:
        result = await _rest(work, waits_for, limit)
    except asyncio.CancelledError:
        if limit.lift() or not limit.passed:
            raise
        raise TimeLimitError from None
    except BaseException:
        if limit.lift():
            raise asyncio.CancelledError from None
        raise
    if limit.lift():
        raise asyncio.CancelledError
    return result


class _Limit:
    """The timers of one call: the limit, and the grace of what has been told to stop."""

    __slots__ = ("_before", "_grace", "_loop", "_own", "_task", "_timer", "over", "passed")

    def __init__(self, seconds: float) -> None:
        task = asyncio.current_task()
        assert task is not None  # a coroutine that suspends belongs to a task
        self._task = task
        self._loop = asyncio.get_running_loop()
        self._before = task.cancelling()
        self._own = 0
        self._grace: asyncio.TimerHandle | None = None
        self.passed = False
        self.over = False
        self._timer = self._loop.call_later(seconds, self._pass)

    def grant_grace(self) -> None:
        """Note that the work has been told to stop, by whomever."""
        if self._grace is None:
            self._grace = self._loop.call_later(GRACE_S, self._end)

    def lift(self) -> bool:
        """Take back the timers and the cancellations that were ours; say whether the caller was cancelled."""
        self._timer.cancel()
        if self._grace is not None:
            self._grace.cancel()
        for _ in range(self._own):
            self._task.uncancel()
        self._own = 0
        return self._caller_is_cancelled()

    def _caller_is_cancelled(self) -> bool:
        return self._task.cancelling() - self._own > self._before

    def _pass(self) -> None:
        self.passed = True
        self._cancel()

    def _end(self) -> None:
        self._grace = None
        # what was told to stop by a scope of its own (a timeout inside it) has dealt with that, and goes on
        if self.passed or self._caller_is_cancelled():
            self.over = True
            self._cancel()

    def _cancel(self) -> None:
        self._own += 1
        self._task.cancel()


@coroutine
def _rest(
    work: Coroutine[object, None, Result], waits_for: object, limit: _Limit
) -> Generator[object, None, Result]:
    """Drive `work` on from its first suspension, until it ends or the limit is over."""
    while True:
        try:
            yield waits_for
        except BaseException as thrown:
            if limit.over:
                with suppress(BaseException):  # it may refuse even this; it will never be resumed
                    work.close()
                raise
            limit.grant_grace()
            error: BaseException | None = thrown
        else:
            error = None
        try:
            waits_for = work.send(None) if error is None else work.throw(error)
        except StopIteration as stop:
            return stop.value  # type: ignore[no-any-return]


def being_cancelled() -> bool:
    """Say whether somebody wants the current task to end; else a CancelledError is the raiser's own idea."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
