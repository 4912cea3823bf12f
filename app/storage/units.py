"""What a group of units does to the database, inside one transaction: fence, effects, heads, events."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec
from msgspec import Struct
from sqlalchemy import Connection, Engine, event, select
from sqlalchemy.exc import DBAPIError

from ..errors import FencedError, StepError, ToolFailedError
from ..runs.chain import GENESIS
from ..runs.models import FINISHED, RunKey, StoredEvent
from ..runs.ports import Unit
from .daily_usage import count
from .failures import is_timeout, one_line, trouble_of
from .moments import to_us
from .slots import path_of
from .statements import EventRow, HeadRow, RunRow, insert_events, insert_runs, move_heads
from .tables import events
from .usage import book

_IN_EFFECT: Final = "llm_agent_core.in_effect"


class WriteCall(Struct, frozen=True):
    """A function to be called in the group's transaction, and who waits for what it returns."""

    fn: Callable[[Connection], Any]
    done: asyncio.Future[Any]


class Outcome(Struct, frozen=True):
    """What became of a unit or a call."""

    error: BaseException | None = None
    cancel_requested: bool = False
    result: Any = None


class UnitTransaction(Struct, frozen=True):
    """The `Transaction` that an effect gets."""

    tenant: str
    run_id: str
    step: int
    connection: Connection

    def will_be_retried(self, error: Exception) -> bool:
        """Say whether the group is written again because of this error; for an effect that is slow it is not."""
        return trouble_of(error) is not None and not is_timeout(error)


def write_units(connection: Connection, group: Sequence[Unit | WriteCall]) -> list[Outcome]:
    """Write a group; return what became of each, in order.

    The units without effects are written together. Those of a run that has one in this group, or two owners, are
    written one by one, each under a savepoint.

    Raises:
        Exception: of the database; nothing of the group is to be kept.
    """
    apart = _to_be_written_apart(group)
    together = [work for work in group if isinstance(work, Unit) and work.key not in apart]
    moved = _write_together(connection, together)
    outcomes = []
    for work in group:
        if isinstance(work, WriteCall):
            outcomes.append(_call(connection, work))
        elif work.key in apart:
            outcomes.append(_write_one(connection, work))
        else:
            outcomes.append(moved[work.key])
    _count(connection, group, outcomes)
    return outcomes


def _count(connection: Connection, group: Sequence[Unit | WriteCall], outcomes: Sequence[Outcome]) -> None:
    """Count what was written against the quotas of the day.

    Once a group and last of all, since these rows are everybody's: whoever has some locked waits for nothing else.
    """
    counted = [
        work
        for work, outcome in zip(group, outcomes, strict=True)
        if isinstance(work, Unit) and work.subjects and outcome.error is None
    ]
    if counted:
        count(connection, counted)


def _to_be_written_apart(group: Sequence[Unit | WriteCall]) -> set[RunKey]:
    epochs: dict[RunKey, int] = {}
    return {
        work.key
        for work in group
        if isinstance(work, Unit)
        and (work.effect is not None or epochs.setdefault(work.key, work.epoch) != work.epoch)
    }


def is_durable(connection: Connection, key: RunKey, written: Sequence[StoredEvent]) -> bool:
    """Say whether these events of a run are in the database: whether the last one is."""
    last = written[-1]
    its_place = (events.c.tenant == key.tenant, events.c.run_id == key.run_id, events.c.seq == last.seq)
    return bool(connection.execute(select(events.c.hash).where(*its_place)).scalar() == last.hash)


def keep_transactions_ours(engine: Engine) -> None:
    """See to it that no effect ends the transaction it is part of, and with it that of other runs: it raises."""
    for name in ("commit", "rollback"):
        event.listen(engine, name, _refuse_in_effect)


def _refuse_in_effect(connection: Connection) -> None:
    if not connection.invalidated and connection.info.get(_IN_EFFECT):
        raise RuntimeError("A tool must not end the transaction that it is part of.")


def _write_together(connection: Connection, units: Sequence[Unit]) -> dict[RunKey, Outcome]:
    runs: dict[RunKey, list[Unit]] = {}
    for unit in units:
        runs.setdefault(unit.key, []).append(unit)
    new = [_run_row(of_run) for of_run in runs.values() if of_run[0].new is not None]
    heads = [_head_row(of_run) for of_run in runs.values() if of_run[0].new is None]
    if new:
        insert_runs(connection, new)
    moved = move_heads(connection, heads) if heads else {}
    outcomes: dict[RunKey, Outcome] = {}
    rows: list[EventRow] = []
    booked: list[Unit] = []
    for key, of_run in runs.items():
        if of_run[0].new is None and (key.tenant, key.run_id) not in moved:
            outcomes[key] = Outcome(_fenced(key))
            continue
        outcomes[key] = Outcome(cancel_requested=moved.get((key.tenant, key.run_id), False))
        for unit in of_run:
            rows.extend(_event_rows(unit))
            if unit.usage:
                booked.append(unit)
    if rows:
        insert_events(connection, rows)
    if booked:
        book(connection, booked)
    return outcomes


def _write_one(connection: Connection, unit: Unit) -> Outcome:
    """Write one unit with all it does, or nothing of it."""
    savepoint = connection.begin_nested()
    if unit.effect is not None:
        unit.events = _carry_out(connection, unit)
    cancel_requested = False
    if unit.new is not None:
        insert_runs(connection, [_run_row([unit])])
    else:
        moved = move_heads(connection, [_head_row([unit])])
        if not moved:
            savepoint.rollback()
            return Outcome(_fenced(unit.key))
        cancel_requested = moved[unit.key.tenant, unit.key.run_id]
    insert_events(connection, _event_rows(unit))
    if unit.usage:
        book(connection, [unit])
    savepoint.commit()
    return Outcome(cancel_requested=cancel_requested)


def _carry_out(connection: Connection, unit: Unit) -> list[StoredEvent]:
    """Return the events of what an effect did; of one that failed, nothing else is left."""
    assert unit.effect is not None
    assert unit.complete is not None
    transaction = UnitTransaction(unit.key.tenant, unit.key.run_id, unit.step, connection)
    info = connection.info
    connection.exec_driver_sql("SAVEPOINT effect")
    info[_IN_EFFECT] = True
    try:
        output = unit.effect(transaction)
        connection.exec_driver_sql("RELEASE SAVEPOINT effect")
    except StepError as error:
        connection.exec_driver_sql("ROLLBACK TO SAVEPOINT effect")
        return unit.complete(None, error)
    except Exception as error:
        if transaction.will_be_retried(error) or not isinstance(error, DBAPIError):
            raise
        # it went over an error of the database, which then keeps nothing of what it did
        connection.exec_driver_sql("ROLLBACK TO SAVEPOINT effect")
        return unit.complete(None, ToolFailedError(f"The database refused what it did: {one_line(error)}"))
    finally:
        del info[_IN_EFFECT]
    return unit.complete(output, None)


def _call(connection: Connection, call: WriteCall) -> Outcome:
    savepoint = connection.begin_nested()
    try:
        result = call.fn(connection)
    except Exception as error:
        if trouble_of(error) is not None:
            raise
        savepoint.rollback()
        return Outcome(error)
    savepoint.commit()
    return Outcome(result=result)


def _fenced(key: RunKey) -> FencedError:
    return FencedError(f"The run {key.run_id} has another owner by now.")


def _event_rows(unit: Unit) -> list[EventRow]:
    tenant, run_id = unit.key.tenant, unit.key.run_id
    return [(tenant, run_id, event.seq, event.prev_hash, event.hash, event.body) for event in unit.events]


def _head(units: Sequence[Unit]) -> tuple[int, bytes | None]:
    """Return the number and hash of the last event of a run's units; no hash if they bring no event."""
    for unit in reversed(units):
        if unit.events:
            return unit.events[-1].seq, unit.events[-1].hash
    return units[0].expected_seq, None


def _head_row(units: Sequence[Unit]) -> HeadRow:
    first, last = units[0], units[-1]
    seq, head_hash = _head(units)
    ended = int(last.status in FINISHED)
    key = first.key
    return key.tenant, key.run_id, first.epoch, first.expected_seq, seq, head_hash, last.status, last.steps, ended


def _run_row(units: Sequence[Unit]) -> RunRow:
    new, last = units[0].new, units[-1]
    assert new is not None
    seq, head_hash = _head(units)
    status = last.status if new.owner is not None else "queued"
    return (
        new.key.tenant,
        new.key.run_id,
        status,
        0 if new.owner is None else 1,
        new.owner if status == "running" else None,
        int(status == "running"),
        seq,
        head_hash or GENESIS,
        last.steps,
        new.priority,
        None if new.metadata is None else msgspec.json.encode(new.metadata).decode(),
        path_of(new.subjects),
        int(new.owner is not None),
        int(status in FINISHED),
        to_us(new.not_before),
        None if new.deadline_s is None else round(new.deadline_s * 1e6),
    )
