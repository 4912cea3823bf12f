"""Blocking calls off the event loop: each on a daemon thread of its own, which can be abandoned when it hangs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextvars import copy_context
from threading import BoundedSemaphore, Thread
from typing import TypeVar

Argument = TypeVar("Argument")
Result = TypeVar("Result")

MAX_THREADS = 256
"""How many calls may be on threads at once in a process, those that hang and were given up included."""

_slots = BoundedSemaphore(MAX_THREADS)


class NoThreadError(RuntimeError):
    """MAX_THREADS blocking calls are already under way."""


async def call_in_thread(function: Callable[[Argument], Result], argument: Argument) -> Result:
    """Call `function(argument)` on a thread of its own and return or raise what it does.

    Not a pool: a call that never returns would hold one of its few workers for ever, and a pool's workers are
    joined when the interpreter exits, so that one hung tool would make Ctrl-C hang too. A thread costs about as
    much to start as to hop to. When the waiting task is cancelled the thread runs on and its result is dropped.

    Raises:
        NoThreadError: too many calls are on threads already.
    """
    if not _slots.acquire(blocking=False):
        raise NoThreadError(f"{MAX_THREADS} blocking calls are already running, most likely hung")
    loop = asyncio.get_running_loop()
    done: asyncio.Future[tuple[Result | None, BaseException | None]] = loop.create_future()
    context = copy_context()

    def work() -> None:
        try:
            outcome: tuple[Result | None, BaseException | None] = context.run(function, argument), None
        except BaseException as error:  # whatever it is, it belongs to the caller, not to this thread
            outcome = None, error
        finally:
            _slots.release()
        try:
            loop.call_soon_threadsafe(_settle, done, outcome)
        except RuntimeError:
            return  # the loop has closed: nobody is waiting any more

    Thread(target=work, name="agent-blocking-call", daemon=True).start()
    result, error = await done
    if error is not None:
        raise error
    return result  # type: ignore[return-value]  # there was no error, so there is a result


def _settle(
    done: asyncio.Future[tuple[Result | None, BaseException | None]],
    outcome: tuple[Result | None, BaseException | None],
) -> None:
    if not done.done():
        done.set_result(outcome)
