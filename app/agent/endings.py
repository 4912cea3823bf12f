"""The limits of a run, and the events that end one when it cannot go on."""

from __future__ import annotations

from msgspec import Struct

from ..errors import ModelResponseError
from .budget import Budget, Shortage, usd
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


def model_failed(code: str, reason: str) -> RunFinished:
    """End a run whose models do not answer."""
    return RunFinished("error", f"The language model failed. {reason}", code)


def out_of_budget(limit: str, budget: Budget, said: str | None, shortage: Shortage | None = None) -> RunFinished:
    """End a run that has nothing left for another call, or whose answer was cut off for want of it.

    `limit` is "max_tokens" or "max_cost"; `said` is as much of the answer as there was.
    """
    if limit == "max_tokens":
        what, reason = f"{budget.max_tokens} tokens, the limit of this run (max_tokens)", "token_limit"
    else:
        what, reason = f"{usd(budget.max_cost or 0)} USD, the limit of this run (max_cost_usd)", "cost_limit"
    if said is not None:
        return RunFinished("error", f"The answer was cut off at {what}. It began: {said}", reason)
    if shortage is None:
        return RunFinished("error", f"Stopped without an answer at {what}.", reason)
    left, needed = (
        (f"{shortage.left} tokens", f"{shortage.needed}")
        if limit == "max_tokens"
        else (f"{usd(shortage.left)} USD", usd(shortage.needed))
    )
    return RunFinished(
        "error",
        f"Stopped without an answer at {what}: {left} are left, and asking the model again may take {needed}.",
        reason,
    )


def out_of_corrections(times: int, problem: str) -> RunFinished:
    """End a run whose model does not mend its replies."""
    reason = problem.partition("\n")[0]  # what follows tells the model how to answer
    output = f"The language model gave no usable reply {times} times in a row. {reason}"
    return RunFinished("error", output, ModelResponseError.code)


def out_of_steps(max_steps: int) -> RunFinished:
    """End a run that has made as many calls as it may."""
    steps = "1 step" if max_steps == 1 else f"{max_steps} steps"
    return RunFinished(
        "error", f"Stopped without an answer after {steps}, the limit of this run (max_steps).", "step_limit"
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
