"""A process as its supervisor sees it: what it logs when it stops, and how it ends when a part of it dies."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from durable_runs import until
from fakes import FakeTool, ScriptedModel, call

import app.bootstrap.process as process_module
from app.bootstrap import build_services, open_runs
from app.bootstrap.access import Access
from app.bootstrap.models import Models
from app.bootstrap.services import Services
from app.config import Settings
from app.errors import ConfigurationError, DataInUseError, StorageUnavailableError
from app.jsonvalue import JsonObject
from app.runs.models import RunRequest
from app.storage.lockfile import DirectoryLock
from app.storage.runs import SqlRunStore
from app.tools.base import tool_registry

ROOT = Path(__file__).parent.parent

DYING = """
import asyncio, sys
import app.bootstrap.process as process

async def keep_whole(*_):
    await asyncio.sleep(0.2)
    raise AssertionError("a bug")

process.keep_whole = keep_whole
from app.cli import main
sys.exit(main(sys.argv[1:]))
"""


@contextmanager
def started(*command: str, **environment: str) -> Iterator[subprocess.Popen[str]]:
    """Start a process in the checkout, and see to it that it does not stay."""
    process = subprocess.Popen(
        [sys.executable, *command],
        cwd=ROOT,
        env={**os.environ, "PORT": "0", "ENVIRONMENT": "production", **environment},
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate(timeout=10)


def lines(err: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in err.splitlines() if line.startswith("{")]


def database_of(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, str]:
    if kind == "postgres":
        return {"DATABASE_URL": request.getfixturevalue("postgres_url")}
    return {"DATA_DIR": str(tmp_path / "data")}


@pytest.mark.parametrize(("command", "kind"), [("serve", "sqlite"), ("worker", "postgres")])
def test_a_process_that_loses_a_part_of_itself_ends_with_1(
    request: pytest.FixtureRequest, tmp_path: Path, command: str, kind: str
) -> None:
    with started("-c", DYING, command, **database_of(kind, request, tmp_path)) as process:
        _, err = process.communicate(timeout=30)
    assert process.returncode == 1
    said = [(line["level"], line["message"]) for line in lines(err)]
    assert ("critical", "a part of this process has died") in said
    assert said[-2:] == [("info", "stopping"), ("info", "stopped")]


@pytest.mark.parametrize(("command", "kind"), [("serve", "sqlite"), ("worker", "postgres")])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_is_logged_at_its_beginning_and_its_end(
    request: pytest.FixtureRequest, tmp_path: Path, command: str, kind: str, number: signal.Signals
) -> None:
    module = ("-c", "import sys; from app.cli import main; sys.exit(main(sys.argv[1:]))", command)
    with started(*module, **database_of(kind, request, tmp_path)) as process:
        assert process.stderr is not None
        greeting = process.stderr.readline()
        if command == "serve":
            with urllib.request.urlopen(json.loads(greeting)["address"] + "/api/v1/health", timeout=10) as answer:
                assert answer.status == 200
        else:
            assert "waiting for runs" in greeting
        process.send_signal(number)
        _, err = process.communicate(timeout=30)
    stopping, stopped = (line for line in lines(err) if line["message"] in ("stopping", "stopped"))
    assert (stopping["message"], stopping["runs"]) == ("stopping", 0)
    assert stopping["grace_s"] == (20 if command == "serve" else 18)
    assert (stopped["message"], stopped["not_handed_back"]) == ("stopped", 0)
    assert stopped["seconds"] < 10
    assert process.returncode == EXIT[command, number]


EXIT = {
    ("serve", signal.SIGTERM): -signal.SIGTERM,  # as shells put it, 143
    ("serve", signal.SIGINT): 130,
    ("worker", signal.SIGTERM): 0,
    ("worker", signal.SIGINT): 0,
}


def fields_of(caplog: pytest.LogCaptureFixture, message: str) -> Any:
    (record,) = (record for record in caplog.records if record.getMessage() == message)
    return record.fields  # type: ignore[attr-defined]


async def test_a_stop_says_how_many_runs_are_under_way(data_dir: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    begun = asyncio.Event()

    async def hang(given: JsonObject) -> JsonObject:
        begun.set()
        await asyncio.get_running_loop().create_future()
        return {}

    tool_registry.register(FakeTool(hang, name="hang", effect="pure"))
    services = build_services(Settings(data_dir=data_dir), llm_client=ScriptedModel(call("hang")))
    await services.start()
    await services.runs.submit(RunRequest("go"))
    await begun.wait()
    await services.stop(0.01)
    assert fields_of(caplog, "stopping") == {"runs": 1, "grace_s": 0.01}
    assert fields_of(caplog, "stopped")["not_handed_back"] == 0


async def test_a_part_that_ends_by_itself_is_noticed_and_one_that_is_stopped_is_not(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def end(*_: object) -> None:
        pass

    healthy = build_services(Settings(data_dir=data_dir))
    await healthy.start()
    await healthy.stop()
    assert not healthy.died.is_set()
    assert "has died" not in caplog.text
    monkeypatch.setattr(process_module, "keep_whole", end)
    services = build_services(Settings(data_dir=data_dir))
    await services.start()
    async with asyncio.timeout(5):
        await services.died.wait()
    assert "a part of this process has died" in caplog.text
    await services.stop()


def nothing_is_open(services: Services) -> bool:
    process = services._process
    return process._database._closing.is_set() and not process._engine.writer._thread.is_alive()


async def test_a_start_that_fails_leaves_nothing_open(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise AssertionError("a bug")

    monkeypatch.setattr(process_module, "keep_whole", fail)
    services = build_services(Settings(data_dir=data_dir))
    with pytest.raises(AssertionError):
        await services.start()
    assert nothing_is_open(services)
    DirectoryLock.acquire(data_dir, "the next one").release()


async def test_a_data_directory_in_use_leaves_nothing_of_us_open(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed: list[str] = []

    async def close(self: object) -> None:
        closed.append(type(self).__name__)

    for part in (Models, Access):
        monkeypatch.setattr(part, "aclose", close)
    holder = DirectoryLock.acquire(data_dir, "somebody else")
    for start in (Services.start, Services.start_serving):
        with pytest.raises(DataInUseError):
            await start(build_services(Settings(data_dir=data_dir)))
    holder.release()
    assert closed == ["Models", "Access"] * 2


async def test_no_run_begins_in_a_server_that_refuses_to_start(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_runs(Settings(data_dir=data_dir), executes=False) as runs:
        left = await runs.submit(RunRequest("Calculate 6*7"))

    async def refuse(_: object) -> None:
        await asyncio.sleep(0.2)
        raise ConfigurationError("another pepper")

    monkeypatch.setattr(Access, "check", refuse)
    with pytest.raises(ConfigurationError):
        await build_services(Settings(data_dir=data_dir)).start_serving()
    async with open_runs(Settings(data_dir=data_dir), executes=False) as runs:
        assert (await runs.get(left.run_id)).status == "queued"


async def test_a_first_heartbeat_that_fails_leaves_nothing_open(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_: object) -> None:
        raise StorageUnavailableError("away")

    monkeypatch.setattr(SqlRunStore, "beat", fail)
    before = asyncio.all_tasks()
    services = build_services(Settings(database_url=postgres_url), executes=True)
    with pytest.raises(StorageUnavailableError):
        await services.start()
    assert nothing_is_open(services)
    await until(lambda: asyncio.all_tasks() == before)
