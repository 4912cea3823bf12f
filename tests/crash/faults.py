"""Where a process under test dies: passages it goes through, counted, and SIGKILL at the n-th of one of them.

`CRASH_AT=place:n` names the passage. `CRASH_COUNTS=file` has every passage written there, one place a line: a run
without a kill tells what there is to be killed at.
"""

from __future__ import annotations

import functools
import os
import signal
import threading
from collections import Counter
from collections.abc import Callable
from typing import Any

_lock = threading.Lock()
_passed: Counter[str] = Counter()
_place, _, _number = os.environ.get("CRASH_AT", "").partition(":")
_counts: int | None = None


def arm() -> None:
    """Read the environment: a process that was forked has another than its parent."""
    global _place, _number, _counts
    _place, _, _number = os.environ.get("CRASH_AT", "").partition(":")
    _passed.clear()
    path = os.environ.get("CRASH_COUNTS")
    _counts = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND) if path else None


def passage(place: str) -> None:
    """Die here if it is time."""
    if _counts is not None:
        os.write(_counts, f"{place}\n".encode())
    if place != _place:
        return
    with _lock:
        _passed[place] += 1
        if _passed[place] == int(_number):
            os.kill(os.getpid(), signal.SIGKILL)


def wrap(owner: Any, name: str, place: str, *, is_async: bool = False) -> None:
    """Make passages of the moment before a method and the moment after it."""
    original = getattr(owner, name)

    @functools.wraps(original)
    def called(*args: Any, **kwargs: Any) -> Any:
        passage(f"{place}.before")
        result = original(*args, **kwargs)
        passage(f"{place}.after")
        return result

    @functools.wraps(original)
    async def awaited(*args: Any, **kwargs: Any) -> Any:
        passage(f"{place}.before")
        result = await original(*args, **kwargs)
        passage(f"{place}.after")
        return result

    setattr(owner, name, awaited if is_async else called)


def wrap_answers(app: Callable[..., Any]) -> Callable[..., Any]:
    """Make passages of the moments before and after an HTTP request is taken and its answer is sent."""

    async def wrapped(scope: Any, receive: Any, send: Any) -> None:
        is_post = scope["type"] == "http" and scope["method"] == "POST"

        async def telling(message: Any) -> None:
            if is_post:
                passage(f"{message['type']}.before")
            await send(message)
            if is_post:
                passage(f"{message['type']}.after")

        if is_post:
            passage("http.request")
        await app(scope, receive, telling)

    return wrapped
