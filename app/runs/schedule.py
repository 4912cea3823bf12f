"""Runs by the calendar: schedules in cron's five fields, and who submits a run at each of their times."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable, Iterable, Iterator
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Final, NoReturn, TypeAlias

from cronsim import CronSim, CronSimError
from msgspec import Struct

from ..agent.core import utc_now
from ..errors import CallerError, ConfigurationError
from .models import DEFAULT_TENANT, IdempotencyKey, RunRequest

log = logging.getLogger(__name__)

Submit: TypeAlias = Callable[[RunRequest, IdempotencyKey, str], Awaitable[object]]
"""Submits a run under a key for a tenant; what it does the second time for the same key is to do nothing."""

NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")

FRESH_S: Final = 60.0
"""How long after its time a run is still submitted; after that the time was missed."""

LOOK_AT_CLOCK_S: Final = 30.0
"""For how long at most the wall clock is trusted to go on as it does."""

RETRY_AFTER_S: Final = (1.0, 3.0, 10.0, 20.0)
"""After how many seconds each a submission is tried again that failed; all of it within the minute."""


class Schedule(Struct, frozen=True):
    """A run to be submitted again and again.

    Args:
        name: tells it from the others; letters, digits, `_`, `.` and `-`.
        cron: minute, hour, day of the month, month and day of the week, in UTC.
    """

    name: str
    cron: str
    request: RunRequest
    tenant: str = DEFAULT_TENANT

    def times(self, after: datetime) -> Iterator[datetime]:
        """Return its times beyond a moment (which is in UTC); they end if none comes for 50 years."""
        return CronSim(self.cron, after)


class Scheduler:
    """Submits the runs of schedules when their time comes. Any number of processes may do so: one run comes of it.

    A time that passes while no process is there is missed and not made up for; so is one that a jump of the clock
    or a suspended machine leaves more than a minute behind. If the clock goes back, times come again with the keys
    that they had: there is no second run while those are kept.

    Args:
        now: the wall clock, in UTC.

    Raises:
        ConfigurationError: a schedule has no proper name or times, or two have one name.
    """

    def __init__(
        self,
        schedules: Iterable[Schedule],
        now: Callable[[], datetime] = utc_now,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        self._schedules = list(schedules)
        self._now = now
        self._sleep = sleep
        names: set[str] = set()
        for schedule in self._schedules:
            _check(schedule, now())
            if schedule.name in names:
                raise ConfigurationError(f"SCHEDULES, {schedule.name!r}: there are two of this name.")
            names.add(schedule.name)

    async def run_forever(self, submit: Submit) -> NoReturn:
        """Submit runs until cancelled, whatever `submit` raises."""
        seen = self._now()
        async with asyncio.TaskGroup() as group:
            while True:
                await self._sleep(self._seconds_to_next(seen))
                now = self._now()
                for schedule, at in self._due(seen, now):
                    group.create_task(self._submit(submit, schedule, at))
                seen = now

    def _seconds_to_next(self, seen: datetime) -> float:
        """Return how long to sleep: to the next time, but not so long that a jump of the clock goes unnoticed."""
        next_times = [at for schedule in self._schedules if (at := next(schedule.times(seen), None))]
        left = min(((at - seen).total_seconds() for at in next_times), default=LOOK_AT_CLOCK_S)
        # the event loop's clock may be a little ahead of the wall's; what is left then is not slept for in vain
        return min(max(left, 0.01), LOOK_AT_CLOCK_S)

    def _due(self, seen: datetime, now: datetime) -> Iterator[tuple[Schedule, datetime]]:
        """Return what has come due since `seen`; if the clock has gone back since, that is nothing."""
        since = max(seen, now - timedelta(seconds=FRESH_S))
        for schedule in self._schedules:
            for at in schedule.times(since):
                if at > now:
                    break
                yield schedule, at

    async def _submit(self, submit: Submit, schedule: Schedule, at: datetime) -> None:
        try:
            async with asyncio.timeout(FRESH_S):
                await self._submit_patiently(submit, schedule, at)
        except CallerError as error:
            log.error("schedule %s: its run cannot be carried out: %s", schedule.name, error)
        except Exception:
            log.exception("schedule %s: its run of %s is given up", schedule.name, at)

    async def _submit_patiently(self, submit: Submit, schedule: Schedule, at: datetime) -> None:
        for pause in RETRY_AFTER_S:
            try:
                await submit(schedule.request, _key(schedule, at), schedule.tenant)
            except CallerError:
                raise
            except Exception as error:
                log.warning("schedule %s: its run is submitted again in %g s: %s", schedule.name, pause, error)
                await self._sleep(pause)
            else:
                return
        await submit(schedule.request, _key(schedule, at), schedule.tenant)


def _key(schedule: Schedule, at: datetime) -> IdempotencyKey:
    """Return what names a schedule's run at one of its times, in every process.

    The fingerprint is the name's, not the request's: while a changed schedule is being rolled out, old and new
    processes agree on one run instead of refusing each other's.
    """
    # with spaces, which no caller's key can hold: nobody takes it first
    key = f"schedule {schedule.name} {at:%Y-%m-%dT%H:%MZ}"
    return IdempotencyKey(key, sha256(key.encode()).digest())


def _check(schedule: Schedule, now: datetime) -> None:
    where = f"SCHEDULES, {schedule.name[:80]!r}:"
    if not NAME.fullmatch(schedule.name):
        raise ConfigurationError(f"{where} its name has to match {NAME.pattern}.")
    if len(schedule.cron.split()) != 5:
        raise ConfigurationError(
            f"{where} its times {schedule.cron!r} need five fields: minute, hour, day, month and day of the week."
        )
    try:
        first = next(schedule.times(now.astimezone(UTC)), None)
    except (CronSimError, ValueError, AssertionError, ArithmeticError) as error:
        raise ConfigurationError(f"{where} its times {schedule.cron!r} are none: {error}") from error
    if first is None:
        raise ConfigurationError(f"{where} its times {schedule.cron!r} never come.")
