"""The secrets among the settings: what must be seen nowhere."""

from __future__ import annotations

from contextlib import suppress
from urllib.parse import parse_qs, unquote, urlsplit

from pydantic import SecretStr

from ..config import Settings


def known_secrets(settings: Settings) -> list[str]:
    """Return the values of all settings that are secret, and the passwords inside those that are URLs."""
    found: list[str] = []
    for name, field in Settings.model_fields.items():
        value = getattr(settings, name)
        if isinstance(value, SecretStr) and value != field.default:  # what everybody has is no secret
            found += [value.get_secret_value(), *_passwords(value.get_secret_value())]
    return [secret for secret in dict.fromkeys(found) if secret]


def _passwords(url: str) -> list[str]:
    """Return a URL's password, as it is written and as it is meant; libpq takes it as a parameter too."""
    with suppress(ValueError):  # whoever opens it says what is wrong with it
        parts = urlsplit(url)
        written = parts.password or ""
        return [written, unquote(written), *parse_qs(parts.query).get("password", ())]
    return []
