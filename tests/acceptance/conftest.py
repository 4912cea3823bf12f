"""One real server for all acceptance tests."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator

import pytest


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a server started as a user starts it."""
    process = subprocess.Popen(
        [sys.executable, "-m", "app.cli", "serve", "--port", "0"],
        cwd=tmp_path_factory.mktemp("server"),  # where no .env is
        stderr=subprocess.PIPE,
        text=True,
        env={"LOG_LEVEL": "WARNING"},
    )
    try:
        assert process.stderr is not None
        found = re.search(r"http://127\.0\.0\.1:\d+", process.stderr.readline())
        assert found, "the server did not start"
        yield found[0]
    finally:
        process.kill()
        process.communicate(timeout=10)
