"""`POST /run-task` with keys, rate limits, quotas and metrics, beside the same build with all of it off."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Final

from benchmarks.load import requests_a_second
from benchmarks.place import ROOT, new_directory
from benchmarks.row import Row
from benchmarks.server import OURS, Server, serving
from benchmarks.serving import BODY, PATH

OFF: Final = {"AUTHENTICATION": "off", "METRICS": "false"}
A_LOT: Final = "1000000000"
ON: Final = {
    "AUTHENTICATION": "required",
    "METRICS": "true",
    "KEY_RATE_LIMIT": "100000000/minute",
    "TENANT_RATE_LIMIT": "100000000/minute",
    **{f"{whose}_{what}": A_LOT for whose in ("KEY", "TENANT") for what in ("STEPS_PER_DAY", "TOKENS_PER_DAY")},
    "KEY_MAX_RUNS": "10000",
    "TENANT_MAX_RUNS": "10000",
}
"""All limits there are, and none of them ever reached."""

TARGET: Final = 0.8


def measure(client: str, *, quick: bool) -> list[Row]:
    """Return the rows; both servers stay up and are loaded by turns."""
    rounds, seconds = (1, 1) if quick else (6, 2)
    with serving(OURS, **OFF) as off, _guarded() as (on, key):
        if not quick:
            _spell(off, client, 16, 1)
            _spell(on, client, 16, 1, key)
        return [
            row
            for connections in (16, 64)
            for row in _rows(
                f"{connections} connections",
                [
                    (_spell(off, client, connections, seconds), _spell(on, client, connections, seconds, key))
                    for _ in range(rounds)
                ],
            )
        ]


@contextmanager
def _guarded() -> Iterator[tuple[Server, str]]:
    """Start a guarded server, and make a key beside it."""
    with new_directory() as directory, serving(OURS, DATA_DIR=str(directory), **ON) as server:
        yield server, _new_key(directory)


def _new_key(directory: Path) -> str:
    made = subprocess.run(
        [sys.executable, "-m", "app.cli", "keys", "create", "--name", "load", "--json"],
        cwd=ROOT,
        env={**os.environ, **ON, "DATA_DIR": str(directory), "DATABASE_URL": ""},
        capture_output=True,
        check=True,
        timeout=30,
    )
    key: str = json.loads(made.stdout)["key"]
    return key


def _spell(server: Server, client: str, connections: int, seconds: int, key: str = "") -> tuple[float, float]:
    """Return requests a second, and microseconds of the server's CPU for each."""
    before = server.cpu_seconds()
    rate = requests_a_second(client, server.port, PATH, BODY, connections, seconds, key)
    return rate, (server.cpu_seconds() - before) / (rate * seconds) * 1e6


def _rows(how: str, pairs: list[tuple[tuple[float, float], tuple[float, float]]]) -> list[Row]:
    rates = Row(
        f"POST /run-task guarded, {how}",
        "/s",
        median(on[0] for _, on in pairs),
        median(off[0] for off, _ in pairs),
        "all of it off",
        TARGET,
        "at least",
        of_ratio=True,
        measured_ratio=median(on[0] / off[0] for off, on in pairs),
    )
    cpu = Row(
        f"server CPU a request guarded, {how}",
        "µs",
        median(on[1] for _, on in pairs),
        median(off[1] for off, _ in pairs),
        "all of it off",
        measured_ratio=median(on[1] / off[1] for off, on in pairs),
    )
    return [rates, cpu]
