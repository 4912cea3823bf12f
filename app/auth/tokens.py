"""Tokens, checked: JWTs of an identity provider (RFC 7519, OpenID Connect), turned into principals."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable
from time import time
from typing import TYPE_CHECKING, Final

import msgspec
from msgspec import Struct

from ..errors import InvalidPermissionsError, MissingExtraError, UnauthenticatedError
from ..permissions import Permissions, is_scope
from ..tools.call import DEFAULT_TENANT
from .credentials import MAX_CHARS, REFUSED
from .jwks import ProviderKeys
from .principal import Principal, parse_tenant

if TYPE_CHECKING:
    from jwt import PyJWK, PyJWS

log = logging.getLogger(__name__)

TYPES: Final = ("jwt", "at+jwt", "application/at+jwt")
"""What a token may say it is: not one of those kinds that are there for other ends (RFC 8725 section 3.11)."""

MAX_SUBJECT_CHARS: Final = 255
"""OpenID Connect Core section 2. A longer one is refused, not cut: cut, two people could become one."""


class TokenRules(Struct, frozen=True):
    """What is demanded of a token.

    Args:
        issuer, audience: what `iss` has to be, and `aud` has to be or to hold.
        algorithms: what it may be signed by, out of KEY_KINDS.
        tenant_claim: where the tenant stands; empty if everybody is of the default one.
        scopes_claim: where the scopes stand, as text with spaces or as a list; what is none of ours is passed by.
        max_lifetime_s: from `iat` to `exp`.
        leeway_s: how far apart the provider's clock and ours may be.
    """

    issuer: str
    audience: str
    algorithms: tuple[str, ...] = ("RS256", "ES256")
    tenant_claim: str = ""
    scopes_claim: str = "scope"
    max_lifetime_s: float = 86_400
    leeway_s: float = 30


class _RefusedError(ValueError):
    """A token is refused, for a reason that holds nothing of it."""


class _Header(Struct, frozen=True):
    """What is read of a token's header; where to find a key (jku, jwk, x5u, x5c) is not for a token to say."""

    alg: str
    kid: str | None = None
    typ: str | None = None


class _Claims(Struct, frozen=True):
    iss: str
    aud: str | list[str]
    sub: str
    exp: float
    iat: float
    nbf: float | None = None


class TokenChecker:
    """A `Checker` of tokens.

    Args:
        clock: seconds since 1970.

    Raises:
        MissingExtraError: the packages for it are not installed.
    """

    def __init__(self, rules: TokenRules, keys: ProviderKeys, *, clock: Callable[[], float] = time) -> None:
        self._rules = rules
        self._keys = keys
        self._clock = clock
        self._jws = _open_jws(rules.algorithms)

    async def check(self, credential: str) -> Principal:
        """Return whose token it is.

        Raises:
            UnauthenticatedError: it does not hold.
            IdentityProviderError: the keys to tell by cannot be had.
        """
        try:
            header = self._header(credential)
            key = await self._keys.find(header.kid, header.alg)
            if key is None:
                raise _RefusedError("nobody knows its key")
            return self._principal(self._verified(credential, key))
        except (ValueError, RecursionError, InvalidPermissionsError) as error:
            # for who sets it up, and of our own words alone: what others say may hold a part of the token
            reason = str(error) if isinstance(error, _RefusedError) else "it is ill-formed"
            log.debug("a token was refused: %s", reason)
            # not `from`: what was wrong with it is nobody's business, and a token must not get into a traceback
            raise UnauthenticatedError(REFUSED) from None

    def _header(self, token: str) -> _Header:
        """Return the header of what may be a token; a ValueError says that it is none that we take."""
        if len(token) > MAX_CHARS or token.count(".") != 2:
            raise _RefusedError("it is no signed token")
        raw = _parse_object(_decode_base64url(token.partition(".")[0]))
        if "crit" in raw:  # RFC 7515 section 4.1.11: there is no extension that we understand
            raise _RefusedError("it is not to be understood")
        header = msgspec.convert(raw, _Header)
        if header.alg not in self._rules.algorithms:
            raise _RefusedError("it is not signed as it should be")
        if header.typ is not None and header.typ.lower() not in TYPES:
            raise _RefusedError("it is there for another end")
        return header

    def _verified(self, token: str, key: PyJWK) -> dict[str, object]:
        from jwt.exceptions import PyJWTError

        try:
            payload = self._jws.decode(token, key, algorithms=self._rules.algorithms)
        except PyJWTError as error:
            raise _RefusedError("its signature does not hold") from error
        return _parse_object(payload)

    def _principal(self, payload: dict[str, object]) -> Principal:
        claims = msgspec.convert(payload, _Claims)
        rules, now = self._rules, self._clock()
        audiences = [claims.aud] if isinstance(claims.aud, str) else claims.aud
        demanded = {
            "its iss is not OIDC_ISSUER": claims.iss == rules.issuer,
            "its aud is not OIDC_AUDIENCE": rules.audience in audiences,
            "it has expired": now < claims.exp + rules.leeway_s,
            "it was issued in the future": claims.iat <= now + rules.leeway_s,
            "it is not valid yet": claims.nbf is None or claims.nbf <= now + rules.leeway_s,
            "it lives longer than OIDC_MAX_LIFETIME_S": 0 < claims.exp - claims.iat <= rules.max_lifetime_s,
            "its sub is empty, too long or unprintable": 0 < len(claims.sub) <= MAX_SUBJECT_CHARS
            and claims.sub.isprintable(),
        }
        for reason, holds in demanded.items():
            if not holds:
                raise _RefusedError(reason)
        scopes = [scope for scope in _texts(payload.get(rules.scopes_claim)) if is_scope(scope)]
        return Principal(f"token:{claims.sub}", self._tenant(payload), Permissions.of(scopes), None, claims.exp)

    def _tenant(self, payload: dict[str, object]) -> str:
        if not self._rules.tenant_claim:
            return DEFAULT_TENANT
        tenant = payload.get(self._rules.tenant_claim)
        if not isinstance(tenant, str):
            raise _RefusedError("it has no text in the claim OIDC_TENANT_CLAIM")
        return parse_tenant(tenant)


def _open_jws(algorithms: Iterable[str]) -> PyJWS:
    try:
        import cryptography  # noqa: F401 - pyjwt can be there without it, and verifies nothing then
        from jwt import PyJWS
    except ImportError as error:
        raise MissingExtraError("OIDC_ISSUER needs packages of its own: uv sync --extra oidc") from error
    return PyJWS(algorithms=list(algorithms))


def _texts(claim: object) -> list[str]:
    if isinstance(claim, str):
        return claim.split(" ")
    return [text for text in claim if isinstance(text, str)] if isinstance(claim, list) else []


def _decode_base64url(text: str) -> bytes:
    """Return what a part of a token holds; PyJWT looks at all parts again, and more strictly."""
    from base64 import urlsafe_b64decode

    return urlsafe_b64decode(text.encode("ascii") + b"=" * (-len(text) % 4))


def _parse_object(text: bytes) -> dict[str, object]:
    """Read JSON that all read alike: no member stands there twice (RFC 7515 section 4), no NaN, no Infinity."""
    value = json.loads(text.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_no_constant)
    if not isinstance(value, dict):
        raise _RefusedError("it is no object")
    return value


def _unique(members: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(members)
    if len(found) < len(members):
        raise _RefusedError("a member stands there twice")
    return found


def _no_constant(name: str) -> object:
    raise ValueError(f"{name} is no JSON")
