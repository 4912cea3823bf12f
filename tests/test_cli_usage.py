"""`usage`, what `runs show` says of models, and the options of `run` for them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from kept_runs import RUN, change, keep

from app.cli import main

INSERT = "INSERT INTO run_usage VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
DAY = 20_779  # 2026-11-22
MODEL = "openai:gpt-5-mini"


@pytest.fixture(autouse=True)
def _elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def used(data_dir: Path) -> Path:
    """A data directory with one run, and what it and another tenant's took."""
    keep(data_dir)
    change(data_dir, INSERT, "default", RUN, DAY, MODEL, 2, 100, 20, 30, 4, 1_250_000, 0)
    change(data_dir, INSERT, "other", "b", DAY - 1, "ollama:x\x1b[0m", 1, 5, 5, 0, 0, 0, 1)
    return data_dir


def said(capsys: pytest.CaptureFixture[str]) -> str:
    captured = capsys.readouterr()
    assert captured.err == ""
    return captured.out


def test_usage_of_all_tenants_is_printed(used: Path, capsys: pytest.CaptureFixture[str]) -> None:
    days = ["--from", "2026-11-01", "--to", "2026-11-22"]
    assert main(["usage", *days]) == 0
    assert [line.split("  ", 1) for line in said(capsys).splitlines()] == [
        ["2026-11-01 to 2026-11-22"],
        ["2026-11-21", " " * 30 + "1 call  5 in  5 out  $0.000000000 and 1 of unknown price"],
        ["2026-11-22", " " * 30 + "2 calls  100 in  20 out  $0.001250000"],
        ["total", " " * 35 + "3 calls  105 in  25 out  $0.001250000 and 1 of unknown price"],
    ]
    assert main(["usage", "--by", "model", *days]) == 0
    assert said(capsys).splitlines()[1].startswith("ollama:x\\x1b[0m ")
    assert main(["usage", "--by", "tenant", "--json", *days]) == 0
    report = json.loads(said(capsys))
    assert [(item["group"], item["calls"]) for item in report["usage"]] == [("default", 2), ("other", 1)]
    assert (report["total"]["cost_usd"], report["total"]["unpriced_calls"]) == (0.00125, 1)
    assert "cost" not in report["total"]


def test_what_is_no_day_is_refused() -> None:
    with pytest.raises(SystemExit):
        main(["usage", "--from", "yesterday"])


def test_a_run_is_shown_with_what_its_models_took(used: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["runs", "show", RUN]) == 0
    assert "used        100 tokens in, 20 out, $0.001250000" in said(capsys).splitlines()
    assert main(["runs", "show", RUN, "--json"]) == 0
    shown: dict[str, Any] = json.loads(said(capsys))
    assert (shown["calls"], shown["input_tokens"], shown["cost_usd"], shown["model"]) == (2, 100, 0.00125, None)
    assert {"used", "max_cost", "cost"}.isdisjoint(shown)


def test_a_run_takes_a_model_a_budget_and_a_schema(data_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    goal = ["run", "Calculate 6*7", "--json"]
    assert main([*goal, "--model", "mock", "--max-tokens", "1000", "--max-cost", "0.05"]) == 0
    assert json.loads(said(capsys))["status"] == "success"
    assert main([*goal, "--model", "openai:gpt-5"]) == 2
    assert "openai:gpt-5" in capsys.readouterr().err
    assert main([*goal, "--output-schema", '{"type": 7}']) == 2
    assert "output_schema" in capsys.readouterr().err


@pytest.mark.parametrize(
    "wrong", [("--max-cost", "0"), ("--max-cost", "inf"), ("--max-cost", "x"), ("--max-tokens", "0")]
)
def test_a_budget_that_is_none_is_refused(wrong: tuple[str, str]) -> None:
    with pytest.raises(SystemExit):
        main(["run", "Calculate 6*7", *wrong])
