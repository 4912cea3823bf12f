"""API keys: how they are checked, what they may be given, and who may change which."""

from __future__ import annotations

import hmac
import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from kept_keys import HOUR_S, KeyHouse
from msgspec.structs import replace

from app.auth import key_checker
from app.auth.credentials import REFUSED, Authenticator
from app.auth.key_service import MAX_GENERATIONS, MAX_OVERLAP_S, IssuedKey
from app.auth.keys import ApiKey, Pepper, id_in, write_key
from app.auth.principal import ANONYMOUS, Account, Limits, Principal
from app.errors import InvalidPermissionsError, KeyNotFoundError, UnauthenticatedError
from app.permissions import ArgumentRule, Permissions
from app.storage.database import Database

NOTHING = Permissions.of([])
ADMIN = ("keys:read", "keys:write", "runs:read", "runs:write")


@pytest.fixture
def house(sqlite_database: Database) -> KeyHouse:
    return KeyHouse(sqlite_database)


def ids(keys: list[ApiKey]) -> set[str]:
    return {key.id for key in keys}


async def test_whoever_shows_a_key_is_whom_it_was_made_for(house: KeyHouse) -> None:
    limits = Limits("60/minute", 2, 30, 400)
    permissions = Permissions.of(["runs:read"], [ArgumentRule.parse("math:expression=1*")])
    made = await house.service.create("ci", permissions, tenant="acme", limits=limits, expires_at=house.at(1))
    assert re.fullmatch(r"lac_[0-9a-f]{16}_[0-9a-f]{64}", made.written)
    assert id_in(made.written) == made.key.id
    assert await house.who(made) == Principal(
        f"key:{made.key.id}", "acme", permissions, limits, house.at(1).timestamp()
    )


async def test_no_two_keys_are_alike() -> None:
    assert len({write_key("a" * 16) for _ in range(100)}) == 100


async def test_only_the_whole_key_holds(house: KeyHouse) -> None:
    made = await house.root()
    other = await house.root()
    id_, secret = made.key.id, made.written.rpartition("_")[2]
    for wrong in (
        made.written[:-1] + ("0" if made.written[-1] != "0" else "1"),
        f"lac_{id_}_{other.written.rpartition('_')[2]}",
        f"lac_{other.key.id}_{secret}",
        made.written + "0",
        made.written + "\n",
        made.written.upper(),
        made.written.replace("lac_", "lab_"),
        f"lac_{id_}_" + "0" * 64,
        f"lac_{id_}_",
        f"lac_{id_}",
        "lac_",
        "",
    ):
        with pytest.raises(UnauthenticatedError, match=re.escape(REFUSED)):
            await house.who(wrong)
    assert await house.holds(made)


async def test_a_known_and_an_unknown_id_cost_the_same(house: KeyHouse, monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[int] = []

    def compare(one: bytes, other: bytes) -> bool:
        compared.append(len(one) + len(other))
        return hmac.compare_digest(one, other)

    monkeypatch.setattr(key_checker, "compare_digest", compare)
    made, revoked, rotated = [await house.root() for _ in range(3)]
    await house.service.revoke(revoked.key.id)
    await house.service.rotate(rotated.key.id, 60)
    found = set()
    for key_id in (made.key.id, revoked.key.id, rotated.key.id, "f" * 16):
        house.store.reads = house.one_pepper.digests = 0
        compared.clear()
        assert not await house.holds(f"lac_{key_id}_{'0' * 64}")
        found.add((house.store.reads, house.one_pepper.digests, tuple(compared)))
    assert found == {(1, 1, (64, 64))}


async def test_what_is_written_like_no_key_costs_nothing(house: KeyHouse) -> None:
    assert not await house.holds("lac_nonsense")
    assert (house.store.reads, house.one_pepper.digests) == (0, 0)


async def test_a_key_of_another_pepper_does_not_hold(house: KeyHouse) -> None:
    made = await house.root()
    house.one_pepper = type(house.one_pepper)(b"q" * 32)
    assert not await house.holds(made)


async def test_an_expired_key_does_not_hold(house: KeyHouse) -> None:
    made = await house.service.create("ci", NOTHING, expires_at=house.at(1))
    house.now += HOUR_S - 2
    assert await house.holds(made)
    house.now += 2
    assert not await house.holds(made)
    with pytest.raises(KeyNotFoundError, match="expired"):
        await house.service.rotate(made.key.id)


async def test_children_fall_with_a_key_also_those_made_meanwhile(house: KeyHouse) -> None:
    made = await house.root()
    child = await house.service.create_child(await house.who(made), "child", ["*"])
    grandchild = await house.service.create_child(await house.who(child), "grandchild", ["runs:read"])
    beside = await house.root()
    as_child = await house.who(child)
    await house.service.revoke(made.key.id)
    assert [await house.holds(key) for key in (made, child, grandchild, beside)] == [False] * 3 + [True]
    with pytest.raises(UnauthenticatedError):  # the guard remembers who they were
        await house.service.create_child(as_child, "late", ["*"])


async def test_a_child_that_was_committed_while_its_parent_fell_does_not_hold(
    house: KeyHouse, sqlite_database: Database
) -> None:
    from sqlalchemy import update

    from app.storage.tables import api_keys

    made = await house.root()
    child = await house.service.create_child(await house.who(made), "child", ["*"])
    await house.service.revoke(made.key.id)
    again = update(api_keys).where(api_keys.c.id == child.key.id).values(revoked_at=None)
    sqlite_database.transact_now(lambda connection: connection.execute(again))
    assert not await house.holds(child)


async def test_a_rotated_key_is_the_same_with_another_secret(house: KeyHouse) -> None:
    made = await house.root("runs:read", rules=["math:expression=1*"], tenant="acme")
    before = await house.who(made)
    rotated = await house.service.rotate(made.key.id)
    assert rotated.written != made.written
    assert await house.who(rotated) == before
    assert not await house.holds(made)


async def test_the_secret_before_goes_on_for_a_while(house: KeyHouse) -> None:
    made = await house.service.create("ci", NOTHING, expires_at=house.at(48))
    first = await house.service.rotate(made.key.id, 600)
    assert (await house.who(first)).expires_at == house.at(48).timestamp()
    until = (await house.who(made)).expires_at
    assert until is not None
    assert 590 < until - house.now < 610
    second = await house.service.rotate(made.key.id, 600)
    assert [await house.holds(key) for key in (made, first, second)] == [False, True, True]
    house.now += 700
    assert [await house.holds(key) for key in (made, first, second)] == [False, False, True]


async def test_the_secret_before_gets_nobody_another(house: KeyHouse) -> None:
    made = await house.root()
    child = await house.service.create_child(await house.who(made), "child", ["*"])
    await house.service.rotate(made.key.id, 600)
    who = await house.who(made)
    for key in (made, child):
        with pytest.raises(InvalidPermissionsError, match="ends sooner"):
            await house.service.rotate(key.key.id, 600, who)
    late = await house.service.create_child(who, "late", ["*"])
    house.now += 700
    assert [await house.holds(key) for key in (child, late)] == [True, False]


@pytest.mark.parametrize("overlap_s", [-1, MAX_OVERLAP_S + 1, float("nan"), float("inf")])
async def test_an_overlap_has_bounds(house: KeyHouse, overlap_s: float) -> None:
    made = await house.root()
    with pytest.raises(InvalidPermissionsError, match="604800"):
        await house.service.rotate(made.key.id, overlap_s)


async def test_whoever_is_remembered_is_forgotten_after_a_change(house: KeyHouse) -> None:
    made = await house.root()
    authenticator = Authenticator(house.checker, clock=lambda: house.now)
    house.service._changed = authenticator.forget
    await authenticator.authenticate(made.written)
    rotated = await house.service.rotate(made.key.id)
    with pytest.raises(UnauthenticatedError):
        await authenticator.authenticate(made.written)
    await authenticator.authenticate(rotated.written)
    await house.service.revoke(made.key.id)
    with pytest.raises(UnauthenticatedError):
        await authenticator.authenticate(rotated.written)


@pytest.mark.parametrize("name", ["x", "ü 🔑", "n" * 100, "a\u00a0b"])
async def test_a_name_is_kept_as_it_is(house: KeyHouse, name: str) -> None:
    made = await house.service.create(name, NOTHING)
    assert [key.name for key in await house.service.all()] == [name] == [made.key.name]


@pytest.mark.parametrize("name", ["", " ", "\u200b", "n" * 101, "a\0", "a\nb", "a\x1b[0m", "\ud800", "a\u2028"])
async def test_what_is_no_name_is_refused(house: KeyHouse, name: str) -> None:
    with pytest.raises(InvalidPermissionsError, match="name of a key"):
        await house.service.create(name, NOTHING)


@pytest.mark.parametrize(
    "wrong",
    [
        {"tenant": "a b"},
        {"tenant": ""},
        {"limits": Limits("600")},
        {"limits": Limits("0/minute")},
        {"limits": Limits("600/fortnight")},
        {"limits": Limits(runs=0)},
        {"limits": Limits(steps_per_day=-1)},
        {"limits": Limits(tokens_per_day=10**12 + 1)},
        {"expires_at": datetime(2020, 1, 1, tzinfo=UTC)},
        {"expires_at": datetime(9999, 12, 31, tzinfo=UTC)},
    ],
)
async def test_what_a_key_cannot_have_is_refused(house: KeyHouse, wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidPermissionsError):
        await house.service.create("ci", NOTHING, **wrong)
    assert await house.service.all() == []


async def test_a_rule_that_cannot_be_stored_is_refused(house: KeyHouse) -> None:
    with pytest.raises(InvalidPermissionsError, match="surrogate"):
        await house.root("*", rules=["math:expression=\ud800"])


async def test_a_child_has_what_its_parent_has_unless_it_is_less(house: KeyHouse) -> None:
    made = await house.service.create(
        "ci", Permissions(), tenant="acme", limits=Limits("60/minute", 5), expires_at=house.at(2)
    )
    parent = await house.who(made)
    child = await house.service.create_child(parent, "child", ["runs:read"])
    assert child.key.parent == made.key.id
    assert await house.who(child) == replace(
        parent,
        name=f"key:{child.key.id}",
        permissions=Permissions.of(["runs:read"]),
        ancestors=(Account(parent.name, parent.limits),),
    )
    less = await house.service.create_child(
        parent, "less", ["*"], limits=Limits("1/second", steps_per_day=7), expires_at=house.at(1)
    )
    assert (less.key.limits, less.key.expires_at) == (Limits("1/second", 5, 7), house.at(1))
    below = await house.service.create_child(await house.who(less), "below", ["*"])
    assert (await house.who(below)).ancestors == (
        Account(f"key:{less.key.id}", less.key.limits),
        Account(parent.name, parent.limits),
    )
    rotated = await house.service.rotate(less.key.id, HOUR_S)
    for secret in (less, rotated):
        assert (await house.who(secret)).ancestors == (Account(parent.name, parent.limits),)


@pytest.mark.parametrize(
    "more",
    [
        {"scopes": ["*"]},
        {"scopes": ["runs:read", "keys:write"]},
        {"scopes": ["tools:*"]},
        {"limits": Limits("61/minute")},
        {"limits": Limits("2/second")},
        {"limits": Limits("60/second")},
        {"limits": Limits(runs=6)},
        {"limits": Limits(tokens_per_day=1001)},
        {"expires_at": datetime.now(UTC) + timedelta(hours=3)},
    ],
)
async def test_nobody_gives_what_they_do_not_have(sqlite_database: Database, more: dict[str, Any]) -> None:
    house = KeyHouse(sqlite_database, usual=Limits(tokens_per_day=1000))
    made = await house.service.create(
        "ci",
        Permissions.of(["runs:read", "tools:math"]),
        limits=Limits("60/minute", 5),
        expires_at=house.at(2),
    )
    wanted: dict[str, Any] = {"scopes": ["runs:read"], **more}
    with pytest.raises(InvalidPermissionsError, match="Nobody can give what they do not have"):
        await house.service.create_child(await house.who(made), "more", **wanted)
    assert len(await house.service.all()) == 1


async def test_whoever_has_a_token_gives_keys_that_end_with_it(house: KeyHouse) -> None:
    token = Principal("token:jane", "acme", Permissions.of(ADMIN), expires_at=house.at(1).timestamp())
    made = await house.service.create_child(token, "ci", ["runs:read"])
    assert (made.key.parent, made.key.tenant, made.key.expires_at) == (None, "acme", house.at(1))
    assert (await house.service.create_child(ANONYMOUS, "ci", ["*"])).key.expires_at is None


async def test_there_are_so_many_generations(house: KeyHouse) -> None:
    made = await house.root()
    for _ in range(MAX_GENERATIONS - 1):
        made = await house.service.create_child(await house.who(made), "child", ["*"])
    with pytest.raises(InvalidPermissionsError, match="descends"):
        await house.service.create_child(await house.who(made), "child", ["*"])
    assert await house.holds(made)


async def test_a_first_key_is_made_once(house: KeyHouse) -> None:
    written = await house.service.ensure_admin_key()
    assert written is not None
    assert await house.who(written) == Principal(f"key:{id_in(written)}", "default", Permissions())
    assert await house.service.ensure_admin_key() is None
    await house.service.revoke(id_in(written) or "")
    assert await house.service.ensure_admin_key() is not None


class Family:
    """A key with a child, one that may do less beside it, one that may do more, and one of another tenant."""

    root: IssuedKey
    child: IssuedKey
    beside: IssuedKey
    greater: IssuedKey
    foreign: IssuedKey

    async def fill(self, house: KeyHouse) -> Family:
        self.root = await house.root(*ADMIN, rules=["math:expression=1*"])
        self.child = await house.service.create_child(await house.who(self.root), "child", ADMIN)
        self.beside = await house.root("runs:read", rules=["math:expression=1*", "math:expression=*2"])
        self.greater = await house.root("runs:read")
        self.foreign = await house.root("runs:read", rules=["math:expression=1*"], tenant="acme")
        return self


async def test_a_key_sees_those_of_its_tenant_that_may_do_no_more(house: KeyHouse) -> None:
    family = await Family().fill(house)
    who = await house.who(family.root)
    seen = {family.root.key.id, family.child.key.id, family.beside.key.id}
    assert ids(await house.service.seen_by(who)) == seen
    assert len(await house.service.all()) == 5
    assert ids(await house.service.all("acme")) == {family.foreign.key.id}
    for hidden in (family.greater, family.foreign):
        for change in (house.service.revoke(hidden.key.id, who), house.service.rotate(hidden.key.id, 0, who)):
            with pytest.raises(KeyNotFoundError, match="There is no key"):
                await change
        assert await house.holds(hidden)


async def test_a_key_revokes_what_it_sees(house: KeyHouse) -> None:
    family = await Family().fill(house)
    who = await house.who(family.root)
    assert (await house.service.revoke(family.beside.key.id, who)).revoked_at is not None
    first = await house.service.revoke(family.root.key.id, who)
    assert await house.service.revoke(family.root.key.id, who) == first
    assert not await house.holds(family.child)
    assert house.changes == 3


async def test_a_key_rotates_itself_and_its_children_and_no_other(house: KeyHouse) -> None:
    """Not even its parent or one that may do less: it would hold a secret that does not fall with it."""
    family = await Family().fill(house)
    who, child = await house.who(family.root), await house.who(family.child)
    for refused, by in ((family.beside, who), (family.root, child)):
        with pytest.raises(InvalidPermissionsError, match="is rotated by"):
            await house.service.rotate(refused.key.id, 0, by)
        assert await house.holds(refused)
    for key in (family.child, family.root):
        rotated = await house.service.rotate(key.key.id, 0, who)
        assert not await house.holds(key)
        assert await house.holds(rotated)


async def test_whoever_has_no_key_rotates_what_is_within_theirs(house: KeyHouse) -> None:
    token = Principal(
        "token:jane", permissions=Permissions.of(ADMIN), limits=Limits(runs=5), expires_at=house.at(1).timestamp()
    )
    own = await house.service.create_child(token, "ci", ["runs:read"])
    longer = await house.service.create(
        "longer", Permissions.of(["runs:read"]), limits=Limits(runs=5), expires_at=house.at(2)
    )
    wider = await house.service.create(
        "wider", Permissions.of(["runs:read"]), limits=Limits(runs=6), expires_at=house.at(1)
    )
    endless = await house.service.create("endless", Permissions.of(["runs:read"]), limits=Limits(runs=5))
    assert await house.holds(await house.service.rotate(own.key.id, 0, token))
    for refused in (longer, wider, endless):
        with pytest.raises(InvalidPermissionsError, match="is rotated by"):
            await house.service.rotate(refused.key.id, 0, token)
    assert await house.holds(await house.service.rotate(endless.key.id, 0, ANONYMOUS))


async def test_what_the_settings_give_everybody_bounds_whoever_has_no_limits(sqlite_database: Database) -> None:
    house = KeyHouse(sqlite_database, usual=Limits("60/minute", 5))
    token = Principal("token:jane", permissions=Permissions.of(ADMIN))
    usual = await house.root("runs:read")
    wider = await house.service.create("wider", Permissions.of(["runs:read"]), limits=Limits(runs=6))
    assert await house.holds(await house.service.rotate(usual.key.id, 0, token))
    with pytest.raises(InvalidPermissionsError, match="is rotated by"):
        await house.service.rotate(wider.key.id, 0, token)
    with pytest.raises(InvalidPermissionsError, match="runs is 5"):
        await house.service.create_child(token, "ci", ["runs:read"], limits=Limits(runs=6))


@pytest.mark.parametrize("unknown", ["f" * 16, "F" * 16, "", "x\0", "lac_" + "f" * 16, "0" * 400])
async def test_an_unknown_key_is_not_found(house: KeyHouse, unknown: str) -> None:
    for change in (house.service.revoke(unknown), house.service.rotate(unknown), house.service.get(unknown)):
        with pytest.raises(KeyNotFoundError):
            await change


async def test_the_secret_is_in_no_text_that_is_made_of_a_key(
    house: KeyHouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = await house.root()
    secret = made.written.rpartition("_")[2]
    kept = await house.store.find(made.key.id)
    shown = f"{made!r} {made} {kept!r} {await house.who(made)!r} {house.one_pepper!r} {house.one_pepper}"
    assert made.key.id in shown
    assert secret not in shown
    assert "pppp" not in shown
    assert secret not in repr(Pepper(secret.encode()))
    await house.service.revoke(made.key.id)
    with pytest.raises(UnauthenticatedError) as refused:
        await house.who(made)
    assert secret not in f"{refused.value!r} {refused.value.__cause__!r} {refused.value.__context__!r}"
