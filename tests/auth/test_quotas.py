"""Quotas of a day: what is left of them, when they are used up, and how often that is looked up."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

import app.auth.quotas as quotas_module
from app.auth.charges import TENANT
from app.auth.principal import UNLIMITED, Account, Limits, Principal
from app.auth.quotas import FRESH_S, Allowance, DailyUse, Quotas
from app.errors import QuotaExceededError, StorageUnavailableError

DAY = 20_000
NOON = DAY * 86_400 + 43_200.0
ANN = Principal("key:ann", "desk")
BOB = Principal("key:bob", "desk")
MUCH = Allowance(1000, 1000)
LITTLE = Allowance(1, 1)


class Ledger:
    """What was used, as it is written down here; and how often it was read."""

    def __init__(self, **used: DailyUse) -> None:
        self.used_today = {TENANT if name == "all" else f"key:{name}": use for name, use in used.items()}
        self.reads: list[tuple[str, tuple[str, ...], int]] = []
        self.error: Exception | None = None
        self.now = NOON

    async def used(self, tenant: str, subjects: Sequence[str], day: int) -> dict[str, DailyUse]:
        self.reads.append((tenant, tuple(subjects), day))
        await asyncio.sleep(0)
        if self.error is not None:
            raise self.error
        return {name: use for name, use in self.used_today.items() if name in subjects} if day == DAY else {}

    def quotas(self, key: Limits = UNLIMITED, tenant: Limits = UNLIMITED) -> Quotas:
        return Quotas(self, key, tenant, clock=lambda: self.now)


async def refusal(quotas: Quotas, who: Principal = ANN) -> QuotaExceededError:
    with pytest.raises(QuotaExceededError) as caught:
        await quotas.admit(who, MUCH)
    return caught.value


async def test_what_is_left_is_the_least_of_what_somebody_and_their_tenant_have() -> None:
    ledger = Ledger(ann=DailyUse(7, 900), all=DailyUse(95, 1000))
    quotas = ledger.quotas(Limits(steps_per_day=20, tokens_per_day=1000), Limits(steps_per_day=100))
    assert await quotas.admit(ANN, MUCH) == Allowance(5, 100)
    assert await quotas.admit(BOB, MUCH) == Allowance(5, 1000)


async def test_a_quota_that_is_used_up_is_so_until_the_day_is_over() -> None:
    ledger = Ledger(ann=DailyUse(20, 0))
    quotas = ledger.quotas(Limits(steps_per_day=20))
    error = await refusal(quotas)
    assert str(error) == "The steps of this key for today (UTC) are used up: 20."
    assert error.retry_after_s == 43_200
    assert await quotas.admit(BOB, MUCH) == Allowance(20)
    ledger.now = NOON + error.retry_after_s - 0.25
    assert (await refusal(quotas)).retry_after_s == 1
    ledger.now = NOON + error.retry_after_s
    assert await quotas.admit(ANN, MUCH) == Allowance(20)


async def test_the_tenant_has_quotas_of_its_own() -> None:
    ledger = Ledger(bob=DailyUse(0, 5000), all=DailyUse(0, 5000))
    error = await refusal(ledger.quotas(tenant=Limits(tokens_per_day=5000)))
    assert "The tokens of this tenant" in str(error)


async def test_ones_own_quota_stands_before_the_usual_one() -> None:
    quotas = Ledger(ann=DailyUse(15, 0)).quotas(Limits(steps_per_day=10))
    await refusal(quotas)
    assert await quotas.admit(Principal("key:ann", "desk", limits=Limits(steps_per_day=18)), MUCH) == Allowance(3)
    assert await quotas.admit(Principal("key:new", "desk", limits=Limits(tokens_per_day=9)), MUCH) == Allowance(
        10, 9
    )


async def test_what_somebody_uses_counts_for_every_key_that_theirs_descends_from() -> None:
    root, middle = Account("key:ann", Limits(steps_per_day=10)), Account("key:bob", Limits(steps_per_day=8))
    child = Principal("key:eve", "desk", limits=middle.limits, ancestors=(middle, root))
    ledger = Ledger(eve=DailyUse(1, 0), bob=DailyUse(3, 0), ann=DailyUse(6, 0))
    quotas = ledger.quotas(Limits(tokens_per_day=50))
    assert await quotas.admit(child, MUCH) == Allowance(4, 50)
    ledger.used_today["key:bob"] = DailyUse(5, 20)
    ledger.now += FRESH_S
    assert await quotas.admit(child, MUCH) == Allowance(3, 30)
    assert ledger.reads[-1][1] == ("key:eve", "key:bob", "key:ann")
    ledger.used_today["key:ann"] = DailyUse(10, 0)
    ledger.now += FRESH_S
    assert str(await refusal(quotas, child)) == "The steps of this parent-2 for today (UTC) are used up: 10."


async def test_where_nobody_has_a_quota_nothing_is_read() -> None:
    ledger = Ledger()
    assert await ledger.quotas(Limits(requests="1/day", runs=1)).admit(ANN, MUCH) == Allowance()
    assert not ledger.reads


async def test_a_reading_is_shared_and_kept_for_half_a_second() -> None:
    ledger = Ledger()
    quotas = ledger.quotas(Limits(steps_per_day=100))
    await asyncio.gather(*(quotas.admit(ANN, LITTLE) for _ in range(20)))
    assert ledger.reads == [("desk", ("key:ann",), DAY)]
    ledger.used_today["key:ann"] = DailyUse(100, 0)
    ledger.now += FRESH_S - 0.01
    assert await quotas.admit(ANN, LITTLE) == Allowance(1)
    ledger.now += 0.02
    await refusal(quotas)
    assert len(ledger.reads) == 2


async def test_it_is_read_again_before_more_is_admitted_than_was_left() -> None:
    ledger = Ledger()
    quotas = ledger.quotas(Limits(steps_per_day=100, tokens_per_day=1000))
    admitted = []
    for _ in range(5):
        ledger.now += 0.001
        admitted.append((await quotas.admit(ANN, Allowance(40, 0)), len(ledger.reads)))
    assert admitted == [(Allowance(40, 0), reads) for reads in (1, 1, 2, 2, 3)]


TENANT_OF_FIVE = {"tenant": Limits(steps_per_day=5, tokens_per_day=500)}
KEY_OF_FIVE = {"key": Limits(steps_per_day=5, tokens_per_day=500)}
ROOT = Account("key:root", Limits(steps_per_day=5, tokens_per_day=500))


@pytest.mark.parametrize("wanted", [Allowance(2, 0), Allowance(20, 0), Allowance(2, None), Allowance(2, 200)])
@pytest.mark.parametrize(
    ("limits", "subject", "askers"),
    [
        (KEY_OF_FIVE, "key:ann", [ANN]),
        (TENANT_OF_FIVE, TENANT, [Principal(f"key:{number}", "desk") for number in range(10)]),
        ({}, ROOT.name, [Principal(f"key:{number}", "desk", ancestors=(ROOT,)) for number in range(10)]),
    ],
    ids=["one key", "keys of a tenant", "children of a key"],
)
async def test_of_runs_one_after_another_none_gets_what_another_has_used(
    limits: dict[str, Limits], subject: str, askers: list[Principal], wanted: Allowance
) -> None:
    ledger = Ledger()
    quotas = ledger.quotas(**limits)
    for asker in askers:  # so that what was used is known for each of them
        await quotas.admit(asker, Allowance(0, 0))
    steps = tokens = 0
    for number in range(20):
        ledger.now += 0.001
        try:
            granted = await quotas.admit(askers[number % len(askers)], wanted)
        except QuotaExceededError:
            break
        steps += min(2, granted.steps or 0)
        tokens += 100 if granted.tokens is None else min(100, granted.tokens)
        ledger.used_today[subject] = DailyUse(steps, tokens if wanted.tokens != 0 else 0)
    assert steps == 5


async def test_what_is_admitted_while_a_reading_is_under_way_is_not_forgotten() -> None:
    ledger = Ledger()
    quotas = ledger.quotas(tenant=Limits(steps_per_day=10))
    for _ in range(3):
        answers = await asyncio.gather(
            *(quotas.admit(Principal(f"key:{number}", "desk"), Allowance(4)) for number in range(3))
        )
        assert answers == [Allowance(4)] * 3, "side by side each may have what is left"
        ledger.now += 0.001
    reads = len(ledger.reads)
    assert await quotas.admit(BOB, Allowance(4)) == Allowance(4)
    assert len(ledger.reads) == reads + 1, "all 12 may have been used by now"


async def test_a_clock_that_is_set_back_leaves_nothing_fresh() -> None:
    ledger = Ledger()
    quotas = ledger.quotas(Limits(steps_per_day=10))
    await quotas.admit(ANN, LITTLE)
    ledger.used_today["key:ann"] = DailyUse(10, 0)
    ledger.now -= 3600
    await refusal(quotas)


async def test_so_many_accounts_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quotas_module, "MAX_ACCOUNTS", 5)
    ledger = Ledger()
    quotas = ledger.quotas(Limits(steps_per_day=10))
    for number in range(20):
        await quotas.admit(Principal(f"key:{number}", "desk"), LITTLE)
    assert len(quotas._accounts) == 5


async def test_a_database_that_does_not_answer_is_not_remembered() -> None:
    ledger = Ledger()
    quotas = ledger.quotas(Limits(steps_per_day=10))
    ledger.error = StorageUnavailableError("gone")
    for _ in range(2):
        with pytest.raises(StorageUnavailableError):
            await quotas.admit(ANN, MUCH)
    ledger.error = None
    assert await quotas.admit(ANN, MUCH) == Allowance(10)
    assert len(ledger.reads) == 3


async def test_who_stops_waiting_stops_it_for_nobody_else() -> None:
    ledger = Ledger()
    quotas = ledger.quotas(Limits(steps_per_day=10))
    impatient, patient = (asyncio.create_task(quotas.admit(ANN, MUCH)) for _ in range(2))
    await asyncio.sleep(0)
    impatient.cancel()
    assert await patient == Allowance(10)
    assert len(ledger.reads) == 1
