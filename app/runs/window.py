"""What listeners of a run are handed, and the newest of its events, kept so that they need not be read again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from .live import Heard
from .models import StoredEvent

PAGE_BYTES: Final = 48 * 1024
"""How much text a page holds, and the window. With the frames of both pages that are kept, that is what all
listeners of a run cost together: 240 KiB, or as much as its largest event and that one's frame."""


class Page(list[StoredEvent]):
    """Some events of one run, the same object for every listener at their place.

    Or none, and what was `heard` between two of them. `wire` is for whoever sends it, to make what is sent once
    and not once for each listener.
    """

    __slots__ = ("heard", "wire")

    def __init__(self, events: Sequence[StoredEvent], heard: Sequence[Heard] = ()) -> None:
        super().__init__(events)
        self.heard = heard
        self.wire: bytes | None = None


class Window:
    """The newest events of a run that were seen here, without gaps: at most PAGE_BYTES of text, or one event."""

    __slots__ = ("_bytes", "_events")

    def __init__(self) -> None:
        self._events: list[StoredEvent] = []
        self._bytes = 0

    def add(self, events: Sequence[StoredEvent]) -> None:
        """Take events in that are newer than those that are here; after a gap they are all that is kept."""
        kept = self._events
        last = kept[-1].seq if kept else events[0].seq - 1
        fresh = [event for event in events if event.seq > last]
        if fresh and fresh[0].seq != last + 1:
            kept.clear()
            self._bytes = 0
        kept.extend(fresh)
        self._bytes += sum(map(size_of, fresh))
        old = 0
        while self._bytes > PAGE_BYTES and old < len(kept) - 1:
            self._bytes -= size_of(kept[old])
            old += 1
        del kept[:old]

    def beyond(self, seq: int) -> list[StoredEvent]:
        """Return all events beyond `seq`; none if the next one is not here."""
        at = seq + 1 - self._events[0].seq if self._events else -1
        return self._events[at:] if at >= 0 else []


def size_of(event: StoredEvent) -> int:
    """Return how many bytes the text of an event has."""
    body = event.body
    return len(body) if body.isascii() else len(body.encode())
