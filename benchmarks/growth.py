"""Memory over many runs in one process that keeps them: what is not given back."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from statistics import linear_regression
from typing import Final

from app.bootstrap import open_runs
from app.config import Settings
from benchmarks.durable import run_as_a_server_does
from benchmarks.place import ROOT, new_directory
from benchmarks.process import own_megabytes
from benchmarks.row import Row

AT_ONCE: Final = 64
LIMIT_S: Final = 1800.0


def measure(*, quick: bool) -> list[Row]:
    """Return the row of a service over SQLite, used without HTTP."""
    number = 10_000 if quick else 100_000
    command = [sys.executable, "-m", "benchmarks.growth", str(number)]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=LIMIT_S, check=False)
    if ran.returncode:
        raise RuntimeError(ran.stdout + ran.stderr)
    megabytes: list[float] = json.loads(ran.stdout)
    every = number // (len(megabytes) - 1)
    warm = megabytes[len(megabytes) // 5 :]
    slope = linear_regression(range(len(warm)), warm).slope * 10_000 / every
    return [
        Row(f"memory that 10,000 runs add, over {number:,}", "MB", slope, target=1.0),
        Row(f"resident memory after {number:,} runs", "MB", megabytes[-1], megabytes[0], "before them"),
    ]


async def _run(settings: Settings, number: int, samples: int = 20) -> Sequence[float]:
    """Carry out so many runs, each of another goal, and return the memory before them and after each share."""
    async with open_runs(settings) as service:
        numbers = iter(range(number))

        async def client(share: int) -> None:
            for _ in range(share):
                run = await service.run_task(f"Calculate the result of (100 + {next(numbers)}) * 2")
                assert run.status == "success"

        megabytes = [own_megabytes(os.getpid())]
        for _ in range(samples):
            await asyncio.gather(*(client(number // samples // AT_ONCE) for _ in range(AT_ONCE)))
            gc.collect()
            megabytes.append(own_megabytes(os.getpid()))
        return megabytes


if __name__ == "__main__":
    with new_directory() as directory:
        settings = Settings(_env_file=None, data_dir=directory, database_url=None)
        print(json.dumps(run_as_a_server_does(lambda: _run(settings, int(sys.argv[1])))))
