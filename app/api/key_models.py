"""Wire shapes of API keys: what is asked for, what is known of one, and the key itself, once."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints
from pydantic.config import JsonDict

from ..auth.grants import MOST, RATE_PATTERN
from ..auth.keys import NAME_CHARS, NAME_PATTERN
from ..auth.principal import UNLIMITED, Limits
from ..permissions import MAX_RULES, MAX_SCOPES, RULE_PATTERN, SCOPE_PATTERN, ArgumentRule
from .models import integral
from .run_models import EXAMPLE_TIME, Moment

EXAMPLE_KEY_ID = "3f0a9a1b2c3d5c1b"

EXAMPLE_NEW_KEY: JsonDict = {
    "name": "nightly review",
    "scopes": ["runs:read", "runs:write", "notes:write", "tools:governance_note"],
    "rules": ["governance_note:proposal_id=PROP-2025-*"],
    "limits": {"requests": "600/minute", "runs": 5, "steps_per_day": 1000, "tokens_per_day": 2000000},
    "expires_at": "2027-01-31T00:00:00Z",
}
# without a null, since FastAPI would drop it from its document
EXAMPLE_KEY: JsonDict = {
    "id": EXAMPLE_KEY_ID,
    **EXAMPLE_NEW_KEY,
    "parent": "9d5c3f0a9a1b2c3d",
    "state": "revoked",
    "created_at": EXAMPLE_TIME,
    "rotated_at": EXAMPLE_TIME,
    "revoked_at": EXAMPLE_TIME,
}

Number = Annotated[int, Field(ge=1, le=MOST), BeforeValidator(integral)]


class LimitsModel(BaseModel):
    """How much a key may have; null is what the service gives everybody."""

    model_config = ConfigDict(extra="forbid", strict=True)

    requests: Annotated[str, StringConstraints(pattern=RATE_PATTERN)] | None = Field(
        None, description="Such as 600/minute: of a second, minute, hour or day."
    )
    runs: Number | None = Field(None, description="Unfinished runs at once.")
    steps_per_day: Number | None = Field(None, description="Tool calls a day (UTC).")
    tokens_per_day: Number | None = Field(None, description="Tokens of models a day (UTC), input and output.")

    def to_limits(self) -> Limits | None:
        """Return what is asked of the service."""
        limits = Limits(self.requests, self.runs, self.steps_per_day, self.tokens_per_day)
        return None if limits == UNLIMITED else limits


class KeyRequest(BaseModel):
    """A key to be made. It may do no more than who asks, for no longer, and falls with the key that asks."""

    model_config = ConfigDict(extra="forbid", strict=True, json_schema_extra={"examples": [EXAMPLE_NEW_KEY]})

    name: Annotated[str, StringConstraints(min_length=1, max_length=NAME_CHARS, pattern=NAME_PATTERN)] = Field(
        description="What people know it by; without control characters."
    )
    scopes: list[str] = Field(
        min_length=1,
        max_length=MAX_SCOPES,
        json_schema_extra={"items": {"type": "string", "pattern": SCOPE_PATTERN}},
        description="What it may do: * for everything, or such as runs:read, tools:math.",
    )
    rules: list[str] = Field(
        [],
        max_length=MAX_RULES,
        json_schema_extra={"items": {"type": "string", "pattern": RULE_PATTERN}},
        description="What a tool may be called with, as governance_note:proposal_id=PROP-2025-*.",
    )
    limits: LimitsModel | None = Field(None, description="Null: those of who asks.")
    expires_at: Moment | None = Field(None, description="Null: when who asks ends to be admitted.")

    def to_rules(self) -> list[ArgumentRule]:
        """Return the rules; raises InvalidPermissionsError for one that is none."""
        return [ArgumentRule.parse(rule) for rule in self.rules]


class KeyModel(BaseModel):
    """What is known of a key, which is all but its secret. `parent` is the key that it falls with."""

    model_config = ConfigDict(json_schema_extra={"examples": [EXAMPLE_KEY]})

    id: str
    name: str
    scopes: list[str]
    rules: list[str]
    limits: LimitsModel
    parent: str | None
    state: Literal["holds", "expired", "revoked"]
    created_at: datetime
    expires_at: datetime | None
    rotated_at: datetime | None
    revoked_at: datetime | None


class IssuedKeyModel(KeyModel):
    """The same with the key itself, which is shown this once."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"key": f"lac_{EXAMPLE_KEY_ID}_{'0' * 64}", **EXAMPLE_KEY}]}
    )

    key: str


class KeyList(BaseModel):
    """Keys: those that are not revoked first, newest first."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"keys": [EXAMPLE_KEY]}]})

    keys: list[KeyModel]
