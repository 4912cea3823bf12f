"""What models took, in both databases: once for each answer, by run, day, model and tenant, longer than events."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, date, datetime
from typing import Any

import pytest
from durable_runs import House
from fakes import FakeTool, answer, call
from msgspec.structs import replace
from sqlalchemy import insert, select
from stored_runs import HOUR_US, leave_a_commit_unanswered, set_run

from app.agent.core import Agent
from app.agent.events import ModelDecided, ModelRejected, ModelRequested, RunStarted, Step, ToolCompleted
from app.errors import FencedError
from app.llm.interface import LLMRequest, LLMResponse, ModelCard, Usage
from app.runs.journal import DurableJournal
from app.runs.models import NewRun, RunKey, RunRequest
from app.runs.reports import UsageReports
from app.runs.usage import Used, day_of
from app.storage.database import Database
from app.storage.retention import prune
from app.storage.tables import run_usage
from app.storage.usage import SqlUsageStore
from app.storage.writer import GroupWriter

TODAY = date(2026, 11, 22)
NOW = datetime(2026, 11, 22, 9, 30, tzinfo=UTC)
NAME = "openai:gpt-5-mini"


class Prices:
    def cost(self, usage: Usage) -> int:
        return usage.input_tokens * 250 + usage.output_tokens * 2000


class PaidModel:
    """Says its replies in order; each takes a hundred tokens and ten."""

    is_free = False

    def __init__(self, *replies: LLMResponse, pricing: Prices | None = None, name: str = NAME) -> None:
        self.card = ModelCard(name, "openai", 100_000, 1_000, Prices() if pricing is None else pricing)
        self._replies = iter(replies)

    async def complete(self, _request: LLMRequest) -> LLMResponse:
        return replace(next(self._replies), usage=Usage(100, 10, 40, 0), model="gpt-5-mini-2025")


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


def journal_of(writer: GroupWriter, run_id: str, at: datetime = NOW, tenant: str = "default") -> DurableJournal:
    journal = DurableJournal(writer, NewRun(RunKey(tenant, run_id), owner="me"), lambda: at)
    journal.append(RunStarted("go", None, ()))
    return journal


def decide(journal: DurableJournal, cost: int | None = 7, name: str | None = NAME) -> None:
    journal.append(ModelRequested(1, name))
    journal.append(ModelDecided(1, "", usage=Usage(100, 10, 40, 2), cost=cost))


def rows(database: Database) -> list[tuple[Any, ...]]:
    statement = select(run_usage).order_by(*run_usage.primary_key)
    return [tuple(row) for row in database.read_now(lambda connection: connection.execute(statement).all())]


ONE = (1, 100, 10, 40, 2, 7, 0)
TWO = (2, 200, 20, 80, 4, 14, 0)


async def test_a_run_of_a_paid_model_shows_what_it_took(database: Database) -> None:
    model = PaidModel(call("probe"), answer("done"))
    async with House(database, Agent(model, [FakeTool()])) as house:
        done = await house.service.run_task("go", max_cost_usd=0.5, max_tokens=100_000)
        run = await house.service.get(done.run_id)
        trace = await house.service.trace(done.run_id)
    assert run.used == Used(2, 200, 20, 80, 0, 2 * 45_000, 0)
    assert (run.model, run.max_tokens, run.max_cost) == (None, 100_000, 500_000_000)
    assert [(found.turn, found.steps, found.cost) for found in trace.decisions] == [
        (1, [1], 45_000),
        (2, [], 45_000),
    ]
    assert trace.decisions[0].usage == Usage(100, 10, 40, 0)
    assert {found.model for found in trace.decisions} == {"gpt-5-mini-2025"}
    assert [row[1:4:2] for row in rows(database)] == [(done.run_id, NAME)]


async def test_pages_of_a_trace_have_the_decisions_of_their_steps(database: Database) -> None:
    model = PaidModel(*[call("probe") for _ in range(3)], answer("done"))
    async with House(database, Agent(model, [FakeTool()])) as house:
        done = await house.service.run_task("go")
        first = await house.service.trace(done.run_id, 0, 2)
        rest = await house.service.trace(done.run_id, first.next_after or 0, 2)
    assert [found.steps for found in first.decisions] == [[1], [2]]
    assert [found.steps for found in rest.decisions] == [[3], []]


async def test_the_offline_planner_writes_no_row(database: Database) -> None:
    async with House(database, Agent()) as house:
        done = await house.service.run_task("Calculate 6*7")
        run = await house.service.get(done.run_id)
    assert rows(database) == []
    assert run.used == Used()


async def test_a_run_that_names_a_model_shows_it(database: Database) -> None:
    other = PaidModel(answer(), name="anthropic:claude")
    async with House(
        database, Agent(PaidModel(), [], models={"anthropic:claude": other}), executes=False
    ) as house:
        run = await house.service.submit(RunRequest("go", model="anthropic:claude"))
    assert (run.model, run.used) == ("anthropic:claude", Used())


async def test_answers_add_up_by_run_day_and_model(database: Database, writer: GroupWriter) -> None:
    first, second = journal_of(writer, "a"), journal_of(writer, "b")
    for journal in (first, second, first):
        decide(journal)
    decide(first, name="ollama:x", cost=None)
    await first.commit()
    await second.commit()
    decide(second)
    await second.commit()
    day = day_of(TODAY)
    assert rows(database) == [
        ("default", "a", day, "ollama:x", 1, 100, 10, 40, 2, 0, 1),
        ("default", "a", day, NAME, *TWO),
        ("default", "b", day, NAME, *TWO),
    ]


async def test_a_run_over_midnight_has_a_row_a_day(database: Database, writer: GroupWriter) -> None:
    times = iter([datetime(2026, 11, 21, 23, 59, tzinfo=UTC)] * 3 + [NOW] * 2)
    journal = DurableJournal(writer, NewRun(RunKey("default", "a"), owner="me"), lambda: next(times))
    journal.append(RunStarted("go", None, ()))
    decide(journal)
    decide(journal)
    await journal.commit()
    assert [row[2] for row in rows(database)] == [day_of(TODAY) - 1, day_of(TODAY)]


async def test_a_reply_that_was_no_decision_counts(database: Database, writer: GroupWriter) -> None:
    journal = journal_of(writer, "a")
    journal.append(ModelRequested(1, NAME))
    journal.append(ModelRejected(1, "no", Usage(100, 10, 40, 2), 7))
    await journal.commit()
    assert [row[4:] for row in rows(database)] == [ONE]


@pytest.mark.parametrize("took_place", [True, False])
async def test_a_commit_that_nobody_answered_adds_once(
    database: Database, writer: GroupWriter, took_place: bool
) -> None:
    journal = journal_of(writer, "a")
    await journal.commit()
    happened = leave_a_commit_unanswered(database, commit=took_place)
    decide(journal)
    await journal.commit()
    assert happened
    assert [row[4:] for row in rows(database)] == [ONE]


async def test_a_group_in_which_one_run_cannot_be_written_adds_the_others_once(
    database: Database, writer: GroupWriter
) -> None:
    good, bad = journal_of(writer, "a"), journal_of(writer, "b")
    await good.commit()
    await bad.commit()
    decide(good)
    decide(bad)
    assert bad._unit is not None
    bad._unit.status = "nonsense"  # type: ignore[assignment] # the table refuses it
    await good.commit()
    with pytest.raises(Exception, match="could not be written"):
        await bad.commit()
    assert [(row[1], *row[4:]) for row in rows(database)] == [("a", *ONE)]


async def test_who_has_lost_the_run_adds_nothing(database: Database, writer: GroupWriter) -> None:
    journal = journal_of(writer, "a")
    await journal.commit()
    set_run(database, journal.key, epoch=2)
    decide(journal)
    with pytest.raises(FencedError):
        await journal.commit()
    assert rows(database) == []


async def test_beside_an_effect_it_is_added_too(database: Database, writer: GroupWriter) -> None:
    """The run's units are then written one by one."""
    journal = journal_of(writer, "a")
    decide(journal)
    step = Step(1, "probe", {}, {"ok": True}, None, NOW)
    await journal.perform(1, lambda _: {"ok": True}, lambda _output, _error: ToolCompleted(step))
    decide(journal)
    await journal.commit()
    assert [row[4:] for row in rows(database)] == [TWO]


async def test_many_rows_are_written_together(database: Database, writer: GroupWriter) -> None:
    journals = [journal_of(writer, f"run-{number:03}") for number in range(200)]
    for _ in range(2):
        for journal in journals:
            decide(journal)
        for journal in journals:
            await journal.commit()
    assert [row[4:] for row in rows(database)] == [TWO] * 200


async def test_pruning_leaves_it(database: Database) -> None:
    async with House(database, Agent(PaidModel(answer("done")), [])) as house:
        done = await house.service.run_task("go")
        set_run(database, RunKey("default", done.run_id), finished_at=HOUR_US)
        assert prune(database, older_than_s=60).runs == 1
        run = await house.service.get(done.run_id)
    assert run.pruned_at is not None
    assert run.used.cost == 45_000
    assert len(rows(database)) == 1


def fill(database: Database) -> None:
    """Write what three runs of two tenants took in two months."""
    day = day_of(TODAY)
    written = [
        ("default", "a", day, NAME, 1, 100, 10, 40, 2, 7, 0),
        ("default", "a", day - 29, "ollama:x", 2, 5, 5, 0, 0, 0, 2),
        ("default", "b", day, NAME, 3, 1, 1, 0, 0, 10**15, 1),
        ("default", "b", day - 30, NAME, 9, 9, 9, 9, 9, 9, 9),
        ("other", "c", day, NAME, 4, 4, 4, 4, 4, 4, 4),
    ]
    names = [column.name for column in run_usage.c]
    values = [dict(zip(names, row, strict=True)) for row in written]
    database.transact_now(lambda connection: connection.execute(insert(run_usage), values))


@pytest.fixture
def reports(database: Database) -> UsageReports:
    fill(database)
    return UsageReports(SqlUsageStore(database), lambda: NOW)


async def test_usage_is_summed_by_day(reports: UsageReports) -> None:
    report = await reports.report("day")
    assert (report.first, report.last) == (date(2026, 10, 24), TODAY)
    assert report.groups == [
        ("2026-10-24", Used(2, 5, 5, 0, 0, 0, 2)),
        ("2026-11-22", Used(4, 101, 11, 40, 2, 10**15 + 7, 1)),
    ]
    assert report.total == Used(6, 106, 16, 40, 2, 10**15 + 7, 3)


async def test_usage_is_summed_by_model_and_tenant(reports: UsageReports) -> None:
    by_model = await reports.report("model", TODAY, TODAY)
    assert [(group, used.calls) for group, used in by_model.groups] == [(NAME, 4)]
    by_tenant = await reports.report("tenant", date(2026, 10, 23), TODAY)
    assert [(group, used.calls) for group, used in by_tenant.groups] == [("default", 15)]
    everybody = await reports.report("tenant", tenant=None)
    assert [(group, used.calls) for group, used in everybody.groups] == [("default", 6), ("other", 4)]


async def test_days_without_usage_are_no_days_of_the_report(reports: UsageReports) -> None:
    report = await reports.report("day", date(2020, 1, 1), date(2020, 12, 31))
    assert (report.groups, report.total) == ([], Used())


async def test_of_a_long_period_it_is_the_last_366_days(reports: UsageReports) -> None:
    report = await reports.report("day", date(2020, 1, 1), TODAY)
    assert (report.first, report.last) == (date(2025, 11, 22), TODAY)
    assert report.total.calls == 15


async def test_a_period_that_ends_before_it_begins_has_no_days(reports: UsageReports) -> None:
    assert (await reports.report("day", TODAY, date(2026, 11, 1))).groups == []


async def test_a_period_may_begin_before_there_was_a_day(reports: UsageReports) -> None:
    assert (await reports.report("day", last=date(1, 1, 3))).first == date.min
    assert (await reports.report("day", date(9999, 1, 1))).last == date(9999, 1, 1)
