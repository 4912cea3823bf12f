"""`serve`: the HTTP API."""

from __future__ import annotations

import argparse
import asyncio
import logging
import socket
import sys
from collections.abc import Sequence
from time import time
from typing import TYPE_CHECKING, Final

from .. import __name__ as package
from .. import __version__

if TYPE_CHECKING:
    from types import FrameType

    import uvicorn

    from ..bootstrap import Services
    from ..config import Settings
    from .terminal import Commands

log = logging.getLogger(__name__)

REQUESTS_S: Final = 12
"""How long requests under way may take when the server is told to end; the runs behind them have 8 s more."""


def add_to(commands: Commands) -> None:
    """Declare the command."""
    serve = commands.add_parser("serve", help="serve the HTTP API")
    serve.add_argument("--host", help="address to listen on (default: HOST, or 127.0.0.1)")
    serve.add_argument("--port", type=_port, help="port to listen on (default: PORT, or 8000)")
    serve.set_defaults(command=_serve)


def _port(text: str) -> int:
    port = int(text) if text.isascii() and text.isdigit() else -1
    if not 0 <= port <= 65_535:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port; it is a number from 0 to 65535")
    return port


def _serve(options: argparse.Namespace) -> int:
    import uvicorn

    from ..bootstrap.listening import listen
    from ..bootstrap.misspelt import slips
    from ..bootstrap.production import warnings_of_address
    from ..config import Settings
    from .protocol import BoundedProtocol

    settings = Settings()
    host = options.host or settings.host  # "" would be every interface there is
    port = settings.port if options.port is None else options.port
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)  # its start-up lines say what ours says
    config = uvicorn.Config(
        f"{package}.main:app",
        http=BoundedProtocol,
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,  # nothing here depends on who the client says it is
        timeout_graceful_shutdown=REQUESTS_S,
    )
    config.load()  # builds the app: what is wrong with it is said before anything listens
    with listen(host, port) as listener, asyncio.Runner(loop_factory=config.get_loop_factory()) as runner:
        address = f"http://{f'[{host}]' if ':' in host else host}:{listener.getsockname()[1]}"
        warnings = [*warnings_of_address(settings, host), *slips()]
        died = runner.run(_until_told_to_stop(config, listener, _greeting(settings, address), warnings))
    return 1 if died else 0


async def _until_told_to_stop(
    config: uvicorn.Config, listener: socket.socket, greeting: str, warnings: Sequence[str]
) -> bool:
    """Open the database, which may refuse, and only then serve; return whether a part of the process died."""
    import uvicorn

    from ..bootstrap.process import GRACE_S

    services: Services = config.loaded_app.state.services
    loop = asyncio.get_running_loop()

    class Server(uvicorn.Server):
        """Tells the streams that they are to end, for which it would wait otherwise."""

        def handle_exit(self, sig: int, frame: FrameType | None) -> None:
            loop.call_soon_threadsafe(services.announce_stop, REQUESTS_S + GRACE_S)
            super().handle_exit(sig, frame)

    server = Server(config)

    async def end_with_its_parts() -> None:
        await services.died.wait()
        services.announce_stop(REQUESTS_S + GRACE_S)
        server.should_exit = True

    services.log.install()
    await services.start_serving()
    watching = asyncio.create_task(end_with_its_parts())
    try:
        print(greeting, file=sys.stderr, flush=True)  # noqa: T201
        services.warn()
        for warning in warnings:
            log.warning("%s", warning)
        await services.access.offer_first_key()
        await server.serve(sockets=[listener])
    finally:
        watching.cancel()
        await services.stop()
    return services.died.is_set()


def _greeting(settings: Settings, address: str) -> str:
    """Return the first line of the log, in the form that the others will have."""
    from ..config import Environment
    from ..telemetry.lines import json_line

    if settings.environment is Environment.PRODUCTION:
        fields = {"address": address, "version": __version__, "model": settings.llm_model}
        return json_line(time(), "INFO", __name__, "serving", fields)
    return (
        f"llm-agent-core {__version__} on {address} (API at /docs), model {settings.llm_model}, "
        f"{settings.environment}. Ctrl-C stops it."
    )
