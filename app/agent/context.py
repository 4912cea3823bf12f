"""What a model is shown of a run: results that are too large are cut, and the oldest make room when it is full."""

from __future__ import annotations

from hashlib import sha256

import msgspec
from msgspec.structs import replace

from ..llm.interface import ToolMessage

_encode = msgspec.json.Encoder().encode


def digested(message: ToolMessage) -> ToolMessage:
    """Return the message with the digest of its result in the result's place; the journal has the whole of it."""
    text = _encode(message.output)
    digest = {"compacted": True, "bytes": len(text), "sha256": sha256(text).hexdigest()}
    return replace(message, output=digest)
