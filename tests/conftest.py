"""Fixtures shared by all tests; what is in `fakes.py` beside this file is importable from every test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from app.tools.base import tool_registry


@pytest.fixture(autouse=True)
def _registry_as_it_was() -> Iterator[None]:
    """Tests may register tools; each leaves the process-wide registry as it found it."""
    before = set(tool_registry.snapshot())
    yield
    for name in set(tool_registry.snapshot()) - before:
        tool_registry.unregister(name)
