"""A service of keys, and what checks them, over a real database, with a clock that a test moves."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from time import time

from app.auth.key_checker import KeyChecker
from app.auth.key_service import IssuedKey, KeyService
from app.auth.keys import KeptKey, Pepper, Proof
from app.auth.principal import UNLIMITED, Limits, Principal
from app.errors import UnauthenticatedError
from app.permissions import ArgumentRule, Permissions
from app.storage.database import Database
from app.storage.keys import SqlKeyStore

HOUR_S = 3600.0


class CountingPepper(Pepper):
    """Counts how often it is used."""

    def __init__(self, secret: bytes = b"p" * 32) -> None:
        super().__init__(secret)
        self.digests = 0

    def digest(self, written: str) -> bytes:
        self.digests += 1
        return super().digest(written)


class CountingStore(SqlKeyStore):
    """Counts how often it is read."""

    reads = 0

    async def proof(self, key_id: str) -> Proof:
        self.reads += 1
        return await super().proof(key_id)

    async def find(self, key_id: str) -> KeptKey | None:
        self.reads += 1
        return await super().find(key_id)


class KeyHouse:
    """Everything that keys take; `now` is the time by the services' clock."""

    def __init__(self, database: Database, usual: Limits = UNLIMITED) -> None:
        self.now = time()
        self.store = CountingStore(database)
        self.one_pepper = CountingPepper()
        self.changes = 0
        self.service = KeyService(self.store, self, changed=self._changed, usual=usual, clock=lambda: self.now)
        self.checker = KeyChecker(self.store, self, clock=lambda: self.now)

    def pepper(self) -> Pepper:
        return self.one_pepper

    def _changed(self) -> None:
        self.changes += 1

    def at(self, hours: float) -> datetime:
        """Return the moment so many hours from now, to the second."""
        return datetime.fromtimestamp(int(self.now + hours * HOUR_S), UTC)

    async def root(self, *scopes: str, rules: Iterable[str] = (), tenant: str = "default") -> IssuedKey:
        permissions = Permissions.of(scopes or ("*",), [ArgumentRule.parse(rule) for rule in rules])
        return await self.service.create("root", permissions, tenant=tenant)

    async def who(self, issued: IssuedKey | str) -> Principal:
        return await self.checker.check(issued if isinstance(issued, str) else issued.written)

    async def holds(self, issued: IssuedKey | str) -> bool:
        try:
            await self.who(issued)
        except UnauthenticatedError:
            return False
        return True
