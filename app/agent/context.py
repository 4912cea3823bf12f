"""What a model is shown of a run: results that are too large are cut, and the oldest make room when it is full."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from typing import Final

import msgspec
from msgspec import Struct
from msgspec.structs import asdict, replace

from ..jsonvalue import JsonObject
from ..llm.interface import AssistantMessage, Message, ModelCard, ToolMessage, ToolSpec
from ..llm.prompted import HOW_TO_ANSWER, as_json, render

MAX_SHOWN_BYTES: Final = 32 * 1024
"""How much of one result a model is shown, as JSON."""

HEAD_CHARS: Final = 8_000

BYTES_A_TOKEN: Final = 3
"""For an estimate: English text has some four bytes a token, JSON and other scripts fewer. No token has none."""

FIXED_TOKENS: Final = 1_024
MESSAGE_TOKENS: Final = 32
TOOL_TOKENS: Final = 64
"""What providers add to a request, to each message and to each tool, generously."""

FULL: Final = 0.9
ROOMY: Final = 0.6
"""A context that fills more of the window is compacted until it fills no more than that."""

LEAST_BYTES: Final = 256
"""A smaller result is left as it is: its digest would be no shorter."""

_encode = msgspec.json.Encoder().encode


def digested(message: ToolMessage) -> ToolMessage:
    """Return the message with the digest of its result in the result's place; the journal has the whole of it."""
    text = _encode(message.output)
    digest = {"compacted": True, "bytes": len(text), "sha256": sha256(text).hexdigest()}
    return replace(message, output=digest)


class KnownSize(Struct, frozen=True):
    """How many tokens a request with the first so many messages had, as the provider of this model has counted."""

    model: str | None
    messages: int
    tokens: int


UNKNOWN_SIZE: Final = KnownSize(None, 0, 0)


class Conversation:
    """One run's messages as a model is shown them, and how large they are. Each message is looked at once."""

    __slots__ = ("_compacted", "_fixed_bytes", "_most_fixed", "_sizes", "_totals", "shown")

    def __init__(self, system: str, tools: Sequence[ToolSpec], output_schema: JsonObject | None) -> None:
        said = len(system.encode())
        schemas = len(as_json(output_schema).encode()) + sum(len(as_json(asdict(tool)).encode()) for tool in tools)
        self._fixed_bytes = said + schemas
        # a client that asks for decisions as JSON sends them twice: as text, and in the schema of a decision
        self._most_fixed = said + 2 * schemas + len(HOW_TO_ANSWER) + FIXED_TOKENS + TOOL_TOKENS * len(tools)
        self._compacted = 0
        self._sizes: list[int] = []
        self._totals = [0]  # of the first so many messages
        self.shown: list[Message] = []

    def follow(self, messages: Sequence[Message], compacted: int) -> None:
        """Take in what has been added; all of it anew if steps have been compacted meanwhile."""
        if compacted != self._compacted:
            self._compacted = compacted
            self._sizes.clear()
            del self._totals[1:]
            self.shown.clear()
        for message in messages[len(self.shown) :]:
            shown, size = _shown(message)
            self.shown.append(shown)
            self._sizes.append(size)
            self._totals.append(self._totals[-1] + size)

    def _beyond(self, messages: int) -> int:
        return self._totals[-1] - self._totals[messages]

    def most_tokens(self, known: KnownSize) -> int:
        """Return how many tokens the request has at most: no token is shorter than a byte.

        What the provider has counted already, of the first messages, is taken from `known`.
        """
        added = self._beyond(known.messages) + MESSAGE_TOKENS * (len(self._sizes) - known.messages)
        return added + (known.tokens if known.messages else self._most_fixed)

    def probable_tokens(self, known: KnownSize) -> int:
        """Return about how many tokens the request has."""
        before = known.tokens if known.messages else self._fixed_bytes // BYTES_A_TOKEN
        return before + self._beyond(known.messages) // BYTES_A_TOKEN

    def to_compact(self, card: ModelCard, known: KnownSize, *, overflown: bool) -> tuple[int, ...]:
        """Return the steps whose results have to make room, oldest first; none if there is room, or no gain.

        `overflown`: the provider has said that it is too much, whatever was thought here; half of it goes then.
        """
        tokens = self.probable_tokens(known)
        window = card.context_tokens
        if overflown:
            goal = tokens // 2
        elif window is not None and tokens > window * FULL:
            goal = int(window * ROOMY)
        else:
            return ()
        steps: list[int] = []
        for step, size in self._results():
            if tokens <= goal:
                break
            steps.append(step)
            tokens -= (size - LEAST_BYTES) // BYTES_A_TOKEN
        return tuple(steps)

    def _results(self) -> list[tuple[int, int]]:
        """Return number and size of the steps that can be compacted: not those that the model has yet to see."""
        found: list[tuple[int, int]] = []
        fresh = 0
        step = 0
        for message, size in zip(self.shown, self._sizes, strict=True):
            if isinstance(message, AssistantMessage):
                fresh = len(found)
            elif isinstance(message, ToolMessage):
                step += 1
                if size > LEAST_BYTES and message.error is None and not _is_digest(message):
                    found.append((step, size))
        return found[:fresh]


def _is_digest(message: ToolMessage) -> bool:
    """Say whether this is all that is left of a result; a tool may return what looks like it, but is longer."""
    output = message.output
    return (
        isinstance(output, dict)
        and output.keys() == {"compacted", "bytes", "sha256"}
        and len(_encode(output)) < LEAST_BYTES
    )


def _shown(message: Message) -> tuple[Message, int]:
    """Return the message as a model is shown it, and its size as JSON in bytes."""
    size = _size(message)
    if not isinstance(message, ToolMessage) or size <= MAX_SHOWN_BYTES:
        return message, size
    text = _encode(message.output)
    cut: JsonObject = {
        "truncated": True,
        "bytes": len(text),
        "sha256": sha256(text).hexdigest(),
        "head": text.decode()[:HEAD_CHARS],
    }
    message = replace(message, output=cut)
    return message, _size(message)


def _size(message: Message) -> int:
    """Return how many bytes it is, in the longer of its forms: large integers are longer as text."""
    return max(len(_encode(message)), len(render(message).encode()))
