"""The backlog: how much there is to do, of all tenants together."""

from __future__ import annotations

from typing import Protocol

from msgspec import Struct


class Backlog(Struct, frozen=True):
    """How many unfinished runs there are of each status.

    `queued` are those that could be carried out now, and `oldest_queued_s` for how many seconds the oldest of them
    could; 0 if there is none. `waiting` are those that wait for a person.
    """

    queued: int = 0
    running: int = 0
    waiting: int = 0
    oldest_queued_s: float = 0.0


class BacklogSource(Protocol):
    """Knows the backlog."""

    async def read(self) -> Backlog:
        """Return it as it is now.

        Raises:
            StorageUnavailableError: the database does not answer.
        """
        ...
