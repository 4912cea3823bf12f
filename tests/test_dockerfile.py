"""The Dockerfile, as far as it can be held to its word without an engine."""

from __future__ import annotations

import fnmatch
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import NamedTuple

import pytest

from app.config import Settings

ROOT = Path(__file__).parent.parent


class Instruction(NamedTuple):
    """One instruction and its stage, counted from 0."""

    stage: int
    name: str
    arguments: str


def read_instructions() -> list[Instruction]:
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", " ", "\n".join(lines))
    found: list[Instruction] = []
    stage = -1
    for line in filter(str.strip, joined.splitlines()):
        name, _, arguments = line.strip().partition(" ")
        stage += name == "FROM"
        found.append(Instruction(stage, name, arguments.strip()))
    return found


INSTRUCTIONS = read_instructions()
LAST = INSTRUCTIONS[-1].stage


def of(name: str, stage: int | None = None) -> list[str]:
    return [item.arguments for item in INSTRUCTIONS if item.name == name and stage in (None, item.stage)]


def environment() -> dict[str, str]:
    """Return the variables of the last stage."""
    return dict(pair.partition("=")[::2] for line in of("ENV", LAST) for pair in line.split())


def copied() -> list[str]:
    """Return what is copied from the checkout."""
    lines = [line.split() for line in of("COPY") if not line.startswith("--from=")]
    return [source for line in lines for source in line[:-1]]


def test_it_has_two_stages_on_one_pinned_base() -> None:
    bases = [line.split(" ")[0] for line in of("FROM")]
    assert len(bases) == 2
    assert len(set(bases)) == 1, "the environment links to the interpreter of its base"
    assert re.fullmatch(r"python:3\.\d+-slim", bases[0])


def test_the_tool_that_installs_is_pinned_and_installs_what_is_locked() -> None:
    commands = " && ".join(of("RUN", 0))
    assert re.search(r"pip install --no-cache-dir uv==\d+\.\d+\.\d+", commands)
    assert all("--frozen --no-dev" in part for part in commands.split("&&") if "uv sync" in part)


def test_the_last_stage_installs_nothing_and_does_not_run_as_root() -> None:
    commands = " ".join(of("RUN", LAST))
    assert not re.search(r"\b(pip|uv|apt-get|curl|wget)\b", commands)
    (user,) = of("USER", LAST)
    assert re.fullmatch(r"[1-9]\d+:[1-9]\d+", user)
    assert f"--uid {user.split(':')[0]} " in commands
    names = [item.name for item in INSTRUCTIONS if item.stage == LAST]
    assert names.index("USER") > max(index for index, name in enumerate(names) if name in {"RUN", "COPY"})


def test_commands_are_in_exec_form() -> None:
    (command,) = of("CMD")
    assert json.loads(command) == ["python", "main.py"]
    assert len(health_check()) == 3


def health_check() -> list[str]:
    (line,) = of("HEALTHCHECK")
    words: list[str] = json.loads(line.partition("CMD ")[2])
    return words


def test_it_copies_what_exists_and_all_that_the_build_asks_for() -> None:
    for source in copied():
        assert (ROOT / source).exists(), source
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    hatch = project["tool"]["hatch"]["build"]
    needed = {
        "main.py",
        "uv.lock",
        project["project"]["readme"],
        *project["project"]["license-files"],
        *hatch["targets"]["wheel"]["packages"],
        hatch["hooks"]["custom"]["path"],
    }
    assert needed <= set(copied())


def test_the_build_context_is_what_is_copied_and_nothing_else() -> None:
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]
    assert rules[0] == "*"
    assert {rule.removeprefix("!") for rule in rules if rule.startswith("!")} == set(copied())
    for secret in (".env", ".git", "deploy", "deploy/.env", "deploy/settings.env"):
        assert not any(fnmatch.fnmatch(secret, rule.removeprefix("!")) for rule in rules if rule.startswith("!"))


def test_it_listens_where_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {**environment(), "ENVIRONMENT": "production", "DEBUG": "false"}.items():
        if name.lower() in Settings.model_fields:
            monkeypatch.setenv(name, value)
    settings = Settings(_env_file=None)
    assert (settings.host, [str(settings.port)]) == ("0.0.0.0", of("EXPOSE"))  # noqa: S104 - in a container
    assert of("VOLUME") == [json.dumps([environment()["DATA_DIR"]])]


def test_the_image_has_what_settings_may_ask_for_and_room_for_the_models_packages() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    models = {name for name, needs in project["optional-dependencies"].items() if "genai-prices" in needs[0]}
    installs = [command for command in of("RUN", 0) if "uv sync" in command]
    assert len(installs) == 2
    assert of("ARG", 0) == ['MORE=""']
    for command in installs:
        assert set(re.findall(r"--extra (\w+)", command)) == set(project["optional-dependencies"]) - models
        assert " $MORE" in command


def test_what_is_copied_serves_and_its_health_check_tells(tmp_path: Path) -> None:
    home = tmp_path / "image"
    home.mkdir()
    for name in ("main.py", "app"):
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, home / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, home / name)
    ours = {name: value for name, value in environment().items() if name != "PATH"}
    given = {**os.environ, **ours, "ENVIRONMENT": "production", "DEBUG": "false", "HOST": "127.0.0.1", "PORT": "0"}
    given["DATA_DIR"] = str(tmp_path / "data")
    process = subprocess.Popen(
        [sys.executable, *json.loads(of("CMD")[0])[1:]], cwd=home, env=given, stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stderr is not None
        said = process.stderr.readline()
        address = re.search(r"http://127\.0\.0\.1:(\d+)", said)
        assert address, said + process.stderr.read()
        check = [sys.executable, *health_check()[1:]]
        healthy = subprocess.run(check, env={**given, "PORT": address[1]}, capture_output=True, check=False)
        assert (healthy.returncode, healthy.stderr) == (0, b"")
    finally:
        process.kill()
        process.communicate(timeout=10)
    gone = subprocess.run(check, env={**given, "PORT": address[1]}, capture_output=True, check=False)
    assert gone.returncode == 1
