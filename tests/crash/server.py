"""The process under test: the program's own `serve` and `worker`, with the scripted model and passages to die at.

python tests/crash/server.py serve|worker ...       one process, from the environment
python tests/crash/server.py zygote                 forks one for each line of JSON on standard input, in
                                                    milliseconds: everything is imported by then
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

sys.path[:1] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[2])]

from crash import faults  # noqa: E402

import app.api  # noqa: E402
import app.bootstrap  # noqa: E402
import app.cli  # noqa: E402
import app.cli.serve  # noqa: E402
import app.cli.worker  # noqa: E402
import app.queues.in_process  # noqa: E402
import app.queues.procrastinate  # noqa: E402
import app.queues.reconcile  # noqa: E402
import app.storage.schema  # noqa: E402


def instrument() -> None:
    """Wrap what the sweep wants to die at. Nothing of it is in the product."""

    from sqlalchemy.engine.default import DefaultDialect

    from app.bootstrap import services
    from app.runs.journal import DurableJournal
    from app.storage.committer import Committer
    from app.storage.writer import GroupWriter

    faults.arm()
    faults.wrap(Committer, "commit", "writer")
    faults.wrap(GroupWriter, "_tell", "told")
    faults.wrap(DefaultDialect, "do_commit", "commit")
    faults.wrap(DurableJournal, "append", "append")
    faults.wrap(DurableJournal, "commit", "durable", is_async=True)
    faults.wrap(DurableJournal, "perform", "perform", is_async=True)
    _set_pace(services)


def _set_pace(services: Any) -> None:
    """Let leases run out sooner if the sweep says so: it has thousands of them to wait for."""
    factor = float(os.environ.get("CRASH_PACE", "1"))
    if factor == 1:
        return
    from app.bootstrap import process, queue
    from app.queues import consumer, link, reconcile
    from app.queues.procrastinate import ProcrastinateQueue

    pace = link.Pace(heartbeat_s=2.0 * factor, stalled_s=6.0 * factor, poll_s=0.5, retry_s=1.0)
    process.LEASE_S, process.HEARTBEAT_S = 6.0 * factor, 2.0 * factor  # type: ignore[misc]
    ProcrastinateQueue.__init__.__defaults__ = (pace,)

    async def keep_whole(database: Any, store: Any, queue_: Any) -> None:
        if database.conninfo is None:
            await queue.redeliver_forever(store, queue_)
        await reconcile.Reconciler(database.conninfo, store, pace, grace_s=3 * factor).reconcile_forever(
            2 * factor
        )

    process.keep_whole = keep_whole  # type: ignore[assignment]
    assert consumer


def main(arguments: list[str]) -> int:
    """Be the process that `arguments` name."""
    instrument()
    from crash.model import ScriptedModel
    from crash.tools import ledger

    plain = app.bootstrap.build_services

    def build_services(settings: Any, **options: Any) -> Any:
        return plain(settings, llm_client=ScriptedModel(ledger()), **options)

    app.bootstrap.build_services = build_services
    if arguments[0] == "serve":
        import app.main as web

        web.app.add_middleware(faults.wrap_answers)
    return app.cli.main(arguments)


def zygote() -> None:
    """Fork a process for each line: `{"argv", "env", "log", "stop"}`; answer with its id."""
    import alembic.command
    import fastapi.middleware.cors
    import psycopg_pool
    import pydantic.v1
    import uvicorn
    import uvicorn.lifespan.on
    import uvicorn.protocols.http.httptools_impl
    import uvloop

    from app.api import errors, openapi, routes
    from app.storage.sqlite import choose_driver

    choose_driver()
    _warm_up(fastapi.FastAPI())
    del alembic, fastapi, psycopg_pool, pydantic, uvicorn, uvloop, errors, openapi, routes
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    for line in sys.stdin:
        order = json.loads(line)
        child = os.fork()
        if child:
            print(child, flush=True)
            continue
        _be(order)


def _warm_up(app: Any) -> None:
    """Have imported what is imported with the first route."""

    @app.post("/")
    async def route(body: dict[str, int]) -> dict[str, int]:
        return body

    app.openapi()


def _be(order: dict[str, Any]) -> None:
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.setsid()
    log = os.open(order["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.environ.update(order["env"])
    if order["stop"]:
        os.kill(os.getpid(), signal.SIGSTOP)
    code = 1
    try:
        code = main(order["argv"])
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else 1
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    if sys.argv[1] == "zygote":
        zygote()
    else:
        raise SystemExit(main(sys.argv[1:]))
