"""`worker`: a process that carries out the runs that API processes accept."""

from __future__ import annotations

import argparse
import asyncio
import logging
import signal
import sys
from collections.abc import Callable
from time import time
from typing import TYPE_CHECKING, Final

from .. import __version__
from .terminal import whole_number

if TYPE_CHECKING:
    from ..config import Settings
    from .terminal import Commands

GRACE_S: Final = 18.0
"""How long runs may take to end the step they are in. With all that follows, the process ends within 30 s."""

log = logging.getLogger(__name__)


def add_to(commands: Commands) -> None:
    """Declare the command."""
    worker = commands.add_parser("worker", help="carry out runs from the queue of the Postgres database")
    worker.add_argument(
        "--concurrency", type=whole_number(1, 10_000), metavar="N", help="runs at once (default: RUN_CONCURRENCY)"
    )
    worker.set_defaults(command=_worker)


def _worker(options: argparse.Namespace) -> int:
    from ..config import Settings
    from ..errors import ConfigurationError

    settings = Settings()
    if options.concurrency is not None:
        settings = settings.model_copy(update={"run_concurrency": options.concurrency})
    if settings.database_url is None:
        raise ConfigurationError(
            "DATABASE_URL: a worker shares a Postgres database with others; without one, the server carries out "
            "its runs itself."
        )
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        died = runner.run(_work(settings))
    return 1 if died else 0


async def _work(settings: Settings) -> bool:
    """Carry out runs until told to end, or until a part of the process dies (True); hand back what is left."""
    from ..bootstrap import build_services
    from ..bootstrap.misspelt import slips
    from ..bootstrap.tuning import tuned

    services = build_services(settings, executes=True)
    services.log.install()
    loop = asyncio.get_running_loop()
    told_to_end = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, told_to_end.set)
    reasons = [loop.create_task(reason.wait()) for reason in (told_to_end, services.died)]
    await services.start()
    try:
        print(_greeting(settings), file=sys.stderr, flush=True)  # noqa: T201
        services.warn()
        for slip in slips():
            log.warning("%s", slip)
        with tuned():
            await asyncio.wait(reasons, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for reason in reasons:
            reason.cancel()
        await services.stop(GRACE_S)
    return services.died.is_set()


def _greeting(settings: Settings) -> str:
    """Return the first line of the log, in the form that the others will have."""
    from ..config import Environment
    from ..telemetry.lines import json_line

    if settings.environment is Environment.PRODUCTION:
        return json_line(time(), "INFO", __name__, "waiting for runs", {"version": __version__})
    return "llm-agent-core worker: waiting for runs. Ctrl-C stops it."


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Return the faster event loop where there is one."""
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop
