"""Variables that are almost the name of a setting, and so most likely a slip of who set them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from difflib import get_close_matches
from typing import Final

from pydantic_settings import DotEnvSettingsSource

from ..config import Settings

CLOSENESS: Final = 0.88
"""How alike two names are (difflib): of nine letters one is missing, too many or in another place."""


def given_names(environ: Iterable[str]) -> Iterator[str]:
    """Yield the names that the environment and the file of the settings give."""
    yield from environ
    yield from DotEnvSettingsSource(Settings).env_vars


def misspelt(given: Iterable[str]) -> Iterator[str]:
    """Yield a warning for each of the names that is none of a setting, and almost is; values are not looked at."""
    settings = [name.upper() for name in Settings.model_fields]
    for name in sorted({name.upper() for name in given} - {*settings}):
        for meant in get_close_matches(name, settings, 1, CLOSENESS):
            if not name.startswith(f"{meant}_"):  # who keeps a second one of them for another program means it
                yield f"{name}: there is no such setting; is {meant} meant?"
