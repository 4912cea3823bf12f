"""The queue inside one process: what waits is in memory, and what is durable of it is the run's own row."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from heapq import heappop, heappush
from itertools import count
from time import time
from typing import Final, NoReturn, TypeAlias

from ..errors import StorageError
from ..patience import Patience
from ..runs.models import Job, RunKey
from ..runs.ports import RunStore
from ..tools.base import Transaction

log = logging.getLogger(__name__)

Execute: TypeAlias = Callable[[Job], Awaitable[float | None]]

RETRY_S: Final = 5.0
"""After how many seconds a job is delivered again whose `execute` raised."""

LOOK_AT_CLOCK_S: Final = 30.0
"""For how long at most the wall clock is trusted to go on as it does."""

AT_ONCE: Final = 5_000
"""How many runs are read at a time to see whether they wait here; of more, priorities count among the oldest."""


class InProcessQueue:
    """A `RunQueue` for the one process that has the database for itself. All of it is used on one event loop.

    A job with `not_before` ahead waits until the wall clock is there; a jump of the clock is noticed within half a
    minute. What `execute` asked for in seconds is waited for in seconds, whatever the clock does. A key that waits
    already is not taken a second time; one that is under way may wait again.

    Args:
        clock: the wall clock, seconds since 1970.
    """

    def __init__(
        self,
        *,
        clock: Callable[[], float] = time,
        retry_s: float = RETRY_S,
        look_at_clock_s: float = LOOK_AT_CLOCK_S,
    ) -> None:
        self._clock = clock
        self._retry_s = retry_s
        self._look_at_clock_s = look_at_clock_s
        self._waiting: set[RunKey] = set()
        # each waiting key is in one of these, or with a timer of the event loop
        self._ready: list[tuple[int, int, Job]] = []
        self._later: list[tuple[float, int, Job]] = []
        self._numbers = count()
        self._under_way: dict[asyncio.Task[float | None], Job] = {}
        self._execute: Execute | None = None
        self._concurrency = 0
        self._start_is_due = False
        self._later_has_changed = asyncio.Event()

    def put_in(self, transaction: Transaction, job: Job) -> None:
        """Do nothing: the run that is written as queued is all there is to keep."""

    def wake(self, job: Job) -> None:
        """Take a job, unless its key waits already."""
        if job.key not in self._waiting:
            self._waiting.add(job.key)
            self._take(job)

    def offer(self, jobs: Iterable[Job]) -> int:
        """Take those jobs whose keys neither wait nor are under way, and return how many these were."""
        under_way = {job.key for job in self._under_way.values()}
        taken = 0
        for job in jobs:
            if job.key not in self._waiting and job.key not in under_way:
                self.wake(job)
                taken += 1
        return taken

    async def consume(self, execute: Execute, concurrency: int) -> None:
        """Deliver jobs until cancelled; then wait for those under way, and raise the CancelledError.

        Cancelled a second time, it waits no more.
        """
        self._execute, self._concurrency = execute, concurrency
        try:
            self._start_soon()
            while True:
                self._later_has_changed.clear()
                await self._wait_for_later()
                self._ripen()
        finally:
            self._execute = None
            while self._under_way:
                await asyncio.wait(self._under_way)

    def _take(self, job: Job) -> None:
        if job.not_before is None or (due := job.not_before.timestamp()) <= self._clock():
            heappush(self._ready, (-job.priority, next(self._numbers), job))
            self._start_soon()
        else:
            heappush(self._later, (due, next(self._numbers), job))
            self._later_has_changed.set()

    async def _wait_for_later(self) -> None:
        """Wait for the job that is due first, for a new one, or until it is time to look at the clock again."""
        if not self._later:
            await self._later_has_changed.wait()
            return
        left = self._later[0][0] - self._clock()
        try:
            # never for nothing at all: the event loop's clock and the wall clock are not of one mind
            async with asyncio.timeout(min(max(left, 0.001), self._look_at_clock_s)):
                await self._later_has_changed.wait()
        except TimeoutError:
            pass

    def _ripen(self) -> None:
        """Make those ready that the clock has come to."""
        now = self._clock()
        while self._later and self._later[0][0] <= now:
            _, number, job = heappop(self._later)
            heappush(self._ready, (-job.priority, number, job))
        self._start_soon()

    def _start_soon(self) -> None:
        """Start jobs once whoever is waking some has woken them all, so that the most urgent one is first."""
        if self._ready and not self._start_is_due and self._execute is not None:
            self._start_is_due = True
            asyncio.get_running_loop().call_soon(self._start)

    def _start(self) -> None:
        self._start_is_due = False
        execute = self._execute
        if execute is None:
            return
        loop = asyncio.get_running_loop()
        while self._ready and len(self._under_way) < self._concurrency:
            job = heappop(self._ready)[2]
            self._waiting.discard(job.key)
            task = loop.create_task(self._carry_out(execute, job))
            self._under_way[task] = job
            task.add_done_callback(self._ended)

    async def _carry_out(self, execute: Execute, job: Job) -> float | None:
        try:
            return await execute(job)
        except StorageError as error:
            log.warning("run %s waits: %s", job.key.run_id, error)
        except Exception:
            log.exception("run %s could not be carried out and is delivered again", job.key.run_id)
        return self._retry_s

    def _ended(self, task: asyncio.Task[float | None]) -> None:
        job = self._under_way.pop(task)
        # a cancelled one was broken off, by whoever stops runs; it is not known how far it got
        seconds = self._retry_s if task.cancelled() else task.result()
        if seconds is not None and job.key not in self._waiting:
            self._waiting.add(job.key)
            asyncio.get_running_loop().call_later(seconds, self._take, job)
        self._start_soon()


async def redeliver_forever(store: RunStore, queue: InProcessQueue, every_s: float = 5.0) -> NoReturn:
    """At once, and then every so often, deliver the runs that nobody works on and the queue does not know.

    That is how unfinished runs go on after a restart, and how one comes back that was lost to a failure.
    """
    patience = Patience("looking for runs that wait")
    while True:
        try:
            jobs = await store.unclaimed(AT_ONCE)
            overdue = await store.unclaimed(AT_ONCE, orphaned_only=True)
        except Exception as error:
            await asyncio.sleep(patience.failed(error))
            continue
        patience.succeeded()
        found = queue.offer([*overdue, *jobs])
        if found:
            log.debug("runs that waited are delivered: %d", found)
        there_are_more = found and len(jobs) == AT_ONCE
        await asyncio.sleep(every_s / 10 if there_are_more else every_s)
