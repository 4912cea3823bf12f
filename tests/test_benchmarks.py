"""The benchmarks still run and their table is whole; nothing here looks at a clock."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.row import HEAD, Row, table

ROOT = Path(__file__).parent.parent

ROWS = [
    "CPU a step (runs of 100)",
    "CPU a run of one step",
    "CPU of 300 steps over that of 100",
    "CPU a step, the model suspending once a call",
    "wall time of 1,000 runs at once, 4 model calls of 20 ms each",
    "memory of such a run (peak, tracemalloc)",
    "runs of 10 steps a CPU second, 100 at once",
    "the same, the model suspending once a call",
    "import the library and build an Agent",
    "peak memory of that process",
]
"""What is measured without a server."""


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_the_quick_benchmark_prints_every_row_that_needs_no_server() -> None:
    command = [sys.executable, "benchmarks/run.py", "--quick", "--no-http"]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    lines = [_cells(line) for line in ran.stdout.splitlines() if line.startswith("|")]
    assert lines[0] == list(HEAD)
    assert [line[0] for line in lines[2:]] == ROWS
    assert all(len(line) == len(HEAD) and all(line) for line in lines)


@pytest.mark.parametrize(
    ("row", "verdict"),
    [
        (Row("cost", "µs", 10, 5, "hand", 12, scales=True), "ok"),
        (Row("cost", "µs", 20, 5, "hand", 12, scales=True), "ok (scaled)"),
        (Row("cost", "µs", 25, 5, "hand", 12, scales=True), "over"),
        (Row("memory", "KB", 21, 5, "hand", 20), "over"),
        (Row("rate", "/s", 3500, 5, "hand", 6000, "at least", scales=True), "ok (scaled)"),
        (Row("rate", "/s", 2500, 5, "hand", 6000, "at least", scales=True), "over"),
        (Row("served", "/s", 90, 100, "bare", 0.85, "at least", of_ratio=True), "ok"),
        (Row("served", "/s", 90, 100, "bare", 0.85, "at least", of_ratio=True, measured_ratio=0.8), "over"),
        (Row("for information", "µs", 1, 2, "hand"), "–"),
    ],
)
def test_a_verdict_follows_from_the_target_and_how_slow_the_machine_is(row: Row, verdict: str) -> None:
    assert row.verdict(2.0) == verdict
    assert _cells(table([row], 2.0).splitlines()[2])[-1] == verdict


def test_the_hand_made_loop_stays_the_sixty_lines_it_is_said_to_be() -> None:
    lines = (ROOT / "benchmarks/handmade.py").read_text(encoding="utf-8").splitlines()
    assert len([line for line in lines if line.strip()]) <= 65
