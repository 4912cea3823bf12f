"""The web application: settings and services put together, and the ASGI `app` that servers import."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware

from . import __version__
from .api import errors, openapi
from .api.routes import add_routes
from .bootstrap import Services, build_services
from .bootstrap.tuning import tuned
from .config import Settings


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncGenerator[None, None]:
    """Set the process up for serving; the log stays when it ends, for what is said last."""
    services: Services = app.state.services
    services.log.install()
    await services.start()
    asyncio.get_running_loop().set_debug(app.state.settings.debug)
    with tuned():
        try:
            yield
        finally:
            await services.stop()
    services.log.flush()


def create_app(settings: Settings) -> FastAPI:
    """Return the application for `settings`; it reads nothing else from the environment.

    Raises:
        SetupError: a tool module cannot be imported.
    """
    services = build_services(settings)
    app = FastAPI(
        title="LLM Agent Execution Core",
        version=__version__,
        lifespan=lifespan,
        openapi_url=None,  # until our own routes, which are asked for more often, stand before its pages
        redirect_slashes=False,  # a redirect would be built from whatever Host the client claims
        strict_content_type=False,  # api.strict judges content types
        # FastAPI's own telemetry looks for sinks in the environment on every request; there are none yet
        telemetry={"tracing": False, "metrics": False, "logs": False},
    )
    app.state.settings = settings
    app.state.services = services
    add_routes(app, services.runs, services.notes, services.usage, services.tools, services.stopping)
    app.openapi_url = "/openapi.json"
    app.setup()
    errors.install(app)
    openapi.install(app, services.tools, services.models.names)
    if settings.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(settings.cors_origins),
            allow_methods=["GET", "POST"],
            allow_headers=["*"],
            expose_headers=["Location", "Retry-After"],
        )
    return app


# Import modules that register tools here, above the last line, as in: "import app.tools.my_tool"

app = create_app(Settings())
