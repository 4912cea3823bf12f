"""`POST /run-task` with the offline planner, kept before the answer, beside a bare route that keeps nothing."""

from __future__ import annotations

import json
from dataclasses import dataclass
from math import nan
from statistics import median
from typing import Any

from benchmarks.databases import postgres_url, serving_postgres
from benchmarks.load import NUMBER, requests_a_second
from benchmarks.row import BARE, Row
from benchmarks.server import BARE as BARE_COMMAND
from benchmarks.server import OURS, WORKER, Server, post, serving, started

PATH = "/api/v1/run-task"
BODY = json.dumps({"goal": "Calculate the result of (100 + 50) * 2"})
OTHER_GOALS = json.dumps({"goal": f"Calculate the result of (100 + {NUMBER}) * 2"})
"""A goal that nobody has posted before: no cache of plans or values helps."""


@dataclass(frozen=True)
class Load:
    """What one spell of load came to."""

    rate: float
    cpu_us: float


def _spell(server: Server, client: str, body: str, connections: int, seconds: int) -> Load:
    before = server.cpu_seconds()
    rate = requests_a_second(client, server.port, PATH, body, connections, seconds)
    answers = rate * seconds
    return Load(rate, (server.cpu_seconds() - before) / answers * 1e6 if answers else nan)


def _answer(server: Server) -> dict[str, Any]:
    """Return the answer without what differs from run to run."""
    answer: dict[str, Any] = json.loads(post(server.port, PATH, BODY.encode()))
    assert answer.pop("run_id")
    for step in answer["trace"]:
        assert step.pop("timestamp")
    return answer


def measure(client: str, *, quick: bool, postgres: bool) -> list[Row]:
    """Return the rows; servers stay up and are loaded by turns.

    Over SQLite it is one process. Over Postgres, if wanted, one answers and another carries the runs out.
    """
    with serving(OURS) as ours, serving(BARE_COMMAND) as bare:
        rows = _compared(ours, bare, client, "", quick=quick, target=0.5)
    if postgres:
        with serving_postgres() as server, postgres_url(server) as url:
            rows += _over_postgres(client, url, quick=quick)
    return rows


def _over_postgres(client: str, url: str, *, quick: bool) -> list[Row]:
    with started(WORKER, DATABASE_URL=url), serving(OURS, DATABASE_URL=url) as ours, serving(BARE_COMMAND) as bare:
        return _compared(ours, bare, client, "Postgres and a worker, ", quick=quick, target=None)


def _compared(
    ours: Server, bare: Server, client: str, where: str, *, quick: bool, target: float | None
) -> list[Row]:
    rounds, seconds = (1, 1) if quick else (6, 2)
    assert _answer(ours) == _answer(bare), "the bare route has to give the same answer"
    for server in () if quick else (ours, bare):
        _spell(server, client, BODY, 16, 1)  # warm

    def loaded(body: str, connections: int) -> list[tuple[Load, Load]]:
        return [
            (
                _spell(bare, client, body, connections, seconds),
                _spell(ours, client, body, connections, seconds),
            )
            for _ in range(rounds)
        ]

    rows = [
        *_rows(f"{where}16 connections", loaded(BODY, 16), target),
        *_rows(f"{where}64 connections", loaded(BODY, 64), target),
    ]
    if not where:
        rows += _rows("16 connections, every goal a new one", loaded(OTHER_GOALS, 16), target=None)
    return rows


def _rows(how: str, pairs: list[tuple[Load, Load]], target: float | None) -> list[Row]:
    rates = Row(
        f"POST /run-task, {how}",
        "/s",
        median(ours.rate for _, ours in pairs),
        median(bare.rate for bare, _ in pairs),
        BARE,
        target,
        "at least",
        of_ratio=True,
        measured_ratio=median(ours.rate / bare.rate for bare, ours in pairs),
    )
    cpu = Row(
        f"server CPU a request, {how}",
        "µs",
        median(ours.cpu_us for _, ours in pairs),
        median(bare.cpu_us for bare, _ in pairs),
        BARE,
        measured_ratio=median(ours.cpu_us / bare.cpu_us for bare, ours in pairs),
    )
    return [rates, cpu]
