"""Blocking calls off the event loop: each on a daemon thread of its own, abandoned when it hangs."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from contextvars import copy_context
from threading import Lock, Thread
from typing import TypeVar

Argument = TypeVar("Argument")
Result = TypeVar("Result")

MAX_THREADS = 256
"""How many calls of the process may be on threads at once, those that hang and were given up included."""


class _Turns:
    """Who may start a thread now, and who waits for it, on whichever event loop."""

    def __init__(self, free: int) -> None:
        self._lock = Lock()
        self._free = free
        self._waiting: deque[tuple[asyncio.AbstractEventLoop, asyncio.Future[None]]] = deque()

    async def take(self) -> None:
        """Wait for a turn; a turn that comes after the wait was cancelled goes on to the next."""
        loop = asyncio.get_running_loop()
        turn = loop.create_future()
        with self._lock:
            if self._free:
                self._free -= 1
                return
            self._waiting.append((loop, turn))
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.give_back()
            raise

    def give_back(self) -> None:
        """Hand a turn to the one that has waited longest."""
        with self._lock:
            while self._waiting:
                loop, turn = self._waiting.popleft()
                with suppress(RuntimeError):  # that loop has closed, and nobody on it waits any more
                    loop.call_soon_threadsafe(self._grant, turn)
                    return
            self._free += 1

    def _grant(self, turn: asyncio.Future[None]) -> None:
        if turn.done():
            self.give_back()
        else:
            turn.set_result(None)


_turns = _Turns(MAX_THREADS)


async def call_in_thread(function: Callable[[Argument], Result], argument: Argument) -> Result:
    """Call `function(argument)` on a thread of its own and return or raise what it does.

    Not a pool: a call that never returns would hold one of its few workers for ever, and a pool's workers are
    joined when the interpreter exits, so that one hung tool would make Ctrl-C hang too. A thread costs about as
    much to start as to hop to. With MAX_THREADS under way, a call waits for its turn. When the waiting task is
    cancelled the thread runs on and its result is dropped.
    """
    await _turns.take()
    loop = asyncio.get_running_loop()
    done: asyncio.Future[tuple[Result | None, BaseException | None]] = loop.create_future()
    context = copy_context()

    def work() -> None:
        try:
            outcome: tuple[Result | None, BaseException | None] = context.run(function, argument), None
        except BaseException as error:  # whatever it is, it belongs to the caller, not to this thread
            outcome = None, error
        _turns.give_back()
        with suppress(RuntimeError):  # the loop has closed: nobody is waiting any more
            loop.call_soon_threadsafe(settle, outcome)

    def settle(outcome: tuple[Result | None, BaseException | None]) -> None:
        if not done.done():
            done.set_result(outcome)

    try:
        Thread(target=work, name="agent-blocking-call", daemon=True).start()
    except BaseException:  # the system has no thread to give
        _turns.give_back()
        raise
    result, error = await done
    if error is not None:
        raise error
    return result  # type: ignore[return-value]  # there was no error, so there is a result
