"""The one command: `uv run python benchmarks/run.py` measures everything and prints one table."""

from __future__ import annotations

import argparse
import asyncio
import os
import platform
from importlib.metadata import version
from pathlib import Path
from time import perf_counter

from benchmarks import concurrency, serving, startup, stepping
from benchmarks.load import client_name
from benchmarks.row import Row, table

HANDMADE_STEP_US = 5.0
"""What a step of the hand-made loop took on the machine that the targets were set on."""


def main() -> None:
    """Measure and print. A missed target is a word in the table, never an exit status: this is no timed test."""
    options = _options()
    started = perf_counter()
    rows = asyncio.run(_in_this_process(quick=options.quick))
    slowness = rows[0].reference / HANDMADE_STEP_US
    rows += startup.measure_import(quick=options.quick)
    client = client_name(options.client)
    if not options.no_http:
        rows += startup.measure_serving(quick=options.quick)
        rows += serving.measure(client, quick=options.quick)
    print(_preamble(slowness, None if options.no_http else client))
    print(table(rows, slowness))
    print(
        f"\nTook {perf_counter() - started:.0f} s{', quick: too short to be judged by' if options.quick else ''}."
    )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="only show that everything runs (under 20 s)")
    parser.add_argument("--no-http", action="store_true", help="leave out what needs a server")
    parser.add_argument("--client", choices=["wrk", "python"], help="load generator (default: wrk if installed)")
    return parser.parse_args()


async def _in_this_process(*, quick: bool) -> list[Row]:
    return await stepping.measure(quick=quick) + await concurrency.measure(quick=quick)


def _preamble(slowness: float, client: str | None) -> str:
    python = f"Python {platform.python_version()}"
    packages = ", ".join(f"{name} {version(name)}" for name in ("fastapi", "pydantic", "uvicorn"))
    lines = [
        f"{_processor()}, {os.cpu_count()} cores, {platform.system()}, {python}, {packages}.",
        f"A step of the hand-made loop takes {slowness:.1f} times the {HANDMADE_STEP_US:g} µs of the machine that",
        'the targets were set on; "ok (scaled)" meets a target multiplied by that.',
    ]
    if client:
        lines.append(f"Load over HTTP: {client}.")
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
