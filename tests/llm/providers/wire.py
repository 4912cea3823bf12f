"""A server that says exactly what a test tells it to, and sees what a client sends and when it goes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

HEAD = "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\n"
EVENTS = "text/event-stream"


def answer(body: str | bytes, *, status: str = "200 OK", kind: str = "application/json", more: int = 0) -> bytes:
    """Return a whole answer; `more` bytes than there are, if any, are promised."""
    data = body.encode() if isinstance(body, str) else body
    head = HEAD.format(status=status, kind=kind)
    return f"{head}Content-Length: {len(data) + more}\r\n\r\n".encode() + data


def completion(text: str = "Four.", **message: Any) -> str:
    """Return what a chat server answers."""
    choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text, **message}}
    return json.dumps({"id": "c", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice]})


def first_pieces(protocol: str) -> bytes:
    """Return the beginning of a streamed answer that says `Fo`."""
    match protocol:
        case "anthropic":
            message = {"id": "m", "type": "message", "role": "assistant", "content": [], "model": "m"}
            message |= {
                "stop_reason": None,
                "stop_sequence": None,
                "usage": {"input_tokens": 1, "output_tokens": 1},
            }
            block = {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}
            delta = {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Fo"}}
            events: list[dict[str, Any]] = [{"type": "message_start", "message": message}, block, delta]
        case "gemini":
            events = [{"candidates": [{"content": {"role": "model", "parts": [{"text": "Fo"}]}, "index": 0}]}]
        case "responses":
            response = {"id": "r", "object": "response", "created_at": 1, "model": "m", "output": []}
            item = {"type": "message", "id": "i", "role": "assistant", "status": "in_progress", "content": []}
            where = {"item_id": "i", "output_index": 0, "content_index": 0}
            part = {"type": "output_text", "text": "", "annotations": []}
            events = [
                {"type": "response.created", "response": response},
                {"type": "response.output_item.added", "output_index": 0, "item": item},
                {"type": "response.content_part.added", "part": part, **where},
                {"type": "response.output_text.delta", "delta": "Fo", "logprobs": [], **where},
            ]
            events = [{**event, "sequence_number": number} for number, event in enumerate(events)]
        case _:
            choice = {"index": 0, "delta": {"role": "assistant", "content": "Fo"}, "finish_reason": None}
            events = [
                {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]}
            ]
    return b"".join([_event(event) for event in events])


def _event(event: dict[str, Any]) -> bytes:
    name = f"event: {event['type']}\n" if "type" in event else ""
    return f"{name}data: {json.dumps(event)}\n\n".encode()


class Wire:
    """What was sent to the server, and how it answers: `said`, and then the end, unless it `hangs`."""

    def __init__(self) -> None:
        self.said = answer(completion())
        self.hangs = False
        self.heads: list[str] = []
        self.bodies: list[dict[str, Any]] = []
        self.asked = asyncio.Event()
        self.gone = asyncio.Event()
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def header(self, name: str) -> str | None:
        lines = [line.partition(": ") for line in self.heads[-1].splitlines()]
        return next((value for key, _, value in lines if key.lower() == name.lower()), None)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            self.heads.append(head)
            length = next(line for line in head.lower().splitlines() if line.startswith("content-length:"))
            self.bodies.append(json.loads(await reader.readexactly(int(length.partition(":")[2]))))
            self.asked.set()
            writer.write(self.said)
            await writer.drain()
            if self.hangs:
                await reader.read()  # until the client goes
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self.gone.set()
            writer.close()


@asynccontextmanager
async def open_wire() -> AsyncIterator[Wire]:
    wire = Wire()
    server = await asyncio.start_server(wire.serve, "127.0.0.1", 0)
    wire.port = server.sockets[0].getsockname()[1]
    async with server:
        yield wire
