"""What checking keys and changing them need of a database, as a protocol."""

from __future__ import annotations

from datetime import datetime
from typing import Protocol

from msgspec import Struct

from ..permissions import Permissions
from .keys import ApiKey, KeptKey, Proof
from .principal import Limits


class NewKey(Struct, frozen=True):
    """A key that is to be kept; `fingerprint` is that of the pepper in `digest`, the HMAC of the key."""

    id: str
    tenant: str
    name: str
    permissions: Permissions
    limits: Limits | None
    parent: str | None
    expires_at: datetime | None
    digest: bytes
    fingerprint: bytes


class KeyStore(Protocol):
    """Keeps keys. What is returned is durable.

    Each method raises StorageUnavailableError if the database does not answer.
    """

    async def proof(self, key_id: str) -> Proof:
        """Return what a key of whatever tenant is compared with; NO_PROOF, and no sooner, if there is none."""
        ...

    async def find(self, key_id: str) -> KeptKey | None:
        """Return a key of whatever tenant, or None."""
        ...

    async def newest(self, tenant: str | None, limit: int) -> list[ApiKey]:
        """Return keys of a tenant, or of all: those that are not revoked first, and of these the newest."""
        ...

    async def add(self, new: NewKey, most: int) -> ApiKey | None:
        """Keep a key; None if its tenant has as many as `most` already that are neither revoked nor expired.

        Raises:
            ConfigurationError: there are keys of another pepper.
        """
        ...

    async def add_first(self, new: NewKey) -> ApiKey | None:
        """Keep a key if no tenant has one that is neither revoked nor expired, else None; of many calls one does.

        Raises:
            ConfigurationError: there are keys of another pepper.
        """
        ...

    async def rotate(
        self, tenant: str, key_id: str, digest: bytes, fingerprint: bytes, overlap_s: float
    ) -> ApiKey | None:
        """Let a key be another; the one before goes on for so long. None if there is none that is not revoked.

        Raises:
            ConfigurationError: there are keys of another pepper.
        """
        ...

    async def revoke(self, tenant: str, key_id: str) -> ApiKey | None:
        """Revoke a key and all that descend from it, unless they are revoked already; None if there is none."""
        ...
