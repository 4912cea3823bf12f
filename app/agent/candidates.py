"""The models that a run may ask, in order: clients as the loop sees them, whatever shape they have."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from typing import TypeAlias, cast

from ..errors import UnknownModelError, UnpricedModelError
from ..llm.interface import CompletionClient, LLMClient, LLMRequest, LLMResponse, ModelCard, TextDelta, Usage
from ..llm.prompted import lift

Client: TypeAlias = LLMClient | CompletionClient

Stream: TypeAlias = Callable[[LLMRequest], AsyncGenerator[TextDelta | LLMResponse, None]]


class Candidate:
    """One client, and what is known of it before it is asked.

    Args:
        call_seconds: how long one call may take; None for as long as the run has.
        number: tells one that has no name of its own from others of its class.
    """

    __slots__ = (
        "_client",
        "_number",
        "call_seconds",
        "card",
        "client",
        "is_lifted",
        "is_named",
        "is_paid",
        "name",
        "stream",
    )

    def __init__(self, client: Client, call_seconds: float | None = None, number: int = 1) -> None:
        """Take a client.

        Raises:
            TypeError: it has neither `complete` nor `generate`.
        """
        self._client = client
        self._number = number
        self.client = lift(client)
        self.is_lifted = self.client is not client
        card = getattr(client, "card", None)
        self.is_named = isinstance(card, ModelCard)
        kind = type(client).__name__
        self.card = card if isinstance(card, ModelCard) else ModelCard(kind if number == 1 else f"{kind} {number}")
        self.name = self.card.name
        self.is_paid = getattr(client, "is_free", False) is not True
        self.call_seconds = call_seconds if self.is_paid else None
        stream = getattr(client, "stream", None)
        self.stream = cast("Stream", stream) if callable(stream) else None

    def for_run(self) -> Candidate:
        """Return the candidate for one run: a client that keeps the conversation's text has one of its own."""
        return Candidate(self._client, self.call_seconds, self._number) if self.is_lifted else self

    def is_of(self, client: object) -> bool:
        """Say whether this is that client."""
        return self._client is client

    def cost(self, usage: Usage | None) -> int | None:
        """Return what these tokens cost in nano-dollars, None if nobody knows."""
        pricing = self.card.pricing
        return None if usage is None or pricing is None else pricing.cost(usage)


class LineUp:
    """The models that a run asks, in order."""

    __slots__ = ("_by_name", "_has_own", "candidates", "is_paid", "is_plain", "names")

    def __init__(self, candidates: Sequence[Candidate]) -> None:
        self.candidates = tuple(candidates)
        self.names = [candidate.name for candidate in candidates]
        self._by_name = {candidate.name: candidate for candidate in reversed(candidates)}
        self._has_own = any(candidate.is_lifted for candidate in candidates)
        self.is_paid = any(candidate.is_paid for candidate in candidates)
        first = candidates[0]
        # it costs nothing, or nothing is known of it: there is nothing to think about before it is asked
        self.is_plain = len(candidates) == 1 and not (first.is_named and first.is_paid)

    def for_run(self) -> LineUp:
        """Return the line-up for one run: clients that keep the conversation's text have one of their own."""
        return LineUp([candidate.for_run() for candidate in self.candidates]) if self._has_own else self

    def named(self, name: str | None) -> Candidate:
        """Return the model of that name, the first if there is none."""
        return self._by_name.get(name or "") or self.candidates[0]


class Models:
    """The models that an agent has: the one that runs are given, its fallbacks, and those that a run may ask for.

    Raises:
        TypeError: one of them is no client.
    """

    def __init__(
        self, first: Client, fallbacks: Sequence[Client], others: Mapping[str, Client], call_seconds: float | None
    ) -> None:
        self._call_seconds = call_seconds
        self._fallbacks = tuple([Candidate(client, call_seconds, n) for n, client in enumerate(fallbacks, 2)])
        self._usual = self._with_fallbacks(first)
        self._others = {name: self._with_fallbacks(client) for name, client in others.items()}

    def line_up(self, name: str | None) -> LineUp:
        """Return the models that a run asks, in order.

        Raises:
            UnknownModelError: there is none of that name.
        """
        if name is None:
            return self._usual
        found = self._others.get(name)
        if found is None:
            usual = self._usual.names[0]
            if name == usual:
                return self._usual
            names = ", ".join(dict.fromkeys([usual, *self._others]))
            raise UnknownModelError(f"There is no model {name[:100]!r} for runs here. There are: {names}.")
        return found

    def _with_fallbacks(self, client: Client) -> LineUp:
        first = Candidate(client, self._call_seconds)
        others = [other for other in self._fallbacks if other.name != first.name and not other.is_of(client)]
        return LineUp([first, *others])


def check_prices(line_up: LineUp) -> None:
    """Raise UnpricedModelError if one of these costs money and nobody knows how much."""
    candidates = line_up.candidates
    unknown = [candidate.name for candidate in candidates if candidate.is_paid and candidate.card.pricing is None]
    if unknown:
        raise UnpricedModelError(
            "A run cannot be kept within a sum of money (max_cost_usd): "
            f"the price of {', '.join(unknown)} is unknown."
        )
