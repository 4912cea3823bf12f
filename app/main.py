"""The web application: settings and services put together, and the ASGI `app` that servers import."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware

from . import __version__
from .api import errors, openapi
from .api.guard import Guard
from .api.headers import AnswerHeaders
from .api.health import add_health_routes
from .api.hosts import KnownHosts
from .api.keys import add_key_routes
from .api.metrics import add_metrics_route
from .api.observation import Observation
from .api.routes import add_routes
from .bootstrap import Services, build_services
from .bootstrap.tuning import tuned
from .config import Settings

PROBED_AS = ("127.0.0.1", "localhost")
"""How whatever runs the service asks for its health, whoever else may ask."""


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncGenerator[None, None]:
    """Set the process up for serving; the log stays when it ends, for what is said last."""
    services: Services = app.state.services
    services.log.install()
    await services.start_serving()
    try:
        services.warn()
        await services.access.offer_first_key()
        asyncio.get_running_loop().set_debug(app.state.settings.debug)
        with tuned():
            yield
    finally:
        await services.stop()
    services.log.flush()


def create_app(settings: Settings) -> FastAPI:
    """Return the application for `settings`; of the environment it reads only the `OTEL_*` of the standard.

    Raises:
        SetupError: a tool module cannot be imported.
    """
    services = build_services(settings)
    guard = Guard(
        services.access.authenticator,
        required=services.access.required,
        limiter=services.access.limiter,
        anonymous=services.access.anonymous,
        knows_hosts=settings.allowed_hosts != ("*",),
        origins=settings.cors_origins,
    )
    app = FastAPI(
        title="LLM Agent Execution Core",
        version=__version__,
        lifespan=lifespan,
        openapi_url=None,  # until our own routes, which are asked for more often, stand before its pages
        redirect_slashes=False,  # a redirect would be built from whatever Host the client claims
        strict_content_type=False,  # api.strict judges content types
        # FastAPI's own telemetry looks for sinks in the environment on every request; ours is around it
        telemetry={"tracing": False, "metrics": False, "logs": False},
    )
    app.state.settings = settings
    app.state.services = services
    app.state.redactor = services.redactor
    add_routes(app, services.runs, services.notes, services.usage, services.tools, guard, services.stopping)
    add_key_routes(app, services.access.keys, guard)
    add_health_routes(app, services.readiness)
    if services.metrics is not None and not settings.metrics_port:
        add_metrics_route(app, services.metrics)
    app.openapi_url = "/openapi.json"
    app.setup()
    errors.install(app, None if services.metrics is None else services.metrics.refused)
    openapi.install(app, services.tools, services.models.names, required=services.access.required)
    _add_middleware(app, settings, services)
    return app


def _add_middleware(app: FastAPI, settings: Settings, services: Services) -> None:
    """Put what stands around the routes there, from the inside to the outside."""
    if settings.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(settings.cors_origins),
            allow_credentials=settings.cors_credentials,
            allow_methods=["GET", "POST"],
            allow_headers=["*"],
            expose_headers=["Location", "RateLimit", "RateLimit-Policy", "Retry-After", "WWW-Authenticate"],
        )
    if settings.allowed_hosts != ("*",):
        app.add_middleware(KnownHosts, hosts=[*settings.allowed_hosts, *PROBED_AS])
    app.add_middleware(AnswerHeaders, tls=settings.tls_terminated)
    if services.metrics is not None or settings.access_log:
        requests = None if services.metrics is None else services.metrics.requests
        app.add_middleware(Observation, observer=requests, logs=settings.access_log, redactor=services.redactor)
    if services.tracing is not None:
        app.add_middleware(services.tracing.requests, tracer=services.tracing.tracer, redactor=services.redactor)


# Import modules that register tools here, above the last line, as in: "import app.tools.my_tool"

app = create_app(Settings())
