"""Run ids: UUIDs that sort by the time they were made (RFC 9562, version 7)."""

from __future__ import annotations

from random import getrandbits
from time import time_ns


def new_run_id() -> str:
    """Return a new id: 48 bits of Unix milliseconds, then 74 random bits between version and variant.

    The random bits are of Python's own generator, which seeds itself from the system and anew after a fork: an id
    is a name and no secret, and asking the system each time costs more than all the rest of it.
    """
    bits = getrandbits(74)
    low = 0x8000_0000_0000_0000 | bits & 0x3FFF_FFFF_FFFF_FFFF
    digits = f"{time_ns() // 1_000_000:012x}7{bits >> 62:03x}{low:016x}"
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"
