"""One model with its HTTP connections for each event loop, opened on first use and closed with its loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    import httpx2
    from pydantic_ai.models import Model

OpenHttp: TypeAlias = "Callable[[], httpx2.AsyncClient]"


class Sessions:
    """Connections belong to a loop, and a script may have one loop after another, or several in threads."""

    def __init__(self, open_http: OpenHttp, make_model: Callable[[httpx2.AsyncClient], Model]) -> None:
        self._open_http = open_http
        self._make_model = make_model
        self._open: dict[asyncio.AbstractEventLoop, tuple[Model, AsyncGenerator[Model, None]]] = {}
        # the first is built now, not in the first request: what cannot be built says so at start-up
        self._spare = [self._build()]

    async def model(self) -> Model:
        """Return the running loop's model."""
        loop = asyncio.get_running_loop()
        held = self._open.get(loop)
        if held is None:
            for closed in [other for other in self._open if other.is_closed()]:
                self._open.pop(closed, None)
            session = self._session()
            held = self._open[loop] = (await anext(session), session)
        return held[0]

    async def aclose(self) -> None:
        """Close the running loop's connections."""
        held = self._open.pop(asyncio.get_running_loop(), None)
        if held is not None:
            await held[1].aclose()

    async def _session(self) -> AsyncGenerator[Model, None]:
        """A generator, since those are what a loop closes by itself before it ends (`shutdown_asyncgens`)."""
        http, model = self._spare.pop() if self._spare else self._build()
        try:
            yield model
        finally:
            await http.aclose()

    def _build(self) -> tuple[httpx2.AsyncClient, Model]:
        http = self._open_http()
        return http, self._make_model(http)
