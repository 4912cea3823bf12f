"""What docs/security.md says is tested is: each control names tests that there are."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs/security.md").read_text(encoding="utf-8")

HEAD = ["asset", "attacker", "attack", "control", "test"]
TEST = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")


def rows() -> list[list[str]]:
    """Return the rows of the threat model, each with its five cells."""
    tables = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in PAGE.splitlines() if line[:1] == "|"
    ]
    found, is_inside = [], False
    for cells in tables:
        if len(cells) != len(HEAD) or cells == HEAD:
            is_inside = cells == HEAD
        elif is_inside and set("".join(cells)) != {"-"}:
            found.append(cells)
    return found


@cache
def names_in(path: str) -> frozenset[str]:
    nodes = ast.walk(ast.parse((ROOT / path).read_text(encoding="utf-8")))
    return frozenset(node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def test_the_threat_model_is_found() -> None:
    assert len(rows()) >= 40


@pytest.mark.parametrize("row", rows(), ids=lambda row: row[2][:60])
def test_each_control_names_tests_that_there_are(row: list[str]) -> None:
    assert all(row)
    named = TEST.findall(row[-1])
    assert named
    assert re.sub(TEST, "", row[-1]).strip(" ,") == "", "nothing but tests stands in this column"
    for path, test in named:
        assert test in names_in(path), f"{path} has no {test}"
        assert test.startswith("test_")


def test_every_page_that_is_linked_is_there() -> None:
    for page in (ROOT / "docs/security.md", ROOT / "SECURITY.md"):
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), target
