"""The routes of `/api/v1`: each turns a request into one call of a service, and its result into bytes."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from fastapi import FastAPI, Path, Response

from .. import __version__
from ..agent.result import wire_trace
from ..jsonvalue import wire_form
from ..runs.models import FinishedRun
from ..runs.notes import NoteService
from ..runs.service import RunService
from ..tools.base import ToolSource
from ..tools.governance import PROPOSAL_ID_PATTERN
from .models import GovernanceNotes, Health, RunTaskRequest, RunTaskResponse, ToolList
from .openapi import problems
from .strict import StrictRoute

PREFIX = "/api/v1"
JSON = "application/json"


def add_routes(app: FastAPI, runs: RunService, notes: NoteService, tools: ToolSource) -> None:
    """Add the routes over the given services.

    Straight onto the application: a request that has to find its way through an included router costs a quarter
    more (measured in `docs/performance.md`).
    """
    app.router.route_class = StrictRoute

    @app.post(
        f"{PREFIX}/run-task",
        summary="Carry out a goal",
        response_model=None,  # the service's values go out as bytes; nothing is validated twice
        responses={200: {"model": RunTaskResponse}, **problems(400, 405, 413, 415, 422, 500)},
    )
    async def run_task(task: RunTaskRequest) -> Response:
        """Plan, run tools and answer. A run that fails is a 200 with `status: "error"` and the trace so far."""
        run = await runs.run_task(task.goal, task.context, task.tools)
        wire = FinishedRun(run.run_id, run.status, run.output, wire_trace(run.trace))
        return Response(msgspec.json.encode(wire), media_type=JSON)

    @app.get(
        PREFIX + "/governance-notes/{proposal_id}",
        summary="Read the notes of a proposal",
        response_model=GovernanceNotes,
        responses=problems(404, 405, 422, 500, 503),
    )
    async def governance_notes(
        proposal_id: Annotated[
            str,
            Path(pattern=PROPOSAL_ID_PATTERN, description="Such as PROP-2025-001.", examples=["PROP-2025-001"]),
        ],
    ) -> GovernanceNotes:
        """Return the notes in the order they were added; a proposal without notes has an empty list."""
        canonical, found = await notes.notes_of(proposal_id)
        return GovernanceNotes(proposal_id=canonical, notes=found)

    @app.get(f"{PREFIX}/tools", summary="List the tools", response_model=ToolList, responses=problems(405, 500))
    async def list_tools() -> dict[str, Any]:
        """Return every tool that runs may use."""
        return {"tools": [_tool(tool) for tool in tools.snapshot().values()]}

    @app.get(
        f"{PREFIX}/health",
        summary="Say that the service answers",
        response_model=Health,
        responses=problems(405, 500),
    )
    async def health() -> Health:
        """Return the service's name and version."""
        return Health(version=__version__)


def _tool(tool: Any) -> dict[str, Any]:
    return {
        "name": tool.name,
        "description": tool.description,
        "input_schema": wire_form(tool.input_schema),
        "effect": tool.effect,
    }
