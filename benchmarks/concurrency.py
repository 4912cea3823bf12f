"""Many runs at once: wall time and memory while models keep them waiting, and CPU time while nothing does."""

from __future__ import annotations

import asyncio
import gc
import tracemalloc
from time import perf_counter, process_time

from benchmarks.row import HAND, Row
from benchmarks.sample import Sample, least
from benchmarks.script import Runner, handmade_runner, our_runner, waiting, yielding

WAITING_RUNS = 1000
BUSY_RUNS = 100


async def _at_once(run: Runner, runs: int) -> None:
    await asyncio.gather(*(run() for _ in range(runs)))


async def _wall_seconds(run: Runner) -> float:
    started = perf_counter()
    await _at_once(run, WAITING_RUNS)
    return perf_counter() - started


async def _peak_kilobytes(run: Runner) -> float:
    """Return what the runs hold at their peak, per run, as tracemalloc counts it (tasks and timers included)."""
    gc.collect()
    tracemalloc.start()
    try:
        await _at_once(run, WAITING_RUNS)
        return tracemalloc.get_traced_memory()[1] / WAITING_RUNS / 1000
    finally:
        tracemalloc.stop()


def _cpu_seconds_a_run(batches: int) -> Sample:
    async def sample(run: Runner) -> float:
        started = process_time()
        for _ in range(batches):
            await _at_once(run, BUSY_RUNS)
        return (process_time() - started) / (batches * BUSY_RUNS)

    return sample


async def measure(*, quick: bool) -> list[Row]:
    """Return the rows."""
    rounds, batches = (2, 1) if quick else (15, 4)
    wall = await least(3, _wall_seconds, rounds, waiting)
    ours, hand = our_runner(3, waiting), handmade_runner(3, waiting)
    kilobytes = await _peak_kilobytes(ours), await _peak_kilobytes(hand)
    busy = await least(10, _cpu_seconds_a_run(batches), rounds)
    taking_turns = await least(10, _cpu_seconds_a_run(batches), rounds, yielding)
    return [
        Row(
            "wall time of 1,000 runs at once, 4 model calls of 20 ms each",
            "s",
            wall.ours,
            wall.reference,
            HAND,
            0.25,
            scales=True,
        ),
        Row("memory of such a run (peak, tracemalloc)", "KB", *kilobytes, HAND, 20.0),
        Row(
            "runs of 10 steps a CPU second, 100 at once",
            "/s",
            1 / busy.ours,
            1 / busy.reference,
            HAND,
            6000.0,
            "at least",
            scales=True,
        ),
        Row(
            "the same, the model suspending once a call",
            "/s",
            1 / taking_turns.ours,
            1 / taking_turns.reference,
            HAND,
        ),
    ]
