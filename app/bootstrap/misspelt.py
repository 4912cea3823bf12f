"""Variables that are almost the name of a setting, and so most likely a slip of whoever set them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from difflib import get_close_matches
from typing import Final

from pydantic_settings import DotEnvSettingsSource

from ..config import Settings

CLOSENESS: Final = 0.88
"""How alike two names are (difflib): of nine letters one is missing, too many or in another place."""

SHORTEST: Final = 6
"""Of a shorter name (HOST, PORT, DEBUG) a letter makes another word."""


def slips(environ: Iterable[str] = os.environ) -> Iterator[str]:
    """Yield a warning for each name in the environment, or in `.env`, that is almost one of a setting.

    What the values are is not looked at.
    """
    known = [name.upper() for name in Settings.model_fields]
    long = [name for name in known if len(name) >= SHORTEST]
    given = {name.upper() for name in (*environ, *DotEnvSettingsSource(Settings).env_vars)}
    for name in sorted(given.difference(known)):
        for meant in get_close_matches(name, long, 1, CLOSENESS):
            if not name.startswith(f"{meant}_"):  # who keeps a second one of them for another program means it
                yield f"{name}: there is no such setting; is {meant} meant?"
