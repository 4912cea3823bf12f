"""The one command: `uv run python benchmarks/run.py` measures everything and prints one table."""

from __future__ import annotations

import argparse
import asyncio
import os
import platform
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from time import perf_counter
from typing import Final

from benchmarks import (
    concurrency,
    draining,
    growth,
    guarded,
    journal,
    modelcall,
    serving,
    startup,
    stepping,
    streams,
)
from benchmarks.load import client_name
from benchmarks.place import file_system, use_a_real_disk
from benchmarks.row import Row, table
from benchmarks.sample import handmade_step_us

HANDMADE_STEP_US: Final = 5.0
"""What a step of the hand-made loop took on the machine that the targets were set on."""

MEASURES: Final[dict[str, Callable[[argparse.Namespace], list[Row]]]] = {
    "stepping": lambda options: asyncio.run(stepping.measure(quick=options.quick)),
    "modelcall": lambda options: asyncio.run(modelcall.measure(quick=options.quick)),
    "concurrency": lambda options: asyncio.run(concurrency.measure(quick=options.quick)),
    "import": lambda options: startup.measure_import(quick=options.quick),
    "startup": lambda options: startup.measure_serving(quick=options.quick),
    "journal": lambda options: journal.measure(quick=options.quick, postgres=options.postgres),
    "serving": lambda options: serving.measure(options.client, quick=options.quick, postgres=options.postgres),
    "guarded": lambda options: guarded.measure(options.client, quick=options.quick),
    "streams": lambda options: streams.measure(options.client, quick=options.quick),
    "draining": lambda options: draining.measure(quick=options.quick, postgres=options.postgres),
    "growth": lambda options: growth.measure(quick=options.quick),
}
"""In the order of the table."""

NEED_A_SERVER: Final = {"startup", "serving", "guarded", "streams", "draining"}
LONG: Final = {"streams", "draining", "growth"}
"""What takes minutes, and is left out of a quick run unless it is asked for by name."""


def main() -> None:
    """Measure and print. A missed target is a word in the table, never an exit status: this is no timed test."""
    options = _options()
    disk = use_a_real_disk()
    started = perf_counter()
    rows = [row for name in _wanted(options) for row in MEASURES[name](options)]
    slowness = handmade_step_us() / HANDMADE_STEP_US
    print(_preamble(slowness, options.client, disk))
    print(table(rows, slowness))
    print(
        f"\nTook {perf_counter() - started:.0f} s{', quick: too short to be judged by' if options.quick else ''}."
    )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="only show that everything runs (under a minute)")
    parser.add_argument("--only", action="append", choices=MEASURES, help="just this one; may be given again")
    parser.add_argument("--no-http", action="store_true", help="leave out what needs a server")
    parser.add_argument(
        "--no-postgres", dest="postgres", action="store_false", help="leave out what needs Postgres"
    )
    parser.add_argument("--client", choices=["wrk", "python"], help="load generator (default: wrk if installed)")
    options = parser.parse_args()
    options.client = client_name(options.client)
    return options


def _wanted(options: argparse.Namespace) -> list[str]:
    left_out = (NEED_A_SERVER if options.no_http else set()) | (LONG if options.quick else set())
    return [name for name in MEASURES if name in (options.only or MEASURES.keys() - left_out)]


def _preamble(slowness: float, client: str, disk: Path) -> str:
    python = f"Python {platform.python_version()}"
    packages = ", ".join(f"{name} {version(name)}" for name in ("fastapi", "pydantic", "uvicorn", "sqlalchemy"))
    lines = [
        f"{_processor()}, {os.cpu_count()} cores, {platform.system()}, {python}, {packages}.",
        f"A step of the hand-made loop takes {slowness:.1f} times the {HANDMADE_STEP_US:g} µs of the machine that",
        'the targets were set on; "ok (scaled)" meets a target multiplied by that.',
        f"Load over HTTP: {client}. Databases are on {file_system(disk) or 'a disk'}.",
    ]
    return "\n".join(lines) + "\n"


def _processor() -> str:
    information = Path("/proc/cpuinfo")
    if information.exists():
        for line in information.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


if __name__ == "__main__":
    main()
