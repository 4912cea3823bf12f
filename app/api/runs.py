"""The routes of runs as resources: submit, list, read, follow, cancel, resolve."""

from __future__ import annotations

import re
from typing import Annotated

import msgspec
from fastapi import FastAPI, Request, Response

from ..auth.principal import Principal
from ..errors import RunPrunedError
from ..permissions import RUNS_READ, RUNS_WRITE
from ..runs.models import FINISHED, Run
from ..runs.service import RunService
from . import idempotency, sse, wire
from .guard import Guard, needs
from .openapi import BODY_PROBLEMS, GUARD_PROBLEMS, KEY_PROBLEMS, LOCATION, MODEL_PROBLEMS, problems
from .parameters import After, Cursor, LastEventId, Limit, RunId, RunLimit, Status, StepNumber
from .run_models import EventPage, Happened, Resolution, RunList, RunModel, RunSubmission, TraceModel
from .strict import StrictQueryRoute, StrictRequest

RunsReader = Annotated[Principal, needs(RUNS_READ)]
RunsWriter = Annotated[Principal, needs(RUNS_WRITE)]

PREFIX = "/api/v1/runs"
JSON = "application/json"

STREAM_EXAMPLE = (
    'retry: 2000\n\nid: 1\nevent: run.started\ndata: {"v":1,"run":"…","seq":1,"at":"…","event":'
    '{"type":"run.started","goal":"Calculate 6*7","context":null,"tools":["math"]}}\n\n'
    'event: end\ndata: {"status":"success"}\n\n'
)


def add_run_routes(
    app: FastAPI, runs: RunService, guard: Guard, stopping: sse.Stopping, heartbeat_s: float
) -> None:
    """Add the routes over the given service."""
    app.router.route_class = StrictQueryRoute.guarded_by(guard)
    _add_writing(app, runs)
    _add_reading(app, runs)
    _add_following(app, runs, guard, stopping, heartbeat_s)


def accepted(run: Run) -> Response:
    """Build the answer that a run is kept and has not ended: 202, where it is, and how it is."""
    return _json(wire.resource(run), 202, {"Location": f"{PREFIX}/{run.run_id}"})


def _add_writing(app: FastAPI, runs: RunService) -> None:
    @app.post(
        PREFIX,
        summary="Submit a run",
        status_code=202,
        response_model=None,
        responses={
            202: {"model": RunModel, "description": "The run is kept.", "headers": LOCATION},
            **problems(
                *BODY_PROBLEMS,
                *MODEL_PROBLEMS,
                "invalid_run",
                *KEY_PROBLEMS,
                *GUARD_PROBLEMS,
                "quota_exceeded",
                "storage_unavailable",
            ),
        },
    )
    async def submit_run(submission: RunSubmission, request: StrictRequest, who: RunsWriter) -> Response:
        """Keep a run and carry it out in the background; it outlives this request, and this process.

        With the header `Idempotency-Key` (see `components.parameters`) it may be sent again without harm.
        """
        asked = submission.to_request()
        return accepted(await runs.submit(asked, key=idempotency.key_of(request, asked), who=who))

    @app.post(
        PREFIX + "/{run_id}/cancel",
        summary="Cancel a run",
        response_model=None,
        responses={
            200: {"model": RunModel, "description": "The run has stopped."},
            202: {"model": RunModel, "description": "The run is stopping.", "headers": LOCATION},
            **problems(*GUARD_PROBLEMS, "run_not_found", "run_ended", "invalid_request", "storage_unavailable"),
        },
    )
    async def cancel_run(run_id: RunId, who: RunsWriter) -> Response:
        """Stop a run: a queued one at once, a running one at the tool that is in flight."""
        run = await runs.cancel(run_id, who.tenant)
        return _json(wire.resource(run)) if run.status in FINISHED else accepted(run)

    @app.post(
        PREFIX + "/{run_id}/steps/{step}/resolve",
        summary="Say what became of a step in doubt",
        response_model=None,
        responses={
            200: {"model": RunModel, "description": "The run goes on."},
            **problems(
                *BODY_PROBLEMS,
                *GUARD_PROBLEMS,
                "invalid_run",
                "run_not_found",
                "run_not_waiting",
                "storage_unavailable",
            ),
        },
    )
    async def resolve_step(run_id: RunId, step: StepNumber, resolution: Resolution, who: RunsWriter) -> Response:
        """Say whether a call that was broken off had its effect; the run that waits for that goes on."""
        happened = isinstance(resolution, Happened)
        output = resolution.output if isinstance(resolution, Happened) else None
        return _json(wire.resource(await runs.resolve(run_id, step, happened, output, who.tenant)))


def _add_reading(app: FastAPI, runs: RunService) -> None:
    @app.get(
        PREFIX,
        summary="List runs",
        response_model=None,
        responses={
            200: {"model": RunList},
            **problems(*GUARD_PROBLEMS, "invalid_request", "invalid_cursor", "storage_unavailable"),
        },
    )
    async def list_runs(
        who: RunsReader, status: Status = None, limit: RunLimit = 20, cursor: Cursor = None
    ) -> Response:
        """Return runs, newest first. Runs that are submitted meanwhile move no page that comes later."""
        return _json(wire.run_page(await runs.page(status, limit, cursor, who.tenant)))

    @app.get(
        PREFIX + "/{run_id}",
        summary="Read a run",
        response_model=None,
        responses={
            200: {"model": RunModel},
            **problems(*GUARD_PROBLEMS, "run_not_found", "invalid_request", "storage_unavailable"),
        },
    )
    async def read_run(run_id: RunId, who: RunsReader) -> Response:
        """Return the run as it is now."""
        return _json(wire.resource(await runs.get(run_id, who.tenant)))

    @app.get(
        PREFIX + "/{run_id}/trace",
        summary="Read the trace of a run",
        response_model=None,
        responses={
            200: {"model": TraceModel},
            **problems(*GUARD_PROBLEMS, "run_not_found", "run_pruned", "invalid_request", "storage_unavailable"),
        },
    )
    async def read_trace(run_id: RunId, who: RunsReader, after: After = 0, limit: Limit = 100) -> Response:
        """Return steps in order, as `/run-task` does; `output` is null until the run has ended."""
        return _json(wire.trace_page(await runs.trace(run_id, after, limit, who.tenant)))


def _add_following(
    app: FastAPI, runs: RunService, guard: Guard, stopping: sse.Stopping, heartbeat_s: float
) -> None:
    @app.get(
        PREFIX + "/{run_id}/events",
        summary="Read or follow the events of a run",
        response_model=None,
        responses={
            200: {
                "model": EventPage,
                "description": "A page; or the stream, which ends with the run and an event `end`.",
                "content": {sse.MEDIA_TYPE: {"schema": {"type": "string"}, "example": STREAM_EXAMPLE}},
            },
            204: {"description": "The stream that is to be resumed has no more events: the run has ended."},
            **problems(*GUARD_PROBLEMS, "run_not_found", "run_pruned", "invalid_request", "storage_unavailable"),
        },
    )
    async def read_events(
        request: Request,
        run_id: RunId,
        who: RunsReader,
        after: After = 0,
        limit: Limit = 100,
        last_event_id: LastEventId = None,
    ) -> Response:
        """Return events in order, as they are stored.

        With `Accept: text/event-stream` they come as server-sent events: what is there, and then each as it
        becomes durable. An event's id is its number; `Last-Event-ID` resumes behind it. The stream ends with an
        event `end`, which has the run's status and no id. A client that resumes behind the last event of an ended
        run gets a 204, which tells an `EventSource` to stop.

        In between, and without ids since they are not kept, come `model.delta` (`turn`, `offset`, `text`), a piece
        of what a model is saying, and `tool.progress` (`step`, `tool`, `text`, `fraction`). A piece at offset 0
        begins the text, any other goes on where the last one ended; the next event with an id ends it.
        """
        if not _wants_stream(request.headers.get("accept", "")):
            page = wire.event_page(*await runs.events(run_id, after, limit, who.tenant))
            return _json(page, headers={"Vary": "Accept"})
        run = await runs.get(run_id, who.tenant)
        if last_event_id is not None and run.status in FINISHED and last_event_id >= run.events:
            return Response(status_code=204, headers=sse.HEADERS)
        if run.pruned_at is not None:
            raise RunPrunedError(f"The events of run {run_id} have been pruned; its head hash is kept.")
        pages = runs.follow(run_id, after if last_event_id is None else last_event_id, who.tenant)

        async def look() -> Run:
            return await runs.get(run_id, who.tenant)

        return sse.EventStream(pages, look, lambda: guard.identify(request), stopping, heartbeat_s)


def _wants_stream(accept: str) -> bool:
    """Say whether a client asks for a stream by name, and not rather for JSON (RFC 9110 section 12.5.1)."""
    wanted = {}
    for part in accept.split(","):
        media_type, *parameters = (piece.strip().lower() for piece in part.split(";"))
        quality = next((item[2:] for item in parameters if item.startswith("q=")), "1")
        wanted[media_type] = float(quality) if re.fullmatch(r"[01](\.[0-9]{0,3})?", quality) else 0.0
    stream = wanted.get(sse.MEDIA_TYPE, 0.0)
    return stream > 0 and stream >= wanted.get(JSON, 0.0)


def _json(answer: object, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(msgspec.json.encode(answer), status, headers, JSON)
