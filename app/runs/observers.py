"""Several observers of runs as one, whose failures stop nothing."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from ..agent.events import Event, RunStarted
from .models import RunKey
from .ports import RunObserver

log = logging.getLogger(__name__)


class Observers:
    """A `RunObserver` that tells others; what one of them raises is logged."""

    def __init__(self, observers: Sequence[RunObserver]) -> None:
        self._began = [observer.began for observer in observers]
        self._recorded = [observer.recorded for observer in observers]
        self._left = [observer.left for observer in observers]

    def began(self, key: RunKey, opening: RunStarted) -> None:
        _tell(self._began, key, opening)

    def recorded(self, key: RunKey, event: Event) -> None:
        _tell(self._recorded, key, event)

    def left(self, key: RunKey) -> None:
        _tell(self._left, key)


def _tell(told: Sequence[Callable[..., None]], *what: object) -> None:
    for tell in told:
        try:
            tell(*what)
        except Exception:
            log.exception("an observer of runs has failed")
