"""`trace`: verify, show and export, on files and beside a real database."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from kept_runs import BIG, HAPPENED, RUN, chain_of, change, keep

from app.agent.events import Event, RunFinished, RunStarted, ToolIntended, ToolInterrupted, ToolResolved
from app.cli import main
from app.runs.bundle import Bundle
from app.runs.chain import link, verify

OTHER = "019aab7e-0000-7e07-9d5c-3f0a9a1b2c3d"
HEAD = chain_of(HAPPENED)[-1].hash.hex()


@pytest.fixture(autouse=True)
def _elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def kept(data_dir: Path) -> Path:
    """A data directory with one run."""
    keep(data_dir)
    return data_dir


@pytest.fixture
def bundle(kept: Path) -> Path:
    """That run, exported."""
    assert main(["trace", "export", RUN, "--output", "run.json"]) == 0
    return Path("run.json").absolute()


def said(capsys: pytest.CaptureFixture[str]) -> str:
    captured = capsys.readouterr()
    assert captured.err == ""
    return captured.out


def test_a_kept_run_is_in_order(kept: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["trace", "verify", RUN]) == 0
    assert said(capsys) == f"ok: 5 events, head {HEAD}\n"


def test_an_exported_run_is_in_order_and_holds_every_text_byte_for_byte(
    bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["trace", "verify", str(bundle), "--head", HEAD]) == 0
    assert said(capsys) == f"ok: 5 events, head {HEAD}\n"
    events = list(Bundle(bundle).events())
    assert events == chain_of(HAPPENED)
    assert verify(events, RUN) is None
    assert str(2**53 + 1) in events[3].body
    assert str(BIG) in events[3].body
    assert "\u2028" in events[1].body
    assert "\U0001f600" in events[1].body


def test_an_export_is_printed_if_no_file_is_named(kept: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["trace", "export", RUN]) == 0
    document = json.loads(said(capsys))
    assert (document["run_id"], document["head_hash"], document["status"]) == (RUN, HEAD, "success")


def test_a_finding_is_printed_as_json(kept: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["trace", "verify", RUN, "--json"]) == 0
    assert json.loads(said(capsys)) == {"run_id": RUN, "ok": True, "events": 5, "head_hash": HEAD}
    change(kept, "UPDATE events SET body = body || ' ' WHERE seq = 4")
    assert main(["trace", "verify", RUN, "--json"]) == 1
    assert json.loads(said(capsys)) == {
        "run_id": RUN,
        "ok": False,
        "event": 4,
        "problem": "its text does not match its hash",
    }


FORGED = chain_of([*HAPPENED[:-1], RunFinished("error", "It was never 42.")])[-1]
LATE = chain_of([*HAPPENED, RunFinished("error", "too late")])[-1]

TAMPERINGS: dict[str, tuple[list[tuple[Any, ...]], str]] = {
    "an edit": (
        [("UPDATE events SET body = replace(body, '6*7', '6*8') WHERE seq = 3",)],
        "event 3: its text does not match its hash",
    ),
    "an edit of a hash": (
        [("UPDATE events SET hash = zeroblob(32) WHERE seq = 2",)],
        "event 2: its text does not match its hash",
    ),
    "a deletion": (
        [("DELETE FROM events WHERE seq = 2",)],
        "event 2: it is missing; event 3 stands in its place",
    ),
    "a deletion with the rest moved up": (
        [("DELETE FROM events WHERE seq = 2",), ("UPDATE events SET seq = seq - 1 WHERE seq > 2",)],
        "event 2: its prev_hash is not the hash of event 1",
    ),
    "a truncation": (
        [("DELETE FROM events WHERE seq > 3",)],
        "event 4: it is missing; the events end before it, and the head is event 5",
    ),
    "nothing left": ([("DELETE FROM events",)], "event 1: it is missing; there are no events"),
    "the last event forged, with its hash": (
        [("UPDATE events SET body = ?, hash = ? WHERE seq = 5", FORGED.body, FORGED.hash)],
        "event 5: its hash is not that of the head",
    ),
    "something appended": (
        [
            (
                "INSERT INTO events VALUES ('default', ?, 6, ?, ?, ?)",
                RUN,
                LATE.prev_hash,
                LATE.hash,
                LATE.body,
            )
        ],
        "event 6: it comes after the head",
    ),
    "a text of another run": (
        [("UPDATE events SET body = replace(body, ?, ?) WHERE seq = 1", RUN, OTHER)],
        "event 1: its text does not match its hash",
    ),
    "a text that is none": (
        [("UPDATE events SET body = CAST(x'ff' AS TEXT) WHERE seq = 1",)],
        "event 1: its text is not UTF-8",
    ),
    "bytes for a text": (
        [("UPDATE events SET body = CAST(body AS BLOB) WHERE seq = 5",)],
        "event 5: its text is not UTF-8",
    ),
}


@pytest.mark.parametrize("name", TAMPERINGS)
def test_whatever_is_done_to_the_rows_of_a_run_is_found(
    name: str, kept: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    statements, finding = TAMPERINGS[name]
    for statement in statements:
        change(kept, *statement)
    assert main(["trace", "verify", RUN]) == 1
    assert said(capsys) == finding + "\n"


def test_a_log_that_was_forged_with_its_head_is_told_by_a_head_that_was_kept(
    kept: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    change(kept, "UPDATE events SET body = ?, hash = ? WHERE seq = 5", FORGED.body, FORGED.hash)
    change(kept, "UPDATE runs SET head_hash = ?, status = 'error'", FORGED.hash)
    assert main(["trace", "verify", RUN]) == 0
    said(capsys)
    assert main(["trace", "verify", RUN, "--head", HEAD]) == 1
    assert said(capsys).startswith("event 6: it is missing; ")


def test_a_run_that_is_not_over_is_checked_as_far_as_it_has_come(
    data_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    keep(data_dir, happened=HAPPENED[:3])
    assert main(["trace", "verify", RUN]) == 0
    assert said(capsys).startswith("ok: 3 events, ")


def test_a_long_run_is_read_in_pages(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.cli.journal.PAGE", 2)
    keep(data_dir)
    assert main(["trace", "verify", RUN]) == 0
    change(data_dir, "DELETE FROM events WHERE seq BETWEEN 2 AND 4")
    assert main(["trace", "verify", RUN]) == 1


def test_a_pruned_run_says_so_and_what_its_head_was(kept: Path, capsys: pytest.CaptureFixture[str]) -> None:
    change(kept, "UPDATE runs SET pruned_at = 1795340000000000")
    change(kept, "DELETE FROM events")
    assert main(["trace", "verify", RUN]) == 2
    assert said(capsys) == f"pruned at 2026-11-22T09:33:20Z: 5 events, head {HEAD}\n"
    assert main(["trace", "verify", RUN, "--json", "--head", HEAD]) == 2
    assert json.loads(said(capsys)) == {
        "run_id": RUN,
        "ok": None,
        "events": 5,
        "head_hash": HEAD,
        "pruned_at": "2026-11-22T09:33:20Z",
    }
    assert main(["trace", "verify", RUN, "--head", "0" * 64]) == 1
    said(capsys)
    for command in (["trace", "show", RUN], ["trace", "export", RUN]):
        assert main(command) == 2
        assert HEAD in capsys.readouterr().err


def tampered(bundle: Path, old: str, new: str) -> Path:
    text = bundle.read_text()
    assert old in text
    bundle.write_text(text.replace(old, new, 1))
    return bundle


def test_an_edited_bundle_is_found(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["trace", "verify", str(tampered(bundle, "It is 42", "It is 43"))]) == 1
    assert said(capsys) == "event 5: its text does not match its hash\n"


def test_a_truncated_bundle_is_found_by_the_head_in_it(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    document = json.loads(bundle.read_text())
    del document["events"][3:]
    bundle.write_text(json.dumps(document))
    assert main(["trace", "verify", str(bundle)]) == 1
    assert said(capsys) == "event 4: it is missing; the events end before it, and the head is event 5\n"


def test_a_bundle_that_was_truncated_with_its_head_is_found_by_a_head_that_was_kept(
    bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    document = json.loads(bundle.read_text())
    del document["events"][3:]
    document |= {"head_seq": 3, "head_hash": document["events"][-1]["hash"], "status": "running"}
    bundle.write_text(json.dumps(document))
    assert main(["trace", "verify", str(bundle)]) == 0
    assert main(["trace", "verify", str(bundle), "--head", HEAD.upper()]) == 1
    assert "event 4: it is missing; the events end before it, and the head is another" in said(capsys)


def test_a_finding_cannot_command_the_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    body = '{"run":"\u009b31m","seq":1}'
    prev_hash, digest = "0" * 64, link(bytes(32), body.encode()).hex()
    document = {
        "format": "llm-agent-core.run/1",
        "tenant": "default",
        "run_id": "\u009b31m",
        "status": "\u009b31m",
        "head_seq": 1,
        "head_hash": digest,
        "events": [{"seq": 1, "prev_hash": prev_hash, "hash": digest, "body": body}],
    }
    Path("run.json").write_text(json.dumps(document))
    assert main(["trace", "verify", "run.json"]) == 0
    assert main(["trace", "show", "run.json"]) == 0
    assert main(["trace", "verify", "run.json", "--json"]) == 0
    assert "\u009b" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["verify", "nothing"], "There is no run 'nothing' of tenant default (--tenant)."),
        (["show", "nothing"], "There is no run 'nothing' of tenant default (--tenant)."),
        (
            ["export", "nothing", "--output", "x.json"],
            "There is no run 'nothing' of tenant default (--tenant).",
        ),
        (["verify", "nothing.json"], "There is no file nothing.json."),
        (["verify", "bad.json"], "bad.json is no bundle: at character 0, '{' is expected."),
        (["show", "bad.json"], "bad.json is no bundle: at character 0, '{' is expected."),
        (["verify", "data"], "data is no file."),
        (["export", RUN, "--output", "no/such/place"], "no/such/place cannot be written: No such file"),
    ],
)
def test_what_cannot_be_done_is_one_clear_line(
    arguments: list[str], reason: str, kept: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("bad.json").write_text("hello")
    assert main(["trace", *arguments]) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith(f"llm-agent-core: {reason}")
    assert len(captured.err.splitlines()) == 1
    assert captured.out == ""
    assert not Path("x.json").exists()


def test_without_a_database_there_is_nothing_to_verify_and_none_is_made(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["trace", "verify", RUN]) == 2
    assert "There is no database at data/agent-core.db" in capsys.readouterr().err
    assert not Path("data").exists()


@pytest.mark.parametrize("head", ["abc", "z" * 64, "0" * 63, "0" * 66])
def test_a_head_that_is_no_hash_is_refused(head: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["trace", "verify", RUN, "--head", head])
    assert ended.value.code == 2
    assert "is not a hash" in capsys.readouterr().err


def test_the_steps_of_a_run_are_shown(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["trace", "show", RUN]) == 0
    shown = said(capsys)
    assert shown.splitlines() == [
        f"run {RUN}  success",
        "goal: Calculate 6*7",
        f'step 1  math {{"expression":"6*7"}} -> {{"result":"{2**53 + 1}","big":"{BIG}"}}',
        "success: It is 42.",
    ]
    assert main(["trace", "show", str(bundle)]) == 0
    assert said(capsys) == shown


def test_a_step_in_doubt_is_shown_with_what_became_of_it(
    data_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    happened = [
        RunStarted("Mail it", None, ("mail",)),
        ToolIntended(1, "mail", {}),
        ToolInterrupted(1, "mail", 1, "The process that ran the tool was stopped.", in_doubt=True),
        ToolResolved(1, happened=False),
        ToolInterrupted(1, "mail", 2, "timeout: too slow", in_doubt=False),
    ]
    keep(data_dir, happened=happened)
    assert main(["trace", "show", RUN]) == 0
    assert said(capsys).splitlines()[2:] == [
        "step 1  mail attempt 1 in doubt: The process that ran the tool was stopped.",
        "step 1  resolved: it did not happen",
        "step 1  mail attempt 2 interrupted: timeout: too slow",
    ]


def test_an_event_of_a_newer_program_is_said_to_be_one_and_still_verifies(
    data_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    keep(data_dir)
    body = f'{{"v":2,"run":"{RUN}","seq":1,"at":"2027-01-01T00:00:00Z","event":{{"type":"run.dreamt"}}}}'
    digest = link(bytes(32), body.encode())
    change(data_dir, "DELETE FROM events WHERE seq > 1")
    change(data_dir, "UPDATE events SET body = ?, hash = ? WHERE seq = 1", body, digest)
    change(data_dir, "UPDATE runs SET head_seq = 1, head_hash = ?", digest)
    assert main(["trace", "verify", RUN]) == 0
    assert main(["trace", "show", RUN]) == 0
    assert "event 1  cannot be read by this version" in said(capsys)


def modules_of(*arguments: str) -> set[str]:
    """The modules that a command loads."""
    code = (
        "import sys\n"
        "from app.cli import main\n"
        "try: main(sys.argv[1:])\n"
        "except SystemExit: pass\n"
        "print('\\n'.join(sys.modules), file=sys.stderr)"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)}
    ran = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
        env=environment,
    )
    assert "Traceback" not in ran.stderr
    return {name.split(".")[0] for name in ran.stderr.split()}


def test_neither_the_version_nor_a_check_offline_loads_a_database_or_a_web_framework(bundle: Path) -> None:
    heavy = {"sqlalchemy", "alembic", "fastapi", "starlette", "uvicorn", "pydantic", "pydantic_settings"}
    for arguments in (["--version"], ["trace", "verify", str(bundle)], ["trace", "show", str(bundle)]):
        loaded = modules_of(*arguments)
        assert "argparse" in loaded
        assert not loaded & heavy
    assert "sqlalchemy" in modules_of("trace", "verify", RUN)


@pytest.mark.parametrize(
    ("happened", "status", "problem"),
    [
        (HAPPENED, "error", "event 5: it ends the run as success, and beside the events stands error"),
        (HAPPENED, "running", "event 5: it ends the run as success, and beside the events stands running"),
        (HAPPENED[:4], "success", "event 4: it does not end the run, and beside the events stands success"),
        (HAPPENED[:4], "done", "event 4: it does not end the run, and beside the events stands done"),
    ],
)
def test_a_status_that_contradicts_the_events_is_found(
    data_dir: Path, capsys: pytest.CaptureFixture[str], happened: list[Event], status: str, problem: str
) -> None:
    keep(data_dir, happened=happened)
    change(data_dir, "UPDATE runs SET steps = 1")
    assert main(["trace", "export", RUN, "--output", "run.json"]) == 0
    assert main(["trace", "verify", "run.json"]) == 0
    document = json.loads(Path("run.json").read_text())
    Path("run.json").write_text(json.dumps({**document, "status": status}))
    capsys.readouterr()
    assert main(["trace", "verify", "run.json"]) == 1
    assert capsys.readouterr().out == problem + "\n"


def test_a_row_that_contradicts_its_events_is_found(data_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    keep(data_dir)
    assert main(["trace", "verify", RUN]) == 0
    capsys.readouterr()
    change(data_dir, "UPDATE runs SET steps = 2")
    assert main(["trace", "verify", RUN]) == 1
    assert capsys.readouterr().out == "event 5: with it the run has 1 steps, and beside the events stands 2\n"
    change(data_dir, "UPDATE runs SET status = 'cancelled', steps = 1")
    assert main(["trace", "verify", RUN]) == 1
    assert "ends the run as success, and beside the events stands cancelled" in capsys.readouterr().out
