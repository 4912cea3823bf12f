"""The judges, run as they come: their exit status is the verdict."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from servers import Guarded

HERE = Path(__file__).parent
ROOT = HERE.parent.parent


def verdict(*command: str | Path, cwd: Path = ROOT) -> None:
    ran = subprocess.run(
        list(map(str, command)), cwd=cwd, capture_output=True, text=True, timeout=300, check=False
    )
    assert ran.returncode == 0, ran.stdout[-5000:] + ran.stderr[-5000:]


def test_the_offline_planner_carries_out_real_goals(server: str) -> None:
    verdict(sys.executable, HERE / "goals/check_goals.py", server, HERE / "goals/goals_public.jsonl")


@pytest.mark.skipif(sys.platform == "win32", reason="the judge limits memory with the resource module of Unix")
@pytest.mark.parametrize("cases", ["math_legit_public.jsonl", "math_hostile_public.jsonl"])
def test_the_math_tool_is_right_and_safe(cases: str) -> None:
    verdict(sys.executable, HERE / "math/run_math.py", "app.tools.math:evaluate", HERE / "math" / cases)


def fuzzed(address: str, cwd: Path, seconds: int, *more: str) -> None:
    """Let Schemathesis loose on the document: examples, boundaries, fuzzing, sequences; all checks, bounded."""
    verdict(
        Path(sys.executable).with_name("schemathesis"),
        *("run", f"{address}/openapi.json", "--url", address),
        *("--phases", "examples,coverage,fuzzing,stateful", "--checks", "all", "--mode", "all"),
        *("--max-examples", "20", "--max-time", str(seconds), "--seed", "20261122"),
        *("--request-timeout", "10", "--max-response-time", "5", "--continue-on-failure"),
        *("--generation-allow-x00", "true", "--generation-database", "none", "--no-color"),
        *("--exclude-checks", "object_level_authorization", "--suppress-health-check", "all"),
        *more,
        cwd=cwd,
    )


def test_nothing_a_fuzzer_sends_breaks_the_api(server: str, tmp_path: Path) -> None:
    fuzzed(server, tmp_path, 20, "--workers", "2")


def test_nor_does_it_without_a_key_where_one_is_wanted(guarded: Guarded, tmp_path: Path) -> None:
    # one worker: with two, Python 3.11 sometimes fails at parsing the fuzzer's own source, in its threads
    fuzzed(guarded.address, tmp_path, 15, "--workers", "1")


def test_nor_with_a_key_that_may_do_everything(guarded: Guarded, tmp_path: Path) -> None:
    fuzzed(guarded.address, tmp_path, 25, "--workers", "1", "-H", f"Authorization: Bearer {guarded.key}")
