"""The benchmarks still run and their table is whole; nothing here looks at a clock."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from sqlalchemy import text

from app.bootstrap import open_runs
from app.config import Settings
from app.storage.database import Database
from benchmarks import draining, place
from benchmarks.databases import SQLITE, bare_seconds, raw_commits, rows_of
from benchmarks.durable import FreeModel, PaidModel, machine, scripted
from benchmarks.row import HEAD, Row, table

ROOT = Path(__file__).parent.parent

ROWS = [
    "CPU a step (runs of 100)",
    "CPU a run of one step",
    "CPU of 300 steps over that of 100",
    "CPU a step, the model suspending once a call",
    "CPU of our side of a model call (20 messages, budget, prices)",
    "wall time of 1,000 runs at once, 4 model calls of 20 ms each",
    "memory of such a run (peak, tracemalloc)",
    "runs of 10 steps a CPU second, 100 at once",
    "the same, the model suspending once a call",
    "import the library and build an Agent",
    "peak memory of that process",
    "commits that a run of 20 pure steps waits for",
    "commits that a run of 16 pure steps, the offline planner's most, waits for",
    "SQLite: raw durable commits of one row",
    "SQLite: steps of 64 runs of 20 steps of 1 KB at once",
    "SQLite: the same against the aim",
    "SQLite: the same in rows, four a step",
    "SQLite: steps of a model that is paid for, two barriers each",
]
"""What is measured without a server."""


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_the_quick_benchmark_prints_every_row_that_needs_no_server() -> None:
    command = [sys.executable, "benchmarks/run.py", "--quick", "--no-http", "--no-postgres"]
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
        (Row("nothing to compare it to", "MB", 0.5, target=1), "ok"),
        (Row("lost", "", 1, target=0), "over"),
    ],
)
def test_a_verdict_follows_from_the_target_and_how_slow_the_machine_is(row: Row, verdict: str) -> None:
    assert row.verdict(2.0) == verdict
    assert _cells(table([row], 2.0).splitlines()[2])[-1] == verdict


async def test_a_run_waits_for_one_commit_and_one_of_a_paid_model_for_each_decision_twice() -> None:
    with SQLITE.database() as database:
        async with machine(database, scripted(FreeModel(20))) as ours:
            await ours.run()
            assert ours.writer.commits == 1
            assert len(rows_of(database)) == 4 * 20 + 4
        async with machine(database, scripted(PaidModel(3))) as ours:
            await ours.run()
            assert ours.writer.commits == 2 * (3 + 1) + 1


async def test_bare_inserts_leave_the_rows_that_runs_leave() -> None:
    with SQLITE.database() as database:
        async with machine(database, scripted(FreeModel(2))) as ours:
            await ours.runs(5, at_once=2)
        rows = rows_of(database)
    with SQLITE.database() as database:
        assert bare_seconds(database, rows, rows_a_commit=7) > 0
        assert rows_of(database) == rows
        assert raw_commits(database, 0.01) > 0


async def test_a_run_that_was_lost_or_tampered_with_is_counted(tmp_path: Path) -> None:
    settings = Settings(_env_file=None, data_dir=tmp_path)
    await draining.submit(settings, 4)
    async with open_runs(settings) as runs:
        page = await runs.page()
        for run in page.runs:
            await runs.wait(run.run_id, 30)
    database = Database.open(tmp_path)
    try:
        assert draining.lost(database, 4) == 0
        assert draining.lost(database, 5) == 1
        with database.write_engine.begin() as connection:
            connection.execute(text("DROP TRIGGER events_never_change"))
            connection.execute(
                text("UPDATE events SET body = body || ' ' WHERE run_id = :id AND seq = 2"),
                {"id": page.runs[0].run_id},
            )
            connection.execute(text("DELETE FROM runs WHERE id = :id"), {"id": page.runs[1].run_id})
        assert draining.lost(database, 4) == 2
    finally:
        database.close()


def test_benchmarks_write_where_a_commit_costs_something() -> None:
    before = tempfile.tempdir
    try:
        assert place.file_system(place.use_a_real_disk()) not in place.IN_MEMORY
        with place.new_directory() as directory:
            assert place.file_system(directory) not in place.IN_MEMORY
        assert not directory.exists()
    finally:
        tempfile.tempdir = before


def test_the_hand_made_loop_stays_the_sixty_lines_it_is_said_to_be() -> None:
    lines = (ROOT / "benchmarks/handmade.py").read_text(encoding="utf-8").splitlines()
    assert len([line for line in lines if line.strip()]) <= 65
