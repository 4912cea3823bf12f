"""What a finished run gives its caller, and the forms it takes outside Python."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Struct

from ..jsonvalue import wire_form
from .events import Status, Step


class AgentResult(Struct, frozen=True):
    """The outcome of a run: `status` ("success" or "error"), the answer or reason as text, and every step."""

    status: Status
    output: str
    trace: list[Step]

    def model_dump(self) -> dict[str, Any]:
        """Return plain dicts and lists; timestamps are RFC 3339 UTC texts, integers keep their full size."""
        dumped: dict[str, Any] = msgspec.to_builtins(self)
        return dumped

    def model_dump_json(self) -> str:
        """Return JSON; integers beyond 2^53-1 are strings of digits, so that no reader rounds them."""
        return msgspec.json.encode(AgentResult(self.status, self.output, wire_trace(self.trace))).decode()


def wire_trace(trace: list[Step]) -> list[Step]:
    """Return the steps with inputs and outputs in wire form."""
    return [
        Step(
            step.step,
            step.tool,
            wire_form(step.input),
            None if step.output is None else wire_form(step.output),
            step.error,
            step.timestamp,
        )
        for step in trace
    ]
