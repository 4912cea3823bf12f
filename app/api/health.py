"""The routes that tell whoever runs the process how it is: does it live, and can it do its work."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, Protocol

import msgspec
from fastapi import FastAPI, Response
from pydantic import BaseModel, Field

from . import errors
from .guard import PUBLIC
from .openapi import problems

PATH = "/api/v1/health"
JSON = "application/json"


class Live(BaseModel):
    """The process answers."""

    status: Literal["live"] = Field("live", description="Always live; a process that is not does not answer.")


class Ready(BaseModel):
    """The process can do its work."""

    status: Literal["ready"] = Field("ready", description="Always ready; a process that is not answers 503.")


class Checks(Protocol):
    """Looks whether the process can do its work."""

    async def failing(self) -> Mapping[str, str]:
        """Return the names of what is not as it should be, each with a sentence for everybody; empty if ready."""
        ...


def add_health_routes(app: FastAPI, checks: Checks) -> None:
    """Add the routes. They are for everybody: a supervisor has no key, and they say nothing of the inside."""

    @app.get(
        f"{PATH}/live",
        summary="Say that the process lives",
        response_model=None,
        responses={200: {"model": Live}, **problems()},
        dependencies=[PUBLIC],
    )
    async def live() -> Response:
        """Answer. If this fails, the process is to be started again."""
        return Response(msgspec.json.encode({"status": "live"}), media_type=JSON)

    @app.get(
        f"{PATH}/ready",
        summary="Say whether the process can do its work",
        response_model=None,
        responses={200: {"model": Ready}, **problems("not_ready")},
        dependencies=[PUBLIC],
    )
    async def ready() -> Response:
        """Check the database, its tables and the parts of the process; no model is asked.

        While this fails, the process is to be given no requests. It says so too once it has been told to stop.
        """
        failing = await checks.failing()
        if not failing:
            return Response(msgspec.json.encode({"status": "ready"}), media_type=JSON)
        fields = [{"field": name, "message": sentence} for name, sentence in failing.items()]
        return errors.problem(503, "not_ready", f"Not ready: {', '.join(failing)}.", fields)
