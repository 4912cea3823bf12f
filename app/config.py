"""Settings: every variable the program reads, from the environment or `.env`."""

from __future__ import annotations

import json
import re
from decimal import Decimal
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from .errors import ConfigurationError
from .llm.providers.names import MOCK, ModelName, parse_model_name

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
    model: str | None = None
    max_tokens: int | None = None
    max_cost_usd: float | None = None
    output_schema: dict[str, Any] | None = None


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
    llm_model: str = Field(
        "mock", description="The language model: mock is the offline planner; docs/providers.md has the others."
    )
    llm_fallbacks: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="Models to ask, in this order, when one is overloaded or out."
    )
    llm_models: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="Models that a run may ask for by name, besides LLM_MODEL."
    )
    llm_base_url: str | None = Field(None, description="Where the server of LLM_MODEL's family is.")
    llm_api_key: SecretStr | None = Field(None, description="The key for LLM_MODEL's family, and no other.")
    openai_api_key: SecretStr | None = Field(None, description="The key for openai: and openai-responses: models.")
    anthropic_api_key: SecretStr | None = Field(None, description="The key for anthropic: models.")
    google_api_key: SecretStr | None = Field(None, description="The key for google: models.")
    gemini_api_key: SecretStr | None = Field(None, description="The same, if GOOGLE_API_KEY is not set.")
    vercel_ai_gateway_api_key: SecretStr | None = Field(None, description="The key for vercel: models.")
    vercel_oidc_token: SecretStr | None = Field(
        None, description="What stands for it where the gateway's own key is not set."
    )
    ollama_api_key: SecretStr | None = Field(None, description="The key for ollama: models; most want none.")
    llm_timeout_s: float = Field(120.0, gt=0, le=86_400, description="Seconds that a call of a model may take.")
    llm_connect_timeout_s: float = Field(
        5.0, gt=0, le=86_400, description="Seconds until the connection to a provider has to stand."
    )
    llm_first_token_timeout_s: float = Field(
        60.0, gt=0, le=86_400, description="Seconds until the first piece of a streamed answer has to come."
    )
    llm_max_retries: int = Field(
        2, ge=0, le=10, description="How often a model that fails is asked again before the next one is."
    )
    llm_tool_calling: Literal["native", "json"] = Field(
        "native",
        description="How LLM_MODEL is told of tools: json for a model that follows a schema and calls none.",
    )
    max_tokens: int | None = Field(
        None, ge=1, le=10**12, description="Tokens that a run's models may take, at most; empty is no limit."
    )
    max_cost_usd: Decimal | None = Field(
        None,
        ge=Decimal("1e-9"),
        le=10**6,
        description="US dollars they may cost, at most; empty is no limit.",
    )
    allow_unknown_prices: bool = Field(
        False, description="true: runs with a limit of cost may use models whose price nobody knows."
    )

    def __init__(self, **values: Any) -> None:
        try:
            super().__init__(**values)
        except ValidationError as error:
            problems = "; ".join(_problem(item["loc"], item["type"], item["msg"]) for item in error.errors())
            raise ConfigurationError(problems) from None
        except UnicodeDecodeError:
            raise ConfigurationError(".env: it is not UTF-8 text") from None

    @field_validator("cors_origins", "tool_modules", "llm_fallbacks", "llm_models", mode="before")
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

    @field_validator("llm_model")
    @classmethod
    def _model(cls, name: str) -> str:
        return str(_read_name(name))

    @field_validator("llm_fallbacks", "llm_models")
    @classmethod
    def _models(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(dict.fromkeys(str(_read_name(name)) for name in names))

    @field_validator("llm_fallbacks")
    @classmethod
    def _fallbacks(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        if MOCK.prefix in names:
            raise ValueError("mock is no fallback: it would answer in the place of a model as if it were one")
        return names

    @field_validator("log_level", mode="before")
    @classmethod
    def _upper(cls, value: object) -> object:
        return value.upper() if isinstance(value, str) else value

    @field_validator("environment", mode="before")
    @classmethod
    def _lower(cls, value: object) -> object:
        return value.lower() if isinstance(value, str) else value


def _read_name(name: str) -> ModelName:
    try:
        return parse_model_name(name)
    except ConfigurationError as error:
        raise ValueError(str(error)) from None


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
