"""What the commands say of a database file whose pages are damaged: one line, and that they could not do it."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from kept_runs import RUN, change, keep

from app.cli import main
from app.storage.database import FILE_NAME

COMMANDS = [
    ["runs", "list"],
    ["runs", "show", RUN],
    ["trace", "verify", RUN],
    ["trace", "show", RUN],
    ["trace", "export", RUN],
    ["db", "prune", "--keep", "0"],
    ["db", "prune", "--keep", "0", "--dry-run"],
]


@pytest.fixture(autouse=True)
def _elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)


def damage(data_dir: Path, what: bytes, *tables: str) -> None:
    """Overwrite the middle of the pages on which these tables and their indexes begin."""
    path = data_dir / FILE_NAME
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        size = connection.execute("PRAGMA page_size").fetchone()[0]
        found = connection.execute("SELECT tbl_name, rootpage FROM sqlite_master WHERE rootpage > 0").fetchall()
    connection.close()
    pages = [page for table, page in found if table in tables]
    assert len(pages) >= len(tables)
    with path.open("r+b") as file:
        for page in pages:
            file.seek((page - 1) * size)
            file.write(what * (size // len(what)))


def one_line_of(capsys: pytest.CaptureFixture[str]) -> str:
    said = capsys.readouterr()
    assert said.err.startswith("llm-agent-core: ")
    assert said.err.count("\n") == 1
    return said.err


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_damaged_pages_are_one_line_and_not_a_traceback(
    data_dir: Path, capsys: pytest.CaptureFixture[str], command: list[str]
) -> None:
    keep(data_dir)
    damage(data_dir, b"\xff", "runs", "events")
    assert main(command) == 2
    assert "The database cannot be used: database disk image is malformed" in one_line_of(capsys)


@pytest.mark.parametrize("command", [["db", "check"], ["db", "upgrade"], *COMMANDS], ids=" ".join)
def test_a_damaged_version_is_one_line_and_not_a_traceback(
    data_dir: Path, capsys: pytest.CaptureFixture[str], command: list[str]
) -> None:
    keep(data_dir)
    damage(data_dir, b"\xff", "alembic_version")
    assert main(command) == 2
    assert "malformed" in one_line_of(capsys)


@pytest.mark.parametrize("column", ["created_at", "metadata"])
@pytest.mark.parametrize("command", [["runs", "list"], ["runs", "show", RUN]], ids=" ".join)
def test_a_row_that_no_program_has_written_is_one_line_and_not_a_traceback(
    data_dir: Path, capsys: pytest.CaptureFixture[str], command: list[str], column: str
) -> None:
    keep(data_dir)
    change(data_dir, f"UPDATE runs SET {column} = ?", 2**63 - 1 if column == "created_at" else b"\xff\0")  # noqa: S608
    assert main(command) == 2
    assert "The database cannot be used" in one_line_of(capsys)


def test_a_fault_of_the_program_is_not_blamed_on_the_database(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep(data_dir)

    def fail(*_: object) -> None:
        raise AssertionError("a bug")

    monkeypatch.setattr("app.cli.runs._facts", fail)
    with pytest.raises(AssertionError):
        main(["runs", "show", RUN])
