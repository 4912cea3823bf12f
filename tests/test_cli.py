"""The commands, run as a user runs them."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from app import __version__
from app.cli import main

ROOT = Path(__file__).parent.parent
EMPTY = tempfile.mkdtemp()  # where no .env is


@pytest.fixture(autouse=True)
def _elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)


def test_run_prints_its_steps_and_the_answer(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "Calculate 6*7"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        'step 1  math {"expression":"6*7"} -> {"result":42,"expression":"6*7"}',
        "Calculation result: 42 (from 6*7)",
    ]


def test_run_prints_json_and_nothing_else(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "Calculate 2**64", "--json", "--tools", "math", "--context", "background"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["status"] == "success"
    assert result["trace"][0]["output"]["result"] == str(2**64)


def test_a_run_that_fails_says_so_with_its_exit_status(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "Calculate 1/0"]) == 1
    out = capsys.readouterr().out
    assert "division_by_zero" in out.splitlines()[0]


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["run", " "], "The goal is empty."),
        (
            ["run", "x", "--tools", "nope"],
            "Unknown tool 'nope'. Available tools: math, web_search, governance_note.",
        ),
        (["serve", "--host", "203.0.113.1"], "Cannot listen on 203.0.113.1"),
    ],
)
def test_what_cannot_be_done_is_one_clear_line(
    capsys: pytest.CaptureFixture[str], arguments: list[str], reason: str
) -> None:
    assert main(arguments) == 2
    err = capsys.readouterr().err
    assert err.startswith(f"llm-agent-core: {reason}")
    assert len(err.splitlines()) == 1


def test_a_bad_setting_is_one_clear_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PORT", "eighty")
    assert main(["serve"]) == 2
    assert capsys.readouterr().err.startswith("llm-agent-core: PORT: ")


def test_a_port_in_use_is_one_clear_line(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert main(["serve", "--port", str(port)]) == 2
    err = capsys.readouterr().err
    assert f"port {port}" in err
    assert f"PORT={port + 1}" in err


@pytest.mark.parametrize("port", ["99999", "-1", "http", "٨٠"])
def test_a_port_that_is_none_is_said_briefly(capsys: pytest.CaptureFixture[str], port: str) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["serve", f"--port={port}"])
    assert ended.value.code == 2
    err = capsys.readouterr().err
    assert "is not a port" in err
    assert len(err) < 500


def test_an_empty_host_is_not_every_interface(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert main(["serve", "--host", "", "--port", str(taken.getsockname()[1])]) == 2
    assert "Cannot listen on 127.0.0.1" in capsys.readouterr().err


def command(*arguments: str, **environment: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "app.cli", *arguments],
        cwd=EMPTY,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def test_a_reader_that_has_had_enough_is_no_error() -> None:
    process = command("run", "--json", "Calculate 6*7")
    assert process.stdout is not None
    process.stdout.close()
    _, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (0, b"")


def test_a_terminal_without_a_letter_is_no_error() -> None:
    process = command("run", "Add note to PROP-2025-001: 日本 \x1b[31mred", PYTHONIOENCODING="cp1252")
    out, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (0, b"")
    assert b"\\u65e5\\u672c" in out
    assert b"\x1b" not in out


def test_ctrl_c_ends_a_run_whatever_its_tool_makes_of_it() -> None:
    """A real SIGINT, sent to a tool that swallows the cancellation."""
    Path(EMPTY, "stubborn_tool.py").write_text(
        "import asyncio\n"
        "from app.tools.base import tool_registry\n"
        "class Stubborn:\n"
        "    name, description, input_schema = 'math', 'Will not stop.', {'type': 'object'}\n"
        "    async def run(self, input):\n"
        "        print('entered', flush=True)\n"
        "        try: await asyncio.sleep(60)\n"
        "        except asyncio.CancelledError: pass\n"
        "        return {'result': 1, 'expression': ''}\n"
        "tool_registry.register(Stubborn())\n"
    )
    process = command("run", "Calculate 6*7", TOOL_MODULES="stubborn_tool", PYTHONPATH=EMPTY)
    assert process.stdout is not None
    assert process.stdout.readline() == b"entered\n"
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out, err) == (130, b"", b"")


def test_ctrl_c_ends_a_command_quietly(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("app.cli.run._carry_out", interrupted)
    assert main(["run", "Calculate 1+1"]) == 130


def test_the_version_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"llm-agent-core {__version__}\n"


@contextmanager
def serving(command: list[str], **environment: str) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """Start a server as a user would, on a free port, and yield its address once it has said it."""
    process = subprocess.Popen(
        command, cwd=EMPTY, env={**os.environ, "PORT": "0", **environment}, stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    try:
        said = []
        for line in process.stderr:
            said.append(line)
            if found := re.search(r"http://127\.0\.0\.1:\d+", line):
                yield f"{found[0]}/api/v1", process
                break
        else:
            pytest.fail(f"the server did not start: {said}")
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate(timeout=10)


def post(base: str, goal: str) -> dict[str, object]:
    request = urllib.request.Request(
        f"{base}/run-task", json.dumps({"goal": goal}).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=10) as response:
        answered: dict[str, object] = json.load(response)
    return answered


COMMANDS = [
    pytest.param([sys.executable, str(ROOT / "main.py")], id="main.py"),
    pytest.param([sys.executable, "-m", "uvicorn", "app.main:app", "--port", "0"], id="uvicorn"),
    pytest.param([str(Path(sys.executable).with_name("llm-agent-core")), "serve"], id="console script"),
]


@pytest.mark.parametrize("command", COMMANDS)
def test_it_serves_and_stops_when_told(command: list[str]) -> None:
    with serving(command) as (base, process):
        assert post(base, "Calculate 6*7")["output"] == "Calculation result: 42 (from 6*7)"
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=10)
        assert "Traceback" not in err


def test_it_says_where_it_listens_and_logs_a_line_a_run_as_json_in_production() -> None:
    with serving(
        [sys.executable, str(ROOT / "main.py")], ENVIRONMENT="production", DEBUG="false", AUTHENTICATION="off"
    ) as (base, process):
        run_id = post(base, "Calculate 6*7")["run_id"]
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=10)
    lines = [json.loads(line) for line in err.splitlines()]
    assert [line["run_id"] for line in lines if line["message"] == "run finished"] == [run_id]


@pytest.mark.parametrize(
    "head",
    [
        b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"x" * 200_000,
        b"GET /" + b"x" * 200_000,
        b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 40_000,
    ],
)
def test_a_head_without_end_is_refused_while_it_comes(head: bytes) -> None:
    with serving([sys.executable, str(ROOT / "main.py")]) as (base, _):
        port = int(base.rpartition(":")[2].partition("/")[0])
        with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
            connection.sendall(head)
            assert connection.recv(100).startswith(b"HTTP/1.1 400 ")
        request = urllib.request.Request(
            f"{base}/run-task",
            json.dumps({"goal": "Calculate 1+1", "context": "x" * 100_000}).encode(),
            {"Content-Type": "application/json", "X": "x" * 60_000},
        )
        with urllib.request.urlopen(request, timeout=10) as answer:  # a long body, and a head that is just not
            assert answer.status == 200


def test_a_users_tool_module_is_imported_at_start_up(tmp_path: Path) -> None:
    (tmp_path / "my_tools.py").write_text(
        "from app.tools.base import tool_registry\n"
        "class Shout:\n"
        "    name, description = 'shout', 'Shouts.'\n"
        "    input_schema = {'type': 'object'}\n"
        "    def run(self, input): return {'loud': True}\n"
        "tool_registry.register(Shout())\n"
    )
    with (
        serving([sys.executable, str(ROOT / "main.py")], TOOL_MODULES="my_tools", PYTHONPATH=str(tmp_path)) as (
            base,
            _,
        ),
        urllib.request.urlopen(f"{base}/tools", timeout=5) as response,
    ):
        assert "shout" in [tool["name"] for tool in json.load(response)["tools"]]


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("import nothing_like_it", "ModuleNotFoundError: No module named 'nothing_like_it'"),
        (
            "from app.tools.base import tool_registry\ntool_registry.register(object())",
            "could not register its tools",
        ),
    ],
)
def test_a_tool_module_that_fails_stops_the_start_with_its_name_and_reason(
    tmp_path: Path, source: str, reason: str
) -> None:
    (tmp_path / "broken_tools.py").write_text(source)
    ran = subprocess.run(
        [sys.executable, str(ROOT / "main.py")],
        cwd=EMPTY,
        env={**os.environ, "PORT": "0", "TOOL_MODULES": "broken_tools", "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert ran.returncode == 2
    last = ran.stderr.splitlines()[-1]
    assert last.startswith("llm-agent-core: TOOL_MODULES: broken_tools ")
    assert reason in last
    assert "Traceback" not in ran.stderr


def test_a_line_above_the_last_of_main_registers_a_tool(tmp_path: Path) -> None:
    """The older way: `import app.tools.my_tool` at the marked place."""
    copy = tmp_path / "checkout"
    shutil.copytree(ROOT / "app", copy / "app", ignore=shutil.ignore_patterns("__pycache__"))
    (copy / "app/tools/my_tool.py").write_text(
        "from .base import tool_registry\n"
        "class Mine:\n"
        "    name, description, input_schema = 'mine', 'Mine.', {'type': 'object'}\n"
        "    def run(self, input): return {}\n"
        "tool_registry.register(Mine())\n"
    )
    main_file = copy / "app/main.py"
    source = main_file.read_text()
    last = "app = create_app(Settings())"
    main_file.write_text(source.replace(last, f"import app.tools.my_tool\n\n{last}"))
    code = (
        "from app.main import app; from starlette.testclient import TestClient; "
        "print([tool['name'] for tool in TestClient(app).get('/api/v1/tools').json()['tools']])"
    )
    ran = subprocess.run([sys.executable, "-c", code], cwd=copy, capture_output=True, text=True, check=True)
    assert "'mine'" in ran.stdout
