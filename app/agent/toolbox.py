"""The tools of one run: its snapshot, what the model is told of them, and one bounded, typed call of one."""

from __future__ import annotations

import asyncio
import inspect
import logging
import re
from collections.abc import Awaitable, Mapping

from jsonschema_rs import ValidationError

from ..blocking import call_in_thread
from ..errors import (
    ToolDeniedError,
    ToolFailedError,
    ToolInputError,
    ToolOutputError,
    ToolOutputTooLargeError,
    ToolRejected,
    ToolTimeoutError,
    ToolUnavailableError,
)
from ..jsonvalue import JsonObject, NotJsonError, TooLargeError, copy_json, unshared
from ..llm.interface import ToolSpec
from ..permissions import Permissions
from ..redaction import MASK
from ..timelimit import TimeLimitError, being_cancelled, within
from ..tools.base import PreparedTool, Transaction

log = logging.getLogger(__name__)

MAX_OUTPUT_BYTES = 256 * 1024
"""How much a tool may return: a step has to fit into a journal event, a prompt and a response."""

MAX_REASON_CHARS = 500
CODE = re.compile(r"[a-z][a-z0-9_]{0,63}")
"""What a tool's own code for a refusal may look like; programs depend on it."""


class Toolbox:
    """A run's tools, fixed when it starts: one registered later does not slip in.

    `permissions` are those of whoever asked for the run, None for all there are: each call is held against them.
    """

    __slots__ = ("_permissions", "specs", "tools")

    def __init__(self, tools: Mapping[str, PreparedTool], permissions: Permissions | None = None) -> None:
        self.tools = tools
        self._permissions = permissions
        self.specs = tuple(
            ToolSpec(tool.name, tool.description, tool.input_schema, tool.effect) for tool in tools.values()
        )

    def get(self, name: str) -> PreparedTool:
        """Return the tool of that name.

        Raises:
            ToolUnavailableError: this run has none.
        """
        tool = self.tools.get(name)
        if tool is None:
            raise ToolUnavailableError(
                f"There is no tool {name[:64]!r}. Available: {', '.join(self.tools) or 'none'}."
            )
        return tool

    def check(self, name: str, arguments: JsonObject) -> None:
        """Say whether the tool may be called with these arguments.

        Raises:
            ToolUnavailableError: this run has no such tool.
            ToolInputError: the arguments break the tool's schema.
            ToolDeniedError: whoever asked for the run may not make this call.
        """
        tool = self.get(name)
        if MASK in arguments.values():
            masked = [argument for argument, value in arguments.items() if value == MASK]
            raise ToolInputError(f"{', '.join(masked)[:200]}: a secret, and masked; tools get theirs elsewhere.")
        try:
            tool.check_input(arguments)
        except ValidationError as error:
            raise ToolInputError(_where(error)) from error
        if self._permissions is not None:
            refusal = self._permissions.refusal(name, _needs(tool, arguments), arguments)
            if refusal is not None:
                raise ToolDeniedError(refusal)


def _needs(tool: PreparedTool, arguments: JsonObject) -> list[str]:
    """Return the scopes that this call takes besides that of the tool itself."""
    if tool.required_scopes is None:
        return []
    try:
        return [str(scope) for scope in tool.required_scopes(unshared(arguments))]
    except Exception as error:  # what cannot be decided is not allowed
        log.warning("the tool %s cannot say what a call of it takes", tool.name, exc_info=error)
        raise ToolDeniedError(f"{tool.name} cannot say which scopes this call takes.") from error


async def call_tool(tool: PreparedTool, arguments: JsonObject, seconds: float) -> JsonObject:
    """Run the tool once and return its output as plain JSON data of its own.

    Whatever the tool does ends in one of three ways: a result, a StepError, or (for KeyboardInterrupt and our own
    cancellation only) the exception itself.

    Raises:
        StepError: what went wrong, for the trace and the model.
        asyncio.CancelledError: the run itself was cancelled.
    """
    try:
        if tool.is_async or tool.quick:
            output = tool.run(unshared(arguments))
        else:
            output = await within(seconds, call_in_thread(tool.run, unshared(arguments)))
        # of an async `run`, or handed back by a sync one
        if type(output) is not dict and inspect.isawaitable(output):
            output = await within(seconds, _awaited(output))
    except TimeLimitError:
        raise ToolTimeoutError(f"{tool.name} did not answer within {seconds:g} s.") from None
    except KeyboardInterrupt:
        raise
    except ToolRejected as error:
        raise _rejected(error) from error
    except asyncio.CancelledError as error:
        if being_cancelled():
            raise
        raise ToolFailedError(f"{tool.name} cancelled itself.", broken_off=True) from error
    except BaseException as error:  # a tool may raise SystemExit or worse; the run goes on
        raise _failed(tool, error) from error
    return _checked_output(tool, output)


def call_tool_in(tool: PreparedTool, transaction: Transaction, arguments: JsonObject) -> JsonObject:
    """Run a transactional tool inside the transaction that will record its step; as `call_tool` otherwise.

    Raises:
        StepError: what went wrong; the transaction is to keep nothing of what the tool did.
        Exception: an error of the database, after which the whole transaction is tried again.
    """
    assert tool.run_in is not None
    try:
        output = tool.run_in(transaction, unshared(arguments))
    except ToolRejected as error:
        raise _rejected(error) from error
    except BaseException as error:
        if isinstance(error, Exception) and transaction.will_be_retried(error):
            raise
        raise _failed(tool, error) from error
    return _checked_output(tool, output)


def _rejected(error: ToolRejected) -> ToolRejected:
    code = str(error.code)  # a tool's own, and so anything
    return ToolRejected(_sentence(error), code if CODE.fullmatch(code) else "rejected")


def _failed(tool: PreparedTool, error: BaseException) -> ToolFailedError:
    log.warning("the tool %s failed", tool.name, exc_info=error)
    return ToolFailedError(_describe(error), broken_off=not isinstance(error, Exception))


async def _awaited(output: Awaitable[object]) -> object:
    return await output


def _checked_output(tool: PreparedTool, output: object) -> JsonObject:
    if type(output) is not dict and not isinstance(output, Mapping):
        raise ToolOutputError(f"{tool.name} returned {type(output).__name__}, not an object.")
    try:
        copied = copy_json(output, MAX_OUTPUT_BYTES)
        if tool.check_output is not None:
            tool.check_output(copied)
    except NotJsonError as error:
        raise ToolOutputError(f"{tool.name} returned something that is not JSON: {error}.") from error
    except TooLargeError as error:
        raise ToolOutputTooLargeError(f"{tool.name} returned more than {MAX_OUTPUT_BYTES} bytes.") from error
    except ValidationError as error:
        raise ToolOutputError(f"{tool.name} broke its output schema: {_where(error)}") from error
    except Exception as error:  # a Mapping of the tool's own can raise while it is read
        raise ToolFailedError(_describe(error)) from error
    return copied


def _where(error: ValidationError) -> str:
    path = "/".join(str(part) for part in error.instance_path)
    message = error.message
    if len(message) > MAX_REASON_CHARS:  # it begins with the value and ends with the reason
        message = f"{message[:100]} ... {message[-200:]}"
    return f"{path}: {message}" if path else message


def _describe(error: BaseException) -> str:
    return f"{type(error).__name__}: {_sentence(error) or '(no message)'}"


def _sentence(error: BaseException) -> str:
    """Return what an exception says as text that is short and can be stored, even if saying it raises."""
    try:
        text = str.__str__(str(error))
    except BaseException:  # hostile or broken; its type has to do
        return ""
    return text[:MAX_REASON_CHARS].encode("utf-8", "replace").decode().replace("\0", "\ufffd")
