"""What models took, as it is asked for: by day, by model or by tenant."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, datetime, timedelta
from typing import Final, Protocol

from msgspec import Struct

from ..agent.core import utc_now
from .models import DEFAULT_TENANT
from .usage import By, Used, date_of, day_of

USUAL_DAYS: Final = 30
MAX_DAYS: Final = 366


class UsageStore(Protocol):
    """Keeps what models took, longer than the events that tell of it."""

    async def used(self, tenant: str | None, by: By, first_day: int, last_day: int) -> dict[int | str, Used]:
        """Return the sums from one day to another (days since 1970), both included; None is every tenant.

        Raises:
            StorageUnavailableError: the database does not answer.
        """
        ...


class UsageReport(Struct, frozen=True):
    """What models took from one day to another: by day (such as 2026-11-22), model or tenant, and in all."""

    by: By
    first: date
    last: date
    groups: list[tuple[str, Used]]
    total: Used


class UsageReports:
    """Says what models took."""

    def __init__(self, store: UsageStore, clock: Callable[[], datetime] = utc_now) -> None:
        self._store = store
        self._clock = clock

    async def report(
        self,
        by: By = "day",
        first: date | None = None,
        last: date | None = None,
        tenant: str | None = DEFAULT_TENANT,
    ) -> UsageReport:
        """Return what was used from `first` to `last`, UTC days; by default the last 30. `tenant` None is all.

        Of a longer period it is the last 366 days, as the report's own `first` says. Days, models and tenants that
        have used nothing are left out.

        Raises:
            StorageUnavailableError
        """
        today = self._clock().date()
        if last is None:
            last = today if first is None else max(first, today)
        earliest = _days_before(last, (USUAL_DAYS if first is None else MAX_DAYS) - 1)
        first = earliest if first is None else max(first, earliest)
        found = await self._store.used(tenant, by, day_of(first), day_of(last))
        groups = [(str(date_of(key)) if isinstance(key, int) else key, found[key]) for key in sorted(found)]
        total = Used()
        for _, used in groups:
            total += used
        return UsageReport(by, first, last, groups, total)


def _days_before(day: date, days: int) -> date:
    """Return the day so many days before, as far as there are any."""
    return day - timedelta(days=min(days, (day - date.min).days))
