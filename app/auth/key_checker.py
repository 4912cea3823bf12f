"""The checker of API keys."""

from __future__ import annotations

import logging
from collections.abc import Callable
from hmac import compare_digest
from time import time

from ..errors import UnauthenticatedError
from .credentials import REFUSED
from .keys import NO_PROOF, PepperSource, id_in, principal_of
from .ports import KeyStore
from .principal import Principal

log = logging.getLogger(__name__)


class KeyChecker:
    """A `Checker` of API keys.

    For each that is written like a key one proof is read, one HMAC made, and this compared twice, with the key's
    and with its former one, whether there is such a key or not. More is read only for who has shown the right one,
    so how long it takes tells nobody which ids there are.

    Args:
        clock: seconds since 1970.
    """

    def __init__(self, store: KeyStore, peppers: PepperSource, *, clock: Callable[[], float] = time) -> None:
        self._store = store
        self._peppers = peppers
        self._clock = clock

    async def check(self, credential: str) -> Principal:
        """Return who shows the key.

        Raises:
            UnauthenticatedError: it is no key, is unknown, was rotated away, or it or one that it descends from is
                revoked or expired.
            StorageUnavailableError
        """
        key_id = id_in(credential)
        if key_id is None:
            raise UnauthenticatedError(REFUSED)
        proof = await self._store.proof(key_id)
        digest = self._peppers.pepper().digest(credential)
        is_current = compare_digest(digest, proof.digest)
        is_former = compare_digest(digest, proof.former or NO_PROOF.digest)
        if is_current or is_former:
            kept, now = await self._store.find(key_id), self._clock()
            if kept is not None and kept.holds_at(now):
                if is_current:
                    return principal_of(kept)
                if proof.former_until is not None and now < proof.former_until.timestamp():
                    return principal_of(kept, proof.former_until)
            log.debug(
                "the key %s was refused: it, or one that it descends from, is revoked or has expired", key_id
            )
        else:
            log.debug("the key %s was refused: there is none, or its secret is another", key_id)
        raise UnauthenticatedError(REFUSED)
