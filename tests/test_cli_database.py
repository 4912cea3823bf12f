"""`db`: upgrade, check and prune, on a real database."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from kept_runs import HAPPENED, RUN, change, keep

from app.cli import main
from app.storage.database import FILE_NAME
from app.storage.lockfile import DirectoryLock
from app.storage.schema import HEAD_REVISION

RUNS = [f"019aab7e-0000-7e07-9d5c-{place:012}" for place in range(4)]


@pytest.fixture(autouse=True)
def _elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def four_runs(data_dir: Path) -> Path:
    """Runs that ended 40, 30, 20 and 10 days ago, and one that did not."""
    for place, run_id in enumerate(RUNS):
        keep(data_dir, run_id)
        ago = (40 - 10 * place) * 86_400 * 1_000_000
        change(data_dir, "UPDATE runs SET finished_at = finished_at - ? WHERE id = ?", ago, run_id)
    keep(data_dir, RUN, HAPPENED[:2])
    return data_dir


def said(capsys: pytest.CaptureFixture[str]) -> str:
    captured = capsys.readouterr()
    assert captured.err == ""
    return captured.out


def test_an_upgrade_makes_the_tables_and_then_finds_them(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["db", "upgrade"]) == 0
    assert said(capsys) == f"The tables are of version {HEAD_REVISION} now; before, there were none.\n"
    assert main(["db", "upgrade"]) == 0
    assert said(capsys) == f"The tables are of version {HEAD_REVISION} already.\n"
    assert main(["trace", "verify", RUN]) == 2


def test_a_check_says_the_versions(data_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["db", "check"]) == 0
    database, tables = said(capsys).splitlines()
    assert database.startswith("database  SQLite 3.")
    assert database.endswith(f", data/{FILE_NAME}")
    assert tables == f"tables    version {HEAD_REVISION}, this program's"


@pytest.mark.parametrize(
    ("revision", "finding"),
    [
        ("9999", f"tables    version 9999, newer than this program's ({HEAD_REVISION})"),
        (
            "0000",
            f"tables    version 0000, older than this program's ({HEAD_REVISION}); run: llm-agent-core db upgrade",
        ),
        (None, "tables    none; run: llm-agent-core db upgrade"),
    ],
)
def test_a_check_tells_tables_of_another_version(
    revision: str | None, finding: str, data_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if revision is None:
        change(data_dir, "DROP TABLE alembic_version")
    else:
        change(data_dir, "UPDATE alembic_version SET version_num = ?", revision)
    assert main(["db", "check"]) == 1
    assert said(capsys).splitlines()[1] == finding


def test_a_newer_database_is_refused_by_everything_else(
    data_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    change(data_dir, "UPDATE alembic_version SET version_num = '9999'")
    for command in (["db", "upgrade"], ["db", "prune", "--keep", "1"], ["trace", "verify", RUN], ["runs", "list"]):
        assert main(command) == 2
        assert "newer than this program's" in capsys.readouterr().err


def test_without_a_database_there_is_nothing_to_check(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["db", "check"]) == 2
    assert "There is no database at data/" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "pruned"),
    [
        (["--older-than", "25"], 2),
        (["--keep", "1"], 3),
        (["--older-than", "35", "--keep", "2"], 2),
        (["--older-than", "0"], 4),
        (["--keep", "4"], 0),
        (["--keep", "0"], 4),
    ],
)
def test_the_oldest_ended_runs_are_pruned_and_leave_their_heads(
    arguments: list[str], pruned: int, four_runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["db", "prune", *arguments, "--dry-run"]) == 0
    assert said(capsys) == f"{pruned} runs would be pruned.\n"
    assert main(["trace", "verify", RUNS[0]]) == 0
    said(capsys)
    assert main(["db", "prune", *arguments]) == 0
    assert said(capsys) == f"Pruned {pruned} runs, which had {pruned * len(HAPPENED)} events.\n"
    for place, run_id in enumerate(RUNS):
        assert main(["trace", "verify", run_id]) == (2 if place < pruned else 0)
    assert main(["trace", "verify", RUN]) == 0


def test_without_an_option_the_settings_say_what_is_pruned(
    four_runs: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["db", "prune"]) == 2
    assert "Say which runs to prune" in capsys.readouterr().err
    monkeypatch.setenv("RETENTION_DAYS", "35")
    assert main(["db", "prune"]) == 0
    assert said(capsys) == f"Pruned 1 run, which had {len(HAPPENED)} events.\n"


def test_what_writes_refuses_beside_a_server_and_names_it(
    data_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with DirectoryLock.acquire(data_dir, "a server"):
        for arguments in (["upgrade"], ["prune", "--keep", "1"]):
            assert main(["db", *arguments]) == 2
            assert f"is in use by process {os.getpid()} (a server" in capsys.readouterr().err
        for arguments in (["check"], ["prune", "--keep", "1", "--dry-run"]):
            assert main(["db", *arguments]) == 0
            said(capsys)
    assert main(["db", "upgrade"]) == 0


def test_all_of_it_works_on_postgres(
    empty_postgres_url: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("DATABASE_URL", empty_postgres_url)
    assert main(["db", "check"]) == 1
    assert "tables    none; run: llm-agent-core db upgrade" in said(capsys)
    assert main(["runs", "list"]) == 2
    assert "llm-agent-core db upgrade" in capsys.readouterr().err
    assert main(["db", "upgrade"]) == 0
    said(capsys)
    assert main(["db", "check"]) == 0
    assert "database  PostgreSQL 1" in said(capsys)
    keep(tmp_path, url=empty_postgres_url)
    assert main(["trace", "export", RUN, "--output", "run.json"]) == 0
    assert main(["trace", "verify", RUN]) == 0
    assert main(["trace", "verify", "run.json"]) == 0
    in_database, in_file = said(capsys).splitlines()
    assert in_database == in_file
    assert main(["db", "prune", "--older-than", "0"]) == 0
    assert said(capsys) == "Pruned 1 run, which had 5 events.\n"
    assert not list(tmp_path.glob("data*"))
