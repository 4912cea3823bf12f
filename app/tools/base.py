"""The tool protocol, effect classes, and the registries that prepare tools once and hand out snapshots."""

from __future__ import annotations

import inspect
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from enum import StrEnum
from threading import Lock
from types import MappingProxyType
from typing import Any, Literal, Protocol, TypeAlias

import jsonschema_rs
from msgspec import Struct

from ..errors import DuplicateToolError, InvalidToolError
from ..jsonvalue import JsonObject, JsonValue, NotJsonError, TooLargeError, copy_json

DEFAULT_TIMEOUT_S = 30.0
MAX_SCHEMA_BYTES = 256 * 1024
NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,63}")
"""What a tool may be called: the intersection of what the model providers accept."""


class Effect(StrEnum):
    """What running a tool does to the world, and so what may be done after a crash."""

    PURE = "pure"
    """Same input, same output, touches nothing."""
    READ = "read"
    """Reads the world; may rerun."""
    TRANSACTIONAL = "transactional"
    """Its effect commits together with the step that records it."""
    KEYED = "keyed"
    """The remote side honours an idempotency key."""
    UNSAFE = "unsafe"
    """Anything else: never rerun blindly."""


OnInDoubt: TypeAlias = Literal["wait", "fail"]


class Tool(Protocol):
    """What a user writes; there is no base class.

    Optional attributes: `effect` (an `Effect` or its name; default unsafe), `timeout_s` (seconds a call may
    take; default 30), `output_schema` (JSON Schema of what `run` returns), `quick` (True: a sync `run` is
    called on the event loop itself and so must never block; default False: it gets a thread) and `on_in_doubt`
    ("wait", the default, or "fail": what a durable run does when a call ended without telling whether it had its
    effect). A transactional tool may have `run_in(transaction, input)`, which is what durable runs call: its
    effect commits together with the step. `required_scopes(input)` returns the scopes that such a call takes of
    whoever asked for the run, besides `tools:NAME`.

    What a model says under the name of a secret (`password`, `token`, `api_key`, ...) is masked before anything
    else is done with it: a tool has its secrets from its own configuration, and never as an argument.

    `run` may be sync or async, takes a dict that satisfies `input_schema` and returns a JSON-able dict. To refuse
    a call it raises `ToolRejected`, which promises that nothing happened; anything else it raises is recorded
    as a failed step of unknown effect.
    """

    # read-only, so that a class attribute, a property or a constant will do
    @property
    def name(self) -> str: ...

    @property
    def description(self) -> str: ...

    @property
    def input_schema(self) -> Mapping[str, object]: ...

    def run(self, input: JsonObject, /) -> Mapping[str, object] | Awaitable[Mapping[str, object]]: ...


class Transaction(Protocol):
    """The transaction that records a step, open on the journal's own database: what an effect may write through.

    `connection` is the database connection of whoever keeps the journal (with the stores of this package, an
    SQLAlchemy `Connection`). It is used on the journal's thread, must not be kept, and is committed by its owner.
    """

    @property
    def tenant(self) -> str: ...

    @property
    def run_id(self) -> str: ...

    @property
    def step(self) -> int: ...

    @property
    def connection(self) -> Any: ...

    def will_be_retried(self, error: Exception) -> bool:
        """Say whether, because of this error of the database, everything in the transaction is done once more."""
        ...


class PreparedTool(Struct, frozen=True):
    """A registered tool with everything that can be worked out once worked out once.

    `is_rerunnable`: running it twice does no harm (its effect is pure or read).
    `required_scopes`: the scopes that a call with this input takes besides `tools:NAME`; None for no others.
    `run_in`: how a transactional tool runs inside the transaction that records its step; None if it cannot.
    `on_in_doubt`: whether a run waits for a person or fails when nobody can tell if the tool had its effect.
    `check_input` and `check_output` raise `jsonschema_rs.ValidationError`.
    """

    source: object
    name: str
    description: str
    input_schema: JsonObject
    effect: Effect
    is_rerunnable: bool
    timeout_s: float
    is_async: bool
    quick: bool
    run: Callable[[JsonObject], object]
    run_in: Callable[[Transaction, JsonObject], object] | None
    required_scopes: Callable[[JsonObject], Iterable[str]] | None
    on_in_doubt: OnInDoubt
    check_input: Callable[[JsonValue], None]
    check_output: Callable[[JsonValue], None] | None


def prepare(tool: object) -> PreparedTool:
    """Check that `tool` has the shape of one and compile its schemas.

    Raises:
        InvalidToolError: says which attribute is missing or wrong.
    """
    name = getattr(tool, "name", None)
    label = f"Tool {name!r}" if isinstance(name, str) else f"Tool {type(tool).__name__}"
    if isinstance(tool, str):
        raise InvalidToolError(f"{tool!r} is a name; here tool objects are wanted. Names go to run(tools=[...]).")
    if isinstance(tool, type):
        raise InvalidToolError(f"{label} is a class; register an instance: {tool.__name__}().")
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise InvalidToolError(f"{label} needs a `name` matching {NAME.pattern}, not {name!r}.")
    description = getattr(tool, "description", None)
    if not isinstance(description, str):
        raise InvalidToolError(f"{label} needs a `description` text.")
    run = getattr(tool, "run", None)
    if not callable(run):
        raise InvalidToolError(f"{label} needs a method `run(input) -> dict`.")
    schema, check_input = _compile(label, "input_schema", getattr(tool, "input_schema", None))
    output_schema = getattr(tool, "output_schema", None)
    effect = _effect(label, getattr(tool, "effect", Effect.UNSAFE))
    return PreparedTool(
        source=tool,
        name=name,
        description=description,
        input_schema=schema,
        effect=effect,
        is_rerunnable=effect in (Effect.PURE, Effect.READ),
        timeout_s=_timeout(label, getattr(tool, "timeout_s", DEFAULT_TIMEOUT_S)),
        is_async=inspect.iscoroutinefunction(run),
        quick=getattr(tool, "quick", False) is True,
        run=run,
        run_in=_run_in(label, effect, getattr(tool, "run_in", None)),
        required_scopes=_required_scopes(label, getattr(tool, "required_scopes", None)),
        on_in_doubt=_on_in_doubt(label, getattr(tool, "on_in_doubt", "wait")),
        check_input=check_input,
        check_output=None if output_schema is None else _compile(label, "output_schema", output_schema)[1],
    )


def _compile(label: str, attribute: str, schema: object) -> tuple[JsonObject, Callable[[JsonValue], None]]:
    if not isinstance(schema, Mapping):
        raise InvalidToolError(f"{label} needs an `{attribute}` that is a JSON Schema object.")
    try:
        own = copy_json(schema, MAX_SCHEMA_BYTES)
        # offline: a `$ref` must never make this process fetch an address or read a file
        validator = jsonschema_rs.validator_for(own, offline=True)
    except (
        NotJsonError,
        TooLargeError,
        jsonschema_rs.ValidationError,
        jsonschema_rs.ReferencingError,
    ) as error:
        reason = getattr(error, "message", None) or str(error) or "it is too large"
        raise InvalidToolError(f"{label} has an invalid `{attribute}`: {reason}.") from error
    return own, validator.validate


def _effect(label: str, value: object) -> Effect:
    try:
        return Effect(str(value))
    except ValueError as error:
        raise InvalidToolError(f"{label} has the effect {value!r}; it is one of {', '.join(Effect)}.") from error


def _run_in(label: str, effect: Effect, value: object) -> Callable[[Transaction, JsonObject], object] | None:
    if value is None or effect is not Effect.TRANSACTIONAL:
        return None
    if not callable(value) or inspect.iscoroutinefunction(value):
        raise InvalidToolError(f"{label} needs a `run_in(transaction, input) -> dict` that is not async.")
    return value


def _required_scopes(label: str, value: object) -> Callable[[JsonObject], Iterable[str]] | None:
    if value is None:
        return None
    if not callable(value) or inspect.iscoroutinefunction(value):
        raise InvalidToolError(f"{label} needs a `required_scopes(input)` that returns scopes and is not async.")
    return value


def _on_in_doubt(label: str, value: object) -> OnInDoubt:
    if value == "wait":
        return "wait"
    if value == "fail":
        return "fail"
    raise InvalidToolError(f"{label} has on_in_doubt = {value!r}; it is 'wait' or 'fail'.")


def _timeout(label: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= 86_400:
        raise InvalidToolError(f"{label} needs a `timeout_s` between 0 and 86400 seconds, not {value!r}.")
    return float(value)


class ToolSource(Protocol):
    """Where an agent gets its tools. `snapshot` returns the same object until something is registered."""

    def snapshot(self) -> Mapping[str, PreparedTool]: ...


class ToolRegistry:
    """Tools by name. Registering is thread-safe and works at any time; a snapshot never changes."""

    def __init__(self, tools: Iterable[object] = ()) -> None:
        self._lock = Lock()
        self._tools: Mapping[str, PreparedTool] = MappingProxyType({})
        for tool in tools:
            self.register(tool)

    def register(self, tool: object) -> None:
        """Add a tool.

        Raises:
            InvalidToolError: the object does not have the shape of a tool.
            DuplicateToolError: the name is taken in this registry.
        """
        prepared = prepare(tool)
        with self._lock:
            if prepared.name in self._tools:
                raise DuplicateToolError(f"A tool named {prepared.name!r} is already registered.")
            self._tools = MappingProxyType({**self._tools, prepared.name: prepared})

    def unregister(self, name: str) -> None:
        """Take a tool out; runs that have already started keep it. Unknown names raise KeyError."""
        with self._lock:
            rest = dict(self._tools)
            del rest[name]
            self._tools = MappingProxyType(rest)

    def snapshot(self) -> Mapping[str, PreparedTool]:
        """Return the tools as they are now, in order of registration."""
        return self._tools


class LayeredTools:
    """One registry over another: a tool in the upper one replaces the tool of its name in the lower one."""

    def __init__(self, lower: ToolSource, upper: ToolSource) -> None:
        self._lower, self._upper = lower, upper
        # one value, replaced at once: threads may ask while another registers
        self._merged: tuple[object, object, Mapping[str, PreparedTool]] = (None, None, MappingProxyType({}))

    def snapshot(self) -> Mapping[str, PreparedTool]:
        """Return both layers as one, the same object until one of them changes."""
        lower, upper = self._lower.snapshot(), self._upper.snapshot()
        of_lower, of_upper, merged = self._merged
        if of_lower is not lower or of_upper is not upper:
            merged = MappingProxyType({**lower, **upper})
            self._merged = lower, upper, merged
        return merged


tool_registry = ToolRegistry()
"""The process-wide registry that users register their own tools in; empty at first, and over the built-ins."""
