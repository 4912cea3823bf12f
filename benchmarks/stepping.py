"""What a step and a run cost in CPU time, and whether that stays the same as runs get longer."""

from __future__ import annotations

from benchmarks.row import HAND, Row
from benchmarks.sample import least, one_after_another
from benchmarks.script import yielding


async def measure(*, quick: bool) -> list[Row]:
    """Return the rows; the first is what the speed of the machine is told by."""
    rounds, share = (3, 10) if quick else (30, 1)
    hundred = await least(100, one_after_another(max(40 // share, 1)), rounds)
    three_hundred = await least(300, one_after_another(max(12 // share, 1)), rounds)
    one = await least(1, one_after_another(2000 // share), rounds)
    paused = await least(100, one_after_another(max(20 // share, 1)), rounds, yielding)
    return [
        Row(
            "CPU a step (runs of 100)", "µs", hundred.ours / 100, hundred.reference / 100, HAND, 12.0, scales=True
        ),
        Row("CPU a run of one step", "µs", one.ours, one.reference, HAND, 30.0, scales=True),
        Row(
            "CPU of 300 steps over that of 100",
            "x",
            three_hundred.ours / hundred.ours,
            three_hundred.reference / hundred.reference,
            HAND,
            3.3,
        ),
        Row("CPU a step, the model suspending once a call", "µs", paused.ours / 100, paused.reference / 100, HAND),
    ]
