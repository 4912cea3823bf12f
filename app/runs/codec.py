"""Events as they are stored: the envelope, its version, and the way back."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Literal

import msgspec
from msgspec import Struct

from ..agent.events import Event
from .chain import link
from .models import StoredEvent

VERSION: Literal[1] = 1
"""The version of the event schema. Every version that was ever written can be read: old events always fold."""


class Envelope(Struct, frozen=True):
    """What is stored of one event: the schema's version, the run, the event's number, when, and what."""

    v: Literal[1]
    run: str
    seq: int
    at: datetime
    event: Event


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Envelope).decode


def store(run_id: str, seq: int, prev_hash: bytes, at: datetime, event: Event) -> StoredEvent:
    """Return an event in its stored form, bound to the one before it. Integers of any size stay as they are."""
    body = _encode(Envelope(VERSION, run_id, seq, at, event))
    return StoredEvent(seq, body.decode(), prev_hash, link(prev_hash, body))


def read(stored: StoredEvent) -> Envelope:
    """Return what was stored.

    Raises:
        msgspec.ValidationError: it was written by a newer version of this program, or by none.
    """
    return _decode(stored.body)


def read_all(stored: Iterable[StoredEvent]) -> list[Event]:
    """Return the events themselves."""
    return [_decode(item.body).event for item in stored]
