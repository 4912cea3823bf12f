"""Opening a model by its name: every check that can be made before the first request is made here."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from ...errors import ConfigurationError, MissingExtraError
from .access import Access, Timeouts
from .names import MOCK, ModelName, parse_model_name

if TYPE_CHECKING:
    from .client import PydanticAIClient

_USUAL: Final = Timeouts()

_EXAMPLE_URL: Final = "http://127.0.0.1:8000/v1"


def open_model(
    name: str | ModelName,
    *,
    base_url: str | None = None,
    api_key: str | None = None,
    timeout_s: float = _USUAL.timeout_s,
    connect_timeout_s: float = _USUAL.connect_timeout_s,
    first_token_timeout_s: float = _USUAL.first_token_timeout_s,
    environ: Mapping[str, str] = os.environ,
) -> PydanticAIClient:
    """Return the client of a real model; nothing is connected yet. `mock` is not opened here: it needs nothing.

    Args:
        name: such as `openai:gpt-5-mini`.
        base_url: where the server is, if not where its family is by default.
        api_key: the key; else the first of the family's variables in `environ` that is set.
        timeout_s: how long a whole call may take.
        connect_timeout_s: how long until a connection stands.
        first_token_timeout_s: how long until the first piece of a streamed answer.
        environ: the environment.

    Raises:
        ConfigurationError: an unknown name, a bad address, or no key.
        MissingExtraError: the family's packages are not installed.
    """
    read = parse_model_name(name) if isinstance(name, str) else name
    if read.family is MOCK:
        raise ConfigurationError("mock is no provider's model: use MockLLMClient()")
    access = Access(_base_url(read, base_url), _key(read, api_key, environ))
    try:
        from .client import open_client

        return open_client(read, access, Timeouts(timeout_s, connect_timeout_s, first_token_timeout_s))
    except ImportError as error:
        extra = read.family.extra
        raise MissingExtraError(f"{read} needs packages of its own: uv sync --extra {extra}") from error


def _key(name: ModelName, given: str | None, environ: Mapping[str, str]) -> str:
    key = (
        given or next((environ[variable] for variable in name.family.keys if environ.get(variable)), "")
    ).strip()
    if not key and name.family.needs_key:
        raise ConfigurationError(f"{name} needs a key: set LLM_API_KEY or {' or '.join(name.family.keys)}")
    if not key.isascii() or not key.isprintable():
        raise ConfigurationError(f"The key for {name} holds characters that no key has")
    return key


def _base_url(name: ModelName, given: str | None) -> str:
    """Return the address.

    Raises:
        ConfigurationError: there is none, or it is no plain http(s) address; the message does not hold it.
    """
    url = given or name.family.base_url
    if not url:
        raise ConfigurationError(f"{name} needs the server's address: set LLM_BASE_URL, as {_EXAMPLE_URL}")
    try:
        parts = urlsplit(url)
        plain = parts.scheme in ("http", "https") and parts.hostname and (parts.port is None or parts.port > 0)
    except ValueError:
        plain = False
    else:
        plain = plain and not parts.username and not parts.password and not parts.query and not parts.fragment
    if not plain:
        raise ConfigurationError(
            f"The base URL for {name} (LLM_BASE_URL) has to be a plain http(s) address, without a password or a "
            f"query, as {_EXAMPLE_URL}"
        )
    return url.rstrip("/")
