"""The agent: a goal in, the loop over a model and tools, a result or a stream of events out."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from datetime import UTC, datetime
from functools import partial

from ..errors import InvalidContextError, InvalidGoalError, RunningLoopError, UnknownToolError
from ..jsonvalue import is_blank, text_problem
from ..llm.interface import CompletionClient, LLMClient
from ..llm.mock_client import MockLLMClient
from ..llm.prompted import lift
from ..tools.base import Tool, ToolRegistry, ToolSource
from ..tools.builtin import default_tools
from .endings import Limits
from .events import Event, RunStarted
from .journal import Journal, ListJournal
from .loop import Loop
from .planner import Planner
from .result import AgentResult
from .state import AgentState
from .toolbox import Toolbox

MAX_GOAL_CHARS = 10_000
MAX_CONTEXT_CHARS = 100_000
MAX_KEPT_TOOLBOXES = 64
"""How many selections of tools an agent keeps prepared; callers name few different ones."""


utc_now: Callable[[], datetime] = partial(datetime.now, UTC)
"""Returns the time now, in UTC; not a function of ours, since it is called for every event."""


class Agent:
    """Carries out goals. It keeps nothing of a run, so one agent serves any number of runs at once.

    Args:
        llm_client: any object with `generate(prompt, system_prompt="") -> LLMResponse` (sync or async) or
            `complete(request)`; the offline planner by default.
        tools: tool objects (then these and no others), or a source of prepared tools; by default the built-in
            tools with `tool_registry` over them.
        max_steps: how many tool calls a run may make.
        max_seconds: how much wall time a run may take.
        clock: what tells the time of a step.
    """

    def __init__(
        self,
        llm_client: LLMClient | CompletionClient | None = None,
        tools: Iterable[Tool] | ToolSource | None = None,
        max_steps: int = 20,
        max_seconds: float = 300.0,
        *,
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        if max_steps < 1 or max_seconds <= 0:
            raise ValueError("max_steps and max_seconds must be positive.")
        self._client = MockLLMClient() if llm_client is None else llm_client
        lifted = lift(self._client)  # an object that is no client is refused here, not in the first run
        # what needs no lifting serves all runs; what does has a conversation for each
        self._completing = lifted if lifted is self._client else None
        self._is_paid = getattr(self._client, "is_free", False) is not True
        self._source = _source(tools)
        self._limits = Limits(max_steps, max_seconds)
        self._clock = clock
        # prepared selections of tools, and the snapshot they are of: one value, since agents are shared by threads
        self._toolboxes: tuple[object, dict[tuple[str, ...], Toolbox]] = (None, {})

    def run(self, goal: str, context: str | None = None, tools: Sequence[str] | None = None) -> AgentResult:
        """Carry out a goal and return its result, blocking until it is there.

        `tools` names the tools the run may use: None is all of them, an empty list none.

        Raises:
            InvalidGoalError, InvalidContextError: the text is blank, too long, or cannot be stored.
            UnknownToolError: a name in `tools` does not exist.
            RunningLoopError: called from inside a running event loop; use `arun` there.
        """
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return asyncio.run(self.arun(goal, context, tools))
        raise RunningLoopError(
            "Agent.run() blocks and an event loop is running here; use `await agent.arun(...)`."
        )

    async def arun(self, goal: str, context: str | None = None, tools: Sequence[str] | None = None) -> AgentResult:
        """Carry out a goal from inside an event loop. Same arguments and errors as `run`."""
        state = AgentState()
        loop = self._loop(state, ListJournal(), self.opening(goal, context, tools))
        while state.result is None:
            await loop.next_event()
        return AgentResult(state.result.status, state.result.output, state.steps)

    def stream(
        self, goal: str, context: str | None = None, tools: Sequence[str] | None = None
    ) -> AsyncGenerator[Event, None]:
        """Yield the run's events as they happen, ending with `RunFinished`. Same arguments and errors as `run`."""
        return self.advance(AgentState(), ListJournal(), self.opening(goal, context, tools))

    def opening(
        self,
        goal: str,
        context: str | None = None,
        tools: Sequence[str] | None = None,
        max_steps: int | None = None,
    ) -> RunStarted:
        """Check a request and return the first event of its run. Same arguments and errors as `run`.

        `max_steps` is the run's own limit; None is the agent's.
        """
        check_goal(goal)
        check_context(context)
        available = self._source.snapshot()
        if tools is None:
            return RunStarted(goal, context, tuple(available), max_steps)
        if isinstance(tools, str) or not all(isinstance(name, str) for name in tools):
            raise TypeError("tools is a list of names here; tool objects are given to Agent(tools=[...]).")
        unknown = [name for name in tools if name not in available]
        if unknown:
            raise UnknownToolError(unknown, list(available))
        return RunStarted(goal, context, tuple(dict.fromkeys(tools)), max_steps)

    def advance(
        self, state: AgentState, journal: Journal, opening: RunStarted | None = None
    ) -> AsyncGenerator[Event, None]:
        """Carry a run on from `state` to its end, yielding each event as the journal recorded it.

        A new run starts from an empty state with its opening; a resumed one from the fold of its events, without.
        """
        return self._loop(state, journal, opening).events()

    def loop(self, state: AgentState, journal: Journal, run_id: str, seconds: float | None = None) -> Loop:
        """Return the loop of a run that is kept, and so can wait for somebody to settle a doubt.

        `seconds` it has from now on, if that is less than the agent's own limit.
        """
        limits = self._limits
        if seconds is not None and seconds < limits.max_seconds:
            limits = Limits(limits.max_steps, seconds, by_deadline=True)
        return self._loop(state, journal, None, limits, run_id=run_id, waits=True)

    def _loop(
        self,
        state: AgentState,
        journal: Journal,
        opening: RunStarted | None,
        limits: Limits | None = None,
        *,
        run_id: str | None = None,
        waits: bool = False,
    ) -> Loop:
        if opening is not None:
            state.apply(journal.append(opening))
        toolbox = self._toolbox_of(state)
        planner = Planner(self._completing or lift(self._client), toolbox.specs)
        return Loop(
            state,
            journal,
            planner,
            toolbox,
            limits or self._limits,
            self._clock,
            run_id=run_id,
            waits=waits,
            is_paid=self._is_paid,
        )

    def _toolbox_of(self, state: AgentState) -> Toolbox:
        """Return the run's tools; a tool that has gone since the run started is simply not there."""
        names = state.opening.tools
        available = self._source.snapshot()
        of, toolboxes = self._toolboxes
        if of is not available:
            toolboxes = {}
            self._toolboxes = available, toolboxes
        toolbox = toolboxes.get(names)
        if toolbox is None:
            toolbox = Toolbox({name: available[name] for name in names if name in available})
            if len(toolboxes) < MAX_KEPT_TOOLBOXES:
                toolboxes[names] = toolbox
        return toolbox


def _source(tools: Iterable[Tool] | ToolSource | None) -> ToolSource:
    if tools is None:
        return default_tools()
    if isinstance(tools, Iterable):
        return ToolRegistry(tools)
    if not callable(getattr(tools, "snapshot", None)):
        raise TypeError(f"tools is a list of tool objects, not one {type(tools).__name__}.")
    return tools


def check_goal(goal: object) -> None:
    """Raise InvalidGoalError unless `goal` is text that can be carried out and stored."""
    if not isinstance(goal, str):
        raise InvalidGoalError(f"The goal is {type(goal).__name__}, not text.")
    if is_blank(goal):
        raise InvalidGoalError("The goal is empty.")
    if len(goal) > MAX_GOAL_CHARS:
        raise InvalidGoalError(f"The goal has {len(goal)} characters; at most {MAX_GOAL_CHARS} are allowed.")
    problem = text_problem(goal)
    if problem:
        raise InvalidGoalError(f"The goal holds {problem}, which cannot be stored.")


def check_context(context: object) -> None:
    """Raise InvalidContextError unless `context` is None or text that can be stored."""
    if context is None:
        return
    if not isinstance(context, str):
        raise InvalidContextError(f"The context is {type(context).__name__}, not text.")
    if len(context) > MAX_CONTEXT_CHARS:
        raise InvalidContextError(
            f"The context has {len(context)} characters; at most {MAX_CONTEXT_CHARS} are allowed."
        )
    problem = text_problem(context)
    if problem:
        raise InvalidContextError(f"The context holds {problem}, which cannot be stored.")
