"""A run as its caller sees it."""

from __future__ import annotations

from msgspec import Struct

from ..agent.events import Status, Step


class FinishedRun(Struct, frozen=True):
    """The outcome of one run: its id, how it ended, the answer or reason as text, and every step."""

    run_id: str
    status: Status
    output: str
    trace: list[Step]
