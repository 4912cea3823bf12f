"""The OpenAPI document: FastAPI's own, with the problem shape, and the tools that exist right now."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from ..jsonvalue import MAX_DEPTH
from ..tools.base import PreparedTool, ToolSource
from .errors import PROBLEM_TYPE, problem_body
from .models import MAX_BODY_BYTES, GovernanceNotes, Health, Problem, RunTaskRequest, RunTaskResponse

DESCRIPTION = """\
The execution core under AI orchestrators. A caller posts a goal; a language model (the offline planner by default)
plans; tools run; every step is traced. Errors are RFC 9457 problem documents with a stable `code`."""


MEANINGS = {
    400: ("malformed_json", "The body is not one JSON document in UTF-8."),
    404: ("not_found", "There is nothing at this address."),
    405: ("method_not_allowed", "The method is not allowed here; the Allow header names those that are."),
    413: ("body_too_large", f"The body is larger than {MAX_BODY_BYTES} bytes."),
    415: (
        "unsupported_media_type",
        "The body is not declared as JSON. Without an Origin header, text/plain or no type at all will do.",
    ),
    422: (
        "invalid_request",
        f"The request breaks its schema, nests over {MAX_DEPTH} levels deep, or names an unknown tool.",
    ),
    500: ("internal_error", "A fault of the service."),
    503: (
        "notes_unavailable",
        "The active governance_note tool has no store that can be read, or it does not answer.",
    ),
}
"""What an error answer means: the code that is usual for its status, and a sentence."""


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Document error answers of these statuses."""
    schema = {"$ref": "#/components/schemas/Problem"}
    return {
        status: {
            "description": MEANINGS[status][1],
            "content": {PROBLEM_TYPE: {"schema": schema, "example": problem_body(status, *MEANINGS[status])}},
        }
        for status in statuses
    }


def install(app: FastAPI, tools: ToolSource) -> None:
    """Make `app` state its document over the tools of the moment; it is built again when they change."""
    built: tuple[Mapping[str, PreparedTool], dict[str, Any]] | None = None

    def openapi() -> dict[str, Any]:
        nonlocal built
        snapshot = tools.snapshot()
        if built is None or built[0] is not snapshot:
            built = snapshot, _document(app, list(snapshot))
        return built[1]

    app.openapi = openapi  # type: ignore[method-assign]  # the way FastAPI documents


def _document(app: FastAPI, tool_names: list[str]) -> dict[str, Any]:
    document = get_openapi(title=app.title, version=app.version, description=DESCRIPTION, routes=app.routes)
    schemas = document["components"]["schemas"]
    schemas["Problem"] = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
    schemas.update(schemas["Problem"].pop("$defs", {}))
    for model in (RunTaskRequest, RunTaskResponse, GovernanceNotes, Health):
        # FastAPI drops every null from its document, and with it the "error": null of an example
        schemas[model.__name__]["examples"] = model.model_json_schema()["examples"]
    tools = schemas["RunTaskRequest"]["properties"]["tools"]
    for branch in tools["anyOf"]:
        if branch.get("type") == "array":
            branch["items"] = {"type": "string", "enum": tool_names}
    return document
