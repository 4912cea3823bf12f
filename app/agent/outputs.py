"""Structured output: an answer that has to be JSON of a given form."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from math import isinf, log
from typing import Any, Final
from urllib.parse import unquote

import jsonschema_rs
import msgspec

from ..errors import InvalidOutputSchemaError, ModelResponseError
from ..jsonvalue import JsonObject, JsonValue, NotJsonError, TooLargeError, copy_json, text_problem

_encode = msgspec.json.Encoder().encode

MAX_SCHEMA_BYTES: Final = 32 * 1024
MAX_SUBSCHEMAS: Final = 10_000
"""How many subschemas a schema may come to when each `$ref` is replaced by what it refers to: a check takes them
all, and a few hundred bytes can come to more than there is time for."""

MAX_CHECKS: Final = 1_000_000
"""How many subschemas are checked at most, of a schema that refers to itself: about a second's work."""

MAX_ANSWER_BYTES: Final = 90 * 1024
"""How long an answer may be as a JSON text. A longer one would be cut when it is stored (at 96 KiB, in
app/runs/capping.py), and be no JSON any more."""

MAX_REASON_CHARS: Final = 500

_ONE: Final = (
    *("additionalItems", "additionalProperties", "contains", "contentSchema", "else", "if", "items", "not"),
    *("propertyNames", "then", "unevaluatedItems", "unevaluatedProperties"),
)
_AGAIN: Final = ("contains", "else", "if", "not", "then")
_SEVERAL: Final = ("allOf", "anyOf", "items", "oneOf", "prefixItems")
_INSIDE: Final = (
    *("additionalItems", "additionalProperties", "contains", "items", "prefixItems", "propertyNames"),
    *("unevaluatedItems", "unevaluatedProperties"),
)
_ANYWHERE: Final = "*"
_DYNAMIC: Final = ("$dynamicRef", "$recursiveRef")
_RENAMING: Final = ("$id", "$schema", *_DYNAMIC)
_BY_NAME: Final = ("dependencies", "dependentSchemas", "patternProperties", "properties")


class OutputForm:
    """What the text of an answer has to be.

    Raises:
        InvalidOutputSchemaError: the schema is none, or too large, or refers to itself in ways that are not
            supported: a `$ref` is `#` or `#/...`, and there is no `$id` but that of the whole.
    """

    __slots__ = ("_max_depth", "_validator", "schema")

    def __init__(self, schema: JsonObject) -> None:
        if not isinstance(schema, dict):
            raise InvalidOutputSchemaError("output_schema is no JSON Schema: it has to be an object.")
        try:
            self.schema = copy_json(schema, MAX_SCHEMA_BYTES)
            self._max_depth = _check_expansion(self.schema)
            self._validator = jsonschema_rs.validator_for(self.schema, offline=True)
        except TooLargeError as error:
            raise InvalidOutputSchemaError(f"output_schema is larger than {MAX_SCHEMA_BYTES} bytes.") from error
        except (NotJsonError, jsonschema_rs.ValidationError, jsonschema_rs.ReferencingError, ValueError) as error:
            reason = str(error).partition("\n")[0][:MAX_REASON_CHARS]
            raise InvalidOutputSchemaError(f"output_schema is no JSON Schema: {reason}") from error

    def checked(self, text: str) -> str:
        """Return the answer as compact JSON.

        Raises:
            ModelResponseError: it is not of this form; the message tells the model why.
        """
        try:
            value = json.loads(_unfenced(text.strip()), parse_constant=_refuse, parse_float=_finite)
            compact = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
        except (ValueError, RecursionError) as error:
            raise ModelResponseError(f"The answer has to be one JSON value and nothing else: {error}") from error
        problem = text_problem(compact)
        if problem:
            raise ModelResponseError(f"The answer holds {problem}, which cannot be stored.")
        if self._max_depth < _depth(value):
            raise ModelResponseError(
                "The answer is nested too deeply for its schema, which refers to itself in several ways: "
                f"{self._max_depth} levels can be checked."
            )
        try:
            self._validator.validate(value)
        except jsonschema_rs.ValidationError as error:
            path = "/".join(str(part) for part in error.instance_path)
            reason = str(error.message)[:MAX_REASON_CHARS]
            raise ModelResponseError(
                f"The answer does not satisfy its schema{f' at {path}' if path else ''}: {reason}"
            ) from error
        if len(_encode(compact)) > MAX_ANSWER_BYTES:
            raise ModelResponseError(f"The answer is longer than {MAX_ANSWER_BYTES} bytes of JSON. Be shorter.")
        return compact


def _check_expansion(schema: JsonObject) -> int:
    """Raise InvalidOutputSchemaError if the schema comes to too much; each cycle is gone round once.

    Returns:
        how deeply an answer may be nested: with each level, whatever a schema says of one place by referring back
        to itself several times is checked that many times more often.
    """
    _check_names(schema)
    targets: dict[str, JsonValue] = {"#": schema}
    pending: list[tuple[JsonValue, frozenset[str], str]] = [(schema, frozenset(targets), "")]
    count = 0
    back: Counter[str] = Counter()
    while pending:
        subschema, path, place = pending.pop()
        count += 1
        if count > MAX_SUBSCHEMAS:
            raise InvalidOutputSchemaError(f"output_schema comes to more than {MAX_SUBSCHEMAS} subschemas.")
        if not isinstance(subschema, dict):
            continue
        reference = subschema.get("$ref")
        if isinstance(reference, str) and reference in path:
            back[place] += 1
        elif isinstance(reference, str):
            if reference not in targets:
                targets[reference] = _target(schema, reference)
            pending.append((targets[reference], path | {reference}, place))
        pending.extend([(part, path, place if at is None else at) for part, at in _parts(subschema)])
    anywhere = back.pop(_ANYWHERE, 0)
    times = anywhere + max(back.values(), default=0)
    return MAX_ANSWER_BYTES if times < 2 else int(log(MAX_CHECKS / count, times))


def _depth(value: JsonValue) -> int:
    """Return how deeply lists and objects are nested in a value."""
    deepest = 0
    pending = [(value, 0)]
    while pending:
        found, depth = pending.pop()
        deepest = max(deepest, depth)
        if isinstance(found, dict | list):
            inside = found.values() if isinstance(found, dict) else found
            pending.extend([(part, depth + 1) for part in inside])
    return deepest


def _parts(schema: JsonObject) -> Iterator[tuple[JsonValue, str | None]]:
    """Yield the subschemas that a schema applies, as often as it does; those in `$defs` only stand there.

    With each comes the place in an answer that it is for: the name of a property, `_ANYWHERE`, or None for the
    same place.
    """
    # what is left unevaluated is found out by checking again, for each of these
    times = 3 if "unevaluatedProperties" in schema or "unevaluatedItems" in schema else 1
    for keyword in _ONE:
        if isinstance(part := schema.get(keyword), dict):
            at = _ANYWHERE if keyword in _INSIDE else None
            yield from [(part, at)] * (times if keyword in _AGAIN else 1)
    for keyword in _SEVERAL:
        if isinstance(parts := schema.get(keyword), list):
            at = _ANYWHERE if keyword in _INSIDE else None
            yield from [(part, at) for part in parts * times]
    for keyword in _BY_NAME:
        if isinstance(named := schema.get(keyword), dict):
            yield from [(part, name if keyword == "properties" else _ANYWHERE) for name, part in named.items()]


def _target(schema: JsonObject, reference: str) -> JsonValue:
    if reference != "#" and not reference.startswith("#/"):
        raise InvalidOutputSchemaError(f"output_schema: a $ref has to be # or #/..., not {reference[:100]}.")
    found: JsonValue = schema
    for part in unquote(reference).split("/")[1:]:
        name = part.replace("~1", "/").replace("~0", "~")
        if isinstance(found, dict):
            found = found.get(name)
        elif isinstance(found, list) and name.isascii() and name.isdecimal() and len(name) < 6:
            found = found[int(name)] if int(name) < len(found) else None
        else:
            found = None
    if not isinstance(found, dict | bool):
        raise InvalidOutputSchemaError(f"output_schema: there is nothing at {reference[:100]}.")
    return found


def _check_names(schema: JsonObject) -> None:
    """Refuse what gives `#` another meaning in a part of the schema than in the whole of it."""
    pending: list[JsonValue] = [schema]
    renaming = (*_RENAMING, "id") if "draft-04" in str(schema.get("$schema")) else _RENAMING
    while pending:
        value = pending.pop()
        if isinstance(value, dict):
            for keyword in renaming:
                if isinstance(value.get(keyword), str) and (value is not schema or keyword in _DYNAMIC):
                    raise InvalidOutputSchemaError(f"output_schema: {keyword} is not supported there.")
            pending.extend(value.values())
        elif isinstance(value, list):
            pending.extend(value)


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is no JSON")


def _finite(digits: str) -> float:
    value = float(digits)
    if isinf(value):
        raise ValueError(f"{digits[:20]} is too large a number")
    return value


def _unfenced(text: str) -> str:
    """Return what stands inside a Markdown code fence that wraps the whole text."""
    if text.startswith("```") and text.endswith("```") and "\n" in text:
        return text[text.index("\n") + 1 : -3].strip()
    return text
