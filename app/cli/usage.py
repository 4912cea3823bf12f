"""`usage`: what models took, by day, model or tenant."""

from __future__ import annotations

import argparse
import asyncio
import json
from datetime import date
from typing import TYPE_CHECKING, get_args

from .terminal import printable, say

if TYPE_CHECKING:
    from ..jsonvalue import JsonObject
    from ..runs.reports import UsageReport
    from ..runs.usage import Used
    from .terminal import Commands


def add_to(commands: Commands) -> None:
    """Declare the command."""
    from ..runs.usage import By

    usage = commands.add_parser("usage", help="print what models took: tokens and cost")
    usage.add_argument("--by", choices=get_args(By), default="day", help="what to sum by (day)")
    usage.add_argument("--from", dest="first", type=_day, metavar="DAY", help="the first day, as 2026-11-22 (UTC)")
    usage.add_argument("--to", dest="last", type=_day, metavar="DAY", help="the last day, included (today)")
    usage.add_argument("--json", action="store_true", help="print it as JSON and nothing else")
    usage.set_defaults(command=_usage)


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text[:50]!r} is no day; it looks like 2026-11-22") from None


def _usage(options: argparse.Namespace) -> int:
    report = asyncio.run(_report(options))
    if options.json:
        say(json.dumps(_as_object(report)))
        return 0
    say(f"{report.first} to {report.last}")
    for group, used in [*report.groups, ("total", report.total)]:
        say(
            f"{printable(group):<40}  {used.calls} call{'' if used.calls == 1 else 's'}  "
            f"{used.input_tokens} in  {used.output_tokens} out  {cost_of(used)}"
        )
    return 0


async def _report(options: argparse.Namespace) -> UsageReport:
    from ..bootstrap.database import open_database
    from ..config import Settings
    from ..runs.reports import UsageReports
    from ..storage.usage import SqlUsageStore

    with open_database(Settings(), readonly=True) as database:
        # whoever can read the database may see what all tenants used
        return await UsageReports(SqlUsageStore(database)).report(
            options.by, options.first, options.last, tenant=None
        )


def cost_of(used: Used) -> str:
    """Return the known cost for a person, and how many calls it leaves out."""
    from ..runs.usage import to_usd

    unknown = f" and {used.unpriced_calls} of unknown price" if used.unpriced_calls else ""
    return f"${to_usd(used.cost):f}{unknown}"


def _as_object(report: UsageReport) -> JsonObject:
    return {
        "by": report.by,
        "from": str(report.first),
        "to": str(report.last),
        "usage": [{"group": group, **sums_of(used)} for group, used in report.groups],
        "total": sums_of(report.total),
    }


def sums_of(used: Used) -> JsonObject:
    """Return the sums as the API gives them."""
    import msgspec

    from ..runs.usage import to_usd

    sums: JsonObject = msgspec.to_builtins(used)
    del sums["cost"]
    return {**sums, "cost_usd": float(to_usd(used.cost))}
