"""Moments as the tables hold them: whole microseconds since 1970 UTC."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND: Final = timedelta(microseconds=1)


def to_us(moment: datetime | None) -> int | None:
    """Return the stored form of a moment; exact, which floating-point seconds are not."""
    return None if moment is None else (moment - EPOCH) // MICROSECOND


def from_us(us: int | None) -> datetime | None:
    """Return the moment that is stored, in UTC."""
    return None if us is None else EPOCH + us * MICROSECOND
