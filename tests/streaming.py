"""A model that speaks when a test says so, and a listener who keeps what is heard."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Any, cast

from durable_runs import House
from fakes import FakeTool

from app.agent.core import Agent
from app.bootstrap.services import Services
from app.llm.interface import LLMRequest, LLMResponse, TextDelta
from app.runs.live import Delta, Progress
from app.runs.models import RunKey
from app.runs.window import Page


class Speaker:
    """A model that says what it is told to, piece by piece, and then decides."""

    is_free = False

    def __init__(self, *replies: LLMResponse) -> None:
        self._replies = list(replies)
        self.said: asyncio.Queue[str | None] = asyncio.Queue()
        self.asked = 0

    async def complete(self, request: LLMRequest) -> LLMResponse:
        raise AssertionError("somebody could listen")

    async def stream(self, request: LLMRequest) -> AsyncGenerator[TextDelta | LLMResponse, None]:
        reply = self._replies[self.asked]
        self.asked += 1
        while (text := await self.said.get()) is not None:
            yield TextDelta(text)
        yield reply

    def say(self, *pieces: str | None) -> None:
        for text in pieces:
            self.said.put_nowait(text)


class Listener:
    """What somebody who follows a run is handed."""

    def __init__(self, house: House | Services, key: RunKey, after: int = 0) -> None:
        self.heard: list[Delta | Progress] = []
        self.seqs: list[int] = []
        self.task = asyncio.ensure_future(self._listen(house, key, after))

    async def _listen(self, house: House | Services, key: RunKey, after: int) -> None:
        service = house.service if isinstance(house, House) else house.runs
        async with aclosing(service.follow(key.run_id, after, key.tenant)) as pages:
            async for page in pages:
                self.seqs += [event.seq for event in page]
                self.heard += cast(Page, page).heard

    @property
    def text(self) -> str:
        """The text as a client puts it together: a piece at 0 begins it anew, every other goes on."""
        text = ""
        for piece in self.heard:
            if isinstance(piece, Delta):
                assert piece.offset in (0, len(text))
                text = piece.text if not piece.offset else text + piece.text
        return text

    def hears(self, *pieces: Delta | Progress) -> Callable[[], bool]:
        return lambda: self.heard[-len(pieces) :] == list(pieces)


def agent_of(model: object, *tools: FakeTool) -> Agent:
    return Agent(cast(Any, model), tools=list(tools))
