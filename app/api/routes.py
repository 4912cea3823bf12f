"""The routes of `/api/v1`: each turns a request into one call of a service, and its result into bytes."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

import msgspec
from fastapi import FastAPI, Path, Response

from .. import __version__
from ..auth.principal import Principal
from ..jsonvalue import wire_form
from ..permissions import NOTES_READ, RUNS_WRITE
from ..runs.models import Run
from ..runs.notes import NoteService
from ..runs.reports import UsageReports
from ..runs.service import RunService
from ..tools.base import ToolSource
from ..tools.governance import PROPOSAL_ID_PATTERN
from . import idempotency, sse, wire
from .guard import PUBLIC, Guard, needs, principal_of
from .models import GovernanceNotes, Health, RunTaskRequest, RunTaskResponse, ToolList
from .openapi import BODY_PROBLEMS, GUARD_PROBLEMS, KEY_PROBLEMS, LOCATION, MODEL_PROBLEMS, problems
from .parameters import Detail
from .run_models import RunModel
from .runs import accepted, add_run_routes
from .strict import StrictRequest, StrictRoute
from .usage import add_usage_route

PREFIX = "/api/v1"
JSON = "application/json"


def add_routes(
    app: FastAPI,
    runs: RunService,
    notes: NoteService,
    usage: UsageReports,
    tools: ToolSource,
    guard: Guard,
    stopping: sse.Stopping | None = None,
    heartbeat_s: float = sse.HEARTBEAT_S,
) -> None:
    """Add the routes over the given services; streams end when `stopping` is set.

    Straight onto the application: a request that has to find its way through an included router costs a quarter
    more (measured in `docs/performance.md`).
    """
    app.router.route_class = StrictRoute.guarded_by(guard)

    @app.post(
        f"{PREFIX}/run-task",
        summary="Carry out a goal",
        dependencies=[needs(RUNS_WRITE)],
        response_model=None,  # the service's values go out as bytes; nothing is validated twice
        responses={
            200: {"model": RunTaskResponse},
            202: {
                "model": RunModel,
                "description": "The run is kept and has not ended, since it waits for a person or takes its time.",
                "headers": LOCATION,
            },
            **problems(
                *BODY_PROBLEMS,
                *MODEL_PROBLEMS,
                *KEY_PROBLEMS,
                *GUARD_PROBLEMS,
                "quota_exceeded",
                "run_pruned",
                "storage_unavailable",
            ),
        },
    )
    async def run_task(task: RunTaskRequest, request: StrictRequest) -> Response:
        """Plan, run tools and answer. A run that fails is a 200 with `status: "error"` and the trace so far.

        With the header `Idempotency-Key` (see `components.parameters`) it may be sent again without harm.
        """
        key = None
        if request.idempotency_key is not None:
            key = idempotency.key_of(request, task.to_request())
        run = await runs.run_task(
            task.goal,
            task.context,
            task.tools,
            model=task.model,
            max_tokens=task.max_tokens,
            max_cost_usd=task.max_cost_usd,
            output_schema=task.output_schema,
            key=key,
            who=principal_of(request),
        )
        if isinstance(run, Run):
            return accepted(run)
        return Response(msgspec.json.encode(wire.finished(run)), media_type=JSON)

    @app.get(
        PREFIX + "/governance-notes/{proposal_id}",
        summary="Read the notes of a proposal",
        response_model=None,
        responses={
            200: {"model": GovernanceNotes},
            **problems(
                *GUARD_PROBLEMS, "not_found", "invalid_request", "notes_unavailable", "storage_unavailable"
            ),
        },
    )
    async def governance_notes(
        who: Annotated[Principal, needs(NOTES_READ)],
        proposal_id: Annotated[
            str,
            Path(pattern=PROPOSAL_ID_PATTERN, description="Such as PROP-2025-001.", examples=["PROP-2025-001"]),
        ],
        detail: Detail = False,
    ) -> Response:
        """Return the notes in the order they were added; a proposal without notes has an empty list."""
        if not detail:
            canonical, texts = await notes.notes_of(proposal_id, who.tenant)
            return Response(msgspec.json.encode({"proposal_id": canonical, "notes": texts}), media_type=JSON)
        canonical, found = await notes.details_of(proposal_id, who.tenant)
        body = {"proposal_id": canonical, "notes": [note.note for note in found], "details": found}
        return Response(msgspec.json.encode(body), media_type=JSON)

    @app.get(
        f"{PREFIX}/tools",
        summary="List the tools",
        response_model=ToolList,
        responses=problems(*GUARD_PROBLEMS, "storage_unavailable"),
    )
    async def list_tools(who: Annotated[Principal, needs(None)]) -> dict[str, Any]:
        """Return every tool that runs of whoever asks may use."""
        allows = who.permissions.allows
        return {"tools": [_tool(tool) for tool in tools.snapshot().values() if allows(f"tools:{tool.name}")]}

    @app.get(
        f"{PREFIX}/health",
        summary="Say that the service answers",
        response_model=Health,
        responses=problems(),
        dependencies=[PUBLIC],
    )
    async def health() -> Health:
        """Return the service's name and version."""
        return Health(version=__version__)

    add_usage_route(app, usage, guard)
    add_run_routes(app, runs, guard, asyncio.Event() if stopping is None else stopping, heartbeat_s)


def _tool(tool: Any) -> dict[str, Any]:
    return {
        "name": tool.name,
        "description": tool.description,
        "input_schema": wire_form(tool.input_schema),
        "effect": tool.effect,
    }
