"""The route of what models took, and its parameters."""

from __future__ import annotations

import re
from datetime import date
from typing import Annotated

import msgspec
from fastapi import FastAPI, Query, Response
from pydantic import BeforeValidator, WithJsonSchema

from ..auth.principal import Principal
from ..permissions import RUNS_READ
from ..runs.reports import UsageReports
from ..runs.usage import By
from . import wire
from .guard import Guard, needs
from .openapi import GUARD_PROBLEMS, problems
from .strict import StrictQueryRoute
from .usage_models import UsageList

PATH = "/api/v1/usage"
JSON = "application/json"

_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", re.ASCII)


def _day(value: object) -> object:
    """Return the day that a text names. Pydantic would read a number, or a time, as one."""
    if not isinstance(value, str):
        return value
    if _DAY.fullmatch(value):
        try:
            return date.fromisoformat(value)
        except ValueError:
            pass
    raise ValueError("It is no day like 2026-11-22.")


Day = Annotated[date, BeforeValidator(_day), WithJsonSchema({"type": "string", "format": "date"})]
Grouping = Annotated[By, Query(description="What to sum by.")]
First = Annotated[Day | None, Query(alias="from", description="The first day (UTC); 30 days in all by default.")]
Last = Annotated[Day | None, Query(alias="to", description="The last day, included; today by default.")]


def add_usage_route(app: FastAPI, reports: UsageReports, guard: Guard) -> None:
    """Add the route over the given service."""
    before, app.router.route_class = app.router.route_class, StrictQueryRoute.guarded_by(guard)

    @app.get(
        PATH,
        summary="Say what models took",
        response_model=None,
        responses={
            200: {"model": UsageList},
            **problems(*GUARD_PROBLEMS, "invalid_request", "storage_unavailable"),
        },
    )
    async def read_usage(
        who: Annotated[Principal, needs(RUNS_READ)], by: Grouping = "day", first: First = None, last: Last = None
    ) -> Response:
        """Return tokens and cost, summed by day, model or tenant; of a longer period, those of its last 366 days.

        Pruning runs does not change them.
        """
        report = await reports.report(by, first, last, who.tenant)
        return Response(msgspec.json.encode(wire.usage(report)), media_type=JSON)

    app.router.route_class = before
