"""The values of runs: what is submitted, what a run is, what is stored of it, and what came of it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Literal, TypeAlias

from msgspec import Struct

from ..agent.events import Step
from ..jsonvalue import JsonObject
from ..llm.interface import Usage
from ..tools.call import DEFAULT_TENANT as DEFAULT_TENANT
from .usage import Used

RunStatus: TypeAlias = Literal["queued", "running", "waiting", "success", "error", "cancelled"]
"""queued: nobody works on it yet. running: somebody does. waiting: a person has to say what became of a step.
The other three are how a run ends; nothing follows them."""

UNFINISHED: tuple[RunStatus, ...] = ("queued", "running", "waiting")
FINISHED: tuple[RunStatus, ...] = ("success", "error", "cancelled")

MIN_PRIORITY, MAX_PRIORITY = -100, 100


CURSOR_PATTERN = "^(0|[1-9][0-9]{0,17})_([0-9A-Za-z.~-]{1,64})$"
"""What a cursor of a listing looks like: when the last run of the page before was created, and its id."""


class RunKey(Struct, frozen=True):
    """What names a run: its tenant and its id."""

    tenant: str
    run_id: str


class RunRequest(Struct, frozen=True):
    """A run to carry out.

    Args:
        goal, context, tools: as for `Agent.run`.
        max_steps: tool calls it may make; None for the setting's.
        priority: MIN_PRIORITY to MAX_PRIORITY; queued runs of a higher one start sooner.
        deadline_s: seconds from its submission after which it ends as an error, waiting time included.
        not_before: it does not start before this moment (with an offset from UTC).
        metadata: the caller's own labels, given back with the run and never read.
        model: the name of the one it wants, of those that the settings allow; None for the settings'.
        max_tokens: how many its models may take, input and output; None for the setting's.
        max_cost_usd: what they may cost; None for the setting's.
        output_schema: the JSON Schema that the output satisfies as JSON text.
    """

    goal: str
    context: str | None = None
    tools: Sequence[str] | None = None
    max_steps: int | None = None
    priority: int = 0
    deadline_s: float | None = None
    not_before: datetime | None = None
    metadata: JsonObject | None = None
    model: str | None = None
    max_tokens: int | None = None
    max_cost_usd: float | None = None
    output_schema: JsonObject | None = None


class IdempotencyKey(Struct, frozen=True):
    """A caller's own name for a request, and the SHA-256 of what was requested."""

    key: str
    fingerprint: bytes


class Run(Struct, frozen=True):
    """A run as it is kept. Times are UTC; `events` is the number of the last one, `head_hash` its hash.

    `output` and `reason` are there once it has ended. `model` and the budget (`max_cost` in nano-dollars) are what
    it asked for itself; `used` is what its models took. A run that was pruned has lost its events, and with them
    `goal`, `context`, `output`, `reason` and what it asked for.
    """

    run_id: str
    status: RunStatus
    goal: str | None
    context: str | None
    output: str | None
    reason: str | None
    steps: int
    events: int
    head_hash: bytes
    priority: int
    max_steps: int | None
    metadata: JsonObject | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    not_before: datetime | None
    deadline_at: datetime | None
    cancel_requested: bool
    pruned_at: datetime | None
    tenant: str = DEFAULT_TENANT
    model: str | None = None
    max_tokens: int | None = None
    max_cost: int | None = None
    used: Used = Used()


class RunPage(Struct, frozen=True):
    """Some runs, newest first, and where the next page begins; None if there is none."""

    runs: list[Run]
    next_cursor: str | None


class StoredEvent(Struct, frozen=True):
    """One event as it is stored: its number in the run (from 1), its text, and its place in the chain."""

    seq: int
    body: str
    prev_hash: bytes
    hash: bytes


class Decision(Struct, frozen=True):
    """What a model decided: the numbers of the steps it asked for, none if it was the answer.

    `model` is the one that answered, None if it did not say; `cost` is in nano-dollars, None if unknown.
    """

    turn: int
    model: str | None
    steps: list[int]
    usage: Usage | None
    cost: int | None


class Trace(Struct, frozen=True):
    """A run and some of its steps, in order; `next_after` is the number to ask on with, None if there are no more.

    A step in doubt is the last one, with the error "in_doubt: ...". `decisions` are those that led to the steps,
    and at the end of the run the one that is the answer.
    """

    run: Run
    steps: list[Step]
    next_after: int | None
    decisions: Sequence[Decision] = ()


class Note(Struct, frozen=True):
    """A note of a proposal, the run and step that added it, and when.

    None where its store does not know, and of the run where it was added outside of one.
    """

    note: str
    run_id: str | None = None
    step: int | None = None
    created_at: datetime | None = None


class FinishedRun(Struct, frozen=True):
    """The outcome of one run: its id, how it ended, the answer or reason as text, and every step."""

    run_id: str
    status: Literal["success", "error", "cancelled"]
    output: str
    trace: list[Step]


class Job(Struct, frozen=True):
    """A run to be delivered to whoever executes runs."""

    key: RunKey
    priority: int = 0
    not_before: datetime | None = None


class Bound(Struct, frozen=True):
    """How many unfinished runs there may be of a subject: `whose` is what answers call it."""

    whose: str
    subject: str
    most: int


class NewRun(Struct, frozen=True):
    """What is written of a run before anything has happened to it; its first event comes with it.

    `owner` None makes it queued, with epoch 0; otherwise it is running, and its owner holds epoch 1. It counts
    for `subjects`: who asked for it, and the keys that theirs descends from. One with `bounds` is only written by
    `RunStore.create`, which keeps to them.
    """

    key: RunKey
    owner: str | None = None
    priority: int = 0
    deadline_s: float | None = None
    not_before: datetime | None = None
    metadata: JsonObject | None = None
    subjects: tuple[str, ...] = ()
    bounds: tuple[Bound, ...] = ()


class Claim(Struct, frozen=True):
    """The right to append to a run, and how the run stood when it was given.

    `claims` counts those given since the run last completed a step or was handed back, this one included.
    `seconds_left` to its deadline, by the database's clock; None if it has none.
    """

    key: RunKey
    epoch: int
    status: RunStatus
    head_seq: int
    head_hash: bytes
    steps: int
    claims: int
    priority: int
    seconds_left: float | None
    cancel_requested: bool


class Refusal(Struct, frozen=True):
    """Why a run could not be claimed."""

    reason: Literal["unknown", "finished", "waiting", "held", "too_early", "tenant_full"]
