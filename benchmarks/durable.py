"""Durable runs put together without HTTP: the executor and the writer of a server, over a scripted model."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from time import perf_counter
from typing import Any, Final, TypeVar

from app.agent.core import Agent
from app.bootstrap.tuning import tuned
from app.jsonvalue import JsonObject
from app.llm.interface import LLMRequest, LLMResponse, ToolCall
from app.queues.in_process import InProcessQueue
from app.runs.executor import Executor
from app.runs.feed import EventFeed
from app.runs.ids import new_run_id
from app.runs.models import NewRun, RunKey
from app.storage.database import Database
from app.storage.notifications import Notifier
from app.storage.runs import SqlRunStore
from app.storage.writer import GroupWriter

T = TypeVar("T")

TOOL_OUTPUT: Final[JsonObject] = {"data": "x" * 650}
"""With this, the event that records a step is 1 KB, and all four events of a step are 1.5 KB."""

OWNER: Final = "benchmark"


class FetchTool:
    """Returns always the same, at once."""

    name = "fetch"
    description = "Fetch data."
    input_schema: JsonObject = {"type": "object"}
    effect = "pure"

    async def run(self, input: Any) -> JsonObject:  # noqa: ARG002 - what a tool is given
        return TOOL_OUTPUT


class FreeModel:
    """Asks for `steps` calls, one a turn, and then answers. Asking it again costs nothing, as with the planner."""

    is_free = True

    def __init__(self, steps: int) -> None:
        self._steps = steps

    async def complete(self, request: LLMRequest) -> LLMResponse:
        done = len(request.messages) // 2
        if done < self._steps:
            return LLMResponse(tool_calls=(ToolCall("fetch", {"number": done}),))
        return LLMResponse(content="done")


class PaidModel(FreeModel):
    """The same, but what it decides is paid for, and so has to be durable before anything follows from it."""

    is_free = False


def scripted(model: FreeModel) -> Agent:
    """Return an agent that does what the model says."""
    return Agent(model, [FetchTool()], max_steps=1000)


@dataclass(frozen=True)
class Machine:
    """What carries runs out and keeps them."""

    executor: Executor
    writer: GroupWriter
    agent: Agent

    async def run(self, goal: str = "Fetch the data.") -> None:
        """Carry out one run, and return when its end is durable."""
        key = RunKey("default", new_run_id())
        opening = self.agent.opening(goal)
        ended = await self.executor.start(NewRun(key, owner=self.executor.owner), opening)
        assert ended.status == "success", ended

    async def runs(self, number: int, at_once: int) -> float:
        """Carry out so many runs, so many at once, and return how many seconds they took."""
        left = iter(range(number))

        async def client() -> None:
            for _ in left:
                await self.run()

        started = perf_counter()
        await asyncio.gather(*(client() for _ in range(at_once)))
        return perf_counter() - started


@asynccontextmanager
async def machine(database: Database, agent: Agent) -> AsyncGenerator[Machine, None]:
    """Wire the parts as `bootstrap` does, over an open database with tables."""
    store = SqlRunStore(database, InProcessQueue())
    notify = None if database.is_sqlite else Notifier(database).notify
    writer = GroupWriter(database, EventFeed(store), notify)
    database.attach(writer)
    executor = Executor(agent, store, writer, OWNER, concurrency=1000)
    writer.start()
    try:
        yield Machine(executor, writer, agent)
    finally:
        await writer.stop()
        database.writer = None


def run_as_a_server_does(work: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run a coroutine on the event loop and with the interpreter set as in a server."""
    factory = None
    with suppress(ImportError):  # it is not there on Windows
        import uvloop

        factory = uvloop.new_event_loop
    with tuned(), asyncio.Runner(loop_factory=factory) as runner:
        return runner.run(work())
