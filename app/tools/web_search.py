"""The web search tool, and the protocol of the providers that it can search with."""

from __future__ import annotations

import re
from collections.abc import Awaitable
from itertools import islice
from typing import TYPE_CHECKING, ClassVar, Protocol, cast

from .offline_index import OfflineIndex, SearchResult

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ..jsonvalue import JsonObject

__all__ = ["SearchProvider", "SearchResult", "WebSearchTool"]

MAX_QUERY_CHARACTERS = 400
MAX_RESULTS = 10
DEFAULT_RESULTS = 3

_MAX_TITLE = 200
_MAX_SNIPPET = 500
_MAX_URL = 2_000

# Blanks, control characters and lone surrogates; the last two no journal stores and no terminal should see.
_GAP = re.compile(r"[\x00-\x20\x7f-\xa0\ud800-\udfff]+")
_WEB_ADDRESS = re.compile(r"https?://[^\x00-\x20\x7f-\xa0\ud800-\udfff]+")


class SearchProvider(Protocol):
    """Something that finds pages for a query: an index, or the API of a search engine.

    `search` may be async. A provider may also say `quick = True` if it answers within microseconds and never
    blocks (it then runs on the event loop itself), and carry a `note` that goes into every result.
    """

    name: str

    def search(
        self, query: str, max_results: int
    ) -> Sequence[SearchResult] | Awaitable[Sequence[SearchResult]]: ...


class WebSearchTool:
    """Finds pages with a provider, by default the offline index that ships with the package.

    What a provider returns is somebody else's text: titles and snippets are stripped of control characters and
    cut, and a result whose address is not a plain http(s) address is left out, as is everything beyond the
    number asked for. What a provider raises is raised.
    """

    name = "web_search"
    description = (
        "Search for pages on a subject and get their titles, addresses and short descriptions. "
        "Finding nothing is a valid answer."
    )
    input_schema: ClassVar[JsonObject] = {
        "type": "object",
        "properties": {
            "query": {
                "type": "string",
                "description": "What to search for, in a few words.",
                "pattern": r"\S",
                "maxLength": MAX_QUERY_CHARACTERS,
            },
            "max_results": {
                "type": "integer",
                "description": "How many results to return at most.",
                "minimum": 1,
                "maximum": MAX_RESULTS,
                "default": DEFAULT_RESULTS,
            },
        },
        "required": ["query"],
        "additionalProperties": False,
    }
    effect = "read"

    def __init__(self, provider: SearchProvider | None = None) -> None:
        self._provider: SearchProvider = OfflineIndex() if provider is None else provider
        self.quick = bool(getattr(self._provider, "quick", False))

    def run(self, input: JsonObject) -> JsonObject | Awaitable[JsonObject]:
        """Search; the result is an awaitable exactly if the provider's is. `input` satisfies `input_schema`."""
        query = cast("str", input["query"])
        # JSON Schema calls 3.0 an integer, a slice does not.
        limit = int(cast("float", input.get("max_results", DEFAULT_RESULTS)))
        found = self._provider.search(query, limit)
        if isinstance(found, Awaitable):
            return self._eventual_answer(query, limit, found)
        return self._answer(query, limit, found)

    async def _eventual_answer(
        self, query: str, limit: int, found: Awaitable[Sequence[SearchResult]]
    ) -> JsonObject:
        return self._answer(query, limit, await found)

    def _answer(self, query: str, limit: int, found: Sequence[SearchResult]) -> JsonObject:
        results = [_cleaned(result) for result in islice(_with_web_address(found), limit)]
        answer: JsonObject = {
            "query": query,
            "results": [*results],
            "count": len(results),
            "source": self._provider.name,
        }
        note = getattr(self._provider, "note", None)
        if note is not None:
            answer["note"] = note
        return answer


def _with_web_address(results: Iterable[SearchResult]) -> Iterable[SearchResult]:
    # A cut address leads elsewhere, and javascript: or data: must not become a link: better no result.
    return (result for result in results if len(result.url) <= _MAX_URL and _WEB_ADDRESS.fullmatch(result.url))


def _cleaned(result: SearchResult) -> JsonObject:
    return {
        "title": _cut(result.title, _MAX_TITLE),
        "url": result.url,
        "snippet": _cut(result.snippet, _MAX_SNIPPET),
    }


def _cut(text: str, length: int) -> str:
    # The first cut bounds the work on a text of any size.
    plain = _GAP.sub(" ", text[: 4 * length]).strip()
    return plain if len(plain) <= length else plain[: length - 1] + "…"
