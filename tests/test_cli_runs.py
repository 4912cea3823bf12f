"""`runs`: list, show, cancel and resolve, on a real database."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from kept_runs import HAPPENED, RUN, change, keep

from app.agent.events import ModelDecided, RunStarted, ToolIntended, ToolInterrupted
from app.auth.principal import Principal
from app.bootstrap import open_runs
from app.cli import main
from app.config import Settings
from app.llm.interface import ToolCall
from app.runs.models import RunRequest
from app.storage.lockfile import DirectoryLock

IN_DOUBT = [
    RunStarted("Mail it", None, ("mail",)),
    ModelDecided(1, "", (ToolCall("mail", {"to": "a"}),)),
    ToolIntended(1, "mail", {"to": "a"}),
    ToolInterrupted(1, "mail", 1, "The process that ran the tool was stopped.", in_doubt=True),
]


@pytest.fixture(autouse=True)
def _elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def waiting(data_dir: Path) -> Path:
    """A data directory with one run, which waits for somebody."""
    keep(data_dir, happened=IN_DOUBT)
    change(data_dir, "UPDATE runs SET status = 'waiting', owner = NULL")
    return data_dir


def said(capsys: pytest.CaptureFixture[str]) -> str:
    captured = capsys.readouterr()
    assert captured.err == ""
    return captured.out


def ids(number: int) -> list[str]:
    return [f"019aab7e-0000-7e07-9d5c-{place:012}" for place in range(number)]


def test_the_newest_runs_are_listed(data_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for place, run_id in enumerate(ids(3)):
        keep(data_dir, run_id, HAPPENED if place else HAPPENED[:2])
        change(data_dir, "UPDATE runs SET created_at = ? WHERE id = ?", 1795340000000000 + place, run_id)
    assert main(["runs", "list"]) == 0
    assert said(capsys).splitlines() == [
        f"{ids(3)[2]}  success    2026-11-22T09:33:20Z  1 step  Calculate 6*7",
        f"{ids(3)[1]}  success    2026-11-22T09:33:20Z  1 step  Calculate 6*7",
        f"{ids(3)[0]}  running    2026-11-22T09:33:20Z  0 steps  Calculate 6*7",
    ]
    assert main(["runs", "list", "--status", "running", "--json"]) == 0
    assert [run["run_id"] for run in json.loads(said(capsys))["runs"]] == ids(1)


def test_as_many_are_listed_as_are_wanted_over_pages(
    data_dir: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for run_id in ids(5):
        keep(data_dir, run_id, HAPPENED[:1])
    monkeypatch.setattr("app.cli.runs.PAGE", 2)
    for limit, found in ((1, 1), (3, 3), (9, 5)):
        assert main(["runs", "list", "--limit", str(limit), "--json"]) == 0
        listed = [run["run_id"] for run in json.loads(said(capsys))["runs"]]
        assert len(set(listed)) == len(listed) == found


def test_what_is_known_of_a_run_is_shown(data_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    events = keep(data_dir)
    change(data_dir, "UPDATE runs SET metadata = ?", json.dumps({"ticket": 2**53 + 1}))
    assert main(["runs", "show", RUN]) == 0
    shown = said(capsys).splitlines()
    assert shown[:4] == [f"run {RUN}", "status      success", "goal        Calculate 6*7", "output      It is 42."]
    assert shown[-1] == f"head        event 5, {events[-1].hash.hex()}"
    assert main(["runs", "show", RUN, "--json"]) == 0
    run = json.loads(said(capsys))
    assert (run["head_hash"], run["events"], run["metadata"]) == (
        events[-1].hash.hex(),
        5,
        {"ticket": str(2**53 + 1)},
    )


def test_a_goal_of_many_lines_is_listed_in_one_that_commands_nothing(
    data_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    keep(data_dir, happened=[RunStarted("a\n\x1b[31m" + "b" * 9_000, None, ())])
    assert main(["runs", "list"]) == 0
    (line,) = said(capsys).splitlines()
    assert "\x1b" not in line
    assert len(line) < 200


@pytest.mark.parametrize("command", ["show", "cancel"])
def test_an_unknown_run_is_one_clear_line(
    command: str, data_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["runs", command, "nothing"]) == 2
    assert capsys.readouterr().err.startswith("llm-agent-core: There is no run 'nothing'")


def test_a_run_is_cancelled_and_its_log_is_in_order(waiting: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["runs", "cancel", RUN]) == 0
    assert said(capsys) == f"run {RUN}  cancelled\n"
    assert main(["trace", "verify", RUN]) == 0
    assert said(capsys).startswith("ok: 5 events, ")
    assert main(["runs", "cancel", RUN]) == 2
    assert "has ended: cancelled" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("outcome", "shown"),
    [
        (["happened", "--output", json.dumps({"sent": 2**64})], "step 1  resolved: it happened"),
        (["happened"], "step 1  resolved: it happened"),
        (["did_not_happen"], "step 1  resolved: it did not happen"),
    ],
)
def test_a_doubt_is_settled_and_the_run_queued_for_the_next_server(
    outcome: list[str], shown: str, waiting: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["runs", "resolve", RUN, "1", *outcome]) == 0
    assert said(capsys) == f"run {RUN}  queued\n"
    assert main(["trace", "show", RUN]) == 0
    assert said(capsys).splitlines()[-1] == shown
    assert main(["trace", "verify", RUN]) == 0
    assert said(capsys).startswith("ok: 5 events, ")
    assert main(["runs", "resolve", RUN, "1", "did_not_happen"]) == 2
    assert "waits for nobody" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        ["resolve", RUN, "0", "happened"],
        ["resolve", RUN, "1", "perhaps"],
        ["resolve", RUN, "1", "happened", "--output", "[1]"],
        ["resolve", RUN, "1", "happened", "--output", "{"],
        ["list", "--status", "lost"],
        ["list", "--limit", "0"],
        ["list", "--limit", "ten"],
    ],
)
def test_arguments_that_are_none_are_refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["runs", *arguments])
    assert ended.value.code == 2
    assert capsys.readouterr().err


def test_beside_a_server_runs_are_read_and_not_changed(waiting: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with DirectoryLock.acquire(waiting, "a server"):
        for arguments in (["list"], ["show", RUN]):
            assert main(["runs", *arguments]) == 0
        said(capsys)
        assert main(["runs", "cancel", RUN]) == 2
        assert "is in use by process" in capsys.readouterr().err


def test_a_run_of_another_tenant_is_there_for_who_names_it(
    data_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async def submit() -> str:
        async with open_runs(Settings(_env_file=None, data_dir=data_dir), executes=False) as runs:
            return (await runs.submit(RunRequest("Calculate 6*7"), who=Principal("key:x", "acme"))).run_id

    run_id = asyncio.run(submit())
    capsys.readouterr()
    for command in (["runs", "show"], ["trace", "show"], ["trace", "verify"], ["trace", "export"]):
        assert main([*command, run_id]) == 2
        assert "There is no run" in capsys.readouterr().err
        assert main([*command, run_id, "--tenant", "acme"]) == 0
        assert run_id in said(capsys) or command == ["trace", "verify"]
    assert main(["runs", "list"]) == 0
    assert said(capsys) == ""
    assert main(["runs", "list", "--tenant", "acme"]) == 0
    assert said(capsys).startswith(run_id)
    assert main(["runs", "cancel", run_id, "--tenant", "acme"]) == 0
    assert "cancelled" in capsys.readouterr().out
