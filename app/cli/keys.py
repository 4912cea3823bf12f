"""`keys`: who may ask the service, and what for."""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import sys
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from .terminal import complain, one_line, printable, say, stamp, whole_number

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..auth.key_service import IssuedKey, KeyService
    from ..auth.keys import ApiKey
    from ..auth.principal import Limits
    from ..jsonvalue import JsonObject
    from ..permissions import Permissions
    from .terminal import Commands

MOST = 999_999_999
SHOWN_ONCE = "This key is shown now and never again: keep it where secrets are kept."
SOON = "A server that is running knows of it within 2 seconds."

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


def add_to(commands: Commands) -> None:
    """Declare the commands."""
    keys = commands.add_parser("keys", help="make, list, rotate and revoke API keys, also beside a running server")
    actions = keys.add_subparsers(required=True, metavar="ACTION")
    _add_create(actions)
    listing = actions.add_parser("list", help="print the keys, without their secrets")
    listing.add_argument("--tenant", metavar="TENANT", help="only those of this tenant")
    listing.add_argument("--json", action="store_true", help="print them as JSON and nothing else")
    listing.set_defaults(command=_list)
    revoke = actions.add_parser("revoke", help="end a key, and all that were made from it")
    revoke.add_argument("key_id", metavar="ID", help="the 16 digits after lac_")
    revoke.set_defaults(command=_revoke)
    rotate = actions.add_parser("rotate", help="give a key a new secret; it may do what it might before")
    rotate.add_argument("key_id", metavar="ID", help="the 16 digits after lac_")
    rotate.add_argument(
        "--overlap",
        type=_duration,
        default=timedelta(),
        metavar="TIME",
        help="how long the secret before goes on, as 90s, 10m, 1h or 2d; 7d at most (not at all)",
    )
    rotate.add_argument("--json", action="store_true", help="print it as JSON and nothing else")
    rotate.set_defaults(command=_rotate)


def _add_create(actions: Commands) -> None:
    create = actions.add_parser("create", help="make a key, and print it this once")
    create.add_argument("--name", required=True, help="what people know it by")
    create.add_argument("--tenant", metavar="TENANT", help="whose runs and notes it is for (default)")
    create.add_argument(
        "--scopes",
        type=_scopes,
        metavar="LIST",
        help="what it may do, such as runs:read,runs:write,tools:math; * for everything "
        "(runs:*, notes:* and tools:*; with --parent, all that the parent may)",
    )
    create.add_argument(
        "--rule",
        action="append",
        default=[],
        metavar="RULE",
        help="what a tool may be called with, as governance_note:proposal_id=PROP-2025-*; may be repeated",
    )
    create.add_argument("--parent", metavar="ID", help="a key which it falls with, and may do no more than")
    create.add_argument(
        "--expires", type=_moment, metavar="WHEN", help="a day or time, as 2027-01-31, or 30d or 12h from now"
    )
    create.add_argument("--rate-limit", metavar="RATE", help="requests, as 600/minute")
    for option, what in (
        ("--max-runs", "unfinished runs at once"),
        ("--steps-per-day", "tool calls a day"),
        ("--tokens-per-day", "tokens of models a day"),
    ):
        create.add_argument(option, type=whole_number(1, MOST), metavar="N", help=what)
    create.add_argument("--json", action="store_true", help="print it as JSON and nothing else")
    create.set_defaults(command=_create)


def _scopes(text: str) -> list[str]:
    scopes = [part for part in re.split(r"[\s,]+", text) if part]
    if not scopes:
        raise argparse.ArgumentTypeError("it is empty, and a key without a scope can do nothing")
    return scopes


def _duration(text: str) -> timedelta:
    found = re.fullmatch(r"([0-9]{1,6})([smhd])", text, re.ASCII)
    if found is None:
        raise argparse.ArgumentTypeError(f"{text[:50]!r} is no time; one looks like 90s, 10m, 1h or 2d")
    return timedelta(seconds=int(found[1]) * _UNITS[found[2]])


def _moment(text: str) -> datetime:
    """Return a moment; without an offset it is in UTC."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return datetime.now(UTC) + _duration(text)
    return found.replace(tzinfo=UTC) if found.tzinfo is None else found


def _create(options: argparse.Namespace) -> int:
    from ..bootstrap.keys import open_keys
    from ..config import Settings
    from ..storage.database import FILE_NAME

    settings = Settings()
    path = settings.data_dir / FILE_NAME
    is_made = settings.database_url is None and not path.exists()
    with open_keys(settings) as keys:
        issued = asyncio.run(_issue(keys, options))
    if is_made:  # which may be a slip: whoever serves has another directory
        _remark(f"There was no database: {path} was made.")
    if not settings.tool_modules:  # whose tools are not known here
        for warning in _slips(issued.key.permissions):
            complain(warning)
    _show_once(issued, as_json=options.json)
    return 0


def _slips(permissions: Permissions) -> Iterator[str]:
    """Yield what in the permissions is about no tool that there is, or no argument that it takes."""
    from ..permissions import ALL_TOOLS
    from ..tools.builtin import default_tools

    tools = default_tools().snapshot()
    named = [scope.removeprefix("tools:") for scope in permissions.scopes if scope.startswith("tools:")]
    for name in dict.fromkeys((*named, *(rule.tool for rule in permissions.rules))):
        if name not in tools and name != ALL_TOOLS.removeprefix("tools:"):
            yield f"warning: there is no tool {name!r} here; there are {', '.join(tools)}"
    for rule in permissions.rules:
        if rule.tool in tools and rule.argument not in _arguments_of(tools[rule.tool].input_schema):
            yield f"warning: {rule.tool} takes no argument {rule.argument!r}, so that {rule} allows no call of it"


def _arguments_of(schema: JsonObject) -> list[str]:
    properties = schema.get("properties")
    return list(properties) if isinstance(properties, dict) else []


async def _issue(keys: KeyService, options: argparse.Namespace) -> IssuedKey:
    from ..auth.keys import principal_of
    from ..errors import InvalidPermissionsError
    from ..permissions import ArgumentRule, Permissions
    from ..tools.call import DEFAULT_TENANT

    rules = [ArgumentRule.parse(rule) for rule in options.rule]
    limits, expires_at = _limits(options), options.expires
    if options.parent is None:
        permissions = Permissions.of(_usual_scopes() if options.scopes is None else options.scopes, rules)
        tenant = DEFAULT_TENANT if options.tenant is None else options.tenant
        return await keys.create(options.name, permissions, tenant=tenant, limits=limits, expires_at=expires_at)
    kept = await keys.get(options.parent)
    parent = kept.key
    if options.tenant not in (None, parent.tenant):
        raise InvalidPermissionsError(
            f"The parent is of the tenant {parent.tenant}, and so is what descends from it."
        )
    scopes = parent.permissions.scopes if options.scopes is None else options.scopes
    return await keys.create_child(
        principal_of(kept), options.name, scopes, rules, limits=limits, expires_at=expires_at
    )


def _usual_scopes() -> list[str]:
    from ..permissions import ALL_TOOLS, NOTES_READ, NOTES_WRITE, RUNS_READ, RUNS_WRITE

    return [RUNS_READ, RUNS_WRITE, NOTES_READ, NOTES_WRITE, ALL_TOOLS]


def _limits(options: argparse.Namespace) -> Limits | None:
    from ..auth.principal import UNLIMITED, Limits

    limits = Limits(options.rate_limit, options.max_runs, options.steps_per_day, options.tokens_per_day)
    return None if limits == UNLIMITED else limits


def _show_once(issued: IssuedKey, *, as_json: bool) -> None:
    say(json.dumps({"key": issued.written, **_as_object(issued.key)}) if as_json else issued.written)
    _remark(SHOWN_ONCE)


def _remark(text: str) -> None:
    print(text, file=sys.stderr, flush=True)  # noqa: T201 - a command talks to a terminal


def _list(options: argparse.Namespace) -> int:
    from ..bootstrap.keys import open_keys
    from ..config import Settings

    with open_keys(Settings(), readonly=True) as keys:
        found = asyncio.run(keys.all(options.tenant))
    if options.json:
        say(json.dumps({"keys": [_as_object(key) for key in found]}))
        return 0
    for key in found:
        name, rules = one_line(key.name, 40), "".join(f" [{rule}]" for rule in key.permissions.rules)
        say(
            f"{key.id}  {_state(key):<8}  {key.tenant}  {name}  until {stamp(key.expires_at)}  "
            f"{' '.join(key.permissions.scopes)}{printable(rules)}"
            f"{''.join(_limits_in_words(key))}{f'  from {key.parent}' if key.parent else ''}"
        )
    return 0


def _limits_in_words(key: ApiKey) -> Iterator[str]:
    limits = key.limits
    if limits is not None:
        for value, what in (
            (limits.requests, ""),
            (limits.runs, " runs"),
            (limits.steps_per_day, " steps/day"),
            (limits.tokens_per_day, " tokens/day"),
        ):
            if value is not None:
                yield f"  {value}{what}"


def _state(key: ApiKey) -> str:
    return key.state_at(datetime.now(UTC).timestamp())


def _revoke(options: argparse.Namespace) -> int:
    from ..bootstrap.keys import open_keys
    from ..config import Settings

    with open_keys(Settings()) as keys:
        key = asyncio.run(keys.revoke(options.key_id))
    say(f"key {key.id}  revoked")
    _remark(SOON)
    return 0


def _rotate(options: argparse.Namespace) -> int:
    from ..bootstrap.keys import open_keys
    from ..config import Settings

    with open_keys(Settings()) as keys:
        issued = asyncio.run(keys.rotate(options.key_id, options.overlap.total_seconds()))
    _show_once(issued, as_json=options.json)
    _remark(SOON)
    return 0


def _as_object(key: ApiKey) -> JsonObject:
    """Return a key as the API gives it."""
    from ..auth.principal import UNLIMITED

    limits = key.limits or UNLIMITED
    return {
        "id": key.id,
        "tenant": key.tenant,
        "name": key.name,
        "state": _state(key),
        "scopes": list(key.permissions.scopes),
        "rules": [str(rule) for rule in key.permissions.rules],
        "limits": {
            "requests": limits.requests,
            "runs": limits.runs,
            "steps_per_day": limits.steps_per_day,
            "tokens_per_day": limits.tokens_per_day,
        },
        "parent": key.parent,
        "created_at": stamp(key.created_at),
        **{
            name: None if at is None else stamp(at)
            for name, at in (
                ("expires_at", key.expires_at),
                ("rotated_at", key.rotated_at),
                ("revoked_at", key.revoked_at),
            )
        },
    }
