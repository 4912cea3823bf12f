"""What a tool can know of the call it is in: the run, the step, and the key that is the same on every attempt."""

from __future__ import annotations

from contextvars import ContextVar, Token

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


class in_call:  # noqa: N801 - reads as the function it stands for; a generator would cost three times as much
    """Make `call` the current one of this task, and of the threads that it starts, inside a `with`."""

    __slots__ = ("_call", "_token")

    def __init__(self, call: ToolCallContext) -> None:
        self._call = call

    def __enter__(self) -> None:
        self._token: Token[ToolCallContext] = _current.set(self._call)

    def __exit__(self, *_: object) -> None:
        _current.reset(self._token)
