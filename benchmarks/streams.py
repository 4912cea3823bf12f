"""What listening costs those who work: runs a second with a thousand streams of events open, and without."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from statistics import median
from typing import Final

from benchmarks.listeners import LISTENING
from benchmarks.load import requests_a_second
from benchmarks.place import ROOT, allow_many_sockets
from benchmarks.row import Row
from benchmarks.server import OURS, Server, post, serving
from benchmarks.serving import BODY, PATH

RUNS: Final = "/api/v1/runs"
CONNECTIONS: Final = 16
NOBODY: Final = "nobody listens"
MOST_STEPS: Final = 16
HOUR_MS: Final = 3_600_000

SETTINGS: Final = {
    "TOOL_MODULES": "benchmarks.slow_search",
    "RUN_CONCURRENCY": "3000",
    "MAX_RUN_SECONDS": "86400",
}


def measure(client: str, *, quick: bool) -> list[Row]:
    """Return the rows. The same runs are under way whether somebody listens to them or not."""
    allow_many_sockets()
    listeners, rounds, seconds = (50, 1, 1) if quick else (1000, 5, 3)
    with serving(OURS, **SETTINGS) as server:
        comparison = Comparison(server, client, rounds, seconds)
        idle = [_submit(server, HOUR_MS) for _ in range(listeners)]
        rows = [
            comparison.row(f"{listeners:,} listeners, each to a run that waits in a call", lambda: idle),
            comparison.row(
                f"{listeners:,} listeners to one run of a step a second",
                lambda: [_submit(server, 1000, MOST_STEPS)] * listeners,
            ),
        ]
        stepping = [_submit(server, 4000 + 2 * number, MOST_STEPS) for number in range(listeners)]
        rows.append(
            comparison.row(f"{listeners:,} listeners, each to a run of a step in five seconds", lambda: stepping)
        )
    return rows


class Comparison:
    """Loads a server with and without listeners, by turns."""

    def __init__(self, server: Server, client: str, rounds: int, seconds: int) -> None:
        self._server = server
        self._client = client
        self._rounds = rounds
        self._seconds = seconds

    def row(self, what: str, run_ids: Callable[[], list[str]]) -> Row:
        """Return the row for listeners to the runs that `run_ids` returns; it is called in each round."""
        pairs = []
        for _ in range(self._rounds):
            listened_to = run_ids()
            without = self._rate()
            with _listeners(self._server.port, listened_to):
                pairs.append((self._rate(), without))
        return Row(
            f"POST /run-task, 16 connections, beside {what}",
            "/s",
            median(listening for listening, _ in pairs),
            median(without for _, without in pairs),
            NOBODY,
            0.9,
            "at least",
            of_ratio=True,
            measured_ratio=median(listening / without for listening, without in pairs),
        )

    def _rate(self) -> float:
        return requests_a_second(self._client, self._server.port, PATH, BODY, CONNECTIONS, self._seconds)


def _submit(server: Server, milliseconds: int, times: int = 1) -> str:
    """Submit a run of so many searches of so many milliseconds, and return its id."""
    goal = ", then ".join([f"search for pause {milliseconds}"] * times)
    run_id: str = json.loads(post(server.port, RUNS, json.dumps({"goal": goal}).encode(), 202))["run_id"]
    return run_id


@contextmanager
def _listeners(port: int, run_ids: list[str]) -> Iterator[None]:
    """Have a process of its own follow the runs."""
    command = [sys.executable, "-m", "benchmarks.listeners", str(port)]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps(run_ids) + "\n")
        process.stdin.flush()
        said = process.stdout.readline().strip()
        if said != LISTENING:
            raise RuntimeError(f"{len(run_ids)} listeners could not listen: {said}")
        yield
        received, _ = process.communicate(timeout=60)
        assert int(received) > 0
