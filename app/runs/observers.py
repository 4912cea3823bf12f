"""Several observers of runs as one, whose failures stop nothing."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Final, TypeAlias, get_args

from ..agent.events import Event, RunStarted
from .models import RunKey
from .ports import RunObserver

log = logging.getLogger(__name__)

FAILED: Final = "an observer of runs has failed"

Recorded: TypeAlias = Callable[[RunKey, Event], None]


class Observers:
    """A `RunObserver` that tells others, each of the events that it wants to know of; what it raises is logged."""

    def __init__(self, observers: Sequence[RunObserver]) -> None:
        self._began = [observer.began for observer in observers]
        self._left = [observer.left for observer in observers]
        # by type, since most observers are told of few: a step has four events, and each call costs as much as one
        self._recorded: dict[type[Event], list[Recorded]] = {
            kind: [observer.recorded for observer in observers if kind in observer.watched]
            for kind in get_args(Event)
        }

    def began(self, key: RunKey, opening: RunStarted) -> None:
        for tell in self._began:
            try:
                tell(key, opening)
            except Exception:
                log.exception(FAILED)

    def recorded(self, key: RunKey, event: Event) -> None:
        for tell in self._recorded[type(event)]:
            try:
                tell(key, event)
            except Exception:
                log.exception(FAILED)

    def left(self, key: RunKey) -> None:
        for tell in self._left:
            try:
                tell(key)
            except Exception:
                log.exception(FAILED)
