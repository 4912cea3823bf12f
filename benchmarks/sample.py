"""Taking samples on a noisy machine: ours and the reference by turns, and the least CPU time of each."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from time import process_time

from benchmarks.script import Pause, Runner, handmade_runner, our_runner

Sample = Callable[[Runner], Awaitable[float]]


@dataclass(frozen=True)
class Pair:
    """The best sample of each side."""

    ours: float
    reference: float


async def least(steps: int, sample: Sample, rounds: int, pause: Pause | None = None) -> Pair:
    """Take `rounds` samples of each loop by turns and return the least: noise only ever adds."""
    ours, hand = our_runner(steps, pause), handmade_runner(steps, pause)
    pairs = []
    for _ in range(rounds):
        gc.collect()  # what the other side left behind is not this one's to clean
        first = await sample(ours)
        gc.collect()
        pairs.append((first, await sample(hand)))
    return Pair(min(ours for ours, _ in pairs), min(hand for _, hand in pairs))


def handmade_step_us() -> float:
    """Return the CPU microseconds of a step of the hand-made loop, by which the speed of a machine is told."""
    return asyncio.run(least(100, one_after_another(10), 5)).reference / 100


def one_after_another(runs: int) -> Sample:
    """Return a sample of the process's CPU microseconds for one run, over `runs` in a row."""

    async def sample(run: Runner) -> float:
        started = process_time()
        for _ in range(runs):
            await run()
        return (process_time() - started) / runs * 1e6

    return sample
