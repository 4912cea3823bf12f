"""Every error this project raises, as one tree; each class has a stable `code`, and none knows of HTTP.

AgentCoreError
├── CallerError                 the caller asked for what cannot be done; nothing has run
│   ├── InvalidGoalError            invalid_goal
│   ├── InvalidContextError         invalid_context
│   ├── InvalidProposalIdError      invalid_proposal_id
│   ├── UnknownToolError            unknown_tool
│   ├── NotesUnavailableError       notes_unavailable
│   ├── MalformedBodyError          malformed_json
│   ├── BodyTooLargeError           body_too_large
│   ├── NestingTooDeepError         nesting_too_deep
│   ├── UnsupportedMediaTypeError   unsupported_media_type
│   ├── RunningLoopError            running_loop
│   ├── RunNotFoundError            run_not_found
│   ├── RunPrunedError              run_pruned
│   ├── RunEndedError               run_ended
│   ├── RunNotWaitingError          run_not_waiting
│   ├── InvalidRunError             invalid_run
│   ├── UnknownModelError           unknown_model
│   ├── InvalidBudgetError          invalid_budget
│   ├── UnpricedModelError          unpriced_model
│   ├── InvalidOutputSchemaError    invalid_output_schema
│   ├── InvalidCursorError          invalid_cursor
│   ├── InvalidIdempotencyKeyError  invalid_idempotency_key
│   ├── IdempotencyKeyReusedError   idempotency_key_reused
│   ├── InvalidBundleError          invalid_bundle
│   ├── UnauthenticatedError        unauthenticated
│   ├── PermissionDeniedError       permission_denied
│   ├── InvalidPermissionsError     invalid_permissions
│   ├── KeyNotFoundError            key_not_found
│   ├── RateLimitedError            rate_limited
│   └── QuotaExceededError          quota_exceeded
├── StorageError                the journal could not do what it promises; nothing unkept has been promised
│   ├── StorageUnavailableError     storage_unavailable
│   ├── UnreadableRunError          unreadable
│   └── FencedError                 fenced
├── IdentityProviderError       identity_unavailable
├── StepError                   one tool call failed; it becomes the `error` of a step and the run goes on
│   ├── ToolUnavailableError        unknown_tool
│   ├── ToolDeniedError             permission_denied
│   ├── ToolInputError              invalid_input
│   ├── ToolOutputError             invalid_output
│   ├── ToolOutputTooLargeError     output_too_large
│   ├── ToolTimeoutError            timeout
│   ├── ToolFailedError             tool_failed
│   └── ToolRejected                rejected, or the code a tool gives: the tool promises nothing happened
├── ModelError                  the language model failed; the run ends as an error
│   ├── ModelFailedError            model_failed
│   │   └── LLMError                    llm_error; the loop tries again, or another model, where that may help
│   │       ├── LLMRateLimitedError         llm_rate_limited
│   │       ├── LLMUnavailableError         llm_unavailable
│   │       ├── LLMTimeoutError             llm_timeout
│   │       ├── LLMAuthError                llm_auth
│   │       ├── LLMContextOverflowError     llm_context_overflow
│   │       ├── LLMRefusedError             llm_refused
│   │       └── LLMBadResponseError         llm_bad_response
│   └── ModelResponseError          model_response_invalid
└── SetupError                  the program was put together wrongly; it does not start
    ├── ConfigurationError          configuration
    ├── InvalidToolError            invalid_tool
    ├── DuplicateToolError          duplicate_tool
    ├── ToolModuleError             tool_module
    ├── PortInUseError              port_in_use
    ├── DataInUseError              data_in_use
    ├── DatabaseVersionError        database_version
    └── MissingExtraError           missing_extra
"""

from __future__ import annotations

from typing import ClassVar


class AgentCoreError(Exception):
    """The root. `str(error)` is a sentence for a person; `code` is for programs and never changes."""

    code: ClassVar[str] = "agent_core_error"


class CallerError(AgentCoreError):
    """The caller asked for something that cannot be done; nothing has run."""

    code = "caller_error"


class InvalidGoalError(CallerError):
    """The goal is blank, too long, or holds text that cannot be stored (NUL, lone surrogates)."""

    code = "invalid_goal"


class InvalidContextError(CallerError):
    """The context is too long or holds text that cannot be stored (NUL, lone surrogates)."""

    code = "invalid_context"


class InvalidProposalIdError(CallerError):
    """The proposal id does not have the form PROP-YYYY-NNN."""

    code = "invalid_proposal_id"


class UnknownToolError(CallerError):
    """A run named tools that do not exist; the message lists those that do."""

    code = "unknown_tool"

    def __init__(self, unknown: list[str], available: list[str]) -> None:
        self.unknown = unknown
        self.available = available
        names = ", ".join(repr(name[:64]) for name in unknown[:5])
        listed = ", ".join(available) if available else "none"
        super().__init__(f"Unknown tool {names}. Available tools: {listed}.")


class NotesUnavailableError(CallerError):
    """The active governance_note tool has no store that notes could be read from, or it does not answer."""

    code = "notes_unavailable"


class MalformedBodyError(CallerError):
    """The request body is not one JSON document in UTF-8."""

    code = "malformed_json"


class BodyTooLargeError(CallerError):
    """The request body is larger than the service accepts."""

    code = "body_too_large"


class NestingTooDeepError(CallerError):
    """The JSON document is nested more deeply than the service accepts."""

    code = "nesting_too_deep"


class UnsupportedMediaTypeError(CallerError):
    """The request body is not declared as JSON."""

    code = "unsupported_media_type"


class RunningLoopError(CallerError):
    """The blocking `Agent.run` was called from inside a running event loop."""

    code = "running_loop"


class RunNotFoundError(CallerError):
    """There is no run of that id."""

    code = "run_not_found"


class RunPrunedError(CallerError):
    """The run's events were pruned; its row and the head of its chain are what is left."""

    code = "run_pruned"


class RunEndedError(CallerError):
    """The run has ended, and nothing can be added to it."""

    code = "run_ended"


class RunNotWaitingError(CallerError):
    """The run does not wait for anybody to say what became of that step."""

    code = "run_not_waiting"


class InvalidRunError(CallerError):
    """A run was submitted with a priority, deadline, step limit, start time or metadata that it cannot have."""

    code = "invalid_run"


class UnknownModelError(CallerError):
    """A run named a model that it may not have; the message lists those that it may."""

    code = "unknown_model"


class InvalidBudgetError(CallerError):
    """A budget is no positive number, or more than runs are allowed here."""

    code = "invalid_budget"


class UnpricedModelError(CallerError):
    """A run is to stay within a sum of money, and nobody knows what a model it may ask costs."""

    code = "unpriced_model"


class InvalidOutputSchemaError(CallerError):
    """What a run's output is to satisfy is no JSON Schema, or too large a one."""

    code = "invalid_output_schema"


class InvalidCursorError(CallerError):
    """The cursor is none that a listing has given out."""

    code = "invalid_cursor"


class InvalidIdempotencyKeyError(CallerError):
    """The Idempotency-Key is empty, too long, or not of the characters a key may have."""

    code = "invalid_idempotency_key"


class IdempotencyKeyReusedError(CallerError):
    """The Idempotency-Key was used before, for another request."""

    code = "idempotency_key_reused"


class InvalidBundleError(CallerError):
    """The file is not an exported run."""

    code = "invalid_bundle"


class UnauthenticatedError(CallerError):
    """There is no API key or token where one is wanted, or none that holds; which of these, nobody is told."""

    code = "unauthenticated"


class PermissionDeniedError(CallerError):
    """Who asks may not do this; `scope` is what is missing, None if it is not a scope."""

    code = "permission_denied"

    def __init__(self, sentence: str, scope: str | None = None) -> None:
        self.scope = scope
        super().__init__(sentence)


class InvalidPermissionsError(CallerError):
    """Scopes, rules or limits that are to be given do not exist, or are more than the giver has."""

    code = "invalid_permissions"


class KeyNotFoundError(CallerError):
    """There is no such API key, or it is somebody else's."""

    code = "key_not_found"


class RateLimitedError(CallerError):
    """There were too many requests for now; `retry_after_s` is how many seconds to wait."""

    code = "rate_limited"

    def __init__(self, sentence: str, retry_after_s: int) -> None:
        self.retry_after_s = retry_after_s
        super().__init__(sentence)


class QuotaExceededError(CallerError):
    """A quota of runs, steps or tokens is used up; `retry_after_s` is when to try again at the soonest."""

    code = "quota_exceeded"

    def __init__(self, sentence: str, retry_after_s: int) -> None:
        self.retry_after_s = retry_after_s
        super().__init__(sentence)


class StorageError(AgentCoreError):
    """The journal could not do what it promises; nothing that was not kept has been promised to anybody."""

    code = "storage_error"


class StorageUnavailableError(StorageError):
    """The database could not be reached, or had no room, for longer than it is waited for."""

    code = "storage_unavailable"


class UnreadableRunError(StorageError):
    """Stored events of a run are damaged or missing, so that nobody can tell how it stands."""

    code = "unreadable"


class FencedError(StorageError):
    """Somebody else owns the run by now; what its former owner wanted to append was refused."""

    code = "fenced"


class IdentityProviderError(AgentCoreError):
    """The identity provider does not answer, and without its keys no token can be checked."""

    code = "identity_unavailable"


class StepError(AgentCoreError):
    """One tool call failed. `as_text()` is what stands in the step: "code: sentence"."""

    code = "step_error"

    def as_text(self) -> str:
        """The form a step's `error` has on the wire."""
        return f"{self.code}: {self}"


class ToolUnavailableError(StepError):
    """The model asked for a tool that this run does not have."""

    code = "unknown_tool"


class ToolDeniedError(StepError):
    """The run may not call that tool, or not with these arguments; nothing happened."""

    code = "permission_denied"


class ToolInputError(StepError):
    """The input does not satisfy the tool's schema; the tool did not run."""

    code = "invalid_input"


class ToolOutputError(StepError):
    """The tool returned something that is not JSON, or that breaks its own output schema."""

    code = "invalid_output"


class ToolOutputTooLargeError(StepError):
    """The tool returned more than a step may hold."""

    code = "output_too_large"


class ToolTimeoutError(StepError):
    """The tool did not answer in time."""

    code = "timeout"


class ToolFailedError(StepError):
    """The tool raised something; whether it had an effect is unknown.

    `broken_off`: it did not get as far as failing (it exited, or cancelled itself), as after a time-out.
    """

    code = "tool_failed"

    def __init__(self, sentence: str, *, broken_off: bool = False) -> None:
        super().__init__(sentence)
        self.broken_off = broken_off


class ToolRejected(StepError):  # noqa: N818 - what a tool says, not what went wrong with it
    """Raised by a tool to refuse a call: it promises that nothing happened.

    `code` is the tool's own stable word for the reason (`division_by_zero`); it defaults to `rejected`.
    """

    def __init__(self, sentence: str, code: str = "rejected") -> None:
        super().__init__(sentence)
        self.code = code  # type: ignore[misc]  # one class, many reasons: the code is the tool's


class ModelError(AgentCoreError):
    """The language model failed."""

    code = "model_error"


class ModelFailedError(ModelError):
    """The model's client raised.

    Args:
        retry_after_s: after how many seconds the provider wants to be asked again, if it said so.
        may_be_paid: the provider may have done work before this, and charge for it.
    """

    code = "model_failed"

    def __init__(self, message: str, *, retry_after_s: float | None = None, may_be_paid: bool = True) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s
        self.may_be_paid = may_be_paid


class LLMError(ModelFailedError):
    """A provider failed in a way that is known; what the message says is for everybody."""

    code = "llm_error"


class LLMRateLimitedError(LLMError):
    """The provider takes no more requests for now (429)."""

    code = "llm_rate_limited"


class LLMUnavailableError(LLMError):
    """The provider cannot be reached, is overloaded or broken (5xx), or its circuit is open."""

    code = "llm_unavailable"


class LLMTimeoutError(LLMError):
    """The provider did not connect, begin to speak, or finish in time."""

    code = "llm_timeout"


class LLMAuthError(LLMError):
    """The provider does not accept the key, or the key may not use the model (401, 403)."""

    code = "llm_auth"


class LLMContextOverflowError(LLMError):
    """The request has more tokens than the model reads."""

    code = "llm_context_overflow"


class LLMRefusedError(LLMError):
    """The provider refuses this request (4xx), or its content filter the answer."""

    code = "llm_refused"


class LLMBadResponseError(LLMError):
    """What the provider sent is broken off, or is none of its protocol."""

    code = "llm_bad_response"


class ModelResponseError(ModelError):
    """The model answered with something that is not a decision; the message tells the model how to mend it.

    `usage` is the `Usage` that the answer took all the same, if that is known.
    """

    code = "model_response_invalid"
    usage: object = None


class SetupError(AgentCoreError):
    """The program was put together wrongly; it says so in one line and does not start."""

    code = "setup_error"


class ConfigurationError(SetupError):
    """A setting has a bad value."""

    code = "configuration"


class InvalidToolError(SetupError):
    """An object registered as a tool does not have the shape of one."""

    code = "invalid_tool"


class DuplicateToolError(SetupError):
    """Two tools were registered under one name."""

    code = "duplicate_tool"


class ToolModuleError(SetupError):
    """A module named in TOOL_MODULES could not be imported."""

    code = "tool_module"


class PortInUseError(SetupError):
    """The address the service was told to listen on is taken."""

    code = "port_in_use"


class DataInUseError(SetupError):
    """Another process serves the same data directory."""

    code = "data_in_use"


class DatabaseVersionError(SetupError):
    """The database is newer than this program, or older and to be upgraded first."""

    code = "database_version"


class MissingExtraError(SetupError):
    """What the settings ask for needs packages that are not installed; the message names the line that does."""

    code = "missing_extra"
