"""The keys of an identity provider: its JWKS (RFC 7517), fetched, checked and kept for a while."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from time import monotonic
from typing import TYPE_CHECKING, Final

import msgspec
from msgspec import Struct

from ..blocking import call_in_thread
from ..errors import IdentityProviderError

if TYPE_CHECKING:
    from jwt import PyJWK

log = logging.getLogger(__name__)

FRESH_S: Final = 600.0
"""How old keys may be before they are fetched again, which nobody waits for."""

HOLD_S: Final = 3600.0
"""How old they may be at all: for so long they hold while the provider does not answer."""

PAUSE_S: Final = 5.0
"""How long after a fetch there is no other one: whoever makes up key ids cannot make us hammer the provider."""

TIMEOUT_S: Final = 5.0
MAX_BYTES: Final = 256 * 1024
MAX_KEYS: Final = 100
MIN_RSA_BITS: Final = 2048
"""NIST SP 800-131A; RFC 7518 section 3.3 demands the same."""

KEY_KINDS: Final = {
    "RS256": ("RSA", None),
    "RS384": ("RSA", None),
    "RS512": ("RSA", None),
    "PS256": ("RSA", None),
    "PS384": ("RSA", None),
    "PS512": ("RSA", None),
    "ES256": ("EC", "P-256"),
    "ES384": ("EC", "P-384"),
    "ES512": ("EC", "P-521"),
    "EdDSA": ("OKP", "Ed25519"),
}
"""The algorithms that tokens may be signed by, all asymmetric, and the type and curve of the keys for each
(RFC 7518 section 3.1, RFC 8037)."""


class _Jwk(Struct, frozen=True, omit_defaults=True):
    """The public part of a key; whatever else stands in one is not read."""

    kty: str
    kid: str | None = None
    use: str | None = None
    alg: str | None = None
    key_ops: list[str] | None = None
    crv: str | None = None
    n: str | None = None
    e: str | None = None
    x: str | None = None
    y: str | None = None

    def is_for(self, algorithm: str) -> bool:
        """Say whether it is there to verify signatures of this algorithm."""
        kind, curve = KEY_KINDS[algorithm]
        return (
            self.kty == kind
            and curve in (None, self.crv)
            and self.use in (None, "sig")
            and self.alg in (None, algorithm)
            and (self.key_ops is None or "verify" in self.key_ops)
        )


class _Jwks(Struct, frozen=True):
    keys: list[msgspec.Raw]


class ProviderKeys:
    """Has the keys of one provider at hand, and looks for new ones now and then, or when one is unknown.

    Args:
        url: where its JWKS is.
        algorithms: those of KEY_KINDS that keys are wanted for.
        fetch: returns the JWKS at a URL, on a thread; raises OSError or ValueError.
        clock: seconds, of which only differences count.
    """

    def __init__(
        self,
        url: str,
        algorithms: Sequence[str],
        *,
        fetch: Callable[[str], bytes] | None = None,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._url = url
        self._algorithms = tuple(algorithms)
        self._fetch = fetch_jwks if fetch is None else fetch
        self._clock = clock
        self._keys: dict[tuple[str | None, str], PyJWK] = {}
        self._fetched_at: float | None = None
        self._tried_at: float | None = None
        self._refreshing: asyncio.Task[None] | None = None

    async def find(self, kid: str | None, algorithm: str) -> PyJWK | None:
        """Return the key of this id for this algorithm, or None if the provider has no such key.

        Without an id it is the only key for the algorithm, None if there are several.

        Raises:
            IdentityProviderError: the provider does not answer, and nothing that it said lately is left.
        """
        age = self._age()
        if age > HOLD_S:
            await self._refresh()
            if self._age() > HOLD_S:
                raise IdentityProviderError("The identity provider does not answer, so tokens cannot be checked.")
        elif age > FRESH_S:
            self._begin_refresh()
        found = self._look_up(kid, algorithm)
        if found is None:
            await self._refresh()
            found = self._look_up(kid, algorithm)
        return found

    def _age(self) -> float:
        return float("inf") if self._fetched_at is None else self._clock() - self._fetched_at

    def _look_up(self, kid: str | None, algorithm: str) -> PyJWK | None:
        if kid is not None:
            return self._keys.get((kid, algorithm))
        fitting = [key for (_, of), key in self._keys.items() if of == algorithm]
        return fitting[0] if len(fitting) == 1 else None

    async def _refresh(self) -> None:
        """Return when the fetch that is under way, or that may begin now, is over; at once if none may."""
        self._begin_refresh()
        if self._refreshing is not None:
            await asyncio.shield(self._refreshing)  # who stops waiting does not stop it for the others

    def _begin_refresh(self) -> None:
        if self._refreshing is not None:
            return
        if self._tried_at is None or self._clock() - self._tried_at >= PAUSE_S:
            self._tried_at = self._clock()
            self._refreshing = asyncio.create_task(self._fetch_once())

    async def _fetch_once(self) -> None:
        try:
            async with asyncio.timeout(TIMEOUT_S):
                document = await call_in_thread(self._fetch, self._url)
            keys = read_jwks(document, self._algorithms)
            if not keys:
                raise ValueError("it has no key that signatures could be verified with")
        except (OSError, ValueError, RecursionError) as error:
            reason = " ".join(f"{type(error).__name__} {error}".split())[:300]
            log.warning("the keys of the identity provider could not be fetched: %s", reason)
        else:
            self._keys, self._fetched_at = keys, self._clock()
        finally:
            self._tried_at = self._clock()
            self._refreshing = None


def read_jwks(document: bytes, algorithms: Sequence[str]) -> dict[tuple[str | None, str], PyJWK]:
    """Return the keys of a JWKS that can be used, by id and algorithm; of two alike the first one.

    Raises:
        ValueError: it is none, or has more than MAX_KEYS keys.
    """
    entries = msgspec.json.decode(document, type=_Jwks).keys
    if len(entries) > MAX_KEYS:
        raise ValueError(f"it has more than {MAX_KEYS} keys")
    keys: dict[tuple[str | None, str], PyJWK] = {}
    for entry in entries:
        try:
            jwk = msgspec.json.decode(entry, type=_Jwk)
        except msgspec.MsgspecError:
            continue  # RFC 7517 section 5: one that we do not understand is passed by
        for algorithm in algorithms:
            key = _public_key(jwk, algorithm) if jwk.is_for(algorithm) else None
            if key is not None:
                keys.setdefault((jwk.kid, algorithm), key)
    return keys


def _public_key(jwk: _Jwk, algorithm: str) -> PyJWK | None:
    from jwt import PyJWK
    from jwt.exceptions import PyJWTError

    try:
        key = PyJWK(msgspec.to_builtins(jwk), algorithm)
    except (PyJWTError, ValueError, TypeError):
        return None
    return None if jwk.kty == "RSA" and key.key.key_size < MIN_RSA_BITS else key


def fetch_jwks(url: str) -> bytes:
    """Return what is at a URL, following no redirect.

    Raises:
        OSError: nothing is, or not in time.
        ValueError: it is larger than MAX_BYTES, or no HTTP.
    """
    from http.client import HTTPException
    from urllib.request import HTTPRedirectHandler, Request, build_opener

    class Stay(HTTPRedirectHandler):
        def redirect_request(self, *_: object) -> None:
            return None

    request = Request(url, headers={"Accept": "application/jwk-set+json, application/json"})  # noqa: S310 - a setting
    give_up_at = monotonic() + TIMEOUT_S
    try:
        with build_opener(Stay).open(request, timeout=TIMEOUT_S) as response:
            document = bytearray()
            while piece := response.read1(MAX_BYTES):
                document += piece
                if len(document) > MAX_BYTES:
                    raise ValueError(f"it is larger than {MAX_BYTES} bytes")
                if monotonic() > give_up_at:
                    raise TimeoutError("it comes too slowly")
            return bytes(document)
    except HTTPException as error:
        raise ValueError(f"it is no HTTP: {type(error).__name__}") from error
