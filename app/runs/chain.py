"""The chain of a run's events: how each is bound to all before it (`docs/journal.md`)."""

from __future__ import annotations

from hashlib import sha256
from typing import Final

GENESIS: Final = bytes(32)
"""What stands in for the hash of the event before the first."""


def link(prev_hash: bytes, body: bytes) -> bytes:
    """Return the hash of an event: SHA-256 of the 32 bytes of the hash before it and its stored UTF-8 text."""
    return sha256(prev_hash + body).digest()
