"""Verifying and exporting runs that real servers carried out, or are at this moment."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import pytest
from kept_runs import HAPPENED, RUN, chain_of

from app.cli import main
from app.cli.verification import Finding, verify_run
from app.runs.bundle import Bundle
from app.runs.chain import Fault, verify
from app.runs.models import Run, RunKey, StoredEvent
from app.runs.ports import RunStore

ROOT = Path(__file__).parent.parent
CHAIN = chain_of(HAPPENED)


@pytest.fixture(autouse=True)
def _elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)


def test_a_run_of_the_command_line_is_kept_and_verifies_from_its_bundle_alone(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["run", "Calculate 2**64 and add the result as a note to PROP-2025-007"]) == 0
    capsys.readouterr()
    assert main(["runs", "list", "--json"]) == 0
    (run,) = json.loads(capsys.readouterr().out)["runs"]
    assert (run["status"], run["steps"]) == ("success", 2)
    assert main(["trace", "export", run["run_id"], "--output", "run.json"]) == 0
    assert main(["trace", "verify", "run.json", "--head", run["head_hash"]]) == 0
    assert capsys.readouterr().out == f"ok: {run['events']} events, head {run['head_hash']}\n"
    bundle = Bundle(Path("run.json"))
    assert verify(bundle.events(), run["run_id"], bundle.header.head) is None
    assert any(f'"result":{2**64}' in event.body for event in bundle.events())


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """The address of a real server, whose data directory is `data` here."""
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "main.py")],
        cwd=tmp_path,
        env={**os.environ, "PORT": "0", "LOG_LEVEL": "WARNING"},
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stderr is not None
        found = re.search(r"http://127\.0\.0\.1:\d+", process.stderr.readline())
        assert found, "the server did not start"
        yield f"{found[0]}/api/v1"
    finally:
        process.terminate()
        process.communicate(timeout=30)


def answer_to(base: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(base + path, data, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=10) as response:
        answer: dict[str, Any] = json.load(response)
    return answer


def test_a_run_verifies_beside_the_server_that_carried_it_out(
    server: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run_id = answer_to(server, "/run-task", {"goal": "Calculate 6*7"})["run_id"]
    assert main(["trace", "verify", run_id, "--json"]) == 0
    finding = json.loads(capsys.readouterr().out)
    assert (finding["ok"], finding["events"]) == (True, 8)
    assert main(["trace", "export", run_id, "--output", "run.json"]) == 0
    assert main(["trace", "verify", "run.json", "--head", finding["head_hash"]]) == 0
    assert main(["db", "prune", "--keep", "0"]) == 2
    assert "is in use by process" in capsys.readouterr().err


def test_the_events_of_the_api_are_those_of_the_bundle(server: str) -> None:
    """What docs/journal.md says of them: each has the four members, its text untouched."""
    run_id = answer_to(server, "/run-task", {"goal": "Calculate 6*7"})["run_id"]
    assert main(["trace", "export", run_id, "--output", "run.json"]) == 0
    bundle = json.loads(Path("run.json").read_text())
    collected: list[dict[str, Any]] = []
    after: int | None = 0
    while after is not None:
        page = answer_to(server, f"/runs/{run_id}/events?after={after}&limit=3")
        assert {name: page[name] for name in ("run_id", "head_seq", "head_hash")}.items() <= bundle.items()
        collected += page["events"]
        after = page["next_after"]
    assert [event.pop("type") for event in collected][::7] == ["run.started", "run.finished"]
    assert collected == bundle["events"]


class ChangingStore:
    """A store whose run is another each time it is asked for."""

    def __init__(self, rows: Sequence[Run], events: Sequence[StoredEvent]) -> None:
        self._rows = list(rows)
        self._events = events

    async def get(self, key: RunKey) -> Run:
        return self._rows.pop(0) if len(self._rows) > 1 else self._rows[0]

    async def events(self, key: RunKey, after: int, limit: int) -> list[StoredEvent]:
        return [event for event in self._events if event.seq > after][:limit]


def row(events: int, pruned_at: datetime | None = None) -> Run:
    values: dict[str, Any] = dict.fromkeys(Run.__struct_fields__)
    values |= {"run_id": RUN, "tenant": "default", "status": "running", "events": events}
    return Run(**values | {"head_hash": CHAIN[events - 1].hash, "pruned_at": pruned_at})


async def found(rows: Sequence[Run], events: Sequence[StoredEvent]) -> Finding:
    return await verify_run(cast("RunStore", ChangingStore(rows, events)), RUN, None)


async def test_a_run_that_goes_on_meanwhile_is_in_order_as_far_as_it_was() -> None:
    finding = await found([row(3), row(5)], CHAIN)
    assert (finding.exit_status, finding.events, finding.head_hash) == (0, 3, CHAIN[2].hash)


async def test_events_beyond_a_head_that_stays_are_a_fault() -> None:
    finding = await found([row(3)], CHAIN)
    assert finding.fault == Fault(4, "it comes after the head")


async def test_a_run_that_is_pruned_meanwhile_is_not_a_fault() -> None:
    finding = await found([row(5), row(5, datetime.now(UTC))], CHAIN[:2])
    assert (finding.exit_status, finding.fault) == (2, None)
