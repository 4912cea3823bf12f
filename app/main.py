"""The web application: settings and services put together, and the ASGI `app` that servers import."""

from __future__ import annotations

import gc
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware

from . import __version__
from .api import errors, openapi
from .api.routes import build_router
from .bootstrap import build_services
from .config import Environment, Settings
from .runs.notes import NoteService
from .telemetry.logs import set_up_logging


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncGenerator[None, None]:
    """Hold what the service needs while it serves."""
    # Everything that lives as long as the process is here now; not walking it again and again halves the CPU
    # that a thousand live runs take.
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)
    yield
    gc.unfreeze()


def create_app(settings: Settings) -> FastAPI:
    """Return the application for `settings`; it reads nothing else from the environment.

    Raises:
        SetupError: a tool module cannot be imported.
    """
    level = "DEBUG" if settings.debug else settings.log_level
    set_up_logging(level, as_json=settings.environment is Environment.PRODUCTION)
    services = build_services(settings)
    app = FastAPI(title="LLM Agent Execution Core", version=__version__, lifespan=lifespan)
    app.state.settings = settings
    app.include_router(build_router(services.runs, NoteService(services.tools), services.tools))
    errors.install(app)
    openapi.install(app, services.tools)
    if settings.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(settings.cors_origins),
            allow_methods=["GET", "POST"],
            allow_headers=["*"],
        )
    return app


# Import modules that register tools here, above the last line, as in: "import app.tools.my_tool"

app = create_app(Settings())
