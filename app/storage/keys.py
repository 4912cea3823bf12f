"""API keys in SQL."""

from __future__ import annotations

from typing import Any, Final

import msgspec
from msgspec import Struct
from sqlalchemy import (
    BigInteger,
    CompoundSelect,
    Connection,
    LargeBinary,
    Row,
    Select,
    and_,
    bindparam,
    cast,
    func,
    insert,
    literal,
    null,
    or_,
    select,
    update,
)

from ..auth.keys import NO_PROOF, ApiKey, KeptKey, Proof
from ..auth.ports import NewKey
from ..auth.principal import Limits
from ..errors import ConfigurationError
from ..permissions import ArgumentRule, Permissions
from .database import Database
from .dialect import insert_into, now_us
from .moments import EPOCH, MICROSECOND, from_us, to_us
from .tables import api_keys, key_pepper

OTHER_PEPPER: Final = (
    "KEY_PEPPER: the keys in this database were made with another pepper. Give this process the same KEY_PEPPER "
    "(or the file pepper of the data directory) as those that made them, or revoke all keys and make new ones."
)

PATIENCE_S: Final = 1.0
"""How long a key is looked up while the database is away. That is the first thing of every request, and who waits
must not take the threads of those who can be helped."""

Keys = api_keys.c


class SqlKeyStore:
    """A `KeyStore` in SQLite or Postgres. Several processes may have one over the same database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def proof(self, key_id: str) -> Proof:
        row = await self._database.read(
            lambda connection: connection.execute(_PROOF, {"id": key_id}).one(), patience_s=PATIENCE_S
        )
        return Proof(row.digest, row.former_digest, from_us(row.former_until))

    async def find(self, key_id: str) -> KeptKey | None:
        return await self._database.read(lambda connection: _find(connection, key_id), patience_s=PATIENCE_S)

    async def newest(self, tenant: str | None, limit: int) -> list[ApiKey]:
        statement = select(api_keys).order_by(Keys.revoked_at.is_not(None), Keys.created_at.desc(), Keys.id.desc())
        if tenant is not None:
            statement = statement.where(Keys.tenant == tenant)
        rows = await self._database.read(
            lambda connection: connection.execute(statement.limit(limit)).all(), tenant
        )
        return [_key(row) for row in rows]

    async def add(self, new: NewKey, most: int) -> ApiKey | None:
        return await self._database.transact(lambda connection: _add(connection, new, most))

    async def add_first(self, new: NewKey) -> ApiKey | None:
        return await self._database.transact(lambda connection: _add_first(connection, new))

    async def rotate(
        self, tenant: str, key_id: str, digest: bytes, fingerprint: bytes, overlap_s: float
    ) -> ApiKey | None:
        return await self._database.transact(
            lambda connection: _rotate(connection, tenant, key_id, digest, fingerprint, overlap_s)
        )

    async def revoke(self, tenant: str, key_id: str) -> ApiKey | None:
        return await self._database.transact(lambda connection: _revoke(connection, tenant, key_id), tenant)

    async def has_keys_of(self, fingerprint: bytes | None) -> bool | None:
        """Say whether the keys that hold were made with this pepper; None if there are none."""
        return await self._database.read(lambda connection: _has_keys_of(connection, fingerprint))


class _StoredPermissions(Struct, frozen=True, forbid_unknown_fields=True):
    """As they are written: without defaults, so that what is damaged does not come to be everything."""

    scopes: tuple[str, ...]
    rules: tuple[ArgumentRule, ...]


def _key(row: Row[Any]) -> ApiKey:
    stored = msgspec.json.decode(row.permissions, type=_StoredPermissions)
    return ApiKey(
        id=row.id,
        tenant=row.tenant,
        name=row.name,
        permissions=Permissions(stored.scopes, stored.rules),
        limits=None if row.limits is None else msgspec.json.decode(row.limits, type=Limits),
        parent=row.parent,
        created_at=EPOCH + row.created_at * MICROSECOND,
        expires_at=from_us(row.expires_at),
        rotated_at=from_us(row.rotated_at),
        revoked_at=from_us(row.revoked_at),
    )


def _select_proof() -> CompoundSelect[Any]:
    """Select what a key is compared with; of one that is not there, what no key is like, by the same work."""
    found = select(Keys.digest, Keys.former_digest, Keys.former_until).where(Keys.id == bindparam("id"))
    nothing = select(
        literal(NO_PROOF.digest, LargeBinary), cast(null(), LargeBinary), cast(null(), BigInteger)
    ).where(~found.exists())
    return found.union_all(nothing)


_PROOF: Final = _select_proof()


def _select_lineage() -> Select[Any]:
    """Select a key and, after it, those that it descends from, its parent first."""
    first = select(api_keys, literal(0).label("generation")).where(Keys.id == bindparam("id"))
    line = first.cte("line", recursive=True)
    older = api_keys.alias("older")
    line = line.union_all(
        select(older, line.c.generation + 1).where(older.c.tenant == line.c.tenant, older.c.id == line.c.parent)
    )
    return select(line).order_by(line.c.generation)


_SELECT_LINEAGE: Final = _select_lineage()


def _find(connection: Connection, key_id: str) -> KeptKey | None:
    rows = connection.execute(_SELECT_LINEAGE, {"id": key_id}).all()
    if not rows:
        return None
    key, *ancestors = map(_key, rows)
    return KeptKey(key, tuple(ancestors))


def _get(connection: Connection, tenant: str, key_id: str) -> ApiKey | None:
    row = connection.execute(select(api_keys).where(Keys.tenant == tenant, Keys.id == key_id)).one_or_none()
    return None if row is None else _key(row)


_holds: Final = and_(Keys.revoked_at.is_(None), or_(Keys.expires_at.is_(None), Keys.expires_at > now_us()))
_a_root_holds: Final = select(Keys.id).where(Keys.parent.is_(None), _holds).limit(1)
"""No other key holds, then: they fall with the one that they descend from, and end no later."""


def _has_keys_of(connection: Connection, fingerprint: bytes | None) -> bool | None:
    if connection.execute(_a_root_holds).first() is None:
        return None
    return connection.execute(select(key_pepper.c.fingerprint)).scalar_one_or_none() == fingerprint


def _claim(connection: Connection, fingerprint: bytes) -> None:
    """Note with which pepper keys are made here; in this transaction nobody else does, nor makes a key."""
    row = insert_into(connection, key_pepper).values(number=1, fingerprint=fingerprint)
    connection.execute(row.on_conflict_do_nothing())
    known = connection.execute(select(key_pepper.c.fingerprint).with_for_update()).scalar_one()
    if known == fingerprint:
        return
    if connection.execute(_a_root_holds).first() is not None:
        raise ConfigurationError(OTHER_PEPPER)
    connection.execute(update(key_pepper).values(fingerprint=fingerprint))


def _add(connection: Connection, new: NewKey, most: int) -> ApiKey | None:
    _claim(connection, new.fingerprint)
    found = _get(connection, new.tenant, new.id)
    if found is not None:  # this is done again, since nobody knew whether it had been
        return found
    held = select(func.count()).select_from(api_keys).where(Keys.tenant == new.tenant, _holds)
    if connection.execute(held).scalar_one() >= most:
        return None
    return _insert(connection, new)


def _add_first(connection: Connection, new: NewKey) -> ApiKey | None:
    _claim(connection, new.fingerprint)
    found = _get(connection, new.tenant, new.id)
    if found is not None:
        return found
    return None if connection.execute(_a_root_holds).first() else _insert(connection, new)


def _insert(connection: Connection, new: NewKey) -> ApiKey | None:
    permissions = _StoredPermissions(new.permissions.scopes, new.permissions.rules)
    row = {
        "tenant": new.tenant,
        "id": new.id,
        "name": new.name,
        "parent": new.parent,
        "permissions": msgspec.json.encode(permissions).decode(),
        "limits": None if new.limits is None else msgspec.json.encode(new.limits).decode(),
        "digest": new.digest,
        "expires_at": to_us(new.expires_at),
        "created_at": now_us(),
    }
    connection.execute(insert(api_keys).values(row))
    return _get(connection, new.tenant, new.id)


def _rotate(
    connection: Connection, tenant: str, key_id: str, digest: bytes, fingerprint: bytes, overlap_s: float
) -> ApiKey | None:
    _claim(connection, fingerprint)
    former: dict[str, Any] = {"former_digest": None, "former_until": None}
    if overlap_s:
        former = {"former_digest": Keys.digest, "former_until": now_us() + round(overlap_s * 1_000_000)}
    changed = update(api_keys).values(digest=digest, rotated_at=now_us(), **former)
    mine = and_(Keys.tenant == tenant, Keys.id == key_id, _holds)
    # a second time, since nobody knew whether it had been done, it would end the overlap
    connection.execute(changed.where(mine, Keys.digest != digest))
    row = connection.execute(select(api_keys).where(mine)).one_or_none()
    return None if row is None else _key(row)


def _revoke(connection: Connection, tenant: str, key_id: str) -> ApiKey | None:
    fallen = select(Keys.tenant, Keys.id).where(Keys.tenant == tenant, Keys.id == key_id)
    line = fallen.cte("fallen", recursive=True)
    child = api_keys.alias("child")
    line = line.union_all(
        select(child.c.tenant, child.c.id).where(child.c.tenant == line.c.tenant, child.c.parent == line.c.id)
    )
    connection.execute(
        update(api_keys)
        .values(revoked_at=now_us())
        .where(Keys.tenant == tenant, Keys.revoked_at.is_(None), Keys.id.in_(select(line.c.id)))
    )
    return _get(connection, tenant, key_id)
