"""The Idempotency-Key header (draft-ietf-httpapi-idempotency-key-header): a caller's own name for a request."""

from __future__ import annotations

import json
import re
from hashlib import sha256
from typing import Any

import msgspec

from ..errors import InvalidIdempotencyKeyError
from ..runs.models import IdempotencyKey, RunRequest
from .strict import StrictRequest

MAX_KEY_CHARS = 255

_QUOTED = re.compile(rb'"((?:[!#-\[\]-~]|\\["\\])+)"')
"""An sf-string (RFC 9651 section 3.3.3) without spaces."""
_BARE = re.compile(rb"[!#-~][!-~]*")

PARAMETER: dict[str, Any] = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": "Your own name for this request, such as a new UUID in quotes; the quotes may be left out. A "
    "request that is repeated with its key starts nothing again and gets the answer of the first, or the state of "
    "its run while that has not ended. Keys are kept for at least 24 hours.",
    "schema": {
        "type": "string",
        "pattern": r'^(?:"(?:[!#-\[\]-~]|\\["\\]){1,255}"|[!#-~][!-~]{0,254})$',
    },
}
"""How the OpenAPI document states the header.

It stands among the components, and routes only speak of it: that a key is refused which was used for another
request cannot be said in a schema, and whoever tests the API by its schemas would send one key with everything.
"""


def key_of(request: StrictRequest, asked: RunRequest) -> IdempotencyKey | None:
    """Return the request's key, and what it stands for: method, path and what is asked, however it was spelt.

    Raises:
        InvalidIdempotencyKeyError: the header is ill-formed or repeated.
    """
    value = request.idempotency_key
    if value is None:
        return None
    if sum(name == b"idempotency-key" for name, _ in request.scope["headers"]) > 1:
        raise InvalidIdempotencyKeyError("The request has more than one Idempotency-Key.")
    # the standard library's writer: it takes lone surrogates, which are refused later and better
    # without what was not said: a field that a later version adds changes no fingerprint
    said = {name: value for name, value in msgspec.to_builtins(asked).items() if value is not None}
    canonical = json.dumps(said, sort_keys=True, separators=(",", ":"))
    named = f"{request.method} {request.scope['path']}\n{canonical}"
    return IdempotencyKey(_parse(value.strip(b" \t")), sha256(named.encode()).digest())


def _parse(value: bytes) -> str:
    quoted = _QUOTED.fullmatch(value)
    if quoted is not None:
        key = re.sub(rb"\\(.)", rb"\1", quoted[1])
    elif _BARE.fullmatch(value):
        key = value
    else:
        key = b""
    if not 1 <= len(key) <= MAX_KEY_CHARS:
        raise InvalidIdempotencyKeyError(
            f"The Idempotency-Key has to be 1 to {MAX_KEY_CHARS} visible ASCII characters, best in quotes."
        )
    return key.decode("ascii")
