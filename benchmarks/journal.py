"""What the journal costs: commits that a run waits for, and steps a second beside the same inserts made bare."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Final

from app.agent.core import Agent
from app.storage.statements import EventRow
from benchmarks.databases import (
    RAW,
    SQLITE,
    Kind,
    bare_seconds,
    postgres_kind,
    raw_commits,
    rows_of,
    serving_postgres,
)
from benchmarks.durable import FreeModel, PaidModel, machine, run_as_a_server_does, scripted
from benchmarks.row import Row

STEPS: Final = 20
PLANNED_STEPS: Final = 16
"""The offline planner takes no more in one goal."""

AT_ONCE: Final = 64
AIMS: Final = {"SQLite": 30_000.0, "Postgres": 10_000.0}
BARE: Final = "bare inserts"


@dataclass(frozen=True)
class Kept:
    """What some runs came to: the seconds they took, the rows they left, and how many of these a commit took."""

    steps: int
    seconds: float
    rows: list[EventRow]
    rows_a_commit: int

    @property
    def rate(self) -> float:
        return self.steps / self.seconds


@dataclass(frozen=True)
class Sample:
    """One repetition; all are rates a second: steps, rows, the same rows made bare, raw commits, paid steps."""

    steps: float
    rows: float
    bare_rows: float
    raw: float
    paid: float

    @property
    def ratio(self) -> float:
        return self.rows / self.bare_rows


def measure(*, quick: bool, postgres: bool) -> list[Row]:
    """Return the rows of SQLite and, if wanted, of Postgres."""
    rows = _waits() + _throughput(SQLITE, quick=quick)
    if postgres:
        with serving_postgres() as server:
            rows += _throughput(postgres_kind(server), quick=quick)
    return rows


def _throughput(kind: Kind, *, quick: bool) -> list[Row]:
    repetitions, runs = (1, AT_ONCE) if quick else (7, 1500)
    if not quick:
        _kept(kind, FreeModel(STEPS), AT_ONCE)  # warm
    return _rows(kind.name, [_sample(kind, runs, 0.2 if quick else 1.0) for _ in range(repetitions)])


def _waits() -> list[Row]:
    """Count the commits of one run alone: it waits for each."""
    planned = ", then ".join(f"calculate {number}+{number}" for number in range(PLANNED_STEPS))
    return [
        _waits_of(f"{STEPS} pure steps", scripted(FreeModel(STEPS)), "Fetch the data."),
        _waits_of(f"{PLANNED_STEPS} pure steps, the offline planner's most,", Agent(), planned),
    ]


def _waits_of(what: str, agent: Agent, goal: str) -> Row:
    with SQLITE.database() as database:

        async def alone() -> int:
            async with machine(database, agent) as ours:
                await ours.run(goal)
                return ours.writer.commits

        commits, events = run_as_a_server_does(alone), len(rows_of(database))
    return Row(f"commits that a run of {what} waits for", "", commits, events, "a commit an event", 2.0)


def _sample(kind: Kind, runs: int, raw_seconds: float) -> Sample:
    with kind.database() as database:
        raw = raw_commits(database, raw_seconds)
    ours = _kept(kind, FreeModel(STEPS), runs)
    with kind.database() as database:
        bare = bare_seconds(database, ours.rows, ours.rows_a_commit)
    paid = _kept(kind, PaidModel(STEPS), max(runs // 4, AT_ONCE))
    return Sample(ours.rate, len(ours.rows) / ours.seconds, len(ours.rows) / bare, raw, paid.rate)


def _kept(kind: Kind, model: FreeModel, runs: int) -> Kept:
    with kind.database() as database:

        async def all_of_them() -> tuple[float, int]:
            async with machine(database, scripted(model)) as ours:
                return await ours.runs(runs, AT_ONCE), ours.writer.commits

        seconds, commits = run_as_a_server_does(all_of_them)
        rows = rows_of(database)
    return Kept(runs * STEPS, seconds, rows, -(-len(rows) // commits))


def _rows(name: str, samples: Sequence[Sample]) -> list[Row]:
    raw = median(sample.raw for sample in samples)
    slowest = min(sample.raw for sample in samples)
    steps = median(sample.steps for sample in samples)
    bare = median(sample.bare_rows * sample.steps / sample.rows for sample in samples)
    ratio = median(sample.ratio for sample in samples)
    rows = median(sample.rows for sample in samples), median(sample.bare_rows for sample in samples)
    paid = median(sample.paid for sample in samples)
    how = f"{AT_ONCE} runs of {STEPS} steps of 1 KB at once"
    return [
        Row(f"{name}: raw durable commits of one row", "/s", raw, slowest, "slowest spell"),
        Row(
            f"{name}: steps of {how}",
            "/s",
            steps,
            bare,
            BARE,
            0.5,
            "at least",
            of_ratio=True,
            measured_ratio=ratio,
        ),
        Row(f"{name}: the same against the aim", "/s", steps, raw, RAW, AIMS[name], "at least", scales=True),
        Row(f"{name}: the same in rows, four a step", "/s", *rows, BARE),
        Row(f"{name}: steps of a model that is paid for, two barriers each", "/s", paid, raw, RAW),
    ]
