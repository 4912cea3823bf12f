"""The guard: who may use which route, decided before a body is read."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any, Final, Protocol, TypeAlias

from fastapi import Depends, Request
from fastapi.routing import APIRoute

from ..auth.limits import RateLimiter, Standing, limit_text, policy_text
from ..auth.principal import ANONYMOUS, Principal
from ..errors import PermissionDeniedError, UnauthenticatedError
from ..permissions import METRICS_READ

API_KEY_HEADER: Final = b"x-api-key"
BEARER: Final = b"bearer "

_PORT: Final = re.compile(r":[0-9]*\Z", re.ASCII)
_IPV4: Final = re.compile(r"[0-9]{1,3}(\.[0-9]{1,3}){3}", re.ASCII)

Headers: TypeAlias = list[tuple[bytes, bytes]]

ANSWER_HEADERS: Final = "answer_headers"
PRINCIPAL: Final = "principal"
"""Where a request's scope holds what its answer says besides, and who asks."""


class Authenticates(Protocol):
    """Says who shows a credential."""

    async def authenticate(self, credential: str) -> Principal: ...


class Needs:
    """What a route takes of whoever asks: a scope, or with None any principal. As a dependency it is who asks."""

    def __init__(self, scope: str | None) -> None:
        self.scope = scope
        # who watches a service must not be the first that it refuses
        self.is_counted = scope != METRICS_READ

    async def __call__(self, request: Request) -> Principal:
        return principal_of(request)


def needs(scope: str | None) -> Any:
    """Make the dependency of an endpoint whose route takes this scope, None for no special one; it is who asks."""
    return Depends(Needs(scope))


class _Public:
    """Says that a route is for everybody and counted for nobody."""

    async def __call__(self) -> None:
        return


PUBLIC: Final = Depends(_Public())
"""The dependency of a route that is for everybody: `dependencies=[PUBLIC]`."""


def take_needs(route: APIRoute) -> Needs | None:
    """Return what a route takes, None for a public one, and spare it to ask again what has been decided by then.

    Raises:
        TypeError: nobody has decided; no route is open by being forgotten.
    """
    dependencies = route.dependant.dependencies
    declared = [dependency for dependency in dependencies if isinstance(dependency.call, Needs | _Public)]
    if len(declared) != 1:
        raise TypeError(f"the route {route.path} has to say once what it needs: a scope, or that it is public")
    [decision] = declared
    if decision.name is None:  # no endpoint wants to know, and FastAPI takes 20 us to solve a dependency
        dependencies.remove(decision)
    return decision.call if isinstance(decision.call, Needs) else None


def principal_of(request: Request) -> Principal:
    """Return who asks, of a request that was admitted."""
    principal: Principal = request.scope[PRINCIPAL]
    return principal


class Guard:
    """Admits requests.

    Args:
        authenticator: says who shows a credential; None if nobody is looked at, and everybody anonymous.
        required: whether a request has to show one; if not, who shows none is anonymous, and may do everything.
        limiter: counts requests; None if they are not counted.
        anonymous: who shows nothing.
        knows_hosts: whether only hosts that somebody has named get here; if not, who shows nothing has to ask for
            an address, or a host in this network, so that no page in a browser can (DNS rebinding).
        origins: where pages are from that may ask without showing anything; `*` for anywhere.
    """

    def __init__(
        self,
        authenticator: Authenticates | None = None,
        *,
        required: bool = False,
        limiter: RateLimiter | None = None,
        anonymous: Principal = ANONYMOUS,
        knows_hosts: bool = True,
        origins: Collection[str] = (),
    ) -> None:
        assert authenticator is not None or not required
        self._authenticator = authenticator
        self.required = required
        self._limiter = limiter
        self._anonymous = anonymous
        self._knows_hosts = knows_hosts
        self._origins = origins

    async def admit(self, request: Request, needs: Needs) -> None:
        """Note who asks in the request's scope, if they may.

        Raises:
            UnauthenticatedError: nobody that we know, where somebody has to be.
            PermissionDeniedError: the scope is missing.
            RateLimitedError: there were too many requests.
            StorageError: who it is cannot be looked up.
        """
        principal = await self.identify(request)
        request.scope[PRINCIPAL] = principal
        if self._limiter is not None and needs.is_counted:
            standing = await self._limiter.hit(principal)
            if standing is not None:
                request.scope[ANSWER_HEADERS] = _headers_of(standing)
                standing.check()
        if needs.scope is not None and not principal.permissions.allows(needs.scope):
            raise PermissionDeniedError(f"The scope {needs.scope} is missing.", needs.scope)

    async def identify(self, request: Request) -> Principal:
        """Return who asks.

        Raises:
            UnauthenticatedError, StorageError
        """
        if self._authenticator is None:
            return self._anonymous
        credential = _credential(request.scope["headers"])
        if credential is None:
            if self.required:
                raise UnauthenticatedError("Show a key or token, as Authorization: Bearer KEY or as X-API-Key.")
            self._check_page(request.scope["headers"])
            return self._anonymous
        return await self._authenticator.authenticate(credential)

    def _check_page(self, headers: Headers) -> None:
        """Keep out what a page in somebody's browser sends who can reach us, and knows nothing of it.

        Raises:
            PermissionDeniedError
        """
        sent = dict(headers)
        host, origin = sent.get(b"host", b"").decode("latin-1"), sent.get(b"origin", b"").decode("latin-1")
        if not self._knows_hosts and not _is_near(host):
            raise PermissionDeniedError(
                "Without a key, the service answers at an IP address or as localhost; ALLOWED_HOSTS names others."
            )
        if origin and origin.partition("://")[2] != host and not {"*", origin} & {*self._origins}:
            raise PermissionDeniedError("Pages of that origin need a key here, or a place in CORS_ORIGINS.")


def host_name(host: str) -> str:
    """Return what a Host header names, without the port (RFC 9110 section 7.2)."""
    return _PORT.sub("", host)


def _is_near(host: str) -> bool:
    """Say whether a Host is none that somebody elsewhere could have given an address of this network."""
    name = host_name(host)
    return "." not in name or name.endswith(".localhost") or _IPV4.fullmatch(name) is not None or name[:1] == "["


def _headers_of(standing: Standing) -> Headers:
    return [
        (b"ratelimit-policy", policy_text(standing).encode()),
        (b"ratelimit", limit_text(standing).encode()),
    ]


def _credential(headers: Headers) -> str | None:
    """Return what a request shows; None if it shows nothing.

    Raises:
        UnauthenticatedError: it shows something else than a key or token, or more than one.
    """
    shown: list[bytes] = []
    for name, value in headers:
        if name == b"authorization":
            if value[: len(BEARER)].lower() != BEARER:
                raise UnauthenticatedError("The Authorization header has to be: Bearer, a space, a key or token.")
            shown.append(value[len(BEARER) :].strip(b" "))
        elif name == API_KEY_HEADER:
            shown.append(value.strip(b" \t"))
    if not shown:
        return None
    if len(shown) > 1 or not shown[0]:
        raise UnauthenticatedError("The request shows more than one key or token, or an empty one.")
    return shown[0].decode("latin-1")
