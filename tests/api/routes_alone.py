"""The routes as an application of their own, over services that a test brings."""

from __future__ import annotations

import asyncio
from typing import Any, cast

from fastapi import FastAPI

from app.api import errors, openapi
from app.api.guard import Guard
from app.api.routes import add_routes
from app.runs.notes import NoteService
from app.runs.reports import UsageReports
from app.runs.usage import Used
from app.tools.builtin import default_tools


class NothingUsed:
    async def used(self, *_: object) -> dict[int | str, Used]:
        return {}


def application(service: object, stopping: asyncio.Event | None = None, heartbeat_s: float = 15.0) -> FastAPI:
    tools = default_tools()
    app = FastAPI(
        redirect_slashes=False, strict_content_type=False, telemetry={"tracing": False, "metrics": False}
    )
    add_routes(
        app,
        cast(Any, service),
        NoteService(tools),
        UsageReports(NothingUsed()),
        tools,
        Guard(),
        stopping,
        heartbeat_s,
    )
    errors.install(app)
    openapi.install(app, tools)
    return app
