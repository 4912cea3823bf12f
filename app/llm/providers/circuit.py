"""A circuit for each provider: while one is out, its clients refuse at once instead of keeping workers waiting."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing, contextmanager
from time import monotonic

from ...errors import LLMTimeoutError, LLMUnavailableError
from ..interface import LLMRequest, LLMResponse, ModelCard, NamedClient, TextDelta

FAILURES_TO_OPEN = 5
COOL_DOWN_S = 15.0


class Circuit:
    """Counts the outages in a row; after too many it is open for a while, then lets one call try."""

    def __init__(
        self,
        provider: str,
        *,
        failures_to_open: int = FAILURES_TO_OPEN,
        cool_down_s: float = COOL_DOWN_S,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._provider = provider
        self._failures_to_open = failures_to_open
        self._cool_down_s = cool_down_s
        self._clock = clock
        self._failures = 0
        self._closed_again_at = 0.0
        self._probing = False

    @contextmanager
    def call(self) -> Iterator[None]:
        """Let a call through, and learn from how it ends. One that is cancelled or closed says nothing.

        Raises:
            LLMUnavailableError: the circuit is open; the provider was not asked.
        """
        probe = self._failures >= self._failures_to_open
        if probe:
            self._refuse_unless_due()
            self._probing = True
        try:
            yield
        except (LLMUnavailableError, LLMTimeoutError):
            self._failures += 1
            self._closed_again_at = self._clock() + self._cool_down_s
            raise
        except Exception:
            self._failures = 0  # it answers, whatever it says
            raise
        else:
            self._failures = 0
        finally:
            if probe:
                self._probing = False

    def _refuse_unless_due(self) -> None:
        wait_s = max(self._closed_again_at - self._clock(), 0.0)
        if wait_s or self._probing:
            raise LLMUnavailableError(
                f"{self._provider} was not asked: it has failed {self._failures} times in a row.",
                retry_after_s=wait_s or self._cool_down_s,
                may_be_paid=False,
            )


class Circuits:
    """The circuits of a process, one for each provider. `open_circuit` makes one of a provider's name."""

    def __init__(self, open_circuit: Callable[[str], Circuit] = Circuit) -> None:
        self._open_circuit = open_circuit
        self._circuits: dict[str, Circuit] = {}

    def guard(self, client: NamedClient) -> CircuitClient:
        """Return `client` behind its provider's circuit."""
        provider = client.card.provider
        if provider not in self._circuits:
            self._circuits[provider] = self._open_circuit(provider)
        return CircuitClient(client, self._circuits[provider])


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
