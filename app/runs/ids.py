"""Run ids: UUIDs that sort by the time they were made (RFC 9562, version 7)."""

from __future__ import annotations

import os
from time import time_ns
from uuid import UUID


def new_run_id() -> str:
    """Return a new id: 48 bits of Unix milliseconds, then 74 random bits."""
    milliseconds = time_ns() // 1_000_000
    random = int.from_bytes(os.urandom(10))
    head = milliseconds << 80 | 0x7 << 76 | (random >> 68) << 64
    return str(UUID(int=head | 0b10 << 62 | random & (1 << 62) - 1))
