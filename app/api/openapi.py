"""The OpenAPI document: FastAPI's own, with the problem shape, and the tools that exist right now."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel

from ..jsonvalue import MAX_DEPTH
from ..tools.base import PreparedTool, ToolSource
from . import idempotency
from .errors import PROBLEM_TYPE, problem_body
from .models import (
    MAX_BODY_BYTES,
    STORABLE_PATTERN,
    GovernanceNotes,
    Health,
    Problem,
    RunTaskRequest,
    RunTaskResponse,
)
from .run_models import EventPage, RunList, RunModel, RunSubmission, TraceModel
from .strict import StrictRoute

DESCRIPTION = """\
The execution core under AI orchestrators. A caller posts a goal; a language model (the offline planner by default)
plans; tools run; every step is traced. Errors are RFC 9457 problem documents with a stable `code`."""


PROBLEMS: dict[str, tuple[int, str]] = {
    "malformed_json": (400, "The body is not one JSON document in UTF-8."),
    "invalid_idempotency_key": (
        400,
        "The Idempotency-Key is repeated, or not 1 to 255 visible ASCII characters.",
    ),
    "unknown_host": (400, "ALLOWED_HOSTS does not have the name by which the service was asked."),
    "unauthenticated": (401, "There is no API key or token, or none that holds."),
    "permission_denied": (403, "A scope is missing."),
    "not_found": (404, "There is nothing at this address."),
    "run_not_found": (404, "There is no run of this id."),
    "key_not_found": (404, "There is no API key of this id, or none that may be seen."),
    "method_not_allowed": (
        405,
        "The method is not allowed here; the Allow header names those that are.",
    ),
    "run_ended": (409, "The run has ended."),
    "run_not_waiting": (409, "The run does not wait for a word on this step."),
    "run_pruned": (410, "The run's events have been pruned; its head hash is kept."),
    "body_too_large": (413, f"The body is larger than {MAX_BODY_BYTES} bytes."),
    "unsupported_media_type": (
        415,
        "The body is not declared as JSON. Without an Origin header, text/plain or no type at all will do.",
    ),
    "invalid_request": (
        422,
        f"The request breaks a schema, nests over {MAX_DEPTH} levels deep, or names an unknown tool or parameter.",
    ),
    "invalid_run": (422, "The metadata or output holds what cannot be stored, or is too large."),
    "unknown_model": (422, "The run may not have that model."),
    "invalid_budget": (422, "The tokens or the cost are more than the service allows a run."),
    "unpriced_model": (422, "The run is to keep to a cost, and what a model costs is unknown."),
    "invalid_output_schema": (422, "The output schema is no JSON Schema, or too large."),
    "invalid_permissions": (422, "The scopes, rules, limits or time are none, or more than who asks has."),
    "invalid_cursor": (422, "The cursor is none that a listing has given out."),
    "idempotency_key_reused": (422, "The Idempotency-Key was used before, for another request."),
    "rate_limited": (429, "There were too many requests; Retry-After says when to try again."),
    "quota_exceeded": (429, "A quota of runs, steps or tokens is used up; Retry-After says when to try again."),
    "internal_error": (500, "A fault of the service."),
    "notes_unavailable": (
        503,
        "The active governance_note tool has no store that can be read, or it does not answer.",
    ),
    "storage_unavailable": (503, "The database does not answer; nothing has been promised."),
    "not_ready": (503, "The process cannot do its work now; `errors` names the checks that fail."),
    "identity_unavailable": (503, "The identity provider does not answer, so the token cannot be checked."),
}
"""What an error answer means: its status, and a sentence."""

BODY_PROBLEMS = ("malformed_json", "body_too_large", "unsupported_media_type", "invalid_request")
"""What every route with a body may answer."""

MODEL_PROBLEMS = ("unknown_model", "invalid_budget", "unpriced_model", "invalid_output_schema")
"""What a run is refused for that wants another model, budget or form of answer than it may have."""

GUARD_PROBLEMS = ("unauthenticated", "permission_denied", "rate_limited")
"""What every route that is not public may answer."""

KEY_PROBLEMS = ("invalid_idempotency_key", "idempotency_key_reused")

RETRY_AFTER = {
    "Retry-After": {
        "description": "Seconds to wait; of a 503, if the database is what does not answer.",
        "schema": {"type": "integer", "minimum": 1},
    }
}
CHALLENGE = {
    "WWW-Authenticate": {
        "description": "How to be admitted (RFC 6750).",
        "required": True,
        "schema": {"type": "string"},
    }
}
LOCATION = {
    "Location": {"description": "Where the run is.", "required": True, "schema": {"type": "string"}},
}


def problems(*codes: str) -> dict[int | str, dict[str, Any]]:
    """Document the error answers of these codes, and those that every route has."""
    by_status: dict[int | str, list[str]] = {}
    for code in (*codes, "method_not_allowed", "internal_error"):
        by_status.setdefault(PROBLEMS[code][0], []).append(code)
    return {status: _problem(by_status[status]) for status in sorted(by_status, key=int)}


def _problem(codes: list[str]) -> dict[str, Any]:
    examples = {code: {"value": problem_body(PROBLEMS[code][0], code, PROBLEMS[code][1])} for code in codes}
    answer: dict[str, Any] = {
        "description": " Or: ".join(PROBLEMS[code][1] for code in codes),
        "content": {PROBLEM_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}, "examples": examples}},
    }
    headers = _HEADERS.get(PROBLEMS[codes[0]][0])
    if headers is not None:
        answer["headers"] = headers
    return answer


_HEADERS: dict[int, dict[str, Any]] = {
    HTTPStatus.UNAUTHORIZED: CHALLENGE,
    HTTPStatus.FORBIDDEN: CHALLENGE,
    HTTPStatus.TOO_MANY_REQUESTS: RETRY_AFTER,
    HTTPStatus.SERVICE_UNAVAILABLE: RETRY_AFTER,
}

SCHEMES: dict[str, Any] = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "An API key, or a token (JWT) of the provider."},
    "key": {"type": "apiKey", "in": "header", "name": "X-API-Key", "description": "An API key."},
}

STORABLE_TEXT = {"type": "string", "pattern": STORABLE_PATTERN}
STORABLE_OBJECT = {
    "type": "object",
    "propertyNames": {"pattern": STORABLE_PATTERN},
    "additionalProperties": {"$ref": "#/components/schemas/StorableJson"},
}
STORABLE = {
    "description": "Any JSON whose texts hold no NUL and no lone surrogate.",
    "anyOf": [
        STORABLE_TEXT,
        {"type": ["number", "boolean", "null"]},
        {"type": "array", "items": {"$ref": "#/components/schemas/StorableJson"}},
        STORABLE_OBJECT,
    ],
}

GROUPS = {
    "runs": "Goals carried out: at once, or kept in the queue.",
    "governance-notes": "Notes on proposals.",
    "tools": "What runs may use.",
    "usage": "What models took.",
    "keys": "Who may ask, and what for.",
    "health": "For whoever watches the service.",
}
"""What operations are grouped by on the pages that describe them, in this order."""

WITH_NULLS: tuple[type[BaseModel], ...] = (
    RunTaskRequest,
    RunTaskResponse,
    GovernanceNotes,
    Health,
    RunSubmission,
    RunModel,
    RunList,
    TraceModel,
    EventPage,
)


def install(app: FastAPI, tools: ToolSource, models: Sequence[str] = ("mock",), *, required: bool = False) -> None:
    """Make `app` state its document over the tools of the moment; it is built again when they change.

    `models` are those that a run may ask for; `required` says whether every request has to show a key or token.
    """
    built: tuple[Mapping[str, PreparedTool], dict[str, Any]] | None = None

    def openapi() -> dict[str, Any]:
        nonlocal built
        snapshot = tools.snapshot()
        if built is None or built[0] is not snapshot:
            document = _document(app, list(snapshot), list(models))
            _say_who_may(document, app, required)
            built = snapshot, document
        return built[1]

    app.openapi = openapi  # type: ignore[method-assign]  # the way FastAPI documents


def _document(app: FastAPI, tool_names: list[str], model_names: list[str]) -> dict[str, Any]:
    document = get_openapi(title=app.title, version=app.version, description=DESCRIPTION, routes=app.routes)
    schemas = document["components"]["schemas"]
    schemas["Problem"] = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
    schemas.update(schemas["Problem"].pop("$defs", {}))
    apart = {"IdempotencyKey": idempotency.PARAMETER}  # headers, of which routes only speak: see there
    document["tags"] = [{"name": name, "description": said} for name, said in GROUPS.items()]
    for path, operations in document["paths"].items():
        for operation in operations.values():
            operation["tags"] = [_group(path)]
            if "application/json" in operation["responses"].get("422", {}).get("content", {}):
                del operation["responses"]["422"]  # FastAPI's own; where we document none, there is none
            parameters = operation.get("parameters", [])
            for parameter in parameters:
                _forget_null(parameter["schema"])
            apart.update({item["name"].replace("-", ""): item for item in parameters if item["in"] == "header"})
            operation["parameters"] = [item for item in parameters if item["in"] != "header"]
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    document["components"]["parameters"] = apart
    schemas["StorableJson"] = STORABLE
    _branch(schemas["RunSubmission"], "metadata", "object").update(STORABLE_OBJECT)
    _branch(schemas["Happened"], "output", "object").update(STORABLE_OBJECT)
    for model in WITH_NULLS:
        # FastAPI drops every null from its document, and with it the "error": null of an example
        schemas[model.__name__]["examples"] = model.model_json_schema()["examples"]
    for model in (RunTaskRequest, RunSubmission):
        _branch(schemas[model.__name__], "tools", "array")["items"] = {"type": "string", "enum": tool_names}
        _branch(schemas[model.__name__], "model", "string")["enum"] = model_names
        _branch(schemas[model.__name__], "output_schema", "object").update(STORABLE_OBJECT)
    return document


def _group(path: str) -> str:
    first = path.removeprefix("/api/v1/").strip("/").partition("/")[0]
    return {"run-task": "runs", "metrics": "health"}.get(first, first)


def _say_who_may(document: dict[str, Any], app: FastAPI, required: bool) -> None:
    """State what each route takes of whoever asks."""
    document["components"]["securitySchemes"] = SCHEMES
    for route in app.routes:
        if not isinstance(route, StrictRoute) or not route.include_in_schema:
            continue
        needs = route.needs
        scopes = [needs.scope] if needs is not None and needs.scope is not None else []
        ways: list[dict[str, list[str]]] = [] if required and needs is not None else [{}]
        if needs is not None:
            ways = [*({name: scopes} for name in SCHEMES), *ways]
        for method in route.methods or ():
            document["paths"][route.path_format][method.lower()]["security"] = ways


def _forget_null(schema: dict[str, Any]) -> None:
    """Take away the null of a parameter that may be left out: in a URL or header there is none."""
    if "anyOf" in schema:
        schema.update(schema.pop("anyOf")[0])


def _branch(schema: dict[str, Any], name: str, kind: str) -> dict[str, Any]:
    """Return what is said of a property that may be null when it is not."""
    branches: list[dict[str, Any]] = schema["properties"][name]["anyOf"]
    return next(branch for branch in branches if branch.get("type") == kind)
