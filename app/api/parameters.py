"""Path, query and header parameters, read as strictly as the OpenAPI document states them."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Annotated, TypeAlias

from fastapi import Header, Path, Query
from pydantic import AfterValidator, BeforeValidator, Field

from ..errors import RunNotFoundError
from ..runs.models import CURSOR_PATTERN, RunStatus
from .run_models import EXAMPLE_ID

MAX_NUMBER = 2**53 - 1

_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE | re.ASCII)
_WHOLE = re.compile(r"[0-9]{1,16}", re.ASCII)


def _known_form(run_id: str) -> str:
    if not _ID.fullmatch(run_id):
        raise RunNotFoundError(f"There is no run {run_id[:80]!r}; run ids are UUIDs.")
    return run_id.lower()


def _whole(least: int, most: int) -> Callable[[object], object]:
    """Return what reads digits as a number. Pydantic would read much else as one ("1.0", "+1", " 1", "1_0")."""

    def read(value: object) -> object:
        if not isinstance(value, str):
            return value
        number = int(value) if _WHOLE.fullmatch(value) else -1
        if not least <= number <= most:
            raise ValueError(f"It is not a whole number from {least} to {most}.")
        return number

    return read


def _flag(value: object) -> object:
    """Return true or false. Pydantic would take "yes", "on" and "1" for true as well."""
    if isinstance(value, bool):
        return value
    if value not in ("true", "false"):
        raise ValueError("It is neither true nor false.")
    return value == "true"


# the bounds stand before the reading, or else the OpenAPI document loses them
_FromZero: TypeAlias = Annotated[int, Field(ge=0, le=MAX_NUMBER), BeforeValidator(_whole(0, MAX_NUMBER))]
_FromOne: TypeAlias = Annotated[int, Field(ge=1, le=MAX_NUMBER), BeforeValidator(_whole(1, MAX_NUMBER))]
_To100: TypeAlias = Annotated[int, Field(ge=1, le=100), BeforeValidator(_whole(1, 100))]
_To1000: TypeAlias = Annotated[int, Field(ge=1, le=1000), BeforeValidator(_whole(1, 1000))]

RunId = Annotated[str, Path(description="As `run_id` says.", examples=[EXAMPLE_ID]), AfterValidator(_known_form)]
StepNumber = Annotated[_FromOne, Path(description="The step in doubt.")]
After = Annotated[_FromZero, Query(description="The number of the last one you have.")]
Limit = Annotated[_To1000, Query(description="How many at most.")]
RunLimit = Annotated[_To100, Query(description="How many at most.")]
Cursor = Annotated[
    str | None,
    Query(description="The `next_cursor` of the page before.", json_schema_extra={"pattern": CURSOR_PATTERN}),
]
Status = Annotated[RunStatus | None, Query(description="Only runs that are this now.")]
LastEventId = Annotated[
    _FromZero | None, Header(alias="Last-Event-ID", description="Resumes a stream; wins over `after`.")
]
Detail = Annotated[
    bool,
    BeforeValidator(_flag),
    Query(description="true: say also which run and step wrote each note, and when."),
]
