"""Known hosts: who asks for another name than the service has is answered by none of its routes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from starlette.types import ASGIApp, Receive, Scope, Send

from .errors import problem
from .guard import host_name

UNKNOWN_HOST: Final = "unknown_host"


class KnownHosts:
    """What starlette's TrustedHostMiddleware does, with a problem document for an answer.

    Args:
        hosts: names without ports; `*.agents.example` is every name below that.
    """

    def __init__(self, app: ASGIApp, hosts: Sequence[str]) -> None:
        self._app = app
        self._names = frozenset(host.lower() for host in hosts if not host.startswith("*"))
        self._endings = tuple(host[1:].lower() for host in hosts if host.startswith("*"))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand a request on if its Host is known."""
        if scope["type"] != "http" or self._knows(_host_of(scope)):
            await self._app(scope, receive, send)
            return
        answer = problem(400, UNKNOWN_HOST, "The service is not known by that name; ALLOWED_HOSTS has its names.")
        await answer(scope, receive, send)

    def _knows(self, host: str) -> bool:
        return host in self._names or host.endswith(self._endings)


def _host_of(scope: Scope) -> str:
    for name, value in scope["headers"]:
        if name == b"host":
            return host_name(value.decode("latin-1").lower())
    return ""
