"""What is booked of a call of a model, and money in decimals."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal

import pytest

from app.agent.events import ModelDecided, ModelFailed, ModelRejected
from app.llm.interface import Usage
from app.runs.usage import MAX_COST_BOOKED, MAX_TOKENS_BOOKED, Used, date_of, day_of, to_nano, to_usd, use_of

AT = datetime(2026, 11, 22, 23, 59, 59, 999_999, tzinfo=UTC)
TOOK = Usage(100, 20, 30, 4)
NAME = "openai:gpt-5-mini"


def test_an_answer_is_booked_by_the_name_that_settings_have_for_its_model() -> None:
    use = use_of(ModelDecided(1, "4", model="gpt-5-mini-2025", usage=TOOK, cost=7), NAME, AT)
    assert use is not None
    assert (date_of(use.day), use.model) == (date(2026, 11, 22), NAME)
    assert use.used == Used(1, 100, 20, 30, 4, 7, 0)


def test_a_client_without_a_name_goes_by_what_its_model_calls_itself() -> None:
    named = use_of(ModelDecided(1, "4", model="mine", usage=TOOK), None, AT)
    nameless = use_of(ModelRejected(1, "no", usage=TOOK), None, AT)
    assert named is not None
    assert nameless is not None
    assert (named.model, nameless.model) == ("mine", "unnamed")


def test_a_reply_that_was_no_decision_took_what_it_took() -> None:
    use = use_of(ModelRejected(1, "no", usage=TOOK, cost=7), NAME, AT)
    assert use is not None
    assert use.used == Used(1, 100, 20, 30, 4, 7, 0)


def test_a_call_without_price_is_counted_as_one() -> None:
    for event in (ModelDecided(1, "4", usage=TOOK), ModelDecided(1, "4")):
        use = use_of(event, NAME, AT)
        assert use is not None
        assert (use.used.calls, use.used.cost, use.used.unpriced_calls) == (1, 0, 1)


def test_what_is_free_is_not_booked() -> None:
    assert use_of(ModelDecided(1, "4", model="mock"), None, AT) is None


def test_a_failed_call_is_booked_if_it_may_have_been_paid() -> None:
    paid, unpaid = (ModelFailed(1, NAME, "llm_timeout", "slow", may_be_paid=paid) for paid in (True, False))
    use = use_of(paid, None, AT)
    assert use is not None
    assert (use.model, use.used) == (NAME, Used(calls=1, unpriced_calls=1))
    assert use_of(unpaid, NAME, AT) is None


@pytest.mark.parametrize("claimed", [2**70, -5])
def test_what_a_server_claims_is_bounded(claimed: int) -> None:
    use = use_of(ModelDecided(1, "4", usage=Usage(claimed, 1), cost=claimed), NAME, AT)
    assert use is not None
    most = (MAX_TOKENS_BOOKED, MAX_COST_BOOKED) if claimed > 0 else (0, 0)
    assert (use.used.input_tokens, use.used.cost) == most


@pytest.mark.parametrize("name", ["a\0b", "\ud800", "", None])
def test_a_name_that_cannot_be_stored_is_not(name: str | None) -> None:
    use = use_of(ModelDecided(1, "4", model=name, usage=TOOK), None, AT)
    assert use is not None
    assert use.model == "unnamed"


def test_days_are_counted_from_1970() -> None:
    assert (day_of(date(1970, 1, 1)), day_of(date(2026, 11, 22))) == (0, 20_779)
    assert date_of(20_779) == date(2026, 11, 22)


@pytest.mark.parametrize(
    ("usd", "nano"),
    [
        (0.1, 100_000_000),
        (0.05, 50_000_000),
        (1e-9, 1),
        (Decimal("0.0000000019"), 1),
        (1_000_000, 10**15),
        (0.29, 290_000_000),
    ],
)
def test_dollars_are_read_as_they_are_written(usd: float | Decimal, nano: int) -> None:
    assert to_nano(usd) == nano


def test_nano_dollars_are_dollars_exactly() -> None:
    assert f"{to_usd(1):f}" == "0.000000001"
    assert f"{to_usd(9_007_199_254_740_993):f}" == "9007199.254740993"
