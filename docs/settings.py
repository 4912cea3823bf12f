"""Prints docs/settings.md, the reference of all settings: `uv run python docs/settings.py > docs/settings.md`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

from app.config import Settings

HEAD = """\
# Settings

Every setting there is. They are read from the environment, or from a file `.env` in the directory that the program
is started in; the environment wins. Nothing has to be set. Lists are comma-separated or JSON. Empty and unknown
variables are ignored; `serve` and `worker` warn of a name that is almost a setting's, and a bad value stops the
start with one line that names the variable.

This page is made from `app/config.py` by `uv run python docs/settings.py > docs/settings.md`.

| variable | takes | default | meaning |
|---|---|---|---|"""

TAIL = """
Traces are configured by OpenTelemetry's own variables, read from the environment alone, as
[its specification](https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/) has them:
`OTEL_EXPORTER_OTLP_ENDPOINT`, `OTEL_TRACES_SAMPLER`, `OTEL_SERVICE_NAME` and so on."""

BOUNDS = (
    ("minimum", "from {}"),
    ("exclusiveMinimum", "above {}"),
    ("maximum", "to {}"),
    ("exclusiveMaximum", "below {}"),
)
KINDS = {"string": "text", "integer": "a whole number", "number": "a number", "boolean": "`true`, `false`"}


def lines() -> Iterator[str]:
    """Yield the lines of the page."""
    schema = Settings.model_json_schema()
    yield HEAD
    for name, field in schema["properties"].items():
        default = as_written(Settings.model_fields[name].get_default(call_default_factory=True))
        shown = f"`{default}`" if default else ""
        meaning = str(field["description"]).replace("|", "\\|")
        yield f"| `{name.upper()}` | {takes(field, schema['$defs'])} | {shown} | {meaning} |"
    yield TAIL


def takes(field: dict[str, Any], kinds: dict[str, Any]) -> str:
    """Return what a variable takes: a kind of value, with its bounds."""
    [one, *_] = [option for option in field.get("anyOf", [field]) if option.get("type") != "null"]
    one = kinds[one["$ref"].rpartition("/")[2]] if "$ref" in one else one
    if "enum" in one:
        return ", ".join(f"`{value}`" for value in one["enum"])
    if one.get("format") == "password":
        return "text, kept secret"
    if one["type"] == "array":
        return "a JSON list" if "$ref" in one["items"] else "a list"
    if one.get("format") == "path":
        return "a path"
    bounds = [text.format(f"{one[name]:,.15g}") for name, text in BOUNDS if name in one]
    return " ".join([KINDS[one["type"]], *bounds])


def as_written(default: Any) -> str:
    """Return a default as one would write it into the environment."""
    if hasattr(default, "get_secret_value"):
        default = default.get_secret_value()
    if default is None:
        return ""
    if isinstance(default, tuple):
        return ",".join(default)
    if isinstance(default, bool):
        return str(default).lower()
    return f"{default:g}" if isinstance(default, float) else str(default)


if __name__ == "__main__":
    sys.stdout.reconfigure(encoding="utf-8")  # type: ignore[union-attr]
    for line in lines():
        sys.stdout.write(line + "\n")
