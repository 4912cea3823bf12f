"""Blocking calls off the event loop: each on a daemon thread of its own, abandoned when it hangs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from contextvars import copy_context
from threading import Thread
from typing import TypeVar
from weakref import WeakKeyDictionary

Argument = TypeVar("Argument")
Result = TypeVar("Result")

MAX_THREADS = 256
"""How many calls of one event loop may be on threads at once, those that hang and were given up included."""

_slots: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Semaphore] = WeakKeyDictionary()


async def call_in_thread(function: Callable[[Argument], Result], argument: Argument) -> Result:
    """Call `function(argument)` on a thread of its own and return or raise what it does.

    Not a pool: a call that never returns would hold one of its few workers for ever, and a pool's workers are
    joined when the interpreter exits, so that one hung tool would make Ctrl-C hang too. A thread costs about as
    much to start as to hop to. With MAX_THREADS under way, a call waits for its turn. When the waiting task is
    cancelled the thread runs on and its result is dropped.
    """
    loop = asyncio.get_running_loop()
    slots = _slots.setdefault(loop, asyncio.Semaphore(MAX_THREADS))
    await slots.acquire()
    done: asyncio.Future[tuple[Result | None, BaseException | None]] = loop.create_future()
    context = copy_context()

    def work() -> None:
        try:
            outcome: tuple[Result | None, BaseException | None] = context.run(function, argument), None
        except BaseException as error:  # whatever it is, it belongs to the caller, not to this thread
            outcome = None, error
        with suppress(RuntimeError):  # the loop has closed: nobody is waiting any more
            loop.call_soon_threadsafe(settle, outcome)

    def settle(outcome: tuple[Result | None, BaseException | None]) -> None:
        slots.release()
        if not done.done():
            done.set_result(outcome)

    try:
        Thread(target=work, name="agent-blocking-call", daemon=True).start()
    except BaseException:  # the system has no thread to give
        slots.release()
        raise
    result, error = await done
    if error is not None:
        raise error
    return result  # type: ignore[return-value]  # there was no error, so there is a result
