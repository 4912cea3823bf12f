"""The route of the metrics."""

from __future__ import annotations

from typing import Annotated, Any, Final, Protocol

from fastapi import FastAPI, Request, Response

from ..auth.principal import Principal
from ..permissions import METRICS_READ
from .guard import needs
from .openapi import GUARD_PROBLEMS, problems

PATH: Final = "/metrics"

TEXTS: Final[dict[str, Any]] = {
    "text/plain": {"schema": {"type": "string"}},
    "application/openmetrics-text": {"schema": {"type": "string"}},
}


class Exposition(Protocol):
    """Says what has been counted."""

    async def scrape(self, accept: str) -> tuple[bytes, str]:
        """Return the text, in a form that an Accept header with this value takes, and its content type."""
        ...


def add_metrics_route(app: FastAPI, exposition: Exposition) -> None:
    """Add the route, which takes the scope `metrics:read`."""

    @app.get(
        PATH,
        summary="Say what the process has counted",
        response_class=Response,
        responses={
            200: {"content": TEXTS, "description": "Prometheus' text format, or OpenMetrics if that is accepted."},
            **problems(*GUARD_PROBLEMS),
        },
    )
    async def metrics(request: Request, _: Annotated[Principal, needs(METRICS_READ)]) -> Response:
        """Return the metrics of this process, for Prometheus."""
        text, content_type = await exposition.scrape(", ".join(request.headers.getlist("accept")))
        return Response(text, headers={"Cache-Control": "no-store", "Content-Type": content_type})
