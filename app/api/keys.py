"""The routes of API keys: make, list, rotate, revoke; within what whoever asks may do themselves."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Annotated, Any

import msgspec
from fastapi import FastAPI, Path, Query, Response
from pydantic import AfterValidator, BeforeValidator, Field

from ..auth.key_service import MAX_OVERLAP_S, IssuedKey, KeyService
from ..auth.keys import ApiKey, is_id
from ..auth.principal import UNLIMITED, Principal
from ..errors import KeyNotFoundError
from ..permissions import KEYS_READ, KEYS_WRITE
from .guard import Guard, needs
from .key_models import EXAMPLE_KEY_ID, IssuedKeyModel, KeyList, KeyModel, KeyRequest
from .openapi import BODY_PROBLEMS, GUARD_PROBLEMS, problems
from .strict import StrictQueryRoute

PREFIX = "/api/v1/keys"
JSON = "application/json"

NO_STORE = {"Cache-Control": "no-store"}

_WHOLE = re.compile(r"[0-9]{1,16}", re.ASCII)

KeysReader = Annotated[Principal, needs(KEYS_READ)]
KeysWriter = Annotated[Principal, needs(KEYS_WRITE)]


def _known_form(key_id: str) -> str:
    if not is_id(key_id):
        raise KeyNotFoundError(f"There is no key {key_id[:80]!r}; ids are the 16 digits after lac_.")
    return key_id


KeyId = Annotated[str, Path(description="As `id` says.", examples=[EXAMPLE_KEY_ID]), AfterValidator(_known_form)]


def _seconds(value: object) -> object:
    """Return digits as a number. Pydantic would read much else as one ("1.0", "+1", " 1", "1_0")."""
    if not isinstance(value, str):
        return value
    seconds = int(value) if _WHOLE.fullmatch(value) else -1
    if not 0 <= seconds <= MAX_OVERLAP_S:
        raise ValueError(f"It is not a whole number from 0 to {MAX_OVERLAP_S}.")
    return seconds


Overlap = Annotated[
    Annotated[int, Field(ge=0, le=MAX_OVERLAP_S), BeforeValidator(_seconds)],
    Query(description="How many seconds the secret before goes on."),
]


def add_key_routes(app: FastAPI, keys: KeyService, guard: Guard) -> None:
    """Add the routes over the given service."""
    before, app.router.route_class = app.router.route_class, StrictQueryRoute.guarded_by(guard)
    _add_issuing(app, keys)
    _add_the_rest(app, keys)
    app.router.route_class = before


def _add_issuing(app: FastAPI, keys: KeyService) -> None:
    @app.post(
        PREFIX,
        summary="Make an API key",
        status_code=201,
        response_model=None,
        responses={
            201: {"model": IssuedKeyModel, "description": "The key, which is shown this once."},
            **problems(*BODY_PROBLEMS, *GUARD_PROBLEMS, "invalid_permissions", "storage_unavailable"),
        },
    )
    async def create_key(wanted: KeyRequest, who: KeysWriter) -> Response:
        """Make a key of your tenant that may do no more than you; without limits or a time, those are yours.

        If you have shown a key, the new one descends from it, and falls with it.
        """
        issued = await keys.create_child(
            who,
            wanted.name,
            wanted.scopes,
            wanted.to_rules(),
            limits=None if wanted.limits is None else wanted.limits.to_limits(),
            expires_at=wanted.expires_at,
        )
        return _json(_issued(issued), 201, NO_STORE)

    @app.post(
        PREFIX + "/{key_id}/rotate",
        summary="Rotate an API key",
        response_model=None,
        responses={
            200: {
                "model": IssuedKeyModel,
                "description": "The key with its new secret, which is shown this once.",
            },
            **problems(
                *GUARD_PROBLEMS, "key_not_found", "invalid_request", "invalid_permissions", "storage_unavailable"
            ),
        },
    )
    async def rotate_key(key_id: KeyId, who: KeysWriter, overlap_s: Overlap = 0) -> Response:
        """Give a key a new secret, and nothing else: the one that you have shown, or one that descends from it."""
        return _json(_issued(await keys.rotate(key_id, overlap_s, who)), headers=NO_STORE)


def _add_the_rest(app: FastAPI, keys: KeyService) -> None:
    @app.get(
        PREFIX,
        summary="List API keys",
        response_model=None,
        responses={200: {"model": KeyList}, **problems(*GUARD_PROBLEMS, "invalid_request", "storage_unavailable")},
    )
    async def list_keys(who: KeysReader) -> Response:
        """Return the keys of your tenant that may do no more than you, or that descend from yours."""
        return _json({"keys": [_resource(key) for key in await keys.seen_by(who)]})

    @app.post(
        PREFIX + "/{key_id}/revoke",
        summary="Revoke an API key",
        response_model=None,
        responses={
            200: {"model": KeyModel, "description": "The key is revoked."},
            **problems(*GUARD_PROBLEMS, "key_not_found", "invalid_request", "storage_unavailable"),
        },
    )
    async def revoke_key(key_id: KeyId, who: KeysWriter) -> Response:
        """End a key that you see, and all that descend from it. Other processes know of it within 2 seconds."""
        return _json(_resource(await keys.revoke(key_id, who)))


def _issued(issued: IssuedKey) -> dict[str, Any]:
    return {"key": issued.written, **_resource(issued.key)}


def _resource(key: ApiKey) -> dict[str, Any]:
    """Return a key as `KeyModel` states it."""
    return {
        "id": key.id,
        "name": key.name,
        "scopes": key.permissions.scopes,
        "rules": [str(rule) for rule in key.permissions.rules],
        "limits": key.limits or UNLIMITED,
        "parent": key.parent,
        "state": key.state_at(datetime.now(UTC).timestamp()),
        "created_at": key.created_at,
        "expires_at": key.expires_at,
        "rotated_at": key.rotated_at,
        "revoked_at": key.revoked_at,
    }


def _json(answer: object, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(msgspec.json.encode(answer), status, headers, JSON)
