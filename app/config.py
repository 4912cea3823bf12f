"""Settings: every variable the program reads, from the environment or `.env`."""

from __future__ import annotations

import json
import re
from decimal import Decimal
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from .auth.grants import RATE_PATTERN
from .auth.jwks import KEY_KINDS
from .errors import ConfigurationError
from .llm.providers.names import MOCK, ModelName, parse_model_name

ORIGIN = re.compile(r"https?://[^/\s]+")
"""What a browser sends as Origin (RFC 6454): scheme and host, no path."""


HOST = re.compile(r"(\*\.)?[A-Za-z0-9._-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\]", re.ASCII)
"""What the Host header names (RFC 9110 section 7.2), without its port; or all that is below a name."""

_SAFE_URL = re.compile(r"https://[^\s@/]+(/\S*)?|http://(127\.0\.0\.1|localhost|\[::1\])(:\d+)?(/\S*)?", re.ASCII)

_REDIS_URL = re.compile(r"rediss?://\S+", re.ASCII)


class Environment(StrEnum):
    """Where the service runs: in production it is guarded unless settings say otherwise, and logs are JSON."""

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
        description="development: readable logs, open to who shows no key. production: JSON logs, keys are "
        "required, and what is for development is refused.",
    )
    debug: bool = Field(
        False, description="true: LOG_LEVEL is DEBUG, whatever it says, and asyncio checks itself."
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        "INFO", description="Least level that is logged."
    )
    access_log: bool = Field(False, description="true: one line a request is logged.")
    metrics: bool = Field(True, description="Whether the process counts, and serves GET /metrics for Prometheus.")
    metrics_port: int = Field(
        0, ge=0, le=65535, description="A port of their own for them, without keys; 0 is the API's, and a scope."
    )
    metrics_host: str = Field("127.0.0.1", description="Address of METRICS_PORT.")
    cors_origins: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="Origins that browsers may call from, such as https://desk.example; * for all."
    )
    cors_credentials: bool = Field(
        False, description="true: pages of those origins may send what the browser keeps for this service."
    )
    allowed_hosts: Annotated[tuple[str, ...], NoDecode] = Field(
        ("*",), description="Names by which the service may be asked, such as agents.example; * for any."
    )
    tls_terminated: bool = Field(
        False,
        description="true: what stands before the service speaks TLS, and browsers are told to use no other.",
    )
    authentication: Literal["auto", "required", "off"] = Field(
        "auto",
        description="required: every request shows a key or token. off: none is looked at. auto: required in "
        "production; elsewhere one that is shown is checked, and who shows none may do everything.",
    )
    key_pepper: SecretStr | None = Field(
        None,
        description="What API keys are hashed with; empty: made once, and kept in DATA_DIR. One for all machines.",
    )
    allow_debug: bool = Field(False, description="true: DEBUG=true is meant, in production too.")
    allow_wildcard_credentials: bool = Field(
        False, description="true: CORS_CREDENTIALS=true for every origin is meant, in production too."
    )
    allow_short_pepper: bool = Field(
        False, description="true: a KEY_PEPPER of fewer than 32 characters is meant, in production too."
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
    oidc_issuer: str | None = Field(
        None, description="Whose tokens (JWT) are taken: their iss. It takes OIDC_AUDIENCE and OIDC_JWKS_URL too."
    )
    oidc_audience: str | None = Field(None, description="What their aud has to be, or to hold.")
    oidc_jwks_url: str | None = Field(
        None, description="Where the provider's keys are: https, or http on this machine."
    )
    oidc_algorithms: Annotated[tuple[str, ...], NoDecode] = Field(
        ("RS256", "ES256"), description=f"What tokens may be signed by: {', '.join(KEY_KINDS)}."
    )
    oidc_tenant_claim: str = Field(
        "", description="Where a token says its tenant; empty puts everybody in the tenant default."
    )
    oidc_scopes_claim: str = Field("scope", min_length=1, description="Where it says its scopes.")
    oidc_max_lifetime_s: float = Field(
        86_400, gt=0, le=31_622_400, description="Seconds from a token's iat to its exp, at most."
    )
    oidc_leeway_s: float = Field(
        30, ge=0, le=600, description="Seconds by which the provider's clock may differ from ours."
    )
    key_rate_limit: str | None = Field(
        None, description="Requests of a key, or of who has a token, such as 600/minute; empty is no limit."
    )
    tenant_rate_limit: str | None = Field(
        None, description="Requests of a tenant, such as 6000/minute; empty is no limit."
    )
    rate_limit_storage: SecretStr = Field(
        SecretStr("memory"),
        description="Where requests are counted: memory, or redis://host:6379/0 for all processes together.",
    )
    key_max_runs: int = Field(0, ge=0, le=10**12, description="Unfinished runs of a key; 0 is no limit.")
    tenant_max_runs: int = Field(0, ge=0, le=10**12, description="Unfinished runs of a tenant; 0 is no limit.")
    key_steps_per_day: int = Field(
        0, ge=0, le=10**12, description="Tool calls a day (UTC) of a key; 0 is no limit."
    )
    tenant_steps_per_day: int = Field(
        0, ge=0, le=10**12, description="Tool calls a day of a tenant; 0 is no limit."
    )
    key_tokens_per_day: int = Field(
        0, ge=0, le=10**12, description="Tokens of models a day of a key; 0 is no limit."
    )
    tenant_tokens_per_day: int = Field(
        0, ge=0, le=10**12, description="Tokens of models a day of a tenant; 0 is no limit."
    )

    def __init__(self, **values: Any) -> None:
        try:
            super().__init__(**values)
        except ValidationError as error:
            problems = "; ".join(_problem(item["loc"], item["type"], item["msg"]) for item in error.errors())
            raise ConfigurationError(problems) from None
        except UnicodeDecodeError:
            raise ConfigurationError(".env: it is not UTF-8 text") from None
        except OSError as error:
            raise ConfigurationError(f".env: it cannot be read: {error.strerror or error}") from None

    @field_validator(
        "cors_origins",
        "allowed_hosts",
        "tool_modules",
        "llm_fallbacks",
        "llm_models",
        "oidc_algorithms",
        mode="before",
    )
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

    @field_validator("allowed_hosts")
    @classmethod
    def _hosts(cls, hosts: tuple[str, ...]) -> tuple[str, ...]:
        for host in hosts:
            if host != "*" and not HOST.fullmatch(host):
                raise ValueError(f"{host[:100]!r} is no name; one looks like agents.example, without a port")
        return hosts

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

    @field_validator("oidc_algorithms")
    @classmethod
    def _algorithms(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        unknown = [name for name in names if name not in KEY_KINDS]
        if unknown or not names:
            raise ValueError(
                f"{', '.join(unknown)[:100] or 'none'}: tokens have to be signed by one of {', '.join(KEY_KINDS)}"
            )
        return names

    @field_validator("oidc_jwks_url")
    @classmethod
    def _jwks_url(cls, url: str | None) -> str | None:
        if url is not None and not _SAFE_URL.fullmatch(url):
            raise ValueError("it has to begin with https://, or with http:// and 127.0.0.1, [::1] or localhost")
        return url

    @field_validator("key_rate_limit", "tenant_rate_limit")
    @classmethod
    def _rate(cls, rate: str | None) -> str | None:
        if rate is not None and not re.fullmatch(RATE_PATTERN, rate):
            raise ValueError("it is no rate; one looks like 600/minute, with second, minute, hour or day")
        return rate

    @field_validator("rate_limit_storage")
    @classmethod
    def _counts(cls, storage: SecretStr) -> SecretStr:
        if storage.get_secret_value() != "memory" and not _REDIS_URL.fullmatch(storage.get_secret_value()):
            raise ValueError("it is memory, or an address that begins with redis:// or rediss://")
        return storage

    @model_validator(mode="after")
    def _all_or_none(self) -> Self:
        given = [self.oidc_issuer, self.oidc_audience, self.oidc_jwks_url]
        if any(given) and not all(given):
            raise ValueError("OIDC_ISSUER, OIDC_AUDIENCE and OIDC_JWKS_URL: they are all set, or none is")
        if self.metrics_port and self.metrics_port == self.port:
            raise ValueError("METRICS_PORT: it has to differ from PORT, or be 0 for the same port")
        return self

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
        return reason.removeprefix("Value error, ")
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
