"""Budgets hold through `kill -9` of a real process; tests/agent/test_budget.py tries five hundred kills in one."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from time import monotonic, sleep

from spending_process import MAX_COST_USD, MAX_TOKENS, RUNS

ROOT = Path(__file__).parent.parent
KILLS = 3


def started(data_dir: Path, meter: Path) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}"}
    return subprocess.Popen(
        [sys.executable, str(ROOT / "tests/spending_process.py"), str(data_dir), str(meter)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_no_run_spends_more_than_it_may_though_its_process_is_killed_in_its_calls(tmp_path: Path) -> None:
    meter = tmp_path / "meter"
    meter.touch()
    for _ in range(KILLS):
        process = started(tmp_path / "data", meter)
        before, deadline = meter.stat().st_size, monotonic() + 60
        # until some more calls were worked for, and the others are under way
        while meter.stat().st_size < before + 400 and process.poll() is None:
            assert monotonic() < deadline
            sleep(0.001)
        process.kill()
        process.communicate()
    process = started(tmp_path / "data", meter)
    said, complained = process.communicate(timeout=120)
    assert process.returncode == 0, complained
    assert len(said.splitlines()) == RUNS
    tokens: Counter[str] = Counter()
    cost: Counter[str] = Counter()
    for line in meter.read_text().splitlines():
        run, taken, paid = line.split()
        tokens[run] += int(taken)
        cost[run] += int(paid)
    assert len(tokens) > RUNS / 2
    assert max(tokens.values()) <= MAX_TOKENS
    assert max(cost.values()) <= MAX_COST_USD * 1e9
