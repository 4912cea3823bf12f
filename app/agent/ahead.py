"""Calls of one turn side by side: those that may rerun are begun before it is their turn in the trace."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from msgspec.structs import replace

from ..errors import StepError
from ..jsonvalue import JsonObject
from ..llm.interface import ToolCall
from ..tools.base import PreparedTool
from ..tools.call import ToolCallContext, in_call
from .toolbox import Toolbox, call_tool


class Ahead:
    """The calls of one run that are under way before their events are.

    Only pure and read tools are, and only up to the first call that is neither: what comes after it may depend on
    it. A journal needs no intent of theirs, since making them again does no harm. One that computes at once is not
    worth a task.
    """

    __slots__ = ("_tasks", "_toolbox")

    def __init__(self, toolbox: Toolbox) -> None:
        self._toolbox = toolbox
        self._tasks: dict[int, asyncio.Task[JsonObject]] = {}

    def begin(
        self, pending: Iterable[ToolCall], first: ToolCallContext, seconds: float, max_steps: int
    ) -> asyncio.Task[JsonObject] | None:
        """Begin the first of these calls, which is step `first.step`, and what may go on beside it.

        Returns:
            the first; None if nothing may, and nothing was begun.
        """
        worthwhile: list[tuple[PreparedTool, ToolCall, ToolCallContext]] = []
        for step, call in enumerate(pending, first.step):
            tool = self._toolbox.tools.get(call.name)
            if (tool is not None and not tool.is_rerunnable) or step > max_steps:
                break
            if tool is None or tool.quick or step in self._tasks or not self._may_be_made(call):
                continue
            context = first if step == first.step else replace(first, step=step, attempt=1)
            worthwhile.append((tool, call, context))
        if len(worthwhile) > 1:
            loop = asyncio.get_running_loop()
            for tool, call, context in worthwhile:
                self._tasks[context.step] = loop.create_task(_made(tool, call, context, seconds))
        return self.take(first.step)

    def take(self, step: int) -> asyncio.Task[JsonObject] | None:
        """Return the call that was begun for this step, if there is one."""
        return self._tasks.pop(step, None)

    def cancel(self) -> None:
        """Break off what nobody will ask for any more."""
        for task in self._tasks.values():
            task.cancel()
            task.add_done_callback(_forget)
        self._tasks.clear()

    def _may_be_made(self, call: ToolCall) -> bool:
        try:
            self._toolbox.check(call.name, call.arguments)
        except StepError:
            return False
        return True


def _forget(task: asyncio.Task[JsonObject]) -> None:
    if not task.cancelled():
        task.exception()  # asyncio logs those that nobody has looked at


async def _made(tool: PreparedTool, call: ToolCall, context: ToolCallContext, seconds: float) -> JsonObject:
    with in_call(context):
        return await call_tool(tool, call.arguments, min(seconds, tool.timeout_s))
