"""docs/settings.md is what docs/settings.py makes of the settings."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from app.config import Settings

DOCS = Path(__file__).parent.parent / "docs"
PAGE = (DOCS / "settings.md").read_text(encoding="utf-8")


def test_the_page_is_what_its_script_makes(tmp_path: Path) -> None:
    made = subprocess.run([sys.executable, DOCS / "settings.py"], cwd=tmp_path, capture_output=True, check=True)
    assert made.stdout.decode() == PAGE


def test_what_the_page_shows_as_defaults_are_the_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = dict(re.findall(r"^\| `([A-Z_]+)` \| [^|]+ \| (?:`([^`]*)`)? \| \S[^|]* \|$", PAGE, re.MULTILINE))
    assert [name.lower() for name in rows] == list(Settings.model_fields)
    for name, default in rows.items():
        monkeypatch.setenv(name, default)
    defaults = {name: field.get_default() for name, field in Settings.model_fields.items()}
    assert Settings(_env_file=None).model_dump() == defaults


@pytest.mark.parametrize(
    "stated",
    [
        "| `PORT` | a whole number from 0 to 65,535 | `8000` |",
        "| `MAX_RUN_SECONDS` | a number above 0 to 86,400 | `300` |",
        "| `LOG_LEVEL` | `DEBUG`, `INFO`, `WARNING`, `ERROR` | `INFO` |",
        "| `KEY_PEPPER` | text, kept secret |  |",
        "| `MAX_TOKENS` | a whole number from 1 to 1,000,000,000,000 |  |",
    ],
)
def test_the_page_says_what_a_variable_takes(stated: str) -> None:
    assert stated in PAGE
