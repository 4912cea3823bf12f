"""JSON values: the type, the checked and bounded copy of untrusted Python data, and the wire form of integers."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from math import isfinite
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    JsonValue: TypeAlias = "bool | int | float | str | list[JsonValue] | dict[str, JsonValue] | None"
else:
    JsonValue = Any  # msgspec, which reads stored events, knows no recursive types; whatever JSON holds will do
JsonObject: TypeAlias = dict[str, JsonValue]

MAX_DEPTH = 64
"""How deeply arrays and objects may nest, in what comes in and in what tools return."""

MAX_SAFE_INTEGER = 2**53 - 1
"""The largest integer every JSON reader holds exactly (RFC 8259 section 6, I-JSON RFC 7493 section 2.2)."""

MAX_INTEGER_DIGITS = 4300
"""As many digits as Python turns into text and back by default (sys.int_info.default_max_str_digits)."""

INTEGER_BOUND = 10**MAX_INTEGER_DIGITS


class NotJsonError(ValueError):
    """The value has no JSON form; the message says where and why."""


class TooLargeError(ValueError):
    """The value's JSON form would be larger than allowed."""


def copy_json(value: Mapping[Any, object], max_bytes: int) -> JsonObject:
    """Return `value` as a plain, unshared JSON object whose text is at most about `max_bytes` long.

    Tuples become lists, as in `json.dumps`. The walk stops as soon as the budget is spent, so a hostile value
    costs no more than an allowed one.

    Raises:
        NotJsonError: NaN or infinity, a key that is not text, lone surrogates or NUL in a text, a cycle or
            nesting past MAX_DEPTH, an integer past MAX_INTEGER_DIGITS, or any other type.
        TooLargeError: the value is larger than `max_bytes`.
    """
    return _copy_object(value, [max_bytes], MAX_DEPTH)


def _copy(value: object, left: list[int], levels: int) -> JsonValue:
    """Copy one value; `left` holds what remains of the whole copy's budget, `levels` of its depth."""
    # exact types first: they are nearly all there is, and this runs several times a step
    kind = type(value)
    if kind is str:
        size = _text_size(value)  # type: ignore[arg-type]
    elif kind is dict:
        return _copy_object(value, left, levels)  # type: ignore[arg-type]
    elif kind is int:
        size = 8 if -MAX_SAFE_INTEGER <= value <= MAX_SAFE_INTEGER else _integer_size(value)  # type: ignore[operator,arg-type]
    elif kind is list or kind is tuple:
        return _copy_array(value, left, levels)  # type: ignore[arg-type]
    elif kind is bool or value is None:
        size = 4
    elif kind is float and isfinite(value):  # type: ignore[arg-type]
        size = 8
    elif isinstance(value, Mapping):
        return _copy_object(value, left, levels)
    else:
        return _copy(_plain(value), left, levels)
    _spend(left, size)
    return value  # type: ignore[return-value]


def _copy_object(value: Mapping[Any, object], left: list[int], levels: int) -> JsonObject:
    if not levels:
        raise NotJsonError(f"it is nested more than {MAX_DEPTH} levels deep, or holds itself")
    result: JsonObject = {}
    for key, item in value.items():
        if type(key) is not str:
            raise NotJsonError(f"an object key is {type(key).__name__}, not text")
        _spend(left, _text_size(key))
        result[key] = _copy(item, left, levels - 1)
    return result


def _copy_array(value: Sequence[object], left: list[int], levels: int) -> list[JsonValue]:
    if not levels:
        raise NotJsonError(f"it is nested more than {MAX_DEPTH} levels deep, or holds itself")
    _spend(left, len(value))
    return [_copy(item, left, levels - 1) for item in value]


def _plain(value: object) -> object:
    """Return the plain form of a subclass of a JSON type (an enum, an OrderedDict, a namedtuple).

    Raises:
        NotJsonError: it is no JSON type at all.
    """
    if isinstance(value, float) and isfinite(value):
        return float(value)
    if isinstance(value, float):
        raise NotJsonError(f"{float(value)!r} is not a JSON number")
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, int):
        return int.__index__(value)
    if isinstance(value, list | tuple):
        return list(value)
    raise NotJsonError(f"{type(value).__name__} is not a JSON type")


def _spend(left: list[int], size: int) -> None:
    left[0] -= size
    if left[0] < 0:
        raise TooLargeError


def _integer_size(value: int) -> int:
    if not -INTEGER_BOUND < value < INTEGER_BOUND:
        raise NotJsonError(f"an integer has more than {MAX_INTEGER_DIGITS} digits")
    return value.bit_length() * 3 // 10 + 2


def _text_size(text: str) -> int:
    if text.isascii() and "\0" not in text:
        return len(text) + 2
    problem = text_problem(text)
    if problem:
        raise NotJsonError(f"a text holds {problem}")
    return len(text.encode()) + 2


BLANK = r"\u0000-\u0020\u007f-\u00a0\u1680\u2000-\u200f\u2028-\u202f\u205f-\u2064\u3000\ufeff"
"""White space, control and zero-width characters, as a regular expression's class: dialects disagree on \\s."""

_VISIBLE = re.compile(f"[^{BLANK}]")


def is_blank(text: str) -> bool:
    """Say whether `text` shows a person nothing."""
    return _VISIBLE.search(text) is None


def text_problem(text: str) -> str | None:
    """Say what makes `text` impossible to store as UTF-8 database text, or None.

    PostgreSQL text holds neither NUL nor anything that is not UTF-8.
    """
    if "\0" in text:
        return "a NUL character"
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            return "a lone surrogate"
    return None


def unshared(value: JsonObject) -> JsonObject:
    """Return a copy of JSON data that shares no object or array with it; nothing is checked again."""
    return {key: _unshared(item) if type(item) in _CONTAINERS else item for key, item in value.items()}


def _unshared(value: JsonValue) -> JsonValue:
    if isinstance(value, dict):
        return unshared(value)
    if isinstance(value, list):
        return [_unshared(item) for item in value]
    return value


_CONTAINERS = frozenset({dict, list})


def wire_form(value: JsonObject) -> JsonObject:
    """Return `value` with integers beyond 2^53-1 as strings of digits, so that no reader rounds them."""
    return {key: _wire_form(item) for key, item in value.items()}


def _wire_form(value: JsonValue) -> JsonValue:
    if isinstance(value, int):  # bool is an int, and small
        return value if -MAX_SAFE_INTEGER <= value <= MAX_SAFE_INTEGER else str(value)
    if isinstance(value, dict):
        return wire_form(value)
    if isinstance(value, list):
        return [_wire_form(item) for item in value]
    return value
