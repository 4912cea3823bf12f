"""What callers of runs are promised, on both databases."""

from __future__ import annotations

import asyncio
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from durable_runs import House, nothing_is_held, of, until
from fakes import FakeTool, ScriptedModel, answer, call

from app.agent.core import Agent
from app.agent.events import RunFinished, ToolCompleted, ToolIntended, ToolResolved
from app.auth.principal import Principal
from app.errors import (
    FencedError,
    IdempotencyKeyReusedError,
    InvalidGoalError,
    InvalidRunError,
    RunEndedError,
    RunNotFoundError,
    RunNotWaitingError,
    RunPrunedError,
    StorageUnavailableError,
)
from app.jsonvalue import JsonObject
from app.llm.interface import LLMRequest, LLMResponse, ToolMessage
from app.runs import executor as executor_module
from app.runs import service as service_module
from app.runs.ids import new_run_id
from app.runs.models import Claim, FinishedRun, IdempotencyKey, Run, RunKey, RunRequest
from app.storage.database import Database


def key(name: str = "key", fingerprint: bytes = b"f" * 32) -> IdempotencyKey:
    return IdempotencyKey(name, fingerprint)


class Once:
    """A model that makes one call of `probe`, and answers when it has its result."""

    is_free = False

    async def complete(self, request: LLMRequest) -> LLMResponse:
        seen = any(isinstance(message, ToolMessage) for message in request.messages)
        return answer("end") if seen else call("probe", n=1)


class Probe(FakeTool):
    """A tool whose first calls never answer, and the others at once."""

    def __init__(self, hangs: int = 0, **attributes: Any) -> None:
        super().__init__(self._run, **attributes)
        self.calls = 0
        self.entered = asyncio.Event()
        self._hangs = hangs

    async def _run(self, given: JsonObject) -> JsonObject:
        self.calls += 1
        self.entered.set()
        if self.calls <= self._hangs:
            await asyncio.get_running_loop().create_future()
        return {"n": given["n"]}


def house_of(database: Database, tool: FakeTool | None = None, **options: Any) -> House:
    return House(database, Agent(Once(), [tool or Probe(effect="pure")]), **options)


def doubtful(**attributes: Any) -> Probe:
    return Probe(hangs=1, effect="unsafe", timeout_s=0.01, **attributes)


async def waiting_run(house: House) -> Run:
    run = await house.service.run_task("go")
    assert isinstance(run, Run), run
    assert run.status == "waiting"
    return run


# run_task


async def test_a_task_is_carried_out_and_kept(database: Database) -> None:
    async with house_of(database) as house:
        run = await house.service.run_task("go", "background", ["probe"])
        assert isinstance(run, FinishedRun)
        assert (run.status, run.output, [step.output for step in run.trace]) == ("success", "end", [{"n": 1}])
        kept = await house.service.get(run.run_id)
        assert (kept.status, kept.goal, kept.context, kept.output, kept.steps) == (
            "success",
            "go",
            "background",
            "end",
            1,
        )
        assert (await house.service.trace(run.run_id)).steps == run.trace
        assert house.finished == [run]


async def test_what_cannot_be_carried_out_is_refused_and_nothing_is_kept(database: Database) -> None:
    async with house_of(database) as house:
        with pytest.raises(InvalidGoalError):
            await house.service.run_task(" ")
        with pytest.raises(InvalidGoalError):
            await house.service.submit(RunRequest(""))
        with pytest.raises(InvalidRunError):
            await house.service.submit(RunRequest("go", priority=1000))
        assert house.count() == 0


async def test_a_task_that_comes_to_wait_for_a_person_returns_how_it_stands(database: Database) -> None:
    async with house_of(database, doubtful()) as house:
        run = await waiting_run(house)
        assert (run.output, run.finished_at) == (None, None)
        trace = await house.service.trace(run.run_id)
        assert [(step.step, step.tool, step.input, step.output) for step in trace.steps] == [
            (1, "probe", {"n": 1}, None)
        ]
        assert (trace.steps[0].error or "").startswith("in_doubt: timeout: ")


@pytest.mark.parametrize("executes", [True, False])
async def test_a_task_for_which_there_is_no_room_here_is_waited_for(database: Database, executes: bool) -> None:
    tool = Probe(hangs=1, effect="pure")
    async with (
        house_of(database, tool, concurrency=1, executes=executes) as house,
        house_of(database, Probe(effect="pure"), owner="worker") as worker,
    ):
        house.database.attach(house.writer)
        if executes:
            blocked = asyncio.create_task(house.service.run_task("go"))
            await tool.entered.wait()
        waiting = asyncio.create_task(house.service.run_task("go on"))
        await until(lambda: house.queue._waiting)
        (taken,) = house.queue._waiting
        assert (await house.run(taken)).status == "queued"
        await worker.execute(taken)
        house.feed.changed(taken)  # as the news between processes does
        run = await waiting
        assert isinstance(run, FinishedRun)
        assert (run.status, [step.output for step in run.trace]) == ("success", [{"n": 1}])
        if executes:
            run_id = house.executor.held[0].run_id
            await house.service.cancel(run_id)
            assert (await blocked).status == "cancelled"


async def test_a_task_that_takes_longer_than_is_waited_for_returns_how_it_stands(database: Database) -> None:
    async with house_of(database, executes=False, wait_s=0.01) as house:
        run = await house.service.run_task("go")
        assert isinstance(run, Run)
        assert run.status == "queued"


@pytest.mark.parametrize("keyed", [True, False])
async def test_a_caller_who_goes_away_does_not_end_the_task(database: Database, keyed: bool) -> None:
    go = asyncio.Event()
    entered = asyncio.Event()

    async def wait(given: JsonObject) -> JsonObject:
        entered.set()
        await go.wait()
        return {}

    async with house_of(database, FakeTool(wait, effect="unsafe")) as house:
        caller = asyncio.create_task(house.service.run_task("go", key=key() if keyed else None))
        await entered.wait()
        caller.cancel()
        with pytest.raises(asyncio.CancelledError):
            await caller
        go.set()
        await until(lambda: house.finished)
        assert house.finished[0].status == "success"
        if keyed:
            assert await house.service.run_task("go", key=key()) == house.finished[0]


async def test_a_caller_who_is_sent_away_by_a_stop_is_told_of_the_run(database: Database) -> None:
    probe = Probe(hangs=1, effect="pure")
    async with house_of(database, probe) as house:
        house.service.is_stopping = True
        task = asyncio.create_task(house.service.run_task("go"))
        await asyncio.wait_for(probe.entered.wait(), 5)
        task.cancel()
        run = await task
        assert isinstance(run, Run)
        assert (run.status, run.goal) == ("running", "go")


async def test_a_caller_who_goes_away_while_the_run_is_kept_leaves_it_in_good_hands(database: Database) -> None:
    async with house_of(database) as house:
        caller = asyncio.create_task(house.service.run_task("go", key=key()))
        await asyncio.sleep(0)
        caller.cancel()
        with pytest.raises(asyncio.CancelledError):
            await caller
        await until(lambda: house.finished)
        assert house.finished[0].status == "success"


async def test_a_task_that_another_process_takes_over_is_waited_for(database: Database) -> None:
    tool = Probe(hangs=1, effect="pure")
    async with (
        house_of(database, Probe(effect="pure"), owner="heir") as heir,
        house_of(database, tool) as house,
    ):
        waiting = asyncio.create_task(house.service.run_task("go"))
        await tool.entered.wait()
        (run_key,) = house.executor.held
        await until(lambda: house.value(run_key, "head_seq"))
        assert await heir.execute(run_key) is None
        house.executor.cancel(run_key)  # it wakes up, and is told that it has lost the run
        run = await waiting
        assert isinstance(run, FinishedRun)
        assert (run.status, run.output) == ("success", "end")
        for task in house.executor._retries:
            task.cancel()


# submitting


async def test_a_submitted_run_is_kept_and_waits_for_its_turn(database: Database) -> None:
    at = datetime.now(UTC) + timedelta(hours=1)
    async with house_of(database) as house:
        request = RunRequest(
            "go",
            "background",
            ("probe",),
            max_steps=7,
            priority=5,
            deadline_s=60.0,
            not_before=at,
            metadata={"a": 1},
        )
        run = await house.service.submit(request, who=Principal("desk", "acme"))
        assert (run.status, run.goal, run.context, run.max_steps, run.priority, run.metadata, run.tenant) == (
            "queued",
            "go",
            "background",
            7,
            5,
            {"a": 1},
            "acme",
        )
        assert run.not_before == at
        assert run.deadline_at is not None
        assert run.deadline_at - run.created_at == timedelta(seconds=60)
        assert (run.started_at, run.events) == (None, 1)
        with pytest.raises(RunNotFoundError):
            await house.service.get(run.run_id)


async def test_submitted_runs_are_carried_out(database: Database) -> None:
    async with house_of(database, consumes=True) as house:
        keys = [await house.submit() for _ in range(5)]
        runs = [await house.service.wait(one.run_id, 5.0) for one in keys]
        assert [(run.status, run.output) for run in runs] == [("success", "end")] * 5


async def test_waiting_ends_when_its_time_is_over(database: Database) -> None:
    async with house_of(database) as house:
        run_key = await house.submit()
        assert (await house.service.wait(run_key.run_id, 0.01)).status == "queued"


async def test_a_run_may_stop_sooner_than_the_agent_would(database: Database) -> None:
    agent = Agent(ScriptedModel(call("probe", n=1)), [Probe(effect="pure")], max_steps=20)
    async with House(database, agent) as house:
        run_key = await house.submit(max_steps=3)
        await house.execute(run_key)
        run = await house.run(run_key)
        assert (run.reason, run.steps) == ("step_limit", 3)


# idempotency


async def test_a_key_makes_one_run_and_its_replay_gives_the_same_answer(database: Database) -> None:
    tool = Probe(effect="unsafe")
    async with house_of(database, tool) as house:
        first = await house.service.run_task("go", key=key())
        assert await house.service.run_task("go", key=key()) == first
        assert await house.service.run_task("go", key=key("another")) != first
        assert (tool.calls, house.count()) == (2, 2)
        assert (await house.service.run_task("go", key=key(), who=Principal("desk", "acme"))) != first


async def test_a_key_for_another_request_is_refused(database: Database) -> None:
    async with house_of(database) as house:
        await house.service.run_task("go", key=key())
        for attempt in (
            house.service.run_task("go", key=key(fingerprint=b"g" * 32)),
            house.service.submit(RunRequest("go"), key=key(fingerprint=b"g" * 32)),
        ):
            with pytest.raises(IdempotencyKeyReusedError):
                await attempt
        assert house.count() == 1


async def test_many_requests_with_one_key_at_once_make_one_run(database: Database) -> None:
    tool = Probe(effect="unsafe")
    async with house_of(database, tool) as house:
        made = await asyncio.gather(*[house.service.run_task("go", key=key()) for _ in range(40)])
        assert len({run.run_id for run in made}) == 1
        assert (house.count(), tool.calls) == (1, 1)
        submitted = await asyncio.gather(
            *[house.service.submit(RunRequest("go"), key=key("b")) for _ in range(40)]
        )
        assert len({run.run_id for run in submitted}) == 1
        assert house.count() == 2


async def test_a_replay_of_a_run_that_goes_on_returns_how_it_stands(database: Database) -> None:
    tool = Probe(hangs=1, effect="pure")
    async with house_of(database, tool) as house:
        first = asyncio.create_task(house.service.run_task("go", key=key()))
        await tool.entered.wait()
        replay = await house.service.run_task("go", key=key())
        assert isinstance(replay, Run)
        assert replay.status == "running"
        await house.service.cancel(replay.run_id)
        assert await house.service.run_task("go", key=key()) == await first


@pytest.mark.parametrize("policy", ["wait", "fail"])
async def test_a_replay_shows_a_doubtful_step_as_the_first_answer_did(database: Database, policy: str) -> None:
    async with house_of(database, doubtful(on_in_doubt=policy)) as house:
        first = await house.service.run_task("go", key=key())
        if policy == "wait":
            assert isinstance(first, Run)
            assert first.status == "waiting"
        else:
            assert isinstance(first, FinishedRun)
            assert (first.status, [(step.error or "")[:9] for step in first.trace]) == ("error", ["in_doubt:"])
        assert await house.service.run_task("go", key=key()) == first


async def test_a_run_under_a_key_costs_two_commits_more_than_its_barriers(database: Database) -> None:
    model = ScriptedModel(answer())
    model.is_free = True
    async with House(database, Agent(model, [])) as house:
        await house.service.run_task("go", key=key())
        assert house.writer.commits <= 3


# cancelling


async def test_a_queued_run_is_cancelled_at_once(database: Database) -> None:
    async with house_of(database) as house:
        run_key = await house.submit(not_before=datetime.now(UTC) + timedelta(hours=1))
        run = await house.service.cancel(run_key.run_id)
        assert (run.status, run.reason) == ("cancelled", "cancelled")
        assert await house.execute(run_key) is None
        assert len(of(RunFinished, await house.events(run_key))) == 1


async def test_a_queued_run_is_cancelled_at_once_even_if_it_waits_for_room_here(database: Database) -> None:
    tool = Probe(hangs=1, effect="pure")
    async with house_of(database, tool, concurrency=1) as house:
        running = asyncio.create_task(house.service.run_task("go"))
        await tool.entered.wait()
        run_key = await house.submit()
        delivery = asyncio.create_task(house.execute(run_key))
        await asyncio.sleep(0)
        assert (await house.service.cancel(run_key.run_id)).status == "cancelled"
        await house.service.cancel(house.executor.held[0].run_id)
        await running
        assert await delivery is None


async def test_a_waiting_run_is_cancelled_at_once(database: Database) -> None:
    async with house_of(database, doubtful()) as house:
        run = await waiting_run(house)
        assert (await house.service.cancel(run.run_id)).status == "cancelled"
        trace = await house.service.trace(run.run_id)
        assert (trace.steps[-1].error or "").startswith("in_doubt: ")


async def test_a_run_that_has_just_come_to_wait_is_cancelled_whatever_this_process_thinks_of_it(
    database: Database,
) -> None:
    """It was handed back and asked to stop in one transaction; whoever drove it has not heard of that yet."""
    async with house_of(database, doubtful()) as house:
        run = await waiting_run(house)
        house.executor._taken.add(RunKey("default", run.run_id))
        assert (await house.service.cancel(run.run_id)).status == "cancelled"
        house.executor._taken.clear()


async def test_a_run_that_its_process_has_left_behind_is_cancelled_by_any_other(database: Database) -> None:
    async with house_of(database) as house:
        first = await house.service.run_task("go")
        known = await house.events(RunKey("default", first.run_id))
        at = next(number for number, event in enumerate(known) if isinstance(event, ToolIntended))
        stored = await house.stored(RunKey("default", first.run_id))
        left = await house.crashed(RunKey("default", first.run_id), stored[: at + 1], "acme")
        assert (await house.service.cancel(left.run_id, "acme")).status == "cancelled"


async def test_what_cannot_be_cancelled_says_why(database: Database) -> None:
    async with house_of(database) as house:
        with pytest.raises(RunNotFoundError):
            await house.service.cancel("nobody's")
        run = await house.service.run_task("go")
        with pytest.raises(RunEndedError):
            await house.service.cancel(run.run_id)
        assert len(of(RunFinished, await house.events(RunKey("default", run.run_id)))) == 1


async def test_cancelling_many_times_at_once_ends_a_run_once(database: Database) -> None:
    tool = Probe(hangs=1, effect="unsafe")
    async with house_of(database, tool) as house:
        running = asyncio.create_task(house.service.run_task("go"))
        await tool.entered.wait()
        (run_key,) = house.executor.held
        queued = await house.submit()
        cancels = [house.service.cancel(one.run_id) for one in (run_key, queued) for _ in range(5)]
        results = await asyncio.gather(*cancels, return_exceptions=True)
        assert {type(result) for result in results} <= {Run, RunEndedError}
        assert {result.status for result in results if isinstance(result, Run)} == {"cancelled"}
        assert (await running).status == "cancelled"
        for one in (run_key, queued):
            assert len(of(RunFinished, await house.events(one))) == 1
        assert nothing_is_held(house)


async def test_a_run_of_a_living_process_elsewhere_is_asked_to_stop(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service_module, "CANCEL_S", 0.05)
    tool = Probe(hangs=1, effect="pure")
    async with (
        house_of(database, tool, owner="worker") as worker,
        house_of(database, owner="api", executes=False) as api,
    ):
        await api.store.beat("worker", 60.0)
        run_key = await api.submit()
        delivery = asyncio.create_task(worker.execute(run_key))
        await tool.entered.wait()
        await until(lambda: api.value(run_key, "head_seq") == 4)  # no append is under way that would tell it
        run = await api.service.cancel(run_key.run_id)
        assert (run.status, run.cancel_requested) == ("running", True)
        # the worker looks for such requests every so often
        for found in await worker.store.cancels(worker.executor.held):
            worker.executor.cancel(found)
        await delivery
        assert (await api.run(run_key)).status == "cancelled"


# resolving


@pytest.mark.parametrize("output", [{"sent": 2**53 + 1}, None])
async def test_a_step_that_happened_is_recorded_and_the_run_goes_on(
    database: Database, output: JsonObject | None
) -> None:
    tool = doubtful()
    async with house_of(database, tool, consumes=True) as house:
        waiting = await waiting_run(house)
        run = await house.service.resolve(waiting.run_id, 1, True, output)
        assert run.status in ("queued", "running", "success")
        run = await house.service.wait(waiting.run_id, 5.0)
        assert (run.status, run.output, tool.calls) == ("success", "end", 1)
        trace = await house.service.trace(waiting.run_id)
        assert [(step.output, step.error) for step in trace.steps] == [(output or {}, None)]


async def test_a_step_that_did_not_happen_is_carried_out_again(database: Database) -> None:
    tool = doubtful()
    async with house_of(database, tool, consumes=True) as house:
        waiting = await waiting_run(house)
        await house.service.resolve(waiting.run_id, 1, False)
        run = await house.service.wait(waiting.run_id, 5.0)
        assert (run.status, tool.calls) == ("success", 2)
        completed = of(ToolCompleted, await house.events(RunKey("default", waiting.run_id)))
        assert [event.step.output for event in completed] == [{"n": 1}]


@pytest.mark.parametrize("step", [0, 2, -1])
async def test_only_the_step_in_doubt_can_be_resolved(database: Database, step: int) -> None:
    async with house_of(database, doubtful()) as house:
        waiting = await waiting_run(house)
        before = await house.events(RunKey("default", waiting.run_id))
        with pytest.raises(RunNotWaitingError):
            await house.service.resolve(waiting.run_id, step, True)
        run_key = RunKey("default", waiting.run_id)
        assert (await house.run(run_key)).status == "waiting"
        assert await house.events(run_key) == before
        assert (await house.service.resolve(waiting.run_id, 1, True)).status == "queued"


async def test_who_waits_for_nobody_cannot_be_resolved(database: Database) -> None:
    async with house_of(database) as house:
        with pytest.raises(RunNotFoundError):
            await house.service.resolve("nobody's", 1, True)
        queued = await house.submit()
        with pytest.raises(RunNotWaitingError, match="queued"):
            await house.service.resolve(queued.run_id, 1, True)
        ended = await house.service.run_task("go")
        with pytest.raises(RunNotWaitingError, match="success"):
            await house.service.resolve(ended.run_id, 1, True)


@pytest.mark.parametrize("output", [{"text": "x" * 200_000}, {"text": "\x01" * 30_000}, {"text": "\ud800"}])
async def test_an_output_that_cannot_be_kept_is_refused(database: Database, output: JsonObject) -> None:
    async with house_of(database, doubtful()) as house:
        waiting = await waiting_run(house)
        with pytest.raises(InvalidRunError):
            await house.service.resolve(waiting.run_id, 1, True, output)
        assert (await house.service.get(waiting.run_id)).status == "waiting"


async def test_two_who_resolve_at_once_are_not_both_right(database: Database) -> None:
    async with house_of(database, doubtful()) as house:
        waiting = await waiting_run(house)
        results = await asyncio.gather(
            *[house.service.resolve(waiting.run_id, 1, happened) for happened in (True, False, True)],
            return_exceptions=True,
        )
        assert sorted(type(result).__name__ for result in results) == ["Run", *["RunNotWaitingError"] * 2]
        assert len(of(ToolResolved, await house.events(RunKey("default", waiting.run_id)))) == 1


async def test_a_run_that_is_cancelled_while_it_is_resolved_ends_once(database: Database) -> None:
    async with house_of(database, doubtful(), consumes=True) as house:
        for _ in range(3):
            waiting = await waiting_run(house)
            house.agent._source.snapshot()["probe"].source.calls = 0  # type: ignore[attr-defined]
            results = await asyncio.gather(
                house.service.resolve(waiting.run_id, 1, True),
                house.service.cancel(waiting.run_id),
                return_exceptions=True,
            )
            allowed = (Run, RunNotWaitingError, RunEndedError)
            assert all(isinstance(result, allowed) for result in results), results
            run = await house.service.wait(waiting.run_id, 5.0)
            assert run.status in ("cancelled", "success")
            assert len(of(RunFinished, await house.events(RunKey("default", waiting.run_id)))) == 1


async def test_a_resolution_whose_run_is_cancelled_before_it_is_read_says_so(database: Database) -> None:
    async with house_of(database, doubtful()) as house:
        waiting = await waiting_run(house)
        take = house.executor.driver.take

        async def overtaken(claim: Claim) -> Any:
            house.executor.driver.take = take  # type: ignore[method-assign]
            assert (await house.service.cancel(waiting.run_id)).status == "cancelled"
            return await take(claim)

        house.executor.driver.take = overtaken  # type: ignore[method-assign]
        with pytest.raises(RunNotWaitingError):
            await house.service.resolve(waiting.run_id, 1, True)
        assert len(of(RunFinished, await house.events(RunKey("default", waiting.run_id)))) == 1


async def test_a_resolution_that_finds_the_run_cancelled_meanwhile_says_so(database: Database) -> None:
    async with house_of(database, doubtful()) as house:
        waiting = await waiting_run(house)

        async def fenced(claim: Claim) -> Any:
            raise FencedError("gone")

        house.executor.driver.take = fenced  # type: ignore[method-assign]
        with pytest.raises(RunNotWaitingError):
            await house.service.resolve(waiting.run_id, 1, True)


async def test_a_request_to_stop_that_comes_while_somebody_is_wrong_about_a_step_is_not_lost(
    database: Database,
) -> None:
    async with house_of(database, doubtful()) as house:
        waiting = await waiting_run(house)
        run_key = RunKey("default", waiting.run_id)
        take = house.executor.driver.take

        async def requested(claim: Claim) -> Any:
            house.executor.driver.take = take  # type: ignore[method-assign]
            assert await house.store.request_cancel(run_key) == "running"
            return await take(claim)

        house.executor.driver.take = requested  # type: ignore[method-assign]
        with pytest.raises(RunNotWaitingError):
            await house.service.resolve(waiting.run_id, 7, True)
        assert (await house.run(run_key)).status == "cancelled"


# reading


async def test_runs_are_listed_newest_first(database: Database) -> None:
    async with house_of(database) as house:
        keys = [await house.submit() for _ in range(5)]
        page = await house.service.page(limit=3)
        rest = await house.service.page(limit=3, cursor=page.next_cursor)
        assert {run.run_id for run in (*page.runs, *rest.runs)} == {one.run_id for one in keys}
        assert (len(page.runs), len(rest.runs), rest.next_cursor) == (3, 2, None)
        assert (await house.service.page("success")).runs == []


async def test_what_was_pruned_is_not_read(database: Database) -> None:
    async with house_of(database) as house:
        run = await house.service.run_task("go")
        house.change(RunKey("default", run.run_id), pruned_at=1)
        for read in (house.service.trace(run.run_id), house.service.events(run.run_id)):
            with pytest.raises(RunPrunedError):
                await read


async def test_events_are_read_in_pages_and_followed_to_the_end(database: Database) -> None:
    async with house_of(database) as house:
        finished = await house.service.run_task("go")
        run, page = await house.service.events(finished.run_id, 2, 3)
        assert (run.run_id, [event.seq for event in page]) == (finished.run_id, [3, 4, 5])
        followed = [event.seq async for events in house.service.follow(finished.run_id) for event in events]
        assert followed == list(range(1, run.events + 1))


# a database that goes away


async def test_a_run_that_is_not_known_to_be_kept_is_taken_up_if_it_is_there(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(executor_module, "RETRY_STORAGE_S", 0.01)
    async with house_of(database) as house:
        await house.store.beat("me", 60.0)
        create = house.store.create

        async def lost(*arguments: Any) -> Any:
            await create(*arguments)
            raise StorageUnavailableError("the answer got lost")

        house.store.create = lost  # type: ignore[method-assign]
        with pytest.raises(StorageUnavailableError):
            await house.service.run_task("go", key=key())
        await until(lambda: house.finished)
        house.store.create = create  # type: ignore[method-assign]
        assert await house.service.run_task("go", key=key()) == house.finished[0]


def test_ids_are_version_7_uuids_that_sort_by_time() -> None:
    ids = [uuid.UUID(new_run_id()) for _ in range(1000)]
    assert len(set(ids)) == 1000
    assert {(made.version, made.variant) for made in ids} == {(7, uuid.RFC_4122)}
    milliseconds = [made.int >> 80 for made in ids]
    assert milliseconds == sorted(milliseconds)
