"""Fixtures shared by all tests; what is in `fakes.py` beside this file is importable from every test."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from app.config import Settings
from app.tools.base import tool_registry

# before anything is built from them: tests see neither a developer's `.env` nor her environment
for _name in Settings.model_fields:
    os.environ.pop(_name.upper(), None)
Settings.model_config["env_file"] = None


@pytest.fixture(autouse=True)
def _registry_as_it_was() -> Iterator[None]:
    """Tests may register tools; each leaves the process-wide registry as it found it."""
    before = set(tool_registry.snapshot())
    yield
    for name in set(tool_registry.snapshot()) - before:
        tool_registry.unregister(name)
