from __future__ import annotations

import enum
import json
import math
from collections import OrderedDict
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.jsonvalue import (
    MAX_DEPTH,
    MAX_SAFE_INTEGER,
    NotJsonError,
    TooLargeError,
    copy_json,
    text_problem,
    unshared,
    wire_form,
)

texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts
values = st.recursive(scalars, lambda inner: st.lists(inner) | st.dictionaries(texts, inner), max_leaves=20)
objects = st.dictionaries(texts, values)


class Colour(enum.StrEnum):
    RED = "red"


class Level(enum.IntEnum):
    HIGH = 3


class Point(NamedTuple):
    x: int
    y: int


class Ratio(float):
    pass


@given(objects)
def test_a_copy_of_json_data_equals_it(value: dict[str, Any]) -> None:
    assert copy_json(value, 10**6) == value


@given(objects)
def test_what_json_dumps_accepts_is_what_comes_out(value: dict[str, Any]) -> None:
    assert json.loads(json.dumps(copy_json(value, 10**6))) == json.loads(json.dumps(value))


def test_a_copy_shares_nothing_with_its_source() -> None:
    source = {"list": [1, {"deep": [2]}], "object": {"a": []}}
    for copied in (copy_json(source, 1000), unshared(source)):
        assert copied == source
        copied["list"][1]["deep"].append(3)  # type: ignore[index, call-overload, union-attr]
        copied["object"]["a"].append(1)  # type: ignore[index, call-overload, union-attr]
    assert source == {"list": [1, {"deep": [2]}], "object": {"a": []}}


def test_subclasses_of_json_types_become_plain() -> None:
    source = {"a": Colour.RED, "b": Level.HIGH, "c": Point(1, 2), "d": OrderedDict(k=True), "e": Ratio(0.5)}
    copied = copy_json(source, 1000)
    assert copied == {"a": "red", "b": 3, "c": [1, 2], "d": {"k": True}, "e": 0.5}
    assert [type(item) for item in copied.values()] == [str, int, list, dict, float]


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (math.nan, "nan is not a JSON number"),
        (math.inf, "inf is not a JSON number"),
        (Ratio("-inf"), "-inf is not a JSON number"),
        (b"bytes", "bytes is not a JSON type"),
        ({1, 2}, "set is not a JSON type"),
        (object(), "object is not a JSON type"),
        ({1: "a"}, "an object key is int, not text"),
        ("\ud800", "a lone surrogate"),
        ({"\ud800": 1}, "a lone surrogate"),
        ("a\0b", "a NUL character"),
        ("big", "more than 4300 digits"),
    ],
)
def test_what_is_not_json_is_refused_with_the_reason(value: object, reason: str) -> None:
    value = 10**4300 if value == "big" else value  # pytest could not print it
    with pytest.raises(NotJsonError, match=reason):
        copy_json({"value": value}, 10**6)


def test_the_largest_integer_allowed_can_be_written_and_read() -> None:
    largest = 10**4300 - 1
    copied = copy_json({"n": largest, "m": -largest}, 10**6)
    assert json.loads(json.dumps(copied)) == {"n": largest, "m": -largest}
    assert wire_form(copied)["n"] == "9" * 4300


def test_a_value_that_holds_itself_is_refused() -> None:
    cycle: dict[str, Any] = {}
    cycle["self"] = cycle
    loop: list[Any] = []
    loop.append(loop)
    for value in (cycle, {"loop": loop}):
        with pytest.raises(NotJsonError, match="nested more than"):
            copy_json(value, 10**6)


def test_nesting_is_allowed_up_to_the_limit() -> None:
    def nested(levels: int) -> dict[str, Any]:
        value: dict[str, Any] = {}
        for _ in range(levels - 1):
            value = {"n": value}
        return value

    assert copy_json(nested(MAX_DEPTH), 10**6) == nested(MAX_DEPTH)
    with pytest.raises(NotJsonError):
        copy_json(nested(MAX_DEPTH + 1), 10**6)


@pytest.mark.parametrize("value", ["x" * 200, ["x"] * 200, {str(n): n for n in range(100)}, [[]] * 200, 10**300])
def test_a_value_past_its_budget_is_refused(value: object) -> None:
    with pytest.raises(TooLargeError):
        copy_json({"value": value}, 100)


def test_an_endless_object_costs_no_more_than_its_budget() -> None:
    class Endless(dict[str, int]):
        def items(self) -> Any:
            return (("k", 1) for _ in iter(int, 1))

    for value in (Endless(), {"nested": Endless()}):
        with pytest.raises(TooLargeError):
            copy_json(value, 1000)


@given(st.integers())
def test_integers_no_reader_rounds_stay_numbers_and_others_become_digits(number: int) -> None:
    wired = wire_form({"n": number, "list": [{"n": number}]})
    expected = number if abs(number) <= MAX_SAFE_INTEGER else str(number)
    assert wired == {"n": expected, "list": [{"n": expected}]}


def test_wire_form_leaves_everything_else_alone() -> None:
    value = {"a": True, "b": None, "c": 1.5, "d": "x", "e": [False]}
    assert wire_form(value) == value
    assert wire_form(value)["a"] is True


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", None),
        ("plain", None),
        ("Zürich 以太坊 🙂", None),
        ("\0", "a NUL character"),
        ("\udfff", "a lone surrogate"),
    ],
)
def test_only_nul_and_lone_surrogates_cannot_be_stored(text: str, problem: str | None) -> None:
    assert text_problem(text) == problem
