"""What it takes to be there: importing the library and building an agent, and serving the first request."""

from __future__ import annotations

import subprocess
import sys
from statistics import median
from time import perf_counter

from benchmarks.place import ROOT, new_directory
from benchmarks.process import resident_megabytes
from benchmarks.row import BARE, HAND, Row
from benchmarks.server import BARE as BARE_COMMAND
from benchmarks.server import OURS, serving

READY = "print('ready', flush=True); input()"
OUR_IMPORT = f"from app.agent.core import Agent; Agent(); {READY}"
HAND_IMPORT = f"import benchmarks.handmade; {READY}"

Cost = tuple[float, float]


def _import(code: str) -> Cost:
    """Return the seconds until a fresh interpreter says it is ready, its own start included, and its megabytes."""
    started = perf_counter()
    with subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        ready = process.stdout.readline()
        seconds = perf_counter() - started
        assert ready == "ready\n", "the import failed"
        megabytes = resident_megabytes(process.pid)
        process.communicate("\n", timeout=10)
    return seconds, megabytes


def _serve(command: list[str], **settings: str) -> Cost:
    with serving(command, **settings) as server:
        return server.up_s, server.megabytes()


def _median(costs: list[Cost]) -> Cost:
    return median(seconds for seconds, _ in costs), median(megabytes for _, megabytes in costs)


def measure_import(*, quick: bool) -> list[Row]:
    """Return the rows of the library."""
    rounds = 1 if quick else 5
    for code in (OUR_IMPORT, HAND_IMPORT):
        _import(code)  # so that every module is compiled and in the page cache
    pairs = [(_import(OUR_IMPORT), _import(HAND_IMPORT)) for _ in range(rounds)]
    ours, hand = _median([pair[0] for pair in pairs]), _median([pair[1] for pair in pairs])
    return [
        Row("import the library and build an Agent", "s", ours[0], hand[0], HAND, 0.2, scales=True),
        Row("peak memory of that process", "MB", ours[1], hand[1], HAND, 45.0),
    ]


def measure_serving(*, quick: bool) -> list[Row]:
    """Return the rows of the service."""
    rounds = 1 if quick else 5
    _serve(BARE_COMMAND)  # so that every module is compiled and in the page cache
    with new_directory() as directory:
        known = {"DATA_DIR": str(directory)}
        _serve(OURS, **known)
        costs = [(_serve(OURS, **known), _serve(BARE_COMMAND), _serve(OURS)) for _ in range(rounds)]
    again, bare, first = (_median(list(column)) for column in zip(*costs, strict=True))
    return [
        Row("service up (first 200 of /health)", "s", again[0], bare[0], BARE, 0.9, scales=True),
        Row("peak memory of the service then", "MB", again[1], bare[1], BARE, 70.0),
        Row("service up for the first time, making its tables", "s", first[0], bare[0], BARE),
        Row("peak memory of the service then, its tables made", "MB", first[1], bare[1], BARE),
    ]
