"""The supply chain: what is installed is locked by hash, and the command of docs/operations.md lists all of it."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs/operations.md").read_text(encoding="utf-8")
LOCK: dict[str, Any] = tomllib.loads((ROOT / "uv.lock").read_text(encoding="utf-8"))
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def test_every_package_is_locked_by_the_hash_of_each_of_its_files() -> None:
    names = [package["name"] for package in LOCK["package"] if "registry" in package["source"]]
    assert len(names) == len(LOCK["package"]) - 1  # and ourselves
    for package in LOCK["package"]:
        files = [*package.get("wheels", ()), *([package["sdist"]] if "sdist" in package else [])]
        assert files or "editable" in package["source"], package["name"]
        for file in files:
            assert re.fullmatch("sha256:[0-9a-f]{64}", file["hash"]), package["name"]


def test_the_bill_of_materials_is_made_without_the_network_and_names_what_we_depend_on(tmp_path: Path) -> None:
    uv = os.environ.get("UV") or shutil.which("uv")
    if uv is None:
        pytest.skip("uv is not on the PATH, so the SBOM of docs/operations.md is not made")
    (line,) = [line for line in PAGE.splitlines() if "cyclonedx" in line]
    words = shlex.split(line)
    assert (words[0], words[-2:]) == ("uv", ["--output-file", "sbom.json"])
    made = tmp_path / "sbom.json"
    subprocess.run(
        [uv, *words[1:-1], made], cwd=ROOT, env={**os.environ, "UV_OFFLINE": "1"}, check=True, capture_output=True
    )
    bill = json.loads(made.read_text(encoding="utf-8"))
    assert (bill["bomFormat"], bill["metadata"]["component"]["name"]) == ("CycloneDX", PROJECT["name"])
    components = {component["name"]: component for component in bill["components"]}
    extras = re.findall(r"--extra (\w+)", line)
    wanted = [
        *PROJECT["dependencies"],
        *(need for extra in extras for need in PROJECT["optional-dependencies"][extra]),
    ]
    direct = {re.split(r"[^\w-]", need, maxsplit=1)[0] for need in wanted}
    assert direct <= set(components)
    assert not {"pytest", "ruff"} & set(components)
    for component in components.values():
        assert component["purl"].startswith("pkg:pypi/"), component["name"]


def test_the_bill_is_that_of_the_image() -> None:
    (line,) = [line for line in PAGE.splitlines() if "cyclonedx" in line]
    (install, _) = re.findall(
        r"^RUN uv sync (.*)$", (ROOT / "Dockerfile").read_text(encoding="utf-8"), re.MULTILINE
    )
    assert re.findall(r"--extra \w+", line) == re.findall(r"--extra \w+", install)
