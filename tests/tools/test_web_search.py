"""The web search tool: its input, its answer, and the contract of providers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Awaitable
from inspect import isawaitable
from typing import TYPE_CHECKING

import jsonschema_rs
import pytest

from app.jsonvalue import copy_json
from app.tools.web_search import SearchResult, WebSearchTool

if TYPE_CHECKING:
    from collections.abc import Sequence

    from app.jsonvalue import JsonObject, JsonValue

PAGE = SearchResult("A title", "https://example.org/", "A snippet.")


class FakeProvider:
    name = "fake"

    def __init__(self, *results: SearchResult) -> None:
        self.results = results
        self.calls: list[tuple[str, int]] = []

    def search(self, query: str, max_results: int) -> Sequence[SearchResult]:
        self.calls.append((query, max_results))
        return self.results


class AsyncProvider:
    name = "async"

    async def search(self, query: str, max_results: int) -> Sequence[SearchResult]:
        return [PAGE] * (max_results + 1)


class BrokenProvider:
    name = "broken"

    def search(self, query: str, max_results: int) -> Sequence[SearchResult]:
        raise ConnectionError("the provider is down")


class BrokenAsyncProvider:
    name = "broken"

    async def search(self, query: str, max_results: int) -> Sequence[SearchResult]:
        raise ConnectionError("the provider is down")


def run(tool: WebSearchTool, **values: JsonValue) -> JsonObject:
    answer = tool.run(values)
    assert isinstance(answer, dict)
    return answer


def results_of(*found: SearchResult) -> list[JsonValue]:
    results = run(WebSearchTool(FakeProvider(*found)), query="x", max_results=10)["results"]
    assert isinstance(results, list)
    return results


def test_the_default_provider_answers_at_once_and_says_that_it_is_offline() -> None:
    answer = run(WebSearchTool(), query="Python FastAPI best practices")
    assert answer["query"] == "Python FastAPI best practices"
    assert answer["count"] == 3
    assert answer["source"] == "offline-index"
    assert "not from the live web" in str(answer["note"])
    assert isinstance(answer["results"], list)
    assert [sorted(result) for result in answer["results"] if isinstance(result, dict)] == [
        ["snippet", "title", "url"]
    ] * 3


def test_finding_nothing_is_a_success() -> None:
    answer = run(WebSearchTool(), query="dog food walmart")
    assert (answer["results"], answer["count"]) == ([], 0)


def test_the_answer_is_plain_json() -> None:
    answer = run(WebSearchTool(), query="dao governance models", max_results=10)
    assert json.loads(json.dumps(answer)) == copy_json(answer, 100_000) == answer


def test_a_provider_is_given_the_query_and_the_limit() -> None:
    provider = FakeProvider(PAGE)
    tool = WebSearchTool(provider)
    run(tool, query="one")
    run(tool, query="two", max_results=7)
    run(tool, query="three", max_results=2.0)  # an integer to JSON Schema
    assert provider.calls == [("one", 3), ("two", 7), ("three", 2)]
    assert isinstance(provider.calls[2][1], int)


def test_an_answer_names_its_provider_and_carries_a_note_only_if_that_has_one() -> None:
    answer = run(WebSearchTool(FakeProvider(PAGE)), query="x")
    assert answer == {"query": "x", "results": [PAGE._asdict()], "count": 1, "source": "fake"}


async def test_an_async_provider_is_awaited() -> None:
    running = WebSearchTool(AsyncProvider()).run({"query": "x", "max_results": 2})
    assert isinstance(running, Awaitable)
    answer = await running
    assert (answer["count"], answer["source"]) == (2, "async")


def test_what_a_provider_raises_is_raised() -> None:
    with pytest.raises(ConnectionError, match="down"):
        WebSearchTool(BrokenProvider()).run({"query": "x"})


async def test_what_an_async_provider_raises_is_raised() -> None:
    running = WebSearchTool(BrokenAsyncProvider()).run({"query": "x"})
    assert isawaitable(running)
    with pytest.raises(ConnectionError, match="down"):
        await running


def test_only_a_provider_that_says_so_runs_on_the_event_loop() -> None:
    class QuickProvider(FakeProvider):
        quick = True

    assert WebSearchTool().quick is True
    assert WebSearchTool(QuickProvider()).quick is True
    assert WebSearchTool(FakeProvider()).quick is False
    assert WebSearchTool(AsyncProvider()).quick is False


def test_too_many_results_are_cut_to_the_number_asked_for() -> None:
    provider = FakeProvider(*[PAGE] * 50)
    assert run(WebSearchTool(provider), query="x")["count"] == 3
    assert run(WebSearchTool(provider), query="x", max_results=10)["count"] == 10


def test_overlong_texts_are_cut() -> None:
    [result] = results_of(SearchResult("t" * 10_000, "https://example.org/", "s" * 1_000_000))
    assert isinstance(result, dict)
    assert result["title"] == "t" * 199 + "…"
    assert result["snippet"] == "s" * 499 + "…"


def test_control_characters_and_lone_surrogates_become_blanks() -> None:
    [result] = results_of(SearchResult(" a\0b\ud800 \n c\x1b[31m", "https://example.org/é", "s\u0085\xa0t"))
    assert result == {"title": "a b c [31m", "url": "https://example.org/é", "snippet": "s t"}


@pytest.mark.parametrize(
    "url",
    [
        "javascript:alert(1)",
        "data:text/html,x",
        "//example.org",
        "",
        "https://example.org/a b",
        "https://example.org/\0",
        "https://" + "x" * 2_000,
    ],
)
def test_a_result_without_a_plain_web_address_is_left_out_and_not_counted(url: str) -> None:
    assert results_of(SearchResult("bad", url, "s"), PAGE) == [PAGE._asdict()]


@pytest.mark.parametrize(
    ("value", "valid"),
    [
        ({"query": "x"}, True),
        ({"query": "x", "max_results": 1}, True),
        ({"query": "以太坊", "max_results": 10}, True),
        ({"query": "x" * 400}, True),
        ({"query": "x" * 401}, False),
        ({"query": ""}, False),
        ({"query": " \t\n"}, False),
        ({"query": 7}, False),
        ({"query": "x", "max_results": 0}, False),
        ({"query": "x", "max_results": 11}, False),
        ({"query": "x", "max_results": "3"}, False),
        ({"query": "x", "max_results": True}, False),
        ({"query": "x", "limit": 3}, False),
        ({}, False),
    ],
)
def test_the_schema_accepts_what_the_tool_can_run(value: JsonObject, valid: bool) -> None:
    assert jsonschema_rs.validator_for(WebSearchTool.input_schema).is_valid(value) is valid


def test_the_tool_has_the_shape_of_one() -> None:
    tool = WebSearchTool()
    assert (tool.name, tool.effect) == ("web_search", "read")
    assert tool.description


def test_importing_the_tool_loads_no_database() -> None:
    script = "import sys, app.tools.web_search as w; w.WebSearchTool(); sys.exit('sqlite3' in sys.modules)"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")}
    subprocess.run([sys.executable, "-c", script], check=True, env=environment)
