"""What can be done with API keys: make, list, rotate and revoke them, by the operator or by whoever has one."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from time import time
from typing import Final

from msgspec import Struct

from ..errors import InvalidPermissionsError, KeyNotFoundError, UnauthenticatedError
from ..permissions import ArgumentRule, Permissions
from ..tools.call import DEFAULT_TENANT
from . import keys
from .credentials import REFUSED
from .grants import check_rules, covers, limits_are_within, narrowed_limits
from .keys import ApiKey, KeptKey, PepperSource
from .ports import KeyStore, NewKey
from .principal import UNLIMITED, Limits, Principal, parse_tenant

MAX_KEYS: Final = 1000
"""How many keys a tenant may have that are neither revoked nor expired, and how many are listed."""

MAX_GENERATIONS: Final = 8
"""How many keys there may be from a root to the last that descends from it."""

MAX_OVERLAP_S: Final = 7 * 86_400
LATEST: Final = datetime(2200, 1, 1, tzinfo=UTC)
"""Until then seconds since 1970 hold a moment to the microsecond."""


class IssuedKey(Struct, frozen=True):
    """A key with how it is written, which is known now and never again."""

    key: ApiKey
    written: str

    def __repr__(self) -> str:
        return f"IssuedKey({self.key!r})"


class KeyService:
    """Makes and changes keys.

    Nobody gets more than they have by it. Who has shown a key may make children of it, and rotate it and what
    descends from it. They see and may revoke these, and all other keys of their tenant that may do no more than
    theirs. Another's key they cannot rotate: with its new secret they would go on after their own was revoked.
    Somebody without a key (with a token, or anonymous) has the same over keys that are within theirs in every way.

    Args:
        changed: called when a key may be what it was not, so that nobody who is remembered stays it.
        usual: the limits that the settings give everybody who has none of their own.
        clock: seconds since 1970.
    """

    def __init__(
        self,
        store: KeyStore,
        peppers: PepperSource,
        *,
        changed: Callable[[], None] = lambda: None,
        usual: Limits = UNLIMITED,
        clock: Callable[[], float] = time,
    ) -> None:
        self._store = store
        self._peppers = peppers
        self._changed = changed
        self._usual = usual
        self._clock = clock

    async def create(
        self,
        name: str,
        permissions: Permissions,
        *,
        tenant: str = DEFAULT_TENANT,
        limits: Limits | None = None,
        expires_at: datetime | None = None,
    ) -> IssuedKey:
        """Make a key that descends from none, for the operator, who may give anything.

        Raises:
            InvalidPermissionsError: the name, tenant, a limit or the time is none, or the tenant has MAX_KEYS.
            ConfigurationError: the pepper cannot be had, or is not that of the other keys.
            StorageUnavailableError
        """
        nobody = Principal("operator", parse_tenant(tenant))
        return await self._issue(nobody, name, permissions, limits, expires_at, UNLIMITED)

    async def create_child(
        self,
        principal: Principal,
        name: str,
        scopes: Iterable[str],
        rules: Iterable[ArgumentRule] = (),
        *,
        limits: Limits | None = None,
        expires_at: datetime | None = None,
    ) -> IssuedKey:
        """Make a key of the principal's tenant that may do no more than they, and for no longer.

        Limits and a time that are not given are theirs.

        Raises:
            InvalidPermissionsError: what `create` refuses, what is more than they have, or a ninth generation.
            UnauthenticatedError: their own key does not hold any more.
            ConfigurationError, StorageUnavailableError: as in `create`.
        """
        permissions = principal.permissions.narrowed(scopes, rules)
        return await self._issue(principal, name, permissions, limits, expires_at, self._usual)

    async def _issue(
        self,
        giver: Principal,
        name: str,
        permissions: Permissions,
        limits: Limits | None,
        expires_at: datetime | None,
        usual: Limits,
    ) -> IssuedKey:
        check_rules(permissions.rules)
        new, written = self._new(
            giver,
            keys.parse_name(name),
            permissions,
            narrowed_limits(giver.limits, limits, usual),
            self._expiry(giver, expires_at),
        )
        await self._check_parent(new.parent)
        added = await self._store.add(new, MAX_KEYS)
        if added is None:
            raise InvalidPermissionsError(f"The tenant has {MAX_KEYS} keys; some have to be revoked first.")
        return IssuedKey(added, written)

    def _new(
        self,
        giver: Principal,
        name: str,
        permissions: Permissions,
        limits: Limits | None,
        expires_at: datetime | None,
    ) -> tuple[NewKey, str]:
        key_id, pepper = keys.new_id(), self._peppers.pepper()
        written = keys.write_key(key_id)
        parent, digest, fingerprint = keys.id_of(giver), pepper.digest(written), pepper.fingerprint
        return (
            NewKey(key_id, giver.tenant, name, permissions, limits, parent, expires_at, digest, fingerprint),
            written,
        )

    def _expiry(self, giver: Principal, wanted: datetime | None) -> datetime | None:
        bound = None if giver.expires_at is None else datetime.fromtimestamp(giver.expires_at, UTC)
        if wanted is None:
            return bound
        if not datetime.fromtimestamp(self._clock(), UTC) < wanted < LATEST:
            raise InvalidPermissionsError("A key expires at a time to come, before the year 2200.")
        if bound is not None and wanted > bound:
            raise InvalidPermissionsError(
                f"Nobody can give what they do not have: it expires at {bound.isoformat()} at the latest here."
            )
        return wanted

    async def _check_parent(self, key_id: str | None) -> None:
        if key_id is None:
            return
        parent = await self._store.find(key_id)
        if parent is None or not parent.holds_at(self._clock()):
            raise UnauthenticatedError(REFUSED)  # it was remembered for a moment longer
        if len(parent.ancestors) + 2 > MAX_GENERATIONS:
            raise InvalidPermissionsError(f"A key descends from {MAX_GENERATIONS - 1} others at most.")

    async def ensure_admin_key(self) -> str | None:
        """If no tenant has a key that holds, make one that may do everything in `default`; return it as written.

        Of processes that do this at once one makes a key, and the others return None.

        Raises:
            ConfigurationError, StorageUnavailableError: as in `create`.
        """
        new, written = self._new(Principal("operator"), "admin", Permissions(), None, None)
        return None if await self._store.add_first(new) is None else written

    async def all(self, tenant: str | None = None) -> list[ApiKey]:
        """Return a tenant's keys, or all, for the operator: those that are not revoked first, newest first."""
        return await self._store.newest(tenant, MAX_KEYS)

    async def seen_by(self, principal: Principal) -> list[ApiKey]:
        """Return the keys that the principal may see, in the same order."""
        found = await self._store.newest(principal.tenant, MAX_KEYS)
        by_id = {key.id: key for key in found}
        mine = keys.id_of(principal)
        return [
            key for key in found if covers(principal.permissions, key.permissions) or _descends(key, mine, by_id)
        ]

    async def revoke(self, key_id: str, principal: Principal | None = None) -> ApiKey:
        """Revoke a key and all that descend from it; one that is revoked stays it. The operator is no principal.

        Raises:
            KeyNotFoundError: there is none, or none that they see.
            StorageUnavailableError
        """
        kept = await self._find(key_id, principal)
        revoked = await self._store.revoke(kept.key.tenant, key_id)
        self._changed()
        return revoked or kept.key

    async def rotate(self, key_id: str, overlap_s: float = 0, principal: Principal | None = None) -> IssuedKey:
        """Give a key a new secret, and nothing else. The one before goes on for `overlap_s`, any earlier one ends.

        Raises:
            KeyNotFoundError: there is none that holds, or none that they see.
            InvalidPermissionsError: they see it and may not rotate it, or `overlap_s` is beyond MAX_OVERLAP_S.
            ConfigurationError, StorageUnavailableError: as in `create`.
        """
        if not 0 <= overlap_s <= MAX_OVERLAP_S:
            raise InvalidPermissionsError(f"The secret before goes on for {MAX_OVERLAP_S} seconds at most.")
        kept = await self._find(key_id, principal)
        if principal is not None and not self._may_rotate(principal, kept):
            raise InvalidPermissionsError(
                "A key is rotated by itself or one that it descends from, not with a secret that ends sooner."
            )
        if not kept.holds_at(self._clock()):
            raise KeyNotFoundError(f"The key {key_id} is revoked or expired.")
        pepper, written = self._peppers.pepper(), keys.write_key(key_id)
        rotated = await self._store.rotate(
            kept.key.tenant, key_id, pepper.digest(written), pepper.fingerprint, overlap_s
        )
        self._changed()
        if rotated is None:
            raise KeyNotFoundError(f"The key {key_id} is revoked or expired.")
        return IssuedKey(rotated, written)

    def _may_rotate(self, principal: Principal, kept: KeptKey) -> bool:
        mine, ends, key = keys.id_of(principal), principal.expires_at, kept.key
        if ends is not None and (key.expires_at is None or key.expires_at.timestamp() > ends):
            return False  # so that whoever has a secret that was rotated away gets no other in its last hour
        if mine is not None:
            return kept.descends_from(mine)
        limits = limits_are_within(key.limits, principal.limits, self._usual)
        return limits and covers(principal.permissions, key.permissions)

    async def get(self, key_id: str) -> KeptKey:
        """Return a key, for the operator.

        Raises:
            KeyNotFoundError, StorageUnavailableError
        """
        return await self._find(key_id, None)

    async def _find(self, key_id: str, principal: Principal | None) -> KeptKey:
        key_id = keys.id_in(key_id) or key_id  # who has a whole key at hand means its id
        kept = await self._store.find(key_id) if keys.is_id(key_id) else None
        if kept is None or (principal is not None and not _sees(principal, kept)):
            raise KeyNotFoundError(f"There is no key {key_id[:16]!r}; ids are the 16 digits after lac_.")
        return kept


def _sees(principal: Principal, kept: KeptKey) -> bool:
    if kept.key.tenant != principal.tenant:
        return False
    mine = keys.id_of(principal)
    return covers(principal.permissions, kept.key.permissions) or (mine is not None and kept.descends_from(mine))


def _descends(key: ApiKey | None, ancestor: str | None, by_id: dict[str, ApiKey]) -> bool:
    while key is not None and ancestor is not None:
        if key.id == ancestor:
            return True
        key = by_id.get(key.parent or "")
    return False
