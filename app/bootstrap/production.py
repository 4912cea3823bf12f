"""What a service in production does not start with unless it is meant, and what its operator is warned of."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_address

from ..config import Environment, Settings
from ..errors import ConfigurationError
from ..llm.providers.names import MOCK
from .pepper import LEAST_CHARS


def refuse_the_forgotten(settings: Settings) -> None:
    """Refuse settings that are for development, all of them at once.

    Raises:
        ConfigurationError: this is production, and some are not allowed by a setting of their own.
    """
    if settings.environment is not Environment.PRODUCTION:
        return
    forgotten = list(_forgotten(settings))
    if forgotten:
        raise ConfigurationError("ENVIRONMENT=production does not go with: " + " ".join(forgotten))


def _forgotten(settings: Settings) -> Iterator[str]:
    if settings.debug and not settings.allow_debug:
        yield "DEBUG=true (ALLOW_DEBUG=true says that it is meant)."
    if settings.cors_credentials and "*" in settings.cors_origins and not settings.allow_wildcard_credentials:
        yield "CORS_CREDENTIALS=true for every origin (ALLOW_WILDCARD_CREDENTIALS=true says that it is meant)."
    pepper = settings.key_pepper
    if pepper is not None and len(pepper.get_secret_value()) < LEAST_CHARS and not settings.allow_short_pepper:
        yield (
            f"a KEY_PEPPER of fewer than {LEAST_CHARS} characters (ALLOW_SHORT_PEPPER=true says that it is meant)."
        )


def warnings_of(settings: Settings) -> Iterator[str]:
    """Yield what the operator of any process should know, and may have meant."""
    if settings.environment is not Environment.PRODUCTION:
        return
    if settings.llm_model == MOCK.prefix:
        yield "LLM_MODEL=mock: the offline planner answers, not a language model, and does only what it knows"
    if settings.authentication == "off":
        yield "AUTHENTICATION=off: whoever can reach the service may do everything"


def warnings_of_address(settings: Settings, host: str) -> Iterator[str]:
    """Yield what the operator of a service that listens on `host` should know, and may have meant."""
    if not _is_loopback(host) and not settings.tls_terminated:
        yield (
            f"listening on {host} without TLS: keys and runs go over the network as they are, unless something in "
            "front speaks TLS (then say so: TLS_TERMINATED=true)"
        )
    if not _is_loopback(host) and settings.authentication == "auto" and not needs_credentials(settings):
        yield f"listening on {host}, and whoever shows no key may do everything (AUTHENTICATION=required)"


def needs_credentials(settings: Settings) -> bool:
    """Say whether every request has to show a key or a token."""
    if settings.authentication == "auto":
        return settings.environment is Environment.PRODUCTION
    return settings.authentication == "required"


def _is_loopback(host: str) -> bool:
    if host in ("localhost", ""):
        return host == "localhost"
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
