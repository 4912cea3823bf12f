"""How work grows with its input, told by CPU time in a way that holds on a busy machine."""

import gc
from collections.abc import Callable
from time import thread_time
from typing import Final

STEP: Final = 4
"""How much longer the second input is: linear work takes 4 times as long, quadratic work 16 times."""

MOST: Final = 8.0
ROUNDS: Final = 5


def cpu_seconds(work: Callable[[], object]) -> float:
    """Return what `work` takes of this thread alone, without the garbage of the tests before it."""
    gc.disable()
    try:
        began = thread_time()
        work()
        return thread_time() - began
    finally:
        gc.enable()


def growth(work: Callable[[str], object], text: str) -> float:
    """Return how many times longer `work` takes over all of `text` than over a quarter of it.

    Each is the quickest of some rounds, which end with the first that shows linear growth: a machine that is busy
    elsewhere makes single rounds longer, and never makes quadratic work quick.
    """
    short = long = float("inf")
    for _ in range(ROUNDS):
        short = min(short, cpu_seconds(lambda: work(text[: len(text) // STEP])))
        long = min(long, cpu_seconds(lambda: work(text)))
        if long < MOST * short:
            break
    return long / short
