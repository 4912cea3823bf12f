"""What models cost and how much they read, from the data that genai-prices ships; nothing is ever fetched."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from decimal import ROUND_CEILING, Decimal
from typing import TYPE_CHECKING, Final

from msgspec import Struct

from ..interface import Usage
from .names import ModelName

if TYPE_CHECKING:
    from genai_prices.types import ModelInfo, ModelPrice, TieredPrices

_PROVIDERS: Final = {
    "openai": "openai",
    "openai-responses": "openai",
    "anthropic": "anthropic",
    "google": "google",
}

_GATEWAY_PROVIDERS: Final = {"vertex": "google", "xai": "x-ai", "bedrock": "aws"}
"""Where a gateway's word for a provider is not the data's."""

_PICO_PER_NANO: Final = 1000


def pricing(name: ModelName) -> ListPricing | None:
    """Return what the model's tokens cost; None if nobody knows, as of whatever runs at home."""
    model = _find(name)
    if model is None:
        return None
    prices = model.get_prices(datetime.now(UTC))
    # a price of one side only is the price of something else (an embedding); one a request is not ours to count
    by_tokens = prices.input_mtok and prices.output_mtok and not prices.requests_kcount
    return ListPricing(model.get_prices) if by_tokens else None


def context_window(name: ModelName) -> int | None:
    """Return how many tokens the model reads, None if unknown."""
    model = _find(name)
    return model.context_window if model else None


def _find(name: ModelName) -> ModelInfo | None:
    from genai_prices.data_snapshot import get_snapshot

    provider, model = _PROVIDERS.get(name.family.prefix), name.model
    if name.family.prefix == "vercel":
        gateway_provider, _, model = name.model.partition("/")
        provider = _GATEWAY_PROVIDERS.get(gateway_provider, gateway_provider)
    if provider is None:
        return None
    try:
        return get_snapshot().find_provider_model(model, None, provider, None)[1]
    except LookupError:
        return None


class Rates(Struct, frozen=True):
    """Pico-dollars (10^-12 USD) a token, for requests of more than `above` input tokens."""

    above: int
    uncached: int
    cache_read: int
    cache_write: int
    output: int


class ListPricing:
    """A model's list prices, with their tiers and what is special to a cache. `prices_at` gives those of a time.

    The library's own sum takes 95 us, and each call of a model needs two: the rates are read from its data once,
    and added up here.
    """

    __slots__ = ("_known", "_prices_at", "_rates")

    def __init__(self, prices_at: Callable[[datetime], ModelPrice]) -> None:
        self._prices_at = prices_at
        self._known: ModelPrice | None = None
        self._rates: list[Rates] = []

    def cost(self, usage: Usage) -> int:
        """Return the sum in nano-dollars, rounded up."""
        prices = self._prices_at(datetime.now(UTC))
        if prices is not self._known:
            self._rates, self._known = _rates_of(prices), prices
        uncached = usage.input_tokens - usage.cache_read_tokens - usage.cache_write_tokens
        total = max(usage.input_tokens, usage.cache_read_tokens + usage.cache_write_tokens)
        rates = next(rates for rates in self._rates if total > rates.above)
        pico = (
            max(uncached, 0) * rates.uncached
            + usage.cache_read_tokens * rates.cache_read
            + usage.cache_write_tokens * rates.cache_write
            + usage.output_tokens * rates.output
        )
        return -(-pico // _PICO_PER_NANO)


def _rates_of(prices: ModelPrice) -> list[Rates]:
    """Return the rates of each tier, the highest first. Above a tier's start, all tokens cost its price."""
    keys = (
        prices.input_mtok,
        prices.input_mtok if prices.cache_read_mtok is None else prices.cache_read_mtok,
        prices.input_mtok if prices.cache_write_mtok is None else prices.cache_write_mtok,
        prices.output_mtok,
    )
    starts = {tier.start for price in keys for tier in getattr(price, "tiers", ())}
    return [Rates(start, *(_rate(price, start) for price in keys)) for start in (*sorted(starts)[::-1], -1)]


def _rate(price: Decimal | TieredPrices | None, above: int) -> int:
    """Return pico-dollars a token of a price in USD a million of them."""
    if price is not None and not isinstance(price, Decimal):
        reached = [tier.price for tier in price.tiers if tier.start <= above]
        price = reached[-1] if reached else price.base
    return int(((price or Decimal()) * 10**6).to_integral_value(ROUND_CEILING))
