"""Wire shapes of what models took: of a decision, of a run, of many runs."""

from __future__ import annotations

from datetime import date

from pydantic import BaseModel, ConfigDict, Field
from pydantic.config import JsonDict

from ..runs.usage import By

EXAMPLE_USAGE: JsonDict = {
    "input_tokens": 1830,
    "output_tokens": 212,
    "cache_read_tokens": 1024,
    "cache_write_tokens": 0,
}
EXAMPLE_SUMS: JsonDict = {"calls": 3, **EXAMPLE_USAGE, "cost_usd": 0.000651, "unpriced_calls": 0}


class UsageModel(BaseModel):
    """Tokens, as the providers counted them. `input_tokens` are all that were read, those of a cache included."""

    input_tokens: int
    output_tokens: int
    cache_read_tokens: int
    cache_write_tokens: int


class DecisionModel(BaseModel):
    """What a model decided: the steps that it asked for, or none, which is the answer.

    `model` is the one that answered, as its provider names it. `usage` and `cost_usd` are null where nobody says.
    """

    turn: int
    model: str | None
    steps: list[int]
    usage: UsageModel | None
    cost_usd: float | None


class UsageSums(UsageModel):
    """What some calls took. `cost_usd` is the sum of the calls whose price is known, exact to 1e-9.

    `unpriced_calls` counts the others: of a model whose price nobody knows, or that failed and may have been paid.
    """

    calls: int
    cost_usd: float
    unpriced_calls: int


class UsageGroup(UsageSums):
    """What was used on a day (such as 2026-11-22), of a model (as settings name it), or by a tenant."""

    group: str


class UsageList(BaseModel):
    """What models took from a day to another, both included. Groups that used nothing are left out."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "by": "model",
                    "from": "2026-10-24",
                    "to": "2026-11-22",
                    "usage": [{"group": "openai:gpt-5-mini", **EXAMPLE_SUMS}],
                    "total": EXAMPLE_SUMS,
                }
            ]
        }
    )

    by: By
    first: date = Field(alias="from")
    last: date = Field(alias="to")
    usage: list[UsageGroup]
    total: UsageSums
