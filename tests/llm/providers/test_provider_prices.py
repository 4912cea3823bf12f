from __future__ import annotations

from decimal import ROUND_CEILING

import pytest
from genai_prices import Usage as PricedUsage
from genai_prices import calc_price

from app.llm.interface import Usage
from app.llm.providers.names import parse_model_name
from app.llm.providers.opening import open_model
from app.llm.providers.prices import context_window, pricing

USAGES = [
    Usage(),
    Usage(1, 0),
    Usage(0, 1),
    Usage(1_000_000, 1_000_000),
    Usage(199_999, 7),
    Usage(200_000, 7),
    Usage(200_001, 7),
    Usage(300_000, 5_000, 200_000, 50_000),
    Usage(1_000, 10, 900, 100),
]


@pytest.mark.parametrize(
    ("name", "provider", "model"),
    [
        ("openai:gpt-5-mini", "openai", "gpt-5-mini"),
        ("openai-responses:gpt-4o", "openai", "gpt-4o"),
        ("anthropic:claude-sonnet-5", "anthropic", "claude-sonnet-5"),
        ("google:gemini-2.5-pro", "google", "gemini-2.5-pro"),
        ("vercel:anthropic/claude-sonnet-5", "anthropic", "claude-sonnet-5"),
        ("vercel:openai/gpt-5-mini", "openai", "gpt-5-mini"),
        ("vercel:xai/grok-4", "x-ai", "grok-4"),
    ],
)
@pytest.mark.parametrize("usage", USAGES, ids=str)
def test_the_cost_is_the_library_s_in_whole_nano_dollars_rounded_up(
    name: str, provider: str, model: str, usage: Usage
) -> None:
    priced = pricing(parse_model_name(name))
    assert priced is not None
    theirs = PricedUsage(
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        cache_read_tokens=usage.cache_read_tokens,
        cache_write_tokens=usage.cache_write_tokens,
    )
    price = calc_price(theirs, model, provider_id=provider).total_price
    assert priced.cost(usage) == int((price * 10**9).to_integral_value(ROUND_CEILING))


def test_a_fraction_of_a_nano_dollar_is_a_whole_one() -> None:
    priced = pricing(parse_model_name("openai:gpt-4.1-nano"))
    assert priced is not None
    assert priced.cost(Usage(1, 0)) == 100
    assert priced.cost(Usage(1, 0, 1)) == 25
    odd = pricing(parse_model_name("google:gemini-1.5-flash-8b"))
    assert odd is not None
    assert odd.cost(Usage(1, 0, 1)) == 19  # of 18.75


def test_cached_tokens_beyond_the_input_cost_no_less() -> None:
    priced = pricing(parse_model_name("anthropic:claude-sonnet-5"))
    assert priced is not None
    assert priced.cost(Usage(0, 0, 10, 10)) == priced.cost(Usage(20, 0, 10, 10)) > 0


@pytest.mark.parametrize(
    "name",
    [
        "mock",
        "ollama:llama3.2",
        "openai-compatible:gpt-4o",
        "openai:made-up",
        "vercel:nobody/nothing",
        "vercel:perplexity/sonar",
        "openai:text-embedding-3-small",
    ],
)
def test_a_price_that_nobody_knows_is_none(name: str) -> None:
    assert pricing(parse_model_name(name)) is None


def test_the_card_tells_what_is_known() -> None:
    card = open_model("anthropic:claude-sonnet-5", api_key="k").card
    assert (card.name, card.provider) == ("anthropic:claude-sonnet-5", "anthropic")
    assert (card.context_tokens, card.max_output_tokens) == (1_000_000, 128_000)
    assert card.pricing is not None
    assert context_window(parse_model_name("ollama:llama3.2")) is None
