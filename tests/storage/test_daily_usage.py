"""What counts against the quotas of a day, in both databases: once for each step and answer, and for long."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, date, datetime
from pathlib import Path

import pytest
from durable_runs import House
from sqlalchemy import event, select, update
from stored_runs import leave_a_commit_unanswered

from app.agent.core import Agent
from app.agent.events import ModelDecided, ModelRequested, RunStarted, Step, ToolCompleted
from app.auth.charges import TENANT
from app.auth.principal import Account, Limits, Principal
from app.auth.quotas import Allowance, DailyUse, Quotas
from app.errors import FencedError, QuotaExceededError, StepError
from app.jsonvalue import JsonObject
from app.llm.interface import Usage
from app.runs.journal import DurableJournal
from app.runs.models import NewRun, RunKey, RunRequest
from app.runs.usage import day_of
from app.storage.daily_usage import SqlDailyUsage
from app.storage.database import Database
from app.storage.slots import read_unfinished
from app.storage.tables import daily_usage, runs
from app.storage.writer import GroupWriter
from app.tools.base import Transaction

MUCH = Allowance(1000, 1000)
NOW = datetime(2026, 11, 22, 9, 30, tzinfo=UTC)
TODAY = day_of(date(2026, 11, 22))


class Silent:
    """Nobody listens."""

    def committed(self, *_: object) -> None: ...

    def changed(self, *_: object) -> None: ...


@pytest.fixture
async def writer(database: Database) -> AsyncIterator[GroupWriter]:
    found = GroupWriter(database, Silent(), patience_s=5)
    found.start()
    yield found
    await found.stop()


class Desk:
    """Journals of runs that somebody asked for."""

    def __init__(self, writer: GroupWriter) -> None:
        self.writer = writer
        self.now = NOW

    def journal(
        self, run_id: str, subject: str | None = "key:ann", tenant: str = "default", *ancestors: str
    ) -> DurableJournal:
        journal = DurableJournal(self.writer, NewRun(RunKey(tenant, run_id), owner="me"), lambda: self.now)
        journal.subjects = () if subject is None else (subject, *ancestors)
        journal.append(RunStarted("go", None, ()))
        return journal


@pytest.fixture
def desk(writer: GroupWriter) -> Desk:
    return Desk(writer)


def completed(output: JsonObject | None = None, error: StepError | None = None, step: int = 1) -> ToolCompleted:
    return ToolCompleted(Step(step, "t", {}, output, None if error is None else error.as_text(), NOW))


def decide(journal: DurableJournal) -> None:
    journal.append(ModelRequested(1, "openai:x"))
    journal.append(ModelDecided(1, "", usage=Usage(100, 10, 40, 2), cost=7))


def rows(database: Database) -> dict[tuple[str, str, int], tuple[int, int]]:
    found = database.read_now(lambda connection: connection.execute(select(daily_usage)).all())
    return {(row.tenant, row.subject, row.day): (row.steps, row.tokens) for row in found}


async def test_steps_and_tokens_count_for_who_asked_and_for_their_tenant(desk: Desk, database: Database) -> None:
    ann, bob, eve = desk.journal("a"), desk.journal("b", "key:bob"), desk.journal("c", "key:ann", "other")
    for journal in (ann, bob, eve):
        decide(journal)
        journal.append(completed({}))
    ann.append(completed({}, step=2))
    for journal in (ann, bob, eve):
        await journal.commit()
    ann.append(completed({}, step=3))
    await ann.commit()
    assert rows(database) == {
        ("default", "key:ann", TODAY): (3, 110),
        ("default", "key:bob", TODAY): (1, 110),
        ("default", TENANT, TODAY): (4, 220),
        ("other", "key:ann", TODAY): (1, 110),
        ("other", TENANT, TODAY): (1, 110),
    }
    usage = SqlDailyUsage(database)
    assert await usage.used("default", ("key:ann", "key:new", TENANT), TODAY) == {
        "key:ann": DailyUse(3, 110),
        TENANT: DailyUse(4, 220),
    }
    assert await usage.used("default", ("key:ann", TENANT), TODAY + 1) == {}


async def test_what_a_child_takes_counts_for_the_keys_that_it_descends_from(
    desk: Desk, database: Database
) -> None:
    child, parent = desk.journal("a", "key:eve", "default", "key:bob", "key:ann"), desk.journal("b", "key:bob")
    for journal in (child, parent):
        decide(journal)
        journal.append(completed({}))
    await asyncio.gather(child.commit(), parent.commit())
    await child.perform(2, lambda _: {}, completed)
    assert {place[1]: used for place, used in rows(database).items()} == {
        "key:eve": (2, 110),
        "key:bob": (3, 220),
        "key:ann": (2, 110),
        TENANT: (3, 220),
    }


async def test_of_runs_that_nobody_asked_for_nothing_is_written(desk: Desk, database: Database) -> None:
    journal = desk.journal("a", None)
    decide(journal)
    journal.append(completed({}))
    await journal.commit()
    assert rows(database) == {}


async def test_a_step_counts_on_the_day_on_which_it_ended(desk: Desk, database: Database) -> None:
    journal = desk.journal("a")
    journal.append(completed({}))
    await journal.commit()
    desk.now = datetime(2026, 11, 23, 0, 0, tzinfo=UTC)
    journal.append(completed({}, step=2))
    await journal.commit()
    assert rows(database)["default", "key:ann", TODAY + 1] == (1, 0)
    assert rows(database)["default", TENANT, TODAY] == (1, 0)


async def test_a_step_in_a_transaction_counts_also_when_it_fails(desk: Desk, database: Database) -> None:
    journal = desk.journal("a")

    def works(_: Transaction) -> JsonObject:
        return {"id": 1}

    def fails(_: Transaction) -> JsonObject:
        raise StepError("no")

    await journal.perform(1, works, completed)
    await journal.perform(2, fails, completed)
    assert rows(database)["default", "key:ann", TODAY] == (2, 0)


async def test_what_is_fenced_counts_for_nobody(desk: Desk, database: Database) -> None:
    journal = desk.journal("a")
    await journal.commit()
    database.transact_now(lambda connection: connection.execute(update(runs).values(epoch=9)))
    journal.append(completed({}))
    with pytest.raises(FencedError):
        await journal.commit()
    other = desk.journal("b")
    other.append(completed({}))
    await other.commit()
    assert rows(database)["default", TENANT, TODAY] == (1, 0)


async def test_a_group_that_is_tried_again_counts_once(desk: Desk, database: Database) -> None:
    journal = desk.journal("a")
    await journal.commit()
    broken = leave_a_commit_unanswered(database, commit=True)
    journal.append(completed({}))
    await journal.commit()
    assert broken
    assert rows(database)["default", "key:ann", TODAY] == (1, 0)


async def test_a_quota_survives_a_restart(data_dir: Path) -> None:
    for _ in range(2):
        database = Database.open(data_dir, patience_s=5)
        await _use_two_steps_of_three(database)
        database.close()
    database = Database.open(data_dir, patience_s=5)
    await _is_used_up(database)
    database.close()


async def test_a_line_of_keys_has_the_quota_of_the_one_it_began_with(database: Database) -> None:
    two = Limits(steps_per_day=2)
    root, middle = Account("key:root", two), Account("key:middle", two)
    line = [
        Principal("key:root", limits=two),
        Principal("key:middle", limits=two, ancestors=(root,)),
        Principal("key:last", limits=two, ancestors=(middle, root)),
    ]
    async with House(database, Agent()) as house:
        for who in line[1:]:
            await Quotas(SqlDailyUsage(database)).admit(who, MUCH)
            await house.service.run_task("Calculate 6*7", who=who)
    for who, whose in zip(line, ("key", "key", "parent"), strict=True):
        with pytest.raises(QuotaExceededError, match=f"steps of this {whose} for today"):
            await Quotas(SqlDailyUsage(database)).admit(who, MUCH)


async def test_a_quota_survives_a_restart_over_postgres(postgres_url: str) -> None:
    for _ in range(2):
        database = Database.open(Path(), postgres_url, patience_s=5)
        await _use_two_steps_of_three(database)
        database.close()
    database = Database.open(Path(), postgres_url, patience_s=5)
    await _is_used_up(database)
    database.close()


def _quotas(database: Database) -> Quotas:
    return Quotas(SqlDailyUsage(database), Limits(steps_per_day=3), clock=NOW.timestamp)


async def _use_two_steps_of_three(database: Database) -> None:
    left = await _quotas(database).admit(Principal("key:ann"), MUCH)
    assert left == Allowance(3) or left == Allowance(1)
    writer = GroupWriter(database, Silent(), patience_s=5)
    writer.start()
    journal = Desk(writer).journal(f"run-{left.steps}")
    for step in (1, 2):
        journal.append(completed({}, step=step))
    await journal.commit()
    await writer.stop()


async def _is_used_up(database: Database) -> None:
    with pytest.raises(QuotaExceededError, match="steps of this key"):
        await _quotas(database).admit(Principal("key:ann"), MUCH)
    assert await _quotas(database).admit(Principal("key:bob"), MUCH) == Allowance(3)


async def test_a_run_counts_for_who_asked_whoever_carries_it_out(database: Database) -> None:
    ann = Principal("key:ann", "desk")
    bob = Principal("key:bob", "desk", ancestors=(Account("key:ann"), Account("key:root")))
    async with House(database, Agent()) as house:
        await house.service.run_task("Calculate 6*7", who=ann)
        mine = await house.service.submit(RunRequest("Calculate 6*8"), who=ann)
        theirs = await house.service.submit(RunRequest("Calculate 6*9"), who=bob)
    assert set(await read_unfinished(database)) == {
        (RunKey("desk", mine.run_id), ("key:ann",)),
        (RunKey("desk", theirs.run_id), ("key:bob", "key:ann", "key:root")),
    }
    async with House(database, Agent(), owner="another") as house:
        for run in (mine, theirs):
            await house.execute(RunKey("desk", run.run_id))
        await house.service.run_task("Calculate 6*10")
    assert await read_unfinished(database) == []
    counted = {place[1]: used for place, used in rows(database).items() if place[0] == "desk"}
    assert counted == {"key:ann": (3, 0), "key:bob": (1, 0), "key:root": (1, 0), TENANT: (3, 0)}
    assert len(rows(database)) == len(counted)


async def test_everybody_locks_these_rows_in_one_order_and_last(desk: Desk, database: Database) -> None:
    written: list[tuple[str, list[object]]] = []

    def look(_c: object, _cursor: object, statement: str, parameters: tuple[object, ...], *_: object) -> None:
        written.append((statement, [one for one in parameters if one == TENANT or str(one).startswith("key:")]))

    journals = [desk.journal(str(number), f"key:{name}") for number, name in enumerate("cadb")]
    for journal in journals:
        await journal.commit()
    event.listen(database.write_engine, "before_cursor_execute", look)
    for journal in journals:
        journal.append(completed({}))
    await asyncio.gather(
        journals[0].perform(2, lambda _: {}, completed), *(each.commit() for each in journals[1:])
    )
    changes = [one for one in written if one[0].startswith(("INSERT", "UPDATE", "WITH"))]
    counted = [subjects for _, subjects in changes if subjects]
    assert max(map(len, counted)) > 3
    assert counted == [sorted(subjects) for subjects in counted]
    assert "daily_usage" in changes[-1][0]


async def test_processes_that_count_for_the_same_people_lose_nothing(postgres_database: Database) -> None:
    """They write the same rows at the same time, in groups of units with effects and without."""
    names = [f"key:{name}" for name in "abcd"]
    await asyncio.gather(
        *(_be_a_process(postgres_database, *each) for each in enumerate((names, names[::-1], names)))
    )
    assert {place[1]: steps for place, (steps, _) in rows(postgres_database).items()} == {
        **dict.fromkeys(names, 45),
        TENANT: 180,
    }


async def _be_a_process(database: Database, number: int, names: list[str]) -> None:
    writer = GroupWriter(database, Silent(), patience_s=5)
    writer.start()
    desk = Desk(writer)
    journals = [desk.journal(f"{number}-{at}", names[at % 4]) for at in range(12)]
    await asyncio.gather(*(_five_steps(journal, with_effects=not at % 3) for at, journal in enumerate(journals)))
    await writer.stop()


async def _five_steps(journal: DurableJournal, *, with_effects: bool) -> None:
    for step in range(1, 6):
        if with_effects:
            await journal.perform(step, lambda _: {}, completed)
        else:
            journal.append(completed({}, step=step))
            await journal.commit()
