"""One process at work: what it opens, the tasks it keeps going, and the order in which all of it ends."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from ..auth.principal import Principal
from ..config import Settings
from ..errors import StorageError
from ..runs.models import IdempotencyKey, RunRequest
from ..runs.schedule import Scheduler
from ..runs.service import RunService
from ..storage.database import Database
from ..storage.lockfile import DirectoryLock
from ..storage.postgres import is_above_security
from ..storage.retention import Pruned, prune
from .database import connect
from .engine import Engine
from .listening import listen
from .queue import keep_whole
from .quotas import RunQuotas

if TYPE_CHECKING:
    from ..telemetry.metrics import Metrics
    from ..telemetry.metrics_port import MetricsPort

log = logging.getLogger(__name__)

Check: TypeAlias = Callable[[], Awaitable[None]]

LEASE_S: Final = 6.0
HEARTBEAT_S: Final = 2.0
LOOK_FOR_CANCELS_S: Final = 0.5
PRUNE_S: Final = 600.0
GRACE_S: Final = 8.0
"""How long runs may take to end the step they are in when a server stops, whose requests have had their time; then
those steps are broken off."""

ENDING_S: Final = 4.0
"""How long what the process keeps going may take to end; with a database that does not answer it may not."""


class Process:
    """Starts and stops everything that lives as long as the process.

    `died` is set when one of its parts has ended by itself, which none of them should: whoever runs the process is
    to stop it then, and to let it be started again.

    Args:
        executes: whether it takes runs from the queue.
    """

    def __init__(
        self,
        settings: Settings,
        database: Database,
        engine: Engine,
        *,
        runs: RunService,
        scheduler: Scheduler,
        quotas: RunQuotas,
        executes: bool,
        metrics: Metrics | None = None,
    ) -> None:
        self._settings = settings
        self._database = database
        self._engine = engine
        self._runs = runs
        self._scheduler = scheduler
        self._quotas = quotas
        self._executes = executes
        self._metrics = metrics
        self._metrics_port: MetricsPort | None = None
        self._lock: DirectoryLock | None = None
        self._tasks: list[asyncio.Task[object]] = []
        self._consuming: asyncio.Task[object] | None = None
        self._pruning: asyncio.Future[Pruned] | None = None
        self._started = False
        self._told_to_stop_at: float | None = None
        self.died = asyncio.Event()

    async def start(self, check: Check | None = None) -> None:
        """Open the database and begin, unless that has been done.

        Args:
            check: raises what is wrong with the database, before any work is begun.

        Raises:
            SetupError, StorageError: it cannot be had; nothing is left open.
        """
        if self._started:
            return
        self._lock = await asyncio.to_thread(connect, self._database, self._settings)
        self._started = True
        try:
            await self._begin(check)
        except BaseException:
            await self.stop(0)
            raise

    @property
    def is_whole(self) -> bool:
        """Whether all that it keeps going is at work."""
        return self._started and not self.died.is_set() and self._engine.writer.is_alive

    def _serve_metrics(self) -> None:
        port = self._settings.metrics_port
        if self._metrics is not None and port:
            from ..telemetry.metrics_port import MetricsPort

            listener = listen(self._settings.metrics_host, port, "METRICS_PORT")
            self._metrics_port = MetricsPort(self._metrics)
            self._metrics_port.start(listener)

    async def _begin(self, check: Check | None) -> None:
        engine = self._engine
        self._serve_metrics()
        self._database.attach(engine.writer)
        engine.writer.start()
        if not self._database.is_sqlite and await self._database.read(is_above_security):
            log.warning("the database role is above row-level security, which so does not keep tenants apart")
        if check is not None:
            await check()
        await self._quotas.begin()
        if engine.notifier is not None:
            self._keep(engine.notifier.listen_forever(engine.feed.changed, engine.relay))
        if engine.relay is not None:
            self._keep(engine.relay.send_forever())
        if self._executes:
            if not self._database.is_sqlite:
                await engine.store.beat(engine.executor.owner, LEASE_S)
                self._keep(self._again_and_again(HEARTBEAT_S, self._beat))
            self._consuming = self._keep(
                engine.queue.consume(engine.executor.execute, self._settings.run_concurrency)
            )
            self._keep(keep_whole(self._database, engine.store, engine.queue))
            self._keep(self._again_and_again(LOOK_FOR_CANCELS_S, self._look_for_cancels))
            self._keep(self._scheduler.run_forever(self._submit))
            self._keep(self._again_and_again(PRUNE_S, self._prune))

    def announce_stop(self, grace_s: float) -> None:
        """Log that the process has been told to stop, and how long what is under way may take to end."""
        if self._started:
            self._told_to_stop_at = monotonic()
            log.info("stopping", extra={"fields": {"runs": len(self._engine.executor.held), "grace_s": grace_s}})

    async def stop(self, grace_s: float = GRACE_S) -> None:
        """End everything, what others depend on last; once. Runs have `grace_s` to end the step they are in."""
        if not self._started:
            return
        self._started = False
        engine = self._engine
        if self._consuming is not None:
            self._consuming.cancel()  # it takes no more runs; those that it has brought end below
        await engine.executor.stop(grace_s)
        for task in self._tasks:
            if task is not self._consuming:
                task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=ENDING_S)
        if self._executes and not self._database.is_sqlite:
            with suppress(StorageError, TimeoutError):
                async with asyncio.timeout(1):
                    await engine.store.retire(engine.executor.owner)
        if self._metrics_port is not None:
            await self._metrics_port.stop()
        await engine.writer.stop()
        self._database.close()
        if self._pruning is not None:
            await asyncio.wait([self._pruning], timeout=ENDING_S)
        if self._lock is not None:
            self._lock.release()
        if self._told_to_stop_at is not None:
            fields = {
                "seconds": round(monotonic() - self._told_to_stop_at, 2),
                "not_handed_back": len(engine.executor.held),
            }
            log.info("stopped", extra={"fields": fields})

    def _keep(self, work: Coroutine[Any, Any, object]) -> asyncio.Task[object]:
        task: asyncio.Task[object] = asyncio.create_task(work)
        task.add_done_callback(self._note_its_end)
        self._tasks.append(task)
        return task

    def _note_its_end(self, task: asyncio.Task[object]) -> None:
        error = None if task.cancelled() else task.exception()
        is_over = self._started and not task.cancelled()
        if error is not None or is_over:
            log.critical("a part of this process has died", exc_info=error)
        if is_over:
            self.died.set()

    async def _again_and_again(self, every_s: float, work: Callable[[], Awaitable[None]]) -> None:
        while True:
            await asyncio.sleep(every_s)
            try:
                await work()
            except StorageError as error:
                log.warning("%s", error)
            except Exception:  # what else it is, the next time may do
                log.exception("a part of this process has failed, and goes on")

    async def _beat(self) -> None:
        await self._engine.store.beat(self._engine.executor.owner, LEASE_S)

    async def _look_for_cancels(self) -> None:
        held = self._engine.executor.held
        if held:
            for key in await self._engine.store.cancels(held):
                self._engine.executor.cancel(key)

    async def _submit(self, request: RunRequest, key: IdempotencyKey, tenant: str) -> object:
        return await self._runs.submit(request, key=key, who=Principal("schedule", tenant, has_quotas=False))

    async def _prune(self) -> None:
        days, keep = self._settings.retention_days, self._settings.retention_runs
        older_than_s = days * 86_400 if days else None
        pruning = asyncio.to_thread(prune, self._database, older_than_s=older_than_s, keep=keep or None)
        self._pruning = asyncio.ensure_future(pruning)
        await asyncio.shield(self._pruning)
