"""What a tool can know of the call it is in, with the key that stays the same, and how it tells how it gets on."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar, Token
from typing import Final, TypeAlias

from msgspec import Struct

MAX_PROGRESS_CHARS: Final = 1000

DEFAULT_TENANT: Final = "default"
"""Whose everything is where nobody speaks of tenants."""


class ToolCallContext(Struct, frozen=True):
    """One call of a tool.

    `idempotency_key` is the same whenever this step is tried again, after a time-out or a crash, and never that of
    another step: give it to a remote system that honours such keys. `attempt` counts from 1; after a crash the
    attempt that it ended may be missing from the count. `tenant` is whose run it is: what a tool keeps for one is
    none of another's business.
    """

    run_id: str
    step: int
    attempt: int
    tenant: str = DEFAULT_TENANT

    @property
    def idempotency_key(self) -> str:
        return f"{self.run_id}:{self.step}"


_current: ContextVar[ToolCallContext] = ContextVar("current_call")


def current_call() -> ToolCallContext:
    """Return the call that the calling tool is in, in `run` or `run_in` and whatever it awaits or calls.

    Raises:
        RuntimeError: this is no tool call.
    """
    try:
        return _current.get()
    except LookupError:
        raise RuntimeError("current_call() is for tools, while they run.") from None


def current_tenant() -> str:
    """Return whose run the current call is in; the default tenant where there is none."""
    call = _current.get(None)
    return DEFAULT_TENANT if call is None else call.tenant


class in_call:  # noqa: N801 - reads as the function it stands for; a generator would cost three times as much
    """Make `call` the current one of this task, and of the threads that it starts, inside a `with`."""

    __slots__ = ("_call", "_token")

    def __init__(self, call: ToolCallContext) -> None:
        self._call = call

    def __enter__(self) -> None:
        self._token: Token[ToolCallContext] = _current.set(self._call)

    def __exit__(self, *_: object) -> None:
        _current.reset(self._token)


ProgressReporter: TypeAlias = Callable[[ToolCallContext, str, float | None], None]
"""Is told of the progress of a call, from whatever thread the tool is on."""

_reporter: ContextVar[ProgressReporter | None] = ContextVar("progress_reporter", default=None)


def report_progress(text: str, fraction: float | None = None) -> None:
    """Tell those who follow the run how the call that the calling tool is in gets on.

    It is heard while the call is under way and kept nowhere. It may be called from threads and as often as one
    likes: of several reports within 50 ms the last one is heard. `text` is cut at MAX_PROGRESS_CHARS, and
    `fraction` is how much is done, from 0 to 1. Nothing happens where nobody can listen: outside of a call, in a
    run that is not kept, and in `run_in`.

    Raises:
        TypeError: `text` is no text, or `fraction` no number.
    """
    if not isinstance(text, str):
        raise TypeError(f"progress is text, not {type(text).__name__}")
    done = None if fraction is None else _part(float(fraction))
    reporter, call = _reporter.get(), _current.get(None)
    if reporter is not None and call is not None:
        reporter(call, text[:MAX_PROGRESS_CHARS], done)


def _part(fraction: float) -> float | None:
    return min(max(fraction, 0.0), 1.0) if fraction == fraction else None


class reporting_to:  # noqa: N801 - as `in_call`
    """Hand the progress of calls in this task, and in the tasks and threads that it starts, to `reporter`."""

    __slots__ = ("_reporter", "_token")

    def __init__(self, reporter: ProgressReporter) -> None:
        self._reporter = reporter

    def __enter__(self) -> None:
        self._token: Token[ProgressReporter | None] = _reporter.set(self._reporter)

    def __exit__(self, *_: object) -> None:
        _reporter.reset(self._token)
