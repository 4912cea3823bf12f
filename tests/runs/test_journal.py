from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

import pytest

from app.agent.events import (
    Event,
    ModelDecided,
    ModelRejected,
    ModelRequested,
    RunFinished,
    RunStarted,
    Step,
    ToolCompleted,
    ToolIntended,
    ToolInterrupted,
    ToolResolved,
)
from app.agent.state import AgentState
from app.errors import FencedError, StepError, StorageUnavailableError, ToolFailedError
from app.jsonvalue import JsonObject
from app.llm.interface import ToolCall
from app.runs.capping import MAX_EVENT_BYTES
from app.runs.chain import GENESIS, link
from app.runs.codec import read, read_all
from app.runs.journal import DurableJournal
from app.runs.models import Claim, NewRun, RunKey, RunStatus, StoredEvent
from app.runs.ports import Unit

KEY = RunKey("default", "run-1")
NOW = datetime(2026, 11, 22, 9, 30, 0, 123456, UTC)


class Desk:
    """A writer whose groups a test commits by hand."""

    def __init__(self) -> None:
        self.submitted: list[Unit] = []
        self.written: list[Unit] = []

    def submit(self, unit: Unit) -> None:
        self.submitted.append(unit)

    def take(self) -> list[Unit]:
        """Close what waits, as the writer does when it begins a group."""
        taken = self.submitted[len(self.written) :]
        for unit in taken:
            unit.is_open = False
        return taken

    def write(self, error: BaseException | None = None, *, cancel: bool = False) -> None:
        for unit in self.take():
            if unit.effect is not None and error is None:
                self.carry_out(unit)
            self.written.append(unit)
            unit.done(unit, error, cancel)

    def carry_out(self, unit: Unit) -> None:
        assert unit.effect is not None
        assert unit.complete is not None
        try:
            unit.events = unit.complete(unit.effect(None), None)  # type: ignore[arg-type]
        except StepError as failed:
            unit.events = unit.complete(None, failed)

    @property
    def stored(self) -> list[StoredEvent]:
        return [event for unit in self.submitted for event in unit.events]


def claim(seq: int = 0, head: bytes = GENESIS, steps: int = 0) -> Claim:
    return Claim(KEY, 5, "queued", seq, head, steps, 1, 0, None, cancel_requested=False)


def journal_on(desk: Desk, start: NewRun | Claim | None = None, **options: Any) -> DurableJournal:
    return DurableJournal(desk, start or claim(), lambda: NOW, **options)


def completed(number: int = 1, output: JsonObject | None = None, error: str | None = None) -> ToolCompleted:
    return ToolCompleted(Step(number, "probe", {"n": number}, output, error, NOW))


def performing(journal: DurableJournal, *outcomes: JsonObject | Exception) -> asyncio.Task[ToolCompleted]:
    """Perform, in a task, an effect that does something else each time it is tried."""
    left = list(outcomes)

    def effect(_transaction: object) -> JsonObject:
        outcome = left.pop(0) if len(left) > 1 else left[0]
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    def complete(output: JsonObject | None, error: StepError | None) -> ToolCompleted:
        return completed(1, output, None if error is None else error.as_text())

    return asyncio.create_task(journal.perform(1, effect, complete))


async def turn() -> None:
    """Let everybody else do what they can do at once."""
    for _ in range(5):
        await asyncio.sleep(0)


async def test_events_of_one_turn_are_one_unit_in_order_and_bound_to_each_other() -> None:
    desk = Desk()
    journal = journal_on(desk)
    wanted: list[Event] = [RunStarted("go", None, ()), ModelRequested(1), ModelDecided(1, "done")]
    for event in wanted:
        assert journal.append(event) is event
    assert len(desk.submitted) == 1
    unit = desk.submitted[0]
    assert (unit.key, unit.epoch, unit.expected_seq, unit.status, unit.new) == (KEY, 5, 0, "running", None)
    assert read_all(unit.events) == wanted
    assert [event.seq for event in unit.events] == [1, 2, 3]
    head = GENESIS
    for stored in unit.events:
        assert stored.prev_hash == head
        head = link(head, stored.body.encode())
        assert stored.hash == head
        assert read(stored).at == NOW
        assert read(stored).run == "run-1"
    assert (journal.head_seq, journal.head_hash) == (3, head)


async def test_what_comes_after_a_group_was_taken_is_the_next_ones() -> None:
    desk = Desk()
    journal = journal_on(desk, claim(7, b"h" * 32, steps=2))
    journal.append(ModelRequested(1))
    first = desk.take()
    journal.append(ModelDecided(1, "", (ToolCall("probe", {}),)))
    journal.append(completed(3, {}))
    assert [unit.expected_seq for unit in desk.submitted] == [7, 8]
    assert [[event.seq for event in unit.events] for unit in desk.submitted] == [[8], [9, 10]]
    assert desk.submitted[0].events[0].prev_hash == b"h" * 32
    assert [unit.steps for unit in desk.submitted] == [2, 3]
    assert first == desk.submitted[:1]


async def test_the_first_unit_of_a_new_run_writes_the_run_too() -> None:
    desk = Desk()
    new = NewRun(KEY, owner="me")
    journal = journal_on(desk, new)
    journal.append(RunStarted("go", None, ()))
    desk.take()
    journal.append(ModelRequested(1))
    assert [(unit.new, unit.epoch, unit.expected_seq) for unit in desk.submitted] == [(new, 1, 0), (None, 1, 1)]


async def test_a_commit_waits_for_every_unit_and_for_nothing_if_there_is_none() -> None:
    desk = Desk()
    journal = journal_on(desk)
    await journal.commit()
    journal.append(RunStarted("go", None, ()))
    first = desk.take()
    journal.append(ModelRequested(1))
    waiting = asyncio.create_task(journal.commit())
    await turn()
    first[0].done(first[0], None, False)
    await turn()
    assert not waiting.done()
    second = desk.submitted[1]
    second.done(second, None, False)
    await waiting


@pytest.mark.parametrize("error", [FencedError("gone"), StorageUnavailableError("away")])
async def test_after_a_failure_nothing_more_is_written(error: Exception) -> None:
    desk = Desk()
    journal = journal_on(desk)
    journal.append(RunStarted("go", None, ()))
    waiting = asyncio.create_task(journal.commit())
    await turn()
    desk.write(error)
    with pytest.raises(type(error)):
        await waiting
    with pytest.raises(type(error)):
        journal.append(ModelRequested(1))
    with pytest.raises(type(error)):
        await journal.commit()
    with pytest.raises(type(error)):
        await performing(journal, {})
    with pytest.raises(type(error)):
        await journal.end("queued")
    assert len(desk.submitted) == 1


async def test_the_first_of_several_failures_is_the_one_that_counts() -> None:
    desk = Desk()
    journal = journal_on(desk)
    journal.append(RunStarted("go", None, ()))
    first = desk.take()[0]
    journal.append(ModelRequested(1))
    second = desk.submitted[1]
    first.done(first, StorageUnavailableError("away"), False)
    with pytest.raises(StorageUnavailableError):
        await journal.commit()  # at once, though the second has not been told of yet
    second.done(second, FencedError("its head is another"), False)
    with pytest.raises(StorageUnavailableError):
        await journal.commit()


async def test_a_cancelled_commit_loses_nothing() -> None:
    desk = Desk()
    journal = journal_on(desk)
    journal.append(RunStarted("go", None, ()))
    waiting = asyncio.create_task(journal.commit())
    await turn()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    journal.append(ModelRequested(1))
    again = asyncio.create_task(journal.commit())
    await turn()
    desk.write()
    await again
    assert [event.seq for event in desk.stored] == [1, 2]


async def test_an_effect_is_a_unit_of_its_own_between_the_events_around_it() -> None:
    desk = Desk()
    journal = journal_on(desk)
    journal.append(ToolIntended(1, "probe", {"n": 1}))
    task = performing(journal, {"ok": True})
    await turn()
    assert [(unit.expected_seq, unit.effect is not None, unit.step, unit.steps) for unit in desk.submitted] == [
        (0, False, 0, 0),
        (1, True, 1, 1),
    ]
    desk.write()
    event = await task
    assert event == completed(1, {"ok": True})
    journal.append(ModelRequested(2))
    desk.write()
    assert [read(stored).event for stored in desk.stored] == [
        ToolIntended(1, "probe", {"n": 1}),
        event,
        ModelRequested(2),
    ]
    assert [stored.prev_hash for stored in desk.stored[1:]] == [stored.hash for stored in desk.stored[:-1]]
    assert journal.steps == 1


async def test_an_effect_that_fails_is_recorded_as_such() -> None:
    desk = Desk()
    journal = journal_on(desk)
    task = performing(journal, ToolFailedError("broken"))
    await turn()
    desk.write()
    assert (await task).step.error == "tool_failed: broken"


async def test_of_an_effect_that_was_tried_twice_what_was_written_is_what_is_seen() -> None:
    desk = Desk()
    journal = journal_on(desk)
    task = performing(journal, {"try": 1}, {"try": 2})
    await turn()
    (unit,) = desk.take()
    desk.carry_out(unit)
    first = unit.events
    desk.carry_out(unit)
    unit.events = first  # the first try had taken place after all
    unit.done(unit, None, False)
    event = await task
    assert event.step.output == {"try": 1}
    assert journal.head_hash == first[0].hash


@pytest.mark.parametrize("times", [1, 3])
async def test_a_cancellation_waits_until_it_is_known_what_became_of_an_effect(times: int) -> None:
    desk = Desk()
    journal = journal_on(desk)
    reached: list[object] = []

    async def drive() -> None:
        reached.append(await journal.perform(1, lambda _: {"ok": True}, lambda output, _: completed(1, output)))
        reached.append("nothing was awaited since")
        await asyncio.sleep(0)
        reached.append("not reached")

    task = asyncio.create_task(drive())
    await turn()
    for _ in range(times):
        task.cancel()
        await turn()
    assert not task.done()
    desk.write()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert reached == [completed(1, {"ok": True}), "nothing was awaited since"]
    assert journal.head_seq == 1


async def test_a_cancelled_effect_that_fails_says_why() -> None:
    desk = Desk()
    journal = journal_on(desk)
    task = performing(journal, {})
    await turn()
    task.cancel()
    await turn()
    desk.write(FencedError("gone"))
    with pytest.raises(FencedError):
        await task


@pytest.mark.parametrize("ends", [True, False])
async def test_that_the_run_is_to_stop_is_told_when_an_append_comes_back(ends: bool) -> None:
    desk = Desk()
    told: list[bool] = []
    journal = journal_on(desk, on_cancel=lambda: told.append(True))
    journal.append(RunStarted("go", None, ()))
    desk.write()
    assert (told, journal.cancel_requested) == ([], False)
    if ends:
        journal.append(RunFinished("success", "done"))
    else:
        journal.append(ModelRequested(1))
    desk.write(cancel=True)
    assert (told, journal.cancel_requested) == ([True], True)


@pytest.mark.parametrize("status", ["queued", "waiting"])
async def test_a_run_can_be_handed_back_with_its_last_events_or_with_none(status: RunStatus) -> None:
    desk = Desk()
    journal = journal_on(desk)
    journal.append(RunStarted("go", None, ()))
    ending = asyncio.create_task(journal.end(status))
    await turn()
    desk.write()
    await ending
    assert [unit.status for unit in desk.submitted] == [status]

    desk = Desk()
    journal = journal_on(desk, claim(3, b"h" * 32, steps=1))
    ending = asyncio.create_task(journal.end(status))
    await turn()
    desk.write()
    await ending
    assert [(unit.status, unit.events, unit.expected_seq, unit.steps) for unit in desk.submitted] == [
        (status, [], 3, 1)
    ]


@pytest.mark.parametrize("status", ["success", "error", "cancelled"])
async def test_the_end_of_a_run_is_its_status(status: Any) -> None:
    desk = Desk()
    journal = journal_on(desk)
    journal.append(RunFinished(status, "done"))
    assert [unit.status for unit in desk.submitted] == [status]


# what is cut


LONG = "é\x01" * 100_000
"""300,000 bytes, and 900,000 as JSON."""


def context_of(event: Any) -> str:
    return str(event.context)


CUT: list[tuple[Event, Callable[[Any], str]]] = [
    (RunStarted("go", LONG, ("probe",)), context_of),
    (ModelDecided(1, LONG, (ToolCall("probe", {"n": 1}),)), lambda event: str(event.content)),
    (ModelRejected(1, LONG), lambda event: str(event.problem)),
    (RunFinished("success", LONG), lambda event: str(event.output)),
]


@pytest.mark.parametrize(("event", "text_of"), CUT, ids=lambda value: type(value).__name__)
async def test_a_text_that_is_too_long_keeps_its_beginning_and_says_what_it_was(
    event: Event, text_of: Callable[[Any], str]
) -> None:
    desk = Desk()
    recorded = journal_on(desk).append(event)
    (stored,) = desk.stored
    assert len(stored.body.encode()) <= MAX_EVENT_BYTES
    assert read(stored).event == recorded
    text, _, mark = text_of(recorded).rpartition("\n")
    assert LONG.startswith(text)
    assert len(text) > 10_000
    assert mark == f"[cut: {len(LONG.encode())} bytes in all, sha256 {sha256(LONG.encode()).hexdigest()}]"


async def test_an_output_that_is_too_long_is_replaced_by_its_digest_for_everybody() -> None:
    output: JsonObject = {"text": LONG}
    desk = Desk()
    journal = journal_on(desk)
    state = AgentState()
    for event in (
        RunStarted("go", None, ("probe",)),
        ModelDecided(1, "", (ToolCall("probe", {"n": 1}),)),
        ToolIntended(1, "probe", {"n": 1}),
        completed(1, output),
    ):
        state.apply(journal.append(event))
    whole = json.dumps(output, ensure_ascii=False, separators=(",", ":")).encode()
    kept = state.steps[0].output
    assert kept == {
        "truncated": True,
        "bytes": len(whole),
        "sha256": sha256(whole).hexdigest(),
        "head": whole.decode()[:2_000],
    }
    assert state.messages[-1].output == kept  # type: ignore[union-attr]
    folded = AgentState.fold(read_all(desk.stored))
    assert (folded.steps, folded.messages) == (state.steps, state.messages)
    assert max(len(stored.body.encode()) for stored in desk.stored) <= MAX_EVENT_BYTES


async def test_the_output_of_an_effect_is_cut_too() -> None:
    desk = Desk()
    task = performing(journal_on(desk), {"text": LONG})
    await turn()
    desk.write()
    event = await task
    assert (event.step.output or {})["truncated"] is True
    assert read(desk.stored[0]).event == event


@pytest.mark.parametrize("spare", [0, -1])
async def test_an_event_of_just_the_right_size_is_not_cut(spare: int) -> None:
    empty = len(journal_text(RunFinished("success", "")))
    event = RunFinished("success", "x" * (MAX_EVENT_BYTES - empty - spare))
    desk = Desk()
    recorded = journal_on(desk).append(event)
    assert (recorded == event) is (spare == 0)
    assert len(desk.stored[0].body) <= MAX_EVENT_BYTES


def journal_text(event: Event) -> bytes:
    desk = Desk()
    journal_on(desk).append(event)
    return desk.stored[0].body.encode()


EXACT = {"above": 2**53 + 1, "below": -(2**53) - 1, "wide": 2**64, "huge": 10**4000, "least": -(10**4000)}


@pytest.mark.parametrize(
    "event",
    [
        ToolIntended(1, "probe", EXACT),  # type: ignore[arg-type]
        completed(1, EXACT),  # type: ignore[arg-type]
        ToolResolved(1, happened=True, output=EXACT),  # type: ignore[arg-type]
        ModelDecided(1, "", (ToolCall("probe", EXACT),)),  # type: ignore[arg-type]
        ToolInterrupted(2**53 + 1, "probe", 1, "why", in_doubt=True),
    ],
)
async def test_integers_of_any_size_stay_what_they_are(event: Event) -> None:
    desk = Desk()
    assert journal_on(desk).append(event) == event
    again = read(desk.stored[0]).event
    assert again == event
