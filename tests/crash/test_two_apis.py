"""Two API processes that are sent the same request two hundred times at once, under one key."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any, TypeAlias

import pytest
from crash.client import Caller
from crash.scenarios import call, goal, note
from crash.stage import Stage, stage
from crash.systems import Ground

TIMES = 200
RUN_IS_ON_THE_WAY, RUN_HAS_ENDED, KEY_IS_ANOTHERS = 202, 200, 422

Answer: TypeAlias = tuple[int, dict[str, Any]]


@pytest.mark.parametrize("route", ["runs", "run-task"])
def test_two_hundred_requests_with_one_key_to_two_servers_make_one_run(ground: Ground, route: str) -> None:
    with stage(ground, "postgres") as on:
        servers = _two_servers(on)
        on.start("one")
        body = goal("same", [note(), call("unsafe_slow", size=300)], [call("unsafe_post")])

        answers = _all_at_once(servers, route, body)

        assert {status for status, _ in answers} <= {RUN_IS_ON_THE_WAY, RUN_HAS_ENDED}
        (run_id,) = {answer["run_id"] for _, answer in answers}
        ended = on.until(run_id, "success")
        assert on.caller.runs() == [ended]
        assert on.times("same/2") == on.times("same/3") == 1

        replays = [_ask(server, route, body) for server in servers]
        if route == "runs":
            assert replays == [(RUN_IS_ON_THE_WAY, ended)] * 2
        else:  # whoever was told the end was told this, whichever server it was
            told = [answer for answer in answers if answer[0] == RUN_HAS_ENDED]
            assert len(told) >= 1
            assert all(answer == told[0] for answer in [*told, *replays])
        assert _refusals(servers, route, goal("other", [note()])) == ["idempotency_key_reused"] * 2
        assert on.caller.runs() == [ended]
        assert on.problems() == []


def _two_servers(on: Stage) -> list[Caller]:
    """Start two API processes on the one database, and return a caller of each."""
    callers = []
    for name in ("first", "second"):
        process = on.system.processes[name] = on.start("api")
        caller = Caller()
        caller.up(process.port())
        callers.append(caller)
    assert callers[0].port != callers[1].port
    return callers


def _ask(server: Caller, route: str, body: dict[str, Any]) -> Answer:
    return server.ask("POST", f"/api/v1/{route}", body, key=f"{route}-key")


def _all_at_once(servers: list[Caller], route: str, body: dict[str, Any]) -> list[Answer]:
    """Send a request many times at once, every second time to the other server."""
    ready = Barrier(TIMES)

    def ask(number: int) -> Answer:
        ready.wait(10)
        return _ask(servers[number % 2], route, body)

    with ThreadPoolExecutor(TIMES) as pool:
        return list(pool.map(ask, range(TIMES)))


def _refusals(servers: list[Caller], route: str, body: dict[str, Any]) -> list[str]:
    """Send a body that is not the key's to each server, and return the codes of the problems."""
    answers = [_ask(server, route, body) for server in servers]
    assert [status for status, _ in answers] == [KEY_IS_ANOTHERS] * len(servers), answers
    return [answer["code"] for _, answer in answers]
