"""Structured output: an answer that has to be JSON of a given form."""

from __future__ import annotations

import json
from math import isinf
from typing import Any, Final

import jsonschema_rs

from ..errors import InvalidOutputSchemaError, ModelResponseError
from ..jsonvalue import JsonObject, NotJsonError, TooLargeError, copy_json, text_problem

MAX_SCHEMA_BYTES: Final = 32 * 1024
MAX_REASON_CHARS: Final = 500


class OutputForm:
    """What the text of an answer has to be.

    Raises:
        InvalidOutputSchemaError: the schema is none, or too large.
    """

    __slots__ = ("_validator", "schema")

    def __init__(self, schema: JsonObject) -> None:
        if not isinstance(schema, dict):
            raise InvalidOutputSchemaError("output_schema is no JSON Schema: it has to be an object.")
        try:
            self.schema = copy_json(schema, MAX_SCHEMA_BYTES)
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
        try:
            self._validator.validate(value)
        except jsonschema_rs.ValidationError as error:
            path = "/".join(str(part) for part in error.instance_path)
            reason = str(error.message)[:MAX_REASON_CHARS]
            raise ModelResponseError(
                f"The answer does not satisfy its schema{f' at {path}' if path else ''}: {reason}"
            ) from error
        return compact


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
