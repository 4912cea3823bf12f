"""The wheel: another package name, the same library and server, in an empty environment."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import urllib.request
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
UV = shutil.which("uv")


def run(*command: str | Path, cwd: Path) -> str:
    ran = subprocess.run(
        list(map(str, command)), cwd=cwd, capture_output=True, text=True, check=False, env=clean()
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


def clean() -> dict[str, str]:
    """The environment without anything that would let the checkout leak into the new one."""
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PYTHON", "VIRTUAL_ENV", "UV_RUN"))
    }


def migrations_in(package: Path) -> set[str]:
    """Return what `db upgrade` needs in the wheel, by the names it has there."""
    files = (package / "storage/migrations").rglob("*.py")
    found = {f"llm_agent_core/{path.relative_to(package).as_posix()}" for path in files}
    assert any(re.search(r"/versions/\w+\.py$", name) for name in found)
    return found


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return an environment that holds the built wheel and what it asks for, and nothing of this checkout."""
    assert UV, "uv is needed to build the wheel; it is how this project is set up (pip install uv)"
    home = tmp_path_factory.mktemp("wheel")
    run(UV, "build", "--wheel", "--out-dir", home / "dist", ROOT, cwd=home)
    (wheel,) = (home / "dist").glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    tops = {name.split("/")[0] for name in names}
    assert tops == {"llm_agent_core", wheel.name.split("-py3")[0] + ".dist-info"}
    assert {"llm_agent_core/py.typed", "llm_agent_core/tools/data/offline_index.tsv"} <= set(names)
    assert migrations_in(ROOT / "app") <= set(names)
    run(UV, "venv", "--python", sys.executable, home / "venv", cwd=home)
    python = next(path for path in (home / "venv/bin/python", home / "venv/Scripts/python.exe") if path.exists())
    run(UV, "pip", "install", "--python", python, wheel, cwd=home)
    return python


def test_the_library_works_from_the_wheel(installed: Path, tmp_path: Path) -> None:
    code = (
        "import importlib.util; assert importlib.util.find_spec('app') is None;"
        "from llm_agent_core.agent.core import Agent;"
        "print([Agent().run(g).output for g in ('Calculate 2+2', 'Search for quadratic voting')])"
    )
    printed = run(installed, "-c", code, cwd=tmp_path)
    assert "Calculation result: 4 (from 2+2)" in printed
    assert re.search(r"Found [1-9]\d* search results? for 'quadratic voting'", printed)


def test_the_server_runs_from_the_wheel(installed: Path, tmp_path: Path) -> None:
    command = installed.with_name("llm-agent-core" + installed.suffix)
    process = subprocess.Popen(
        [command, "serve", "--port", "0"], cwd=tmp_path, env=clean(), stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stderr is not None
        found = re.search(r"http://127\.0\.0\.1:\d+", process.stderr.readline())
        assert found
        request = urllib.request.Request(
            f"{found[0]}/api/v1/run-task", b'{"goal": "Calculate 6*7"}', {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=10) as response:
            assert json.load(response)["output"] == "Calculation result: 42 (from 6*7)"
    finally:
        process.kill()
        process.communicate(timeout=10)


def test_the_tables_are_made_and_found_current_from_the_wheel(installed: Path, tmp_path: Path) -> None:
    command = installed.with_name("llm-agent-core" + installed.suffix)
    assert "before, there were none" in run(command, "db", "upgrade", cwd=tmp_path)
    assert "this program's" in run(command, "db", "check", cwd=tmp_path)


def test_the_command_runs_a_goal_from_the_wheel(installed: Path, tmp_path: Path) -> None:
    command = installed.with_name("llm-agent-core" + installed.suffix)
    assert (
        run(command, "run", "Calculate 6*7", cwd=tmp_path).splitlines()[-1] == "Calculation result: 42 (from 6*7)"
    )
