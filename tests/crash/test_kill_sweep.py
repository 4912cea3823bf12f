"""The kill sweep in small: every scenario on SQLite, some on Postgres, at points that are always the same.

The whole of it, thousands of points, is `python -m tests.crash`.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pytest
from crash.case import CaseRun, Point, Verdict
from crash.plan import strace_works
from crash.scenarios import SCENARIOS
from crash.systems import Ground

ON_SQLITE = {
    "singles": ("tool.after:5",),
    "chain": ("tool.after:4", "commit.after:17"),
    "turns": ("perform.before:3", "told.before:9"),
    "twenty": ("append.after:60",),
    "idempotent": ("commit.after:3", "http.response.start.before:4"),
    "background": ("commit.before:11",),
    "waiting": ("writer.after:20",),
    "cancelling": ("tool.after:2",),
    "concurrent": ("perform.after:7", "told.after:12"),
    "large": ("append.after:21", "!pwrite64:30"),
}
ON_POSTGRES = {
    "chain": (Point("one", "commit.after", 9, alone=True),),
    "turns": (Point("one", "perform.before", 2, alone=True),),
    "waiting": (Point("one", "tool.after", 2, alone=True),),
    "concurrent": (Point("one", "commit.before", 12, alone=True),),
    "background": (Point("one", "told.after", 4, alone=True, again=3),),
    "idempotent": (Point("api", "commit.after", 2),),
    "cancelling": (Point("api", "http.request", 5),),
}
PACE = 0.3


def _point(text: str) -> Point:
    place, _, number = text.partition(":")
    return Point("api", place, int(number))


CASES = [("sqlite", name, _point(text)) for name, texts in ON_SQLITE.items() for text in texts] + [
    ("postgres", name, point) for name, points in ON_POSTGRES.items() for point in points
]


@pytest.fixture(scope="module")
def verdicts(ground: Ground) -> Iterator[dict[tuple[str, str, Point], Future[Verdict]]]:
    """Every case under way at once, a few at a time: each waits for the disk or for a lease most of the time."""
    pools = {"sqlite": ThreadPoolExecutor(3), "postgres": ThreadPoolExecutor(4)}
    yield {case: pools[case[0]].submit(_carry_out, ground, case) for case in CASES}
    for pool in pools.values():
        pool.shutdown(cancel_futures=True)


def _carry_out(ground: Ground, case: tuple[str, str, Point]) -> Verdict:
    database, scenario, point = case
    return CaseRun(ground, database, scenario, point, PACE).run()


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case[0]}-{case[1]}-{case[2].name}")
def test_a_process_that_is_killed_loses_nothing_and_repeats_nothing(
    verdicts: dict[tuple[str, str, Point], Future[Verdict]], case: tuple[str, str, Point]
) -> None:
    trouble = strace_works() if case[2].place.startswith("!") else None
    if trouble:
        pytest.skip(f"NOT RUN: no process can be killed at a system call here: {trouble}")
    verdict = verdicts[case].result(timeout=120)
    assert verdict.problems == []
    assert verdict.kills >= 1


def test_every_scenario_is_swept() -> None:
    assert set(ON_SQLITE) == set(SCENARIOS)
