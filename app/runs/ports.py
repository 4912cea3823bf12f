"""What runs need of the world, as protocols: the store, the writer, the queue, the news, the audience."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Sequence
from datetime import datetime
from typing import Literal, Protocol, TypeAlias

from ..agent.events import Event, RunStarted
from ..errors import StepError
from ..jsonvalue import JsonObject
from ..tools.base import Transaction
from .live import Live
from .models import Claim, IdempotencyKey, Job, NewRun, Refusal, Run, RunKey, RunPage, RunStatus, StoredEvent
from .usage import ModelUse

Effect: TypeAlias = Callable[[Transaction], JsonObject]
Completion: TypeAlias = Callable[[JsonObject | None, StepError | None], list[StoredEvent]]


class Unit:
    """What the writer makes durable together: some events of one run that its owner appends at its head.

    A unit is open (events may still be added) until the writer takes it. With `new` it also writes the run itself;
    then `expected_seq` is 0. With an `effect` it has no events yet: the effect of step `step` runs inside the
    transaction, and `complete` makes the events of what it returned or of the StepError that it raised; such an
    effect leaves nothing behind. Both may be called again when the transaction has to be tried again.

    `status` and `steps` are the run's after these events; a status other than running hands the claim back.
    `usage` is what the models' answers among them took, None while there are none; it is written with them.
    `subjects` are those for whom it counts: what the models took, and the `new_steps` that were completed, the
    last one at `stepped_at`, count against their quotas of the day, and those of their tenant; if there are any.
    """

    __slots__ = (
        "complete",
        "done",
        "effect",
        "epoch",
        "events",
        "expected_seq",
        "is_open",
        "key",
        "new",
        "new_steps",
        "status",
        "step",
        "stepped_at",
        "steps",
        "subjects",
        "usage",
    )

    def __init__(
        self,
        key: RunKey,
        epoch: int,
        expected_seq: int,
        done: Callable[[Unit, BaseException | None, bool], None],
        *,
        new: NewRun | None = None,
        effect: Effect | None = None,
        complete: Completion | None = None,
        step: int = 0,
    ) -> None:
        self.key = key
        self.epoch = epoch
        self.expected_seq = expected_seq
        self.events: list[StoredEvent] = []
        self.usage: list[ModelUse] | None = None
        self.status: RunStatus = "running"
        self.steps = 0
        self.new_steps = 0
        self.stepped_at: datetime | None = None
        self.subjects: tuple[str, ...] = ()
        self.new = new
        self.effect = effect
        self.complete = complete
        self.step = step
        self.is_open = True
        self.done = done


class UnitWriter(Protocol):
    """Commits the units of all runs of a process in groups."""

    def submit(self, unit: Unit) -> None:
        """Take a unit, on the event loop's thread. Units of one run are written in the order they came.

        It stays open until the loop has nothing else to do at once. Then, on the loop's thread again,
        `unit.done(unit, error, cancel_requested)` is called exactly once: with None when it is durable, with
        `FencedError` when the run is no longer its owner's, or with `StorageUnavailableError` when the database
        could not be reached, or had no room, for too long.
        """
        ...


Created: TypeAlias = Literal["new", "replay", "mismatch"]


class RunStore(Protocol):
    """Keeps runs and their events. All methods raise StorageUnavailableError when the database does not answer."""

    async def create(
        self, new: NewRun, events: Sequence[StoredEvent], key: IdempotencyKey | None, job: Job | None
    ) -> tuple[Created, str]:
        """Write a run with its first events, its key and its job in one transaction; return once it is durable.

        Returns:
            "new" and the run's id; or, writing nothing, "replay" and the id of the run that the tenant made under
            the same key and fingerprint, or "mismatch" and its id if the fingerprint was another.

        Raises:
            QuotaExceededError: one of its bounds is reached, however many are created at once; nothing is written.
        """
        ...

    async def made_under(self, tenant: str, key: IdempotencyKey) -> tuple[Created, str] | None:
        """Return what `create` would of a run that the tenant has made under this key, None if there is none."""
        ...

    async def claim(
        self, key: RunKey, owner: str, *, statuses: Sequence[RunStatus], tenant_limit: int = 0, now: bool = False
    ) -> Claim | Refusal:
        """Bump the run's epoch for `owner` and make it running, if its status is one of `statuses`.

        A running run is refused as "held" while its owner is alive, unless that is `owner` itself, who then has
        let go of it without handing it back (the caller sees to it that it is not at work on it). Alive is who has
        a lease (`beat`) that has not run out; a process that holds a database alone needs none. A run with
        `not_before` ahead is refused as "too_early" unless `now`, and as "tenant_full" if `tenant_limit` (0: none)
        of its tenant's runs are running.
        """
        ...

    async def release(self, claim: Claim, job: Job | None = None) -> bool:
        """Hand an unfinished run back as queued, with `job` in the same transaction; False if fenced."""
        ...

    async def get(self, key: RunKey) -> Run | None: ...

    async def page(self, tenant: str, status: RunStatus | None, limit: int, cursor: str | None) -> RunPage:
        """Return a page, newest first.

        Raises:
            InvalidCursorError: the cursor is none that this store gave out.
        """
        ...

    async def events(self, key: RunKey, after: int, limit: int, max_bytes: int = 1 << 20) -> list[StoredEvent]:
        """Return events with numbers beyond `after`, in order.

        They are at most `limit`, and no more than fit `max_bytes` of text, but at least one if there is one.
        """
        ...

    async def request_cancel(self, key: RunKey) -> RunStatus | None:
        """Note durably that the run is to stop, unless it has ended; return its status, None if there is none."""
        ...

    async def cancels(self, keys: Sequence[RunKey]) -> list[RunKey]:
        """Return those of `keys` whose cancellation was requested."""
        ...

    async def unclaimed(self, limit: int, *, orphaned_only: bool = False) -> list[Job]:
        """Return jobs for runs that are queued, or running with an owner that is not alive; oldest first.

        With `orphaned_only`, just the latter, and those past their deadline that wait for a person.
        """
        ...

    async def beat(self, owner: str, lease_s: float) -> None:
        """Say that `owner` is alive for another `lease_s` seconds of the database's clock."""
        ...

    async def retire(self, owner: str) -> None:
        """Say that `owner` is no more."""
        ...


class RunQueue(Protocol):
    """How a run reaches a process that executes runs. Delivery is a hint: what counts is the claim."""

    def put_in(self, transaction: Transaction, job: Job) -> None:
        """Defer a job in the transaction that writes its run; called on a database thread."""
        ...

    def wake(self, job: Job) -> None:
        """Take note, on the event loop, that a job was deferred and is durable now."""
        ...

    async def consume(self, execute: Callable[[Job], Awaitable[float | None]], concurrency: int) -> None:
        """Deliver jobs until cancelled, at most `concurrency` at once; higher priorities and older ones first.

        `execute` returns None, or after how many seconds the job has to be delivered again. When cancelled, it
        stops taking jobs at once and returns when those under way have ended.
        """
        ...


class RunNews(Protocol):
    """Tells who listens, in this process, that a run has new events or another status."""

    def committed(self, key: RunKey, events: Sequence[StoredEvent], status: RunStatus) -> None:
        """Tell of events that this process has made durable."""
        ...

    def changed(self, key: RunKey) -> None:
        """Tell that another process has made something durable."""
        ...


class RunObserver(Protocol):
    """Is told, on the event loop and in the task of the run, what happens in the runs that this process drives.

    It must not block. What it raises is logged, and stops nothing. `watched` are the types of the events that it
    wants to be told of.
    """

    watched: Collection[type[Event]]

    def began(self, key: RunKey, opening: RunStarted) -> None:
        """Take note that a run is driven from now on, a new one or one that goes on."""
        ...

    def recorded(self, key: RunKey, event: Event) -> None:
        """Take note of an event, as it will be stored; also of a run that is only resolved or ended."""
        ...

    def left(self, key: RunKey) -> None:
        """Take note that a run is not driven any more: it ended, waits, or was handed back."""
        ...


class Audience(Protocol):
    """Those who listen to runs while they speak. What they hear is lost if nobody listens, and never kept."""

    def __contains__(self, key: object) -> bool:
        """Say whether somebody listens to this run; it costs a look-up, and may be asked on any thread."""
        ...

    def heard(self, key: RunKey, live: Live) -> None:
        """Take note, on the event loop, that there is more to hear; `live` goes on changing."""
        ...
