from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from app.errors import InvalidRunError
from app.runs.models import MAX_PRIORITY, MIN_PRIORITY, NewRun, RunKey, RunRequest
from app.runs.requests import MAX_DEADLINE_S, MAX_METADATA_BYTES, MAX_STEPS, bounded, new_run

KEY = RunKey("default", "run-1")


def refused(**values: Any) -> str:
    with pytest.raises(InvalidRunError) as caught:
        new_run(KEY, RunRequest("go", **values))
    return str(caught.value)


def test_a_request_without_wishes_has_none() -> None:
    assert new_run(KEY, RunRequest("go")) == NewRun(KEY)


@pytest.mark.parametrize(
    "values",
    [
        {"priority": MIN_PRIORITY},
        {"priority": MAX_PRIORITY},
        {"max_steps": 1},
        {"max_steps": MAX_STEPS},
        {"deadline_s": 0.001},
        {"deadline_s": MAX_DEADLINE_S},
        {"metadata": {}},
    ],
)
def test_what_is_just_within_bounds_is_taken(values: dict[str, Any]) -> None:
    made = new_run(KEY, RunRequest("go", **values))
    name, value = next(iter(values.items()))
    assert name == "max_steps" or getattr(made, name) == value


@pytest.mark.parametrize(
    "values",
    [
        {"priority": MIN_PRIORITY - 1},
        {"priority": MAX_PRIORITY + 1},
        {"max_steps": 0},
        {"max_steps": MAX_STEPS + 1},
        {"deadline_s": 0},
        {"deadline_s": -1.0},
        {"deadline_s": MAX_DEADLINE_S + 1},
        {"deadline_s": math.nan},
        {"deadline_s": math.inf},
        {"metadata": {"x": "y" * MAX_METADATA_BYTES}},
        {"metadata": {"x": "\x01" * (MAX_METADATA_BYTES // 4)}},
        {"metadata": {"x": math.nan}},
        {"metadata": {"x": "\ud800"}},
        {"not_before": datetime(2026, 11, 22)},  # noqa: DTZ001 - that is what is wrong with it
    ],
)
def test_what_is_out_of_bounds_is_refused_by_name(values: dict[str, Any]) -> None:
    assert next(iter(values)) in refused(**values)


def test_a_moment_is_kept_in_utc() -> None:
    there = datetime(2026, 11, 22, 9, 30, tzinfo=timezone(timedelta(hours=2)))
    made = new_run(KEY, RunRequest("go", not_before=there))
    assert made.not_before == there
    assert made.not_before.tzinfo is UTC  # type: ignore[union-attr]


def test_what_is_kept_is_not_what_the_caller_goes_on_changing() -> None:
    metadata: dict[str, Any] = {"list": [1]}
    made = new_run(KEY, RunRequest("go", metadata=metadata))
    metadata["list"].append(2)
    assert made.metadata == {"list": [1]}


def test_a_bound_is_for_the_text_that_is_stored() -> None:
    assert bounded({"x": "y" * 92}, 100, "thing") == {"x": "y" * 92}
    for value in ("y" * 93, "\x01" * 16, "é" * 47):
        with pytest.raises(InvalidRunError, match="The thing is larger than 100 bytes"):
            bounded({"x": value}, 100, "thing")
