"""Real processes that die, sleep, are told to end, or are never told what a tool did."""

from __future__ import annotations

import signal
from threading import Thread
from time import monotonic

import pytest
from crash.case import CaseRun
from crash.client import Caller
from crash.scenarios import call, goal, note
from crash.stage import eventually, stage
from crash.systems import Ground

PACE = 0.3
"""Leases of 1.8 s, so that nobody waits long for one to run out."""


@pytest.mark.parametrize("database", ["sqlite", "postgres"])
def test_what_does_not_answer_in_time_waits_for_who_knows_and_goes_on_either_way(
    ground: Ground, database: str
) -> None:
    verdict = CaseRun(ground, database, "waiting", "without-a-kill", PACE).run()
    assert verdict.problems == []
    assert verdict.resolved == 2  # one that had happened and one that had not


def test_a_run_that_waits_answers_202_and_its_replay_the_end(ground: Ground) -> None:
    with stage(ground, "sqlite") as on:
        on.start("api")
        body = goal("w", [call("unsafe_hanging"), note()])
        status, run = on.caller.ask("POST", "/api/v1/run-task", body, key="k")
        assert (status, run["status"]) == (202, "waiting")
        assert on.resolve(run["run_id"], 1, happened=True, call="w/1")[0] == 200
        on.until(run["run_id"], "success")
        status, again = on.caller.ask("POST", "/api/v1/run-task", body, key="k")
        assert (status, again["status"], len(again["trace"])) == (200, "success", 2)
        assert on.times("w/1") == 1
        assert on.problems() == []


def test_a_run_outlives_the_api_process_that_waits_for_it(ground: Ground) -> None:
    with stage(ground, "postgres", PACE) as on:
        api = on.start("api")
        on.start("one")
        posting = Thread(
            target=_post_in_vain, args=(on.caller, goal("long", [call("unsafe_slow", size=1500), note()]))
        )
        posting.start()
        on.until_begun("long/1")
        api.kill()
        posting.join(20)
        on.start("api")
        (run,) = on.caller.runs()
        assert on.until(run["run_id"], "success")["steps"] == 2
        trace = on.caller.read(f"/api/v1/runs/{run['run_id']}/trace")["trace"]
        assert [step["tool"] for step in trace] == ["unsafe_slow", "governance_note"]
        assert on.times("long/1") == 1
        assert on.problems() == []


def _post_in_vain(caller: Caller, body: dict[str, object]) -> None:
    assert caller.post("run-task", body) is None


def test_a_worker_that_was_suspended_past_its_lease_writes_nothing(ground: Ground) -> None:
    with stage(ground, "postgres", PACE) as on:
        on.start("api")
        one = on.start("one")
        run_id = on.submit(goal("z", [note()], [call("unsafe_slow", size=600)], [note(), call("unsafe_post")]))
        on.until_begun("z/2")
        one.send(signal.SIGSTOP)
        on.start("two")
        on.until(run_id, "waiting")  # nobody but the one that sleeps can know
        one.send(signal.SIGCONT)
        one.wait_for("taken over|another owner|taken for dead", 20)
        assert on.run(run_id)["status"] == "waiting"
        assert on.resolve(run_id, 2, happened=True, call="z/2")[0] == 200
        assert on.until(run_id, "success")["steps"] == 4
        assert on.times("z/2") == on.times("z/4") == 1
        assert on.problems() == []


def test_the_runs_of_a_dead_worker_go_on_within_ten_seconds(ground: Ground) -> None:
    with stage(ground, "postgres") as on:
        on.start("api")
        one = on.start("one")
        bodies = [goal(f"d{n}", [call("unsafe_slow", size=60_000)]) for n in range(4)]
        runs = [on.submit(body) for body in bodies]
        for n in range(4):
            on.until_begun(f"d{n}/1")
        on.start("two")
        one.kill()
        died_at = monotonic()
        for run_id in runs:
            on.until(run_id, "waiting", seconds=20)
        assert monotonic() - died_at < 10


def test_a_run_that_kills_whoever_takes_it_is_given_up_after_three_deaths(ground: Ground) -> None:
    with stage(ground, "sqlite") as on:
        body = goal("poison", [note()], [call("pure_deadly")])
        api = on.start("api")
        run_id = on.submit(body)
        for _ in range(2):
            assert api.has_ended(20)
            api = on.start("api")
        assert api.has_ended(20)
        on.start("api")
        run = on.until(run_id, "error")
        assert run["reason"] == "poison"
        assert run["steps"] == 1  # the note stands
        assert on.times("poison/2") == 3
        well = on.submit(goal("well", [note()]))
        on.until(well, "success")


@pytest.mark.parametrize("database", ["sqlite", "postgres"])
def test_a_process_that_is_told_to_end_hands_its_runs_back(ground: Ground, database: str) -> None:
    with stage(ground, database, PACE) as on:
        worker = on.start("api")
        if database == "postgres":
            worker = on.start("one")
        slow = on.submit(goal("t", [call("unsafe_slow", size=700)], [note(), call("unsafe_post")]))
        on.until_begun("t/1")
        told_at = monotonic()
        worker.send(signal.SIGTERM)
        assert worker.has_ended(30)
        assert monotonic() - told_at < 15
        if database == "postgres":
            assert eventually(lambda: on.run(slow)["status"] == "queued", 5, lambda: str(on.run(slow)))
            on.start("two")
        else:
            on.start("api")
        assert on.until(slow, "success")["steps"] == 3
        assert on.times("t/1") == 1  # it had time to end
        assert on.problems() == []
