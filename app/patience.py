"""Patience with a database that is away: ever longer pauses, and one line in the log for each outage."""

from __future__ import annotations

import logging
from time import monotonic
from typing import Final

log = logging.getLogger(__name__)


TELL_AGAIN_S: Final = 60.0
"""How long it keeps to itself that the reason is another by now."""


class Patience:
    """Says how long to wait before the next attempt.

    It tells of the first failure and of the end of them; in between only, now and then, if the reason has changed.

    Args:
        what: what is being attempted, for the log.
    """

    def __init__(self, what: str, *, first_s: float = 0.25, longest_s: float = 5.0) -> None:
        self._what = what
        self._first_s = first_s
        self._longest_s = longest_s
        self._pause_s = first_s
        self._kind: type[BaseException] | None = None
        self._since = self._told_at = 0.0

    def failed(self, error: Exception) -> float:
        """Take note of a failure and return how many seconds to wait."""
        reason = error.__cause__ or error
        now = monotonic()
        if self._kind is None:
            self._since = now
        if self._kind is None or (type(reason) is not self._kind and now - self._told_at >= TELL_AGAIN_S):
            self._kind, self._told_at = type(reason), now
            said = " ".join(f"{type(reason).__name__}: {reason}".split())
            log.warning("%s does not succeed and is tried again and again: %s", self._what, said)
        pause, self._pause_s = self._pause_s, min(self._pause_s * 2, self._longest_s)
        return pause

    def succeeded(self) -> None:
        """Take note that it has worked."""
        if self._kind is not None:
            log.info("%s succeeds again after %.1f s", self._what, monotonic() - self._since)
            self._kind = None
            self._pause_s = self._first_s
