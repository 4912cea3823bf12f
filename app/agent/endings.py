"""The limits of a run, and the events that end one when it cannot go on."""

from __future__ import annotations

from msgspec import Struct

from ..errors import ModelResponseError
from .events import RunFinished, ToolIntended


class Limits(Struct, frozen=True):
    """What a run may use: tool calls, and seconds of wall time from the start of the loop.

    `by_deadline` says that the time is what is left to the run's own deadline.
    """

    max_steps: int = 20
    max_seconds: float = 300.0
    by_deadline: bool = False


def in_doubt(intended: ToolIntended) -> RunFinished:
    """End a run whose step may have had its effect, where nobody is to be waited for."""
    return RunFinished(
        "error",
        f"The run had stopped while {intended.tool} was under way in step {intended.step}, or could not wait for "
        "its end. Whether that had its effect is unknown, so it was not repeated.",
        "in_doubt",
    )


def out_of_corrections(times: int, problem: str) -> RunFinished:
    """End a run whose model does not mend its replies."""
    reason = problem.partition("\n")[0]  # what follows tells the model how to answer
    output = f"The language model gave no usable reply {times} times in a row. {reason}"
    return RunFinished("error", output, ModelResponseError.code)


def out_of_steps(max_steps: int) -> RunFinished:
    """End a run that has made as many calls as it may."""
    return RunFinished(
        "error",
        f"Stopped without an answer after {max_steps} steps, the limit of this run (max_steps).",
        "step_limit",
    )


def out_of_time(limits: Limits) -> RunFinished:
    """End a run that has had all its time."""
    if limits.by_deadline:
        return RunFinished("error", "Stopped without an answer: the run's deadline has passed.", "deadline")
    return RunFinished(
        "error",
        f"Stopped without an answer after {limits.max_seconds:g} seconds, the limit of this run (max_seconds).",
        "time_limit",
    )
