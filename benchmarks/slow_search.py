"""A search that takes its time, for runs that stay under way; its import puts it in the real one's place."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from app.tools.base import tool_registry
from app.tools.web_search import SearchResult, WebSearchTool


class SlowProvider:
    """Finds nothing, as many milliseconds later as the last word of the query says."""

    name = "slow"

    async def search(self, query: str, max_results: int) -> Sequence[SearchResult]:  # noqa: ARG002 - none are found
        await asyncio.sleep(int(query.split()[-1]) / 1000)
        return []


class SlowSearchTool(WebSearchTool):
    """Searches with it for as long as it takes."""

    timeout_s = 86_400.0


tool_registry.register(SlowSearchTool(SlowProvider()))
