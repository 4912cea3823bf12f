"""The agent: a goal in, the loop over a model and tools, a result or a stream of events out."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import TypedDict, Unpack

from ..errors import (
    InvalidContextError,
    InvalidGoalError,
    RunningLoopError,
    UnknownModelError,
    UnknownToolError,
)
from ..jsonvalue import JsonObject, is_blank, text_problem
from ..llm.mock_client import MockLLMClient
from ..permissions import Permissions
from ..tools.base import Tool, ToolRegistry, ToolSource
from ..tools.builtin import default_tools
from ..tools.call import DEFAULT_TENANT
from .asking import Asking
from .budget import Budget
from .candidates import Client, Models, check_prices
from .endings import Limits
from .events import Event, RunFinished, RunStarted
from .journal import Journal, ListJournal
from .loop import Loop
from .outputs import OutputForm
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


class RunOptions(TypedDict, total=False):
    """What a run can be given besides its goal, context and tools; `Agent.opening` says what each means."""

    max_steps: int | None
    model: str | None
    max_tokens: int | None
    max_cost: int | None
    output_schema: JsonObject | None


class Agent:
    """Carries out goals. It keeps nothing of a run, so one agent serves any number of runs at once.

    Args:
        llm_client: any object with `generate(prompt, system_prompt="") -> LLMResponse` (sync or async) or
            `complete(request)`; the offline planner by default.
        tools: tool objects (then these and no others), or a source of prepared tools; by default the built-in
            tools with `tool_registry` over them.
        max_steps: how many tool calls a run may make.
        max_seconds: how much wall time a run may take.
        fallbacks: clients that are asked in this order when the one before is overloaded, out, or too slow.
        models: clients that a run may ask for by name, instead of the first.
        max_retries: how often a client that fails with an `LLMError` is asked again.
        max_tokens, max_cost: how many tokens and nano-dollars (10^-9 USD) a run may take; it may ask for less.
        allows_unknown_prices: run within a sum of money although nobody knows what some model costs.
        call_seconds: how much wall time one call of a model may take.
        clock: what tells the time of a step.
    """

    def __init__(
        self,
        llm_client: Client | None = None,
        tools: Iterable[Tool] | ToolSource | None = None,
        max_steps: int = 20,
        max_seconds: float = 300.0,
        *,
        fallbacks: Sequence[Client] = (),
        models: Mapping[str, Client] | None = None,
        max_retries: int = 2,
        max_tokens: int | None = None,
        max_cost: int | None = None,
        allows_unknown_prices: bool = False,
        call_seconds: float | None = None,
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        if max_steps < 1 or max_seconds <= 0:
            raise ValueError("max_steps and max_seconds must be positive.")
        first = MockLLMClient() if llm_client is None else llm_client
        self._models = Models(first, fallbacks, models or {}, call_seconds)
        self._max_retries = max_retries
        self._budget = Budget(max_tokens, max_cost)
        self._allows_unknown_prices = allows_unknown_prices
        self._source = _source(tools)
        self._limits = Limits(max_steps, max_seconds)
        self._clock = clock
        # prepared selections of tools, and the snapshot they are of: one value, since agents are shared by threads
        self._toolboxes: tuple[object, dict[tuple[tuple[str, ...], Permissions | None], Toolbox]] = (None, {})

    def run(
        self,
        goal: str,
        context: str | None = None,
        tools: Sequence[str] | None = None,
        **options: Unpack[RunOptions],
    ) -> AgentResult:
        """Carry out a goal and return its result, blocking until it is there.

        `tools` names the tools the run may use: None is all of them, an empty list none.

        Raises:
            InvalidGoalError, InvalidContextError: the text is blank, too long, or cannot be stored.
            UnknownToolError: a name in `tools` does not exist.
            CallerError: an option cannot be had; see `opening`.
            RunningLoopError: called from inside a running event loop; use `arun` there.
        """
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return asyncio.run(self.arun(goal, context, tools, **options))
        raise RunningLoopError(
            "Agent.run() blocks and an event loop is running here; use `await agent.arun(...)`."
        )

    async def arun(
        self,
        goal: str,
        context: str | None = None,
        tools: Sequence[str] | None = None,
        **options: Unpack[RunOptions],
    ) -> AgentResult:
        """Carry out a goal from inside an event loop. Same arguments and errors as `run`."""
        state = AgentState()
        loop = self._loop(state, ListJournal(), self.opening(goal, context, tools, **options))
        try:
            while state.result is None:
                await loop.next_event()
        finally:
            loop.close()
        return AgentResult(state.result.status, state.result.output, state.steps)

    def stream(
        self,
        goal: str,
        context: str | None = None,
        tools: Sequence[str] | None = None,
        **options: Unpack[RunOptions],
    ) -> AsyncGenerator[Event, None]:
        """Yield the run's events as they happen, ending with `RunFinished`. Same arguments and errors as `run`."""
        return self.advance(AgentState(), ListJournal(), self.opening(goal, context, tools, **options))

    def opening(
        self,
        goal: str,
        context: str | None = None,
        tools: Sequence[str] | None = None,
        max_steps: int | None = None,
        *,
        model: str | None = None,
        max_tokens: int | None = None,
        max_cost: int | None = None,
        output_schema: JsonObject | None = None,
    ) -> RunStarted:
        """Check a request and return the first event of its run. Same arguments and errors as `run`.

        `max_steps`, `max_tokens` and `max_cost` (nano-dollars) are the run's own limits; None is the agent's.
        `model` is a name of `models`; the run's output has to satisfy `output_schema`, a JSON Schema, as JSON.

        Raises:
            UnknownModelError: the run may not have that model.
            InvalidBudgetError: a limit is not positive, or more than the agent's.
            UnpricedModelError: the run is to stay within a sum of money, and a price is unknown.
            InvalidOutputSchemaError: it is no schema.
        """
        check_goal(goal)
        check_context(context)
        line_up = self._models.line_up(model)
        budget = self._budget.narrowed(max_tokens, max_cost)
        if budget.max_cost is not None and not self._allows_unknown_prices:
            check_prices(line_up)
        if output_schema is not None:
            output_schema = OutputForm(output_schema).schema
        names = self._tool_names(tools)
        return RunStarted(goal, context, names, max_steps, model, max_tokens, max_cost, output_schema)

    def _tool_names(self, tools: Sequence[str] | None) -> tuple[str, ...]:
        available = self._source.snapshot()
        if tools is None:
            return tuple(available)
        if isinstance(tools, str) or not all(isinstance(name, str) for name in tools):
            raise TypeError("tools is a list of names here; tool objects are given to Agent(tools=[...]).")
        unknown = [name for name in tools if name not in available]
        if unknown:
            raise UnknownToolError(unknown, list(available))
        return tuple(dict.fromkeys(tools))

    def advance(
        self, state: AgentState, journal: Journal, opening: RunStarted | None = None
    ) -> AsyncGenerator[Event, None]:
        """Carry a run on from `state` to its end, yielding each event as the journal recorded it.

        A new run starts from an empty state with its opening; a resumed one from the fold of its events, without.
        """
        return self._loop(state, journal, opening).events()

    def loop(
        self,
        state: AgentState,
        journal: Journal,
        run_id: str,
        seconds: float | None = None,
        on_delta: Callable[[str], None] | None = None,
        tenant: str = DEFAULT_TENANT,
    ) -> Loop:
        """Return the loop of a run that is kept, and so can wait for somebody to settle a doubt.

        `seconds` it has from now on, if that is less than the agent's own limit. `on_delta` is called with each
        piece of text while a model speaks. `tenant` is whose run it is; tools are told.
        """
        limits = self._limits
        if seconds is not None and seconds < limits.max_seconds:
            limits = Limits(limits.max_steps, seconds, by_deadline=True)
        return self._loop(
            state, journal, None, limits, run_id=run_id, waits=True, on_delta=on_delta, tenant=tenant
        )

    def _loop(
        self,
        state: AgentState,
        journal: Journal,
        opening: RunStarted | None,
        limits: Limits | None = None,
        *,
        run_id: str | None = None,
        waits: bool = False,
        on_delta: Callable[[str], None] | None = None,
        tenant: str = DEFAULT_TENANT,
    ) -> Loop:
        if opening is not None:
            state.apply(journal.append(opening))
        toolbox = self._toolbox_of(state)
        begun = state.opening
        form = None if begun.output_schema is None else OutputForm(begun.output_schema)
        budget = self._budget.narrowed(begun.max_tokens, begun.max_cost, clip=True)
        refusal: RunFinished | None = None
        try:
            usual = self._models.line_up(begun.model)
        except UnknownModelError as error:  # it has gone since; no other takes its place unasked
            usual, refusal = self._models.line_up(None), RunFinished("error", str(error), error.code)
        planner = Planner(toolbox.specs, form, on_delta)
        asking = Asking(planner, usual.for_run(), budget, self._max_retries, refusal)
        return Loop(
            state,
            journal,
            asking,
            toolbox,
            limits or self._limits,
            self._clock,
            run_id=run_id,
            waits=waits,
            tenant=tenant,
        )

    def _toolbox_of(self, state: AgentState) -> Toolbox:
        """Return the run's tools; a tool that has gone since the run started is simply not there."""
        names, permissions = state.opening.tools, state.opening.permissions
        available = self._source.snapshot()
        of, toolboxes = self._toolboxes
        if of is not available:
            toolboxes = {}
            self._toolboxes = available, toolboxes
        toolbox = toolboxes.get((names, permissions))
        if toolbox is None:
            tools = {name: available[name] for name in names if name in available}
            toolbox = Toolbox(tools, permissions)
            if len(toolboxes) < MAX_KEPT_TOOLBOXES:
                toolboxes[names, permissions] = toolbox
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
