"""Credentials, checked: what a request shows, turned into a principal, and remembered for a moment."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from hashlib import sha256
from time import time
from typing import Final, Protocol

from msgspec import Struct

from ..errors import UnauthenticatedError
from .principal import Principal
from .sharing import Shared

KEY_PREFIX: Final = "lac_"
"""What every API key begins with, so that people and scanners of secrets recognise one."""

REMEMBER_S: Final = 2.0
"""How long a key is not looked up again; a revocation takes so long to reach other processes."""

MAX_REMEMBERED: Final = 10_000
MAX_CHARS: Final = 8192

REFUSED: Final = "The API key or token is not valid."
"""All that anybody is told: not whether it is unknown, revoked, expired or forged."""


class Checker(Protocol):
    """Checks one kind of credential."""

    async def check(self, credential: str) -> Principal:
        """Return whose it is.

        Raises:
            UnauthenticatedError: it does not hold.
            StorageError, IdentityProviderError: what is needed to know cannot be had.
        """
        ...


class _Remembered(Struct, frozen=True):
    principal: Principal
    until: float


class Authenticator:
    """Says who shows a credential. Only those that hold are remembered, by their digest, and never for long.

    Args:
        keys: checks what looks like an API key.
        tokens: checks everything else; None if no tokens are taken.
        clock: seconds since 1970.
    """

    def __init__(self, keys: Checker, tokens: Checker | None = None, *, clock: Callable[[], float] = time) -> None:
        self._keys = keys
        self._tokens = tokens
        self._clock = clock
        self._remembered: OrderedDict[bytes, _Remembered] = OrderedDict()
        self._under_way: Shared[tuple[bytes, int, int], Principal] = Shared()
        self._changes = 0

    async def authenticate(self, credential: str) -> Principal:
        """Return who shows this.

        Raises:
            UnauthenticatedError: nobody we know.
            StorageError, IdentityProviderError: it cannot be told.
        """
        if len(credential) > MAX_CHARS or not credential.isascii():
            raise UnauthenticatedError(REFUSED)
        digest = sha256(credential.encode()).digest()
        known = self._remembered.get(digest)
        now = self._clock()
        if known is not None and now < known.until:
            return known.principal
        changes = self._changes
        # what began before a change, or longer ago than it would be remembered, is not for those who ask now
        which = digest, changes, int(now // REMEMBER_S)
        return await self._under_way.get(which, lambda: self._look_up(credential, digest, changes))

    async def _look_up(self, credential: str, digest: bytes, changes: int) -> Principal:
        until = self._clock() + REMEMBER_S
        principal = await self._checker(credential).check(credential)
        if changes != self._changes:  # what was looked up may be what it no longer is
            return principal
        known = self._remembered.get(digest)
        if known is not None and known.principal == principal:
            principal = known.principal  # the same object: what is worked out of it is remembered by others
        self._remember(digest, principal, until)
        return principal

    def forget(self) -> None:
        """Look every credential up again, since some key is not what it was."""
        self._changes += 1
        self._remembered.clear()

    def _remember(self, digest: bytes, principal: Principal, until: float) -> None:
        if principal.expires_at is not None:
            until = min(until, principal.expires_at)
        self._remembered[digest] = _Remembered(principal, until)
        self._remembered.move_to_end(digest)
        if len(self._remembered) > MAX_REMEMBERED:
            self._remembered.popitem(last=False)

    def _checker(self, credential: str) -> Checker:
        if credential.startswith(KEY_PREFIX) or self._tokens is None:
            return self._keys
        return self._tokens
