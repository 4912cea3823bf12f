"""A circuit for each model: while it is out, its client refuses at once instead of keeping workers waiting."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing, contextmanager
from time import monotonic
from typing import Final

from ...errors import LLMTimeoutError, LLMUnavailableError
from ..interface import LLMRequest, LLMResponse, ModelCard, NamedClient, TextDelta

log = logging.getLogger(__name__)

FAILURES_TO_OPEN: Final = 5
OUTAGE_S: Final = 2.0
COOL_DOWN_S: Final = 5.0

MAX_SENTENCE_CHARS: Final = 200


class Circuit:
    """Counts the outages in a row; after too many it is open for a while, then lets one call try."""

    def __init__(
        self,
        name: str,
        *,
        failures_to_open: int = FAILURES_TO_OPEN,
        outage_s: float = OUTAGE_S,
        cool_down_s: float = COOL_DOWN_S,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._name = name
        self._failures_to_open = failures_to_open
        self._outage_s = outage_s
        self._cool_down_s = cool_down_s
        self._clock = clock
        self._failures = 0
        self._out_since = 0.0
        self._last = ""
        self._next_try_at: float | None = None
        self._trying = False

    @contextmanager
    def call(self) -> Iterator[None]:
        """Let a call through, and learn from how it ends. One that is cancelled or closed says nothing.

        Raises:
            LLMUnavailableError: the circuit is open; the model was not asked.
        """
        begun_at = self._clock()
        tries = self._next_try_at is not None
        if tries:
            self._refuse_unless_due(begun_at)
            self._trying = True
        try:
            yield
        except (LLMUnavailableError, LLMTimeoutError) as error:
            self._failed(begun_at, str(error), tries=tries)
            raise
        except Exception:
            self._answered()  # whatever it says
            raise
        else:
            self._answered()
        finally:
            if tries:
                self._trying = False

    def _refuse_unless_due(self, now: float) -> None:
        if self._trying or (self._next_try_at is not None and now < self._next_try_at):
            sentence = f"{self._name} was not asked: it failed {self._failures} times in a row, last: {self._last}"
            if len(sentence) > MAX_SENTENCE_CHARS:
                sentence = sentence[: MAX_SENTENCE_CHARS - 1] + "…"
            # without a time to come back: a run would sleep the whole of it instead of going on to a fallback
            raise LLMUnavailableError(sentence, may_be_paid=False)

    def _failed(self, begun_at: float, reason: str, *, tries: bool) -> None:
        if not self._failures:
            self._out_since = begun_at
        self._failures += 1
        self._last = reason
        now = self._clock()
        # many runs at once count to any number in no time, and a blip is what their retries are for
        is_out = self._failures >= self._failures_to_open and now - self._out_since >= self._outage_s
        if self._next_try_at is None and is_out:
            log.warning(
                "%s is not asked for %g s: it failed %d times", self._name, self._cool_down_s, self._failures
            )
            self._next_try_at = now + self._cool_down_s
        elif tries:
            self._next_try_at = now + self._cool_down_s

    def _answered(self) -> None:
        self._failures = 0
        if self._next_try_at is not None:
            self._next_try_at = None
            log.info("%s answers again", self._name)


class Circuits:
    """The circuits of a process, one for each model. `open_circuit` makes one of a model's name."""

    def __init__(self, open_circuit: Callable[[str], Circuit] = Circuit) -> None:
        self._open_circuit = open_circuit
        self._circuits: dict[str, Circuit] = {}

    def guard(self, client: NamedClient) -> CircuitClient:
        """Return `client` behind its model's circuit: one model's outage says nothing of its provider's others."""
        name = client.card.name
        if name not in self._circuits:
            self._circuits[name] = self._open_circuit(name)
        return CircuitClient(client, self._circuits[name])


class CircuitClient:
    """A client behind a circuit; it is one itself."""

    def __init__(self, client: NamedClient, circuit: Circuit) -> None:
        self._client = client
        self._circuit = circuit

    @property
    def card(self) -> ModelCard:
        return self._client.card

    async def complete(self, request: LLMRequest) -> LLMResponse:
        with self._circuit.call():
            return await self._client.complete(request)

    async def stream(self, request: LLMRequest) -> AsyncGenerator[TextDelta | LLMResponse, None]:
        response: LLMResponse | None = None
        with self._circuit.call():
            async with aclosing(self._client.stream(request)) as pieces:
                async for piece in pieces:
                    if isinstance(piece, LLMResponse):
                        response = piece
                        break
                    yield piece
        if response is not None:
            yield response  # outside: whoever has it may close us, and it counts as an answer all the same
