from __future__ import annotations

from typing import Any, cast

import pytest
from fake_runs import AT, FakeRunStore, step
from msgspec.structs import replace

from app.agent.events import (
    Event,
    RunFinished,
    RunStarted,
    Step,
    ToolCompleted,
    ToolIntended,
    ToolInterrupted,
    ToolResolved,
)
from app.errors import RunPrunedError
from app.runs import trace
from app.runs.models import FinishedRun, Run
from app.runs.ports import RunStore
from app.runs.trace import finished, trace_of

STARTED = RunStarted("go", None, ())
INTENDED = ToolIntended(2, "send", {"to": "me"})
DOUBTFUL = ToolInterrupted(2, "send", 1, "timeout: send did not answer within 30 s.", in_doubt=True)


def store_of(*events: Event) -> tuple[Any, Run]:
    store = FakeRunStore()
    store.append("run-1", *events)
    return cast(RunStore, store), store.runs["run-1"]


async def numbers(store: Any, run: Run, after: int, limit: int) -> tuple[list[int], int | None]:
    found = await trace_of(store, run, after, limit)
    assert found.run is run
    return [one.step for one in found.steps], found.next_after


async def test_a_trace_is_read_in_pages_that_leave_nothing_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trace, "PAGE", 2)
    store, run = store_of(STARTED, *[step(number) for number in range(1, 6)])
    assert await numbers(store, run, 0, 2) == ([1, 2], 2)
    assert await numbers(store, run, 2, 2) == ([3, 4], 4)
    assert await numbers(store, run, 4, 2) == ([5], None)
    assert await numbers(store, run, 3, 2) == ([4, 5], None)
    assert await numbers(store, run, 5, 2) == ([], None)
    assert await numbers(store, run, 0, 5) == ([1, 2, 3, 4, 5], None)


async def test_a_step_in_doubt_is_the_last_of_the_trace() -> None:
    store, run = store_of(STARTED, step(1), INTENDED, DOUBTFUL)
    found = await trace_of(store, run, 0, 10)
    assert found.steps[1] == Step(
        2,
        "send",
        {"to": "me"},
        None,
        "in_doubt: timeout: send did not answer within 30 s. Whether it had its effect is unknown.",
        AT,
    )
    assert await numbers(store, run, 2, 10) == ([], None)
    assert await numbers(store, run, 0, 1) == ([1], 1)


@pytest.mark.parametrize(
    ("after", "expected"),
    [
        ([ToolInterrupted(2, "send", 1, "why", in_doubt=False)], [1]),
        ([DOUBTFUL, ToolResolved(2, happened=False)], [1]),
        ([DOUBTFUL, ToolResolved(2, happened=True), ToolCompleted(Step(2, "send", {}, {}, None, AT))], [1, 2]),
        ([DOUBTFUL, RunFinished("cancelled", "The run was cancelled.", "cancelled")], [1, 2]),
    ],
)
async def test_a_doubt_is_shown_until_it_is_settled(after: list[Event], expected: list[int]) -> None:
    store, run = store_of(STARTED, step(1), INTENDED, *after)
    assert (await numbers(store, run, 0, 10))[0] == expected


async def test_a_finished_run_is_its_end_and_all_its_steps() -> None:
    store, run = store_of(STARTED, step(1), step(2), RunFinished("error", "no", "declined"))
    assert await finished(store, run) == FinishedRun("run-1", "error", "no", [step(1).step, step(2).step])


async def test_the_steps_of_a_pruned_run_are_gone() -> None:
    store, run = store_of(STARTED, RunFinished("success", "done"))
    run = replace(run, pruned_at=AT)
    for attempt in (finished(store, run), trace_of(store, run, 0, 10)):
        with pytest.raises(RunPrunedError, match=run.head_hash.hex()):
            await attempt
