"""How many unfinished runs somebody may have, and how a place becomes free."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from app.agent.core import Agent
from app.agent.events import RunFinished, RunStarted
from app.auth.principal import ANONYMOUS, Account, Limits, Principal
from app.errors import QuotaExceededError
from app.runs.models import Bound, NewRun, RunKey, RunRequest
from app.runs.requests import opening
from app.runs.slots import InMemorySlots, RunSlots, StoredSlots

ANN = Principal("key:ann", "desk")
BOB = Principal("key:bob", "desk")
EVE = Principal("key:ann", "other")

CHILD = Principal("key:child", "desk", limits=Limits(runs=2), ancestors=(Account("key:ann", Limits(runs=3)),))
GRANDCHILD = replace(
    CHILD, name="key:grandchild", ancestors=(Account("key:child", CHILD.limits), *CHILD.ancestors)
)


def key(run_id: str, tenant: str = "desk") -> RunKey:
    return RunKey(tenant, run_id)


def new(run_id: str, who: Principal) -> NewRun:
    return NewRun(key(run_id, who.tenant), subjects=opening(Agent(), RunRequest("go"), who).subjects)


def take(slots: RunSlots, run_id: str, who: Principal) -> NewRun:
    return slots.take(new(run_id, who), who)


def test_so_many_runs_and_no_more() -> None:
    slots = InMemorySlots(Limits(runs=2), Limits(runs=3))
    take(slots, "a", ANN)
    take(slots, "b", ANN)
    with pytest.raises(QuotaExceededError, match="This key has 2 unfinished runs") as caught:
        take(slots, "c", ANN)
    assert caught.value.retry_after_s == 1
    take(slots, "d", BOB)
    with pytest.raises(QuotaExceededError, match="This tenant has 3 unfinished runs"):
        take(slots, "e", BOB)
    take(slots, "f", EVE)


def test_a_run_counts_for_every_key_that_the_one_who_asked_descends_from() -> None:
    slots = InMemorySlots()
    ann = replace(ANN, limits=Limits(runs=3))
    take(slots, "a", CHILD)
    take(slots, "b", GRANDCHILD)
    with pytest.raises(QuotaExceededError, match="This parent has 2 unfinished runs"):
        take(slots, "c", GRANDCHILD)
    take(slots, "c", ann)
    for who in (CHILD, ann):
        with pytest.raises(QuotaExceededError):
            take(slots, "d", who)
    slots.free(key("b"))
    take(slots, "d", ann)
    with pytest.raises(QuotaExceededError, match="This parent has 3"):
        take(slots, "e", CHILD)
    with pytest.raises(QuotaExceededError, match="This parent-2 has 3"):
        take(slots, "e", GRANDCHILD)


def test_what_a_store_has_to_keep_to_is_every_limit_that_there_is() -> None:
    slots = StoredSlots(Limits(runs=9), Limits(runs=20))
    assert take(slots, "a", GRANDCHILD).bounds == (
        Bound("key", "key:grandchild", 2),
        Bound("parent", "key:child", 2),
        Bound("parent-2", "key:ann", 3),
        Bound("tenant", "", 20),
    )
    assert take(slots, "b", ANN).bounds == (Bound("key", "key:ann", 9), Bound("tenant", "", 20))
    assert take(slots, "c", ANONYMOUS).bounds == ()
    assert take(StoredSlots(), "d", ANN) == new("d", ANN)


def test_a_run_that_has_ended_makes_room_once() -> None:
    slots = InMemorySlots(Limits(runs=1))
    assert slots.watched == (RunFinished,)
    take(slots, "a", ANN)
    slots.began(key("a"), RunStarted("go", None, ()))
    slots.left(key("a"))
    with pytest.raises(QuotaExceededError):
        take(slots, "b", ANN)
    slots.recorded(key("a"), RunFinished("success", "done"))
    slots.free(key("a"))
    take(slots, "b", ANN)
    slots.free(key("a"))
    with pytest.raises(QuotaExceededError):
        take(slots, "c", ANN)


def test_what_is_there_already_counts() -> None:
    slots = InMemorySlots(Limits(runs=2))
    slots.seed(
        [(key("a"), ("key:ann",)), (key("b"), ("key:x", "key:y", "key:ann")), (key("c"), ("key:bob", "key:eve"))]
    )
    with pytest.raises(QuotaExceededError):
        take(slots, "d", ANN)
    slots.free(key("b"))
    take(slots, "d", ANN)


def test_ones_own_limit_stands_before_the_usual_one_and_anonymous_has_none() -> None:
    slots = InMemorySlots(Limits(runs=1))
    rich = Principal("key:rich", limits=Limits(runs=2))
    take(slots, "a", rich)
    take(slots, "b", rich)
    with pytest.raises(QuotaExceededError):
        take(slots, "c", rich)
    for number in range(3):
        take(slots, f"x{number}", ANONYMOUS)


def test_nothing_is_kept_of_runs_that_have_ended() -> None:
    slots = InMemorySlots()
    for number in range(100):
        take(slots, str(number), (ANN, GRANDCHILD)[number % 2])
        slots.free(key(str(number)))
    assert not slots._taken
    assert not slots._unfinished
