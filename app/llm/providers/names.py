"""Names of models, such as `anthropic:claude-sonnet-5`, and the families they are of; no library is loaded."""

from __future__ import annotations

import re
from typing import Final

from msgspec import Struct

from ...errors import ConfigurationError


class Family(Struct, frozen=True):
    """The models behind one prefix, at one provider.

    `keys` are the environment variables that may hold the key, the first that is set counts; `base_url` is where
    the family is found unless told otherwise, None where only the user knows.
    """

    prefix: str
    form: str
    provider: str
    extra: str = "openai"
    keys: tuple[str, ...] = ()
    needs_key: bool = True
    base_url: str | None = None


MOCK: Final = Family("mock", "mock", "mock", extra="", needs_key=False)

_OPENAI_URL: Final = "https://api.openai.com/v1"

FAMILIES: Final[dict[str, Family]] = {
    family.prefix: family
    for family in (
        MOCK,
        Family("openai", "openai:NAME", "openai", keys=("OPENAI_API_KEY",), base_url=_OPENAI_URL),
        Family(
            "openai-responses", "openai-responses:NAME", "openai", keys=("OPENAI_API_KEY",), base_url=_OPENAI_URL
        ),
        Family(
            "anthropic",
            "anthropic:NAME",
            "anthropic",
            extra="anthropic",
            keys=("ANTHROPIC_API_KEY",),
            base_url="https://api.anthropic.com",
        ),
        Family(
            "google",
            "google:NAME",
            "google",
            extra="google",
            keys=("GOOGLE_API_KEY", "GEMINI_API_KEY"),
            base_url="https://generativelanguage.googleapis.com",
        ),
        Family(
            "vercel",
            "vercel:PROVIDER/NAME",
            "vercel",
            keys=("VERCEL_AI_GATEWAY_API_KEY", "VERCEL_OIDC_TOKEN"),
            base_url="https://ai-gateway.vercel.sh/v1",
        ),
        Family(
            "ollama",
            "ollama:NAME",
            "ollama",
            keys=("OLLAMA_API_KEY",),
            needs_key=False,
            base_url="http://127.0.0.1:11434/v1",
        ),
        Family("openai-compatible", "openai-compatible:NAME", "openai-compatible", needs_key=False),
    )
}

_NAME: Final = re.compile(r"[!-~]{1,200}")
_SHOWN_CHARS: Final = 80
_LONGEST_WORD: Final = 20


class ModelName(Struct, frozen=True):
    """A model's name, read. `str` of it is the name again."""

    family: Family
    model: str = ""

    def __str__(self) -> str:
        return f"{self.family.prefix}:{self.model}" if self.model else self.family.prefix


def parse_model_name(text: str) -> ModelName:
    """Read a name such as `mock`, `openai:gpt-5-mini` or `vercel:anthropic/claude-sonnet-5`.

    Raises:
        ConfigurationError: it is none; the line lists the forms.
    """
    prefix, _, model = text.strip().partition(":")
    family = FAMILIES.get(prefix)
    if family is MOCK and not model:
        return ModelName(MOCK)
    if family is None or family is MOCK or not _NAME.fullmatch(model) or not _fits(family, model):
        forms = ", ".join(family.form for family in FAMILIES.values())
        raise ConfigurationError(f"{_shown(text.strip())!r} names no model; the forms are {forms}")
    return ModelName(family, model)


def _shown(text: str) -> str:
    """Return as much of what is no name as may be told: it may be a key in the wrong variable."""
    if ":" not in text and (text.startswith("sk-") or len(text) > _LONGEST_WORD):
        return text[:3] + "…"
    return text[:_SHOWN_CHARS]


def _fits(family: Family, model: str) -> bool:
    if family.prefix != "vercel":
        return True
    provider, _, name = model.partition("/")
    return bool(provider and name)
