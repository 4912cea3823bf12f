"""No sequence of operations on keys gives anybody more than they had, or lets them keep it for longer."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st
from kept_keys import KeyHouse
from msgspec import Struct
from msgspec.structs import asdict

from app.auth.key_service import IssuedKey
from app.auth.principal import UNLIMITED, Limits, Principal
from app.errors import CallerError
from app.permissions import FIXED_SCOPES, ArgumentRule, Permissions
from app.storage.database import Database
from app.storage.schema import upgrade

USUAL = Limits("120/minute", 50, None, 100_000)
TOOLS = ("math", "governance_note")
VALUES = ("PROP-2025-001", "PROP-2025-1", "PROP-2026-001", "1+1", "")
PERIODS_S = {"second": 1, "minute": 60, "hour": 3600, "day": 86_400}

scopes = st.lists(st.sampled_from([*FIXED_SCOPES, *(f"tools:{tool}" for tool in TOOLS)]), max_size=6)
rules = st.lists(
    st.builds(
        ArgumentRule,
        st.sampled_from(TOOLS),
        st.sampled_from(["proposal_id", "expression"]),
        st.sampled_from(["PROP-2025-*", "*", "*-001", "1*", "PROP-*-*1"]),
    ),
    max_size=2,
)
numbers = st.none() | st.sampled_from([1, 5, 49, 51, 10_000, 10**9])
rates = st.none() | st.builds("{}/{}".format, st.sampled_from([1, 2, 59, 60, 7200]), st.sampled_from([*PERIODS_S]))
limits = st.none() | st.builds(Limits, rates, numbers, numbers, numbers)
hours = st.none() | st.sampled_from([-1, 0.5, 1, 2, 100])
places = st.integers(0, 30)

_numbers = count()


class Create(Struct, frozen=True):
    actor: int
    scopes: list[str]
    rules: list[ArgumentRule]
    limits: Limits | None
    hours: float | None


class Rotate(Struct, frozen=True):
    actor: int
    target: int
    overlap_s: float


class Revoke(Struct, frozen=True):
    actor: int
    target: int


creates = st.builds(Create, places, scopes, rules, limits, hours)
rotates = st.builds(Rotate, places, places, st.sampled_from([0.0, 60.0]))
operations = st.lists(creates | creates | rotates | st.builds(Revoke, places, places), min_size=3, max_size=14)
roots = st.builds(
    Create, st.just(0), st.just(["*"]) | scopes.map(lambda some: ["keys:write", *some]), rules, limits, hours
)
calls = st.tuples(
    st.sampled_from(TOOLS),
    st.sampled_from([[], ["notes:write"], ["runs:read"]]),
    st.dictionaries(st.sampled_from(["proposal_id", "expression"]), st.sampled_from(VALUES)),
)


class Held(Struct):
    """A written key that somebody got: who that was, as they were then, and the keys that they got it through."""

    written: str
    key_id: str
    giver: Principal | None
    through: frozenset[str]


class World:
    """What the operator and those who have keys have done so far."""

    def __init__(self, house: KeyHouse, tokens: list[Principal]) -> None:
        self.house = house
        self.tokens = tokens
        self.held: list[Held] = []
        self.revoked: set[str] = set()

    async def actor(self, number: int) -> tuple[Principal, frozenset[str]]:
        """Return who acts, and the keys without which they could not."""
        choice = number % (len(self.held) + len(self.tokens))
        if choice < len(self.tokens):
            return self.tokens[choice], frozenset()
        one = self.held[choice - len(self.tokens)]
        return await self.house.who(one.written), one.through

    async def do(self, operation: Create | Rotate | Revoke) -> None:
        who, through = await self.actor(operation.actor)
        if isinstance(operation, Create):
            expires_at = None if operation.hours is None else self.house.at(operation.hours)
            made = await self.house.service.create_child(
                who, "x", operation.scopes, operation.rules, limits=operation.limits, expires_at=expires_at
            )
            self.keep(made, who, through)
        elif isinstance(operation, Rotate):
            made = await self.house.service.rotate(self.id_at(operation.target), operation.overlap_s, who)
            self.keep(made, who, through)
        else:
            revoked = await self.house.service.revoke(self.id_at(operation.target), who)
            self.revoked.add(revoked.id)
        event(type(operation).__name__)

    def id_at(self, number: int) -> str:
        return self.held[number % len(self.held)].key_id

    def keep(self, made: IssuedKey, giver: Principal | None, through: frozenset[str]) -> None:
        self.held.append(Held(made.written, made.key.id, giver, through | {made.key.id}))

    async def check(self, call: tuple[str, list[str], Mapping[str, object]]) -> None:
        """Make sure that nobody has more than whoever gave it to them, or has it after it was taken away."""
        for one in self.held:
            try:
                who = await self.house.who(one.written)
            except CallerError:
                continue
            assert one.through.isdisjoint(self.revoked)
            if one.giver is not None:
                assert_is_within(who, one.giver, call)


def assert_is_within(who: Principal, giver: Principal, call: tuple[str, list[str], Mapping[str, object]]) -> None:
    assert who.tenant == giver.tenant
    for scope in FIXED_SCOPES:
        assert giver.permissions.allows(scope) or not who.permissions.allows(scope)
    assert giver.permissions.refusal(*call) is None or who.permissions.refusal(*call) is not None
    assert giver.expires_at is None or (who.expires_at is not None and who.expires_at <= giver.expires_at)
    mine, theirs = in_force(giver.limits), in_force(who.limits)
    for name in ("runs", "steps_per_day", "tokens_per_day"):
        assert mine[name] is None or (theirs[name] is not None and theirs[name] <= mine[name])
    for period_s in (1, 10, *PERIODS_S.values()):
        assert most_requests(theirs["requests"], period_s) <= most_requests(mine["requests"], period_s)


def in_force(limits: Limits | None) -> dict[str, Any]:
    return {
        name: getattr(USUAL, name) if limit is None else limit
        for name, limit in asdict(limits or UNLIMITED).items()
    }


def most_requests(rate: str | None, period_s: int) -> float:
    """Return how many requests a rate lets through in any period, had the rate its own limit only."""
    if rate is None:
        return float("inf")
    requests, of = rate.split("/")
    return int(requests) * max(1, period_s / PERIODS_S[of])


@pytest.fixture(scope="module")
def shared_database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    directory: Path = tmp_path_factory.mktemp("keys")
    database = Database.open(directory)
    upgrade(database)
    yield database
    database.close()


@settings(max_examples=200, deadline=None)
@given(
    made=st.lists(roots, min_size=1, max_size=3),
    token=roots,
    operations=operations,
    call=calls,
    hours=st.floats(0, 3),
)
def test_no_sequence_of_operations_widens_anything(
    shared_database: Database,
    made: list[Create],
    token: Create,
    operations: list[Create | Rotate | Revoke],
    call: tuple[str, list[str], dict[str, object]],
    hours: float,
) -> None:
    asyncio.run(play(KeyHouse(shared_database, USUAL), made, token, operations, call, hours))


async def play(
    house: KeyHouse,
    made: list[Create],
    token: Create,
    operations: list[Create | Rotate | Revoke],
    call: tuple[str, list[str], dict[str, object]],
    hours: float,
) -> None:
    number = next(_numbers)  # its own tenants, since each has so many keys at most
    ends = house.at(token.hours or 1).timestamp()
    permissions = Permissions.of(token.scopes, token.rules)
    world = World(house, [Principal("token:jane", f"{number}-0", permissions, token.limits, ends)])
    for place, root in enumerate(made):
        issued = await house.service.create(
            "root",
            Permissions.of(root.scopes, root.rules),
            tenant=f"{number}-{place // 2}",
            limits=root.limits,
            expires_at=None if root.hours is None else house.at(abs(root.hours)),
        )
        world.keep(issued, None, frozenset())
    for operation in operations:
        with suppress(CallerError):
            await world.do(operation)
        await world.check(call)
    house.now += hours * 3600
    await world.check(call)
