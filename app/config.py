"""Settings: every variable the program reads, from the environment or `.env`."""

from __future__ import annotations

import json
import re
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from .errors import ConfigurationError

ORIGIN = re.compile(r"https?://[^/\s]+")
"""What a browser sends as Origin (RFC 6454): scheme and host, no path."""


class Environment(StrEnum):
    """Where the service runs; it decides how logs look."""

    DEVELOPMENT = "development"
    PRODUCTION = "production"


class ScheduledRun(BaseModel):
    """One of SCHEDULES: a run to be submitted at each of the times of `cron` (five fields, UTC)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    cron: str
    goal: str
    context: str | None = None
    tools: tuple[str, ...] | None = None
    priority: int = 0
    max_steps: int | None = None
    deadline_s: float | None = None


class Settings(BaseSettings):
    """The whole configuration. Lists are comma-separated or JSON; empty and unknown variables are ignored.

    Raises:
        ConfigurationError: names each variable with a bad value, and the reason, on one line.
    """

    model_config = SettingsConfigDict(
        env_file=".env", env_file_encoding="utf-8", env_ignore_empty=True, extra="ignore", frozen=True
    )

    host: str = Field("127.0.0.1", description="Address to listen on; 0.0.0.0 for every interface.")
    port: int = Field(8000, ge=0, le=65535, description="Port to listen on; 0 takes a free one.")
    environment: Environment = Field(
        Environment.DEVELOPMENT,
        description="development: readable logs. production: JSON logs, one line an event.",
    )
    debug: bool = Field(
        False, description="true: LOG_LEVEL is DEBUG, whatever it says, and asyncio checks itself."
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        "INFO", description="Least level that is logged."
    )
    cors_origins: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="Origins that browsers may call from, such as https://desk.example; * for all."
    )
    max_steps: int = Field(20, ge=1, le=1000, description="Tool calls a run may make.")
    max_run_seconds: float = Field(300.0, gt=0, le=86_400, description="Wall time a run may take, in seconds.")
    tool_modules: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="Python modules imported at start-up; each registers its tools with tool_registry."
    )
    data_dir: Path = Field(
        Path("data"), description="Where the SQLite database is kept, unless DATABASE_URL names another."
    )
    database_url: SecretStr | None = Field(
        None,
        description="Postgres instead: postgresql://user:password@host:5432/name. Needs the extra postgres.",
    )
    run_concurrency: int = Field(64, ge=1, le=10_000, description="Runs under way at once in one process.")
    tenant_concurrency: int = Field(
        0, ge=0, description="Runs of one tenant under way at once in all processes; 0 is no limit."
    )
    retention_days: float = Field(
        0, ge=0, le=36_500, description="Days after their end that runs keep their events; 0 keeps them for ever."
    )
    retention_runs: int = Field(
        0, ge=0, description="How many of the newest ended runs keep their events; 0 keeps them all."
    )
    schedules: Annotated[tuple[ScheduledRun, ...], NoDecode] = Field(
        (), description='Runs by the calendar, as JSON: [{"name": "daily", "cron": "0 6 * * *", "goal": "..."}].'
    )
    llm_model: Literal["mock"] = Field("mock", description="The language model: mock is the offline planner.")

    def __init__(self, **values: Any) -> None:
        try:
            super().__init__(**values)
        except ValidationError as error:
            problems = "; ".join(_problem(item["loc"], item["type"], item["msg"]) for item in error.errors())
            raise ConfigurationError(problems) from None
        except UnicodeDecodeError:
            raise ConfigurationError(".env: it is not UTF-8 text") from None

    @field_validator("cors_origins", "tool_modules", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        text = value.strip()
        if text.startswith("["):
            try:
                return json.loads(text)
            except ValueError as error:
                raise ValueError(f"it starts like a JSON list but is none: {error}") from error
        return [part.strip() for part in text.split(",") if part.strip()]

    @field_validator("schedules", mode="before")
    @classmethod
    def _schedules(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        try:
            return json.loads(value)
        except ValueError as error:
            raise ValueError(f"it is no JSON list: {error}") from error

    @field_validator("cors_origins")
    @classmethod
    def _origins(cls, origins: tuple[str, ...]) -> tuple[str, ...]:
        for origin in origins:
            if origin != "*" and not ORIGIN.fullmatch(origin):
                raise ValueError(
                    f"{origin[:100]!r} is no origin; it looks like https://desk.example, without a path"
                )
        return origins

    @field_validator("log_level", mode="before")
    @classmethod
    def _upper(cls, value: object) -> object:
        return value.upper() if isinstance(value, str) else value

    @field_validator("environment", mode="before")
    @classmethod
    def _lower(cls, value: object) -> object:
        return value.lower() if isinstance(value, str) else value


def _problem(location: tuple[int | str, ...], kind: str, reason: str) -> str:
    # without the value: one day it will be somebody's password
    if not location:
        return reason
    where = [f"entry {part + 1}" if isinstance(part, int) else str(part) for part in location[1:]]
    said = _REASONS.get(kind) or reason.removeprefix("Value error, ")
    return f"{', '.join([str(location[0]).upper(), *where])}: {said}"


_REASONS = {
    "missing": "it is missing",
    "extra_forbidden": "it is not known here",
    "tuple_type": "it has to be a list",
    "model_type": "it has to be an object",
    "string_type": "it has to be text",
}
"""What pydantic calls by names that only Python knows, or says of a value without its place."""
