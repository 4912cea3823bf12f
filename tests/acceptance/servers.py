"""Servers for acceptance tests, started as a user starts them."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple


class Guarded(NamedTuple):
    """The address of a server, and a key that may do everything there."""

    address: str
    key: str


@contextmanager
def serving(directory: Path, **environment: str) -> Iterator[subprocess.Popen[str]]:
    """Start a server as a user starts it."""
    process = subprocess.Popen(
        [sys.executable, "-m", "app.cli", "serve", "--port", "0"],
        cwd=directory,  # where no .env is
        stderr=subprocess.PIPE,
        text=True,
        env={"LOG_LEVEL": "WARNING", **environment},
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate(timeout=10)


def said(process: subprocess.Popen[str], pattern: str) -> str:
    """Return the first thing of this form that the server says."""
    assert process.stderr is not None
    for line in process.stderr:
        found = re.search(pattern, line)
        if found:
            return found[0]
    raise AssertionError("the server did not start")


ADDRESS = r"http://127\.0\.0\.1:\d+"
