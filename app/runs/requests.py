"""Requests for runs, checked: what is out of bounds is refused before anything is kept."""

from __future__ import annotations

from datetime import UTC
from typing import Final

import msgspec
from msgspec.structs import replace

from ..agent.core import Agent
from ..agent.events import RunStarted
from ..auth.principal import ANONYMOUS, Principal
from ..errors import InvalidBudgetError, InvalidRunError
from ..jsonvalue import JsonObject, NotJsonError, TooLargeError, copy_json
from ..redaction import PLAIN_REDACTOR, Redactor
from .models import MAX_PRIORITY, MIN_PRIORITY, NewRun, RunKey, RunRequest
from .usage import to_nano

MAX_STEPS: Final = 1000
MAX_METADATA_BYTES: Final = 16 * 1024
MAX_DEADLINE_S: Final = 30 * 86_400.0
MIN_COST_USD: Final = 1e-9
MAX_COST_USD: Final = 1_000_000
MAX_TOKENS: Final = 10**12


def opening(
    agent: Agent, request: RunRequest, who: Principal = ANONYMOUS, traceparent: str | None = None
) -> RunStarted:
    """Return the first event of a run that `who` asks for; raises the CallerErrors of `Agent.opening`."""
    cost = request.max_cost_usd
    if cost is not None and not MIN_COST_USD <= cost <= MAX_COST_USD:
        raise InvalidBudgetError(f"max_cost_usd is {cost}; it is {MIN_COST_USD} to {MAX_COST_USD}.")
    begun = agent.opening(
        request.goal,
        request.context,
        request.tools,
        request.max_steps,
        model=request.model,
        max_tokens=request.max_tokens,
        max_cost=None if cost is None else to_nano(cost),
        output_schema=request.output_schema,
    )
    if who is ANONYMOUS and traceparent is None:
        return begun
    submitted_by = None if who is ANONYMOUS else who.name
    permissions = None if who.permissions.are_everything else who.permissions
    return replace(
        begun,
        submitted_by=submitted_by,
        permissions=permissions,
        traceparent=traceparent,
        charged_to=tuple(ancestor.name for ancestor in who.ancestors),
    )


def new_run(key: RunKey, request: RunRequest, redactor: Redactor = PLAIN_REDACTOR) -> NewRun:
    """Return what is written of a run, without the secrets that stand in its metadata.

    Raises:
        InvalidRunError: a value is out of bounds.
    """
    if not MIN_PRIORITY <= request.priority <= MAX_PRIORITY:
        raise InvalidRunError(f"The priority is {request.priority}; it is {MIN_PRIORITY} to {MAX_PRIORITY}.")
    if request.max_steps is not None and not 1 <= request.max_steps <= MAX_STEPS:
        raise InvalidRunError(f"max_steps is {request.max_steps}; it is 1 to {MAX_STEPS}.")
    if request.deadline_s is not None and not 0 < request.deadline_s <= MAX_DEADLINE_S:
        raise InvalidRunError(
            f"deadline_s is {request.deadline_s}; it is above 0 and at most {MAX_DEADLINE_S:.0f}."
        )
    if request.not_before is not None and request.not_before.tzinfo is None:
        raise InvalidRunError("not_before needs an offset from UTC, such as 2026-11-22T09:30:00Z.")
    metadata = request.metadata
    return NewRun(
        key,
        priority=request.priority,
        deadline_s=request.deadline_s,
        not_before=None if request.not_before is None else request.not_before.astimezone(UTC),
        metadata=None if metadata is None else redactor.object(bounded(metadata, MAX_METADATA_BYTES, "metadata")),
    )


def bounded(value: JsonObject, max_bytes: int, what: str) -> JsonObject:
    """Return a copy of `value`, whose JSON text is no longer than that and can be stored.

    Raises:
        InvalidRunError: it is not.
    """
    try:
        copied = copy_json(value, max_bytes)
        if len(msgspec.json.encode(copied)) > max_bytes:  # escapes are longer than what they stand for
            raise TooLargeError
    except NotJsonError as error:
        raise InvalidRunError(f"The {what} cannot be stored: {error}.") from error
    except TooLargeError as error:
        raise InvalidRunError(f"The {what} is larger than {max_bytes} bytes.") from error
    return copied
