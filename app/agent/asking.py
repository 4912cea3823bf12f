"""Asking the models of one run: which, within what budget, with how much of the context, and what became of it."""

from __future__ import annotations

import logging
from collections.abc import Coroutine
from typing import Final

from msgspec import Struct

from ..errors import LLMContextOverflowError, LLMRefusedError, ModelFailedError
from .attempts import INTERRUPTED, next_attempt
from .budget import Budget, Grant, Shortage, grant
from .candidates import Candidate, LineUp
from .context import UNKNOWN_SIZE, Conversation, KnownSize
from .endings import model_failed, out_of_budget
from .events import (
    ContextCompacted,
    ModelDecided,
    ModelFailed,
    ModelRejected,
    ModelRequested,
    RunFinished,
)
from .planner import Planner, words_of
from .state import AgentState

log = logging.getLogger(__name__)

MAX_CORRECTIONS: Final = 2
"""How often in a row a model is told what was wrong with its response before the run ends."""

LONGEST_PAUSE_S: Final = 10**9
"""Who asks for more has not meant seconds."""


class Pause(Struct, frozen=True):
    """Wait so many seconds, `then` ask; if there are not as many, the run ends with what failed last."""

    seconds: float
    then: ModelRequested
    instead: RunFinished


class Asking:
    """One run's dealings with its models. What has to survive the process is in the state.

    Args:
        line_up: the models to ask, the first of them first.
        budget: what the run may take, none for as much as it likes.
        max_retries: how often a model that fails is asked again.
        refusal: how the run ends instead of asking any model.
    """

    __slots__ = (
        "_budget",
        "_conversation",
        "_granted",
        "_line_up",
        "_max_retries",
        "_planner",
        "_refusal",
        "is_paid",
        "is_plain",
    )

    def __init__(
        self,
        planner: Planner,
        line_up: LineUp,
        budget: Budget,
        max_retries: int,
        refusal: RunFinished | None = None,
    ) -> None:
        self._planner = planner
        self._line_up = line_up
        self._budget = budget
        self._max_retries = max_retries
        self._conversation: Conversation | None = None
        self._granted: tuple[ModelRequested, Grant] | None = None
        self._refusal = refusal
        self.is_paid = line_up.is_paid or refusal is not None
        self.is_plain = line_up.is_plain and not budget and refusal is None

    def next_request(
        self, state: AgentState, left_s: float
    ) -> ModelRequested | ContextCompacted | RunFinished | Pause:
        """Return what comes before the next decision: a request, maybe after a pause, less context, or the end.

        `left_s` is how many seconds the run has left.
        """
        if self._refusal is not None:
            return self._refusal
        failures = state.failures
        failed = next((failure for failure in reversed(failures) if failure.code != INTERRUPTED), None)
        overflown = failed is not None and failed.code == LLMContextOverflowError.code
        attempt = next_attempt(
            [] if overflown else failures, self._line_up.names, state.answering, self._max_retries, left_s
        )
        if attempt is None:
            assert failed is not None
            return model_failed(failed.code, failed.reason)
        candidate = self._line_up.candidates[attempt.index]
        conversation, known = self._sized(state, candidate)
        steps = conversation.to_compact(candidate.card, known, overflown=overflown)
        if steps:
            # clients that keep the conversation's text have kept all of it
            self._line_up = self._line_up.for_run()
            return ContextCompacted(steps)
        if overflown:
            assert failed is not None
            return model_failed(failed.code, failed.reason)
        request = self._within_budget(state, candidate, conversation, known)
        if isinstance(request, RunFinished) or not attempt.delay_s:
            return request
        assert failed is not None
        return Pause(attempt.delay_s, request, model_failed(failed.code, failed.reason))

    def decide(self, state: AgentState, seconds: float) -> Coroutine[object, None, ModelDecided | ModelRejected]:
        """Ask the model that was to be asked, once; raises what `Planner.next_move` does."""
        asked = state.asked
        assert asked is not None
        if self._refusal is not None:
            raise LLMRefusedError(self._refusal.output, may_be_paid=False)
        candidate = self._line_up.named(asked.model)
        if self.is_plain:
            return self._planner.next_move(candidate, state.messages, asked.turn, seconds)
        conversation, _ = self._sized(state, candidate)
        granted = self._granted[1] if self._granted is not None and self._granted[0] == asked else None
        return self._planner.next_move(
            candidate,
            conversation.shown,
            asked.turn,
            seconds,
            max_output_tokens=None if granted is None else granted.max_output_tokens,
            is_last=granted is not None and granted.is_last,
        )

    def failed(self, state: AgentState, error: ModelFailedError) -> ModelFailed:
        """Return the event of a call that failed."""
        asked = state.asked
        assert asked is not None
        reason, may_be_paid = words_of(error), error.may_be_paid is not False
        log.warning("%s failed: %s: %s", asked.model, error.code, reason)
        return ModelFailed(asked.turn, asked.model, error.code, reason, may_be_paid, _pause_of(error))

    def cut_off(self, at_tokens: int, content: str) -> RunFinished:
        """Return the end of a run whose answer was cut off, since there was no budget for more of it.

        `at_tokens` is how many tokens the run could have taken with it.
        """
        max_tokens, max_cost = self._budget.max_tokens, self._budget.max_cost
        is_by_cost = max_cost is not None and (max_tokens is None or at_tokens < max_tokens)
        return out_of_budget("max_cost" if is_by_cost else "max_tokens", self._budget, content)

    def overspent(self, state: AgentState, content: str) -> RunFinished | None:
        """Return the end of a run whose models took more than they were to; None if they did not.

        Who keeps to the limit of an answer cannot; a client that only generates is not told of any.
        """
        max_tokens, max_cost, spending = self._budget.max_tokens, self._budget.max_cost, state.spending
        if max_tokens is not None and spending.tokens > max_tokens:
            return out_of_budget("max_tokens", self._budget, content)
        if max_cost is not None and spending.cost > max_cost:
            return out_of_budget("max_cost", self._budget, content)
        return None

    def _sized(self, state: AgentState, candidate: Candidate) -> tuple[Conversation, KnownSize]:
        conversation = self._conversation
        if conversation is None:
            conversation = self._conversation = self._planner.conversation()
        conversation.follow(state.messages, state.compacted)
        known = state.known_size
        return conversation, known if known.model == candidate.name else UNKNOWN_SIZE

    def _within_budget(
        self, state: AgentState, candidate: Candidate, conversation: Conversation, known: KnownSize
    ) -> ModelRequested | RunFinished:
        turn = state.turns if state.failures else state.turns + 1
        if not candidate.is_paid and candidate is self._line_up.candidates[0]:
            return ModelRequested(turn)
        if not self._budget or not candidate.is_paid:
            return ModelRequested(turn, candidate.name)
        card = candidate.card
        room = None if card.context_tokens is None else card.context_tokens - conversation.probable_tokens(known)
        granted = grant(self._budget, state.spending, card, conversation.most_tokens(known), room)
        if isinstance(granted, Shortage):
            return out_of_budget(granted.limit, self._budget, None, granted)
        request = ModelRequested(turn, candidate.name, granted.reserved)
        self._granted = request, granted
        return request


def _pause_of(error: ModelFailedError) -> float | None:
    """Return what a client says of when to come back, if it is a number of seconds."""
    seconds = error.retry_after_s
    if isinstance(seconds, int | float) and 0 <= seconds < LONGEST_PAUSE_S:
        return float(seconds)
    return None
