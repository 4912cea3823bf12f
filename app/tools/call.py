"""What a tool can know of the call it is in: the run, the step, and the key that is the same on every attempt."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from msgspec import Struct


class ToolCallContext(Struct, frozen=True):
    """One call of a tool.

    `idempotency_key` is the same whenever this step is tried again, after a time-out or a crash, and never that of
    another step: give it to a remote system that honours such keys. `attempt` counts from 1; after a crash the
    attempt that it ended may be missing from the count.
    """

    run_id: str
    step: int
    attempt: int
    idempotency_key: str


_current: ContextVar[ToolCallContext] = ContextVar("current_call")


def current_call() -> ToolCallContext:
    """Return the call that the calling tool is in, in `run` and whatever it awaits or calls.

    Raises:
        RuntimeError: this is no tool call.
    """
    try:
        return _current.get()
    except LookupError:
        raise RuntimeError("current_call() is for tools, while they run.") from None


@contextmanager
def in_call(call: ToolCallContext) -> Iterator[None]:
    """Make `call` the current one of this task, and of the threads that it starts."""
    token = _current.set(call)
    try:
        yield
    finally:
        _current.reset(token)
