"""The shipped index: its form, what it finds, what it does not find, and that no query can upset it."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import sys
import unicodedata
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from threading import Barrier

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import app
from app.errors import ToolRejected
from app.tools.offline_index import MAX_TERMS, OfflineIndex, content_terms, shipped_pages

INDEX = OfflineIndex()
INDEX.search("warm up", 1)

FASTAPI = "https://fastapi.tiangolo.com"
ETHEREUM = "https://ethereum.org"
POSTGRES = "https://www.postgresql.org/docs/current"
OWASP = "https://cheatsheetseries.owasp.org/cheatsheets"

FOUND_IN_THE_FIRST_THREE = {
    "Python FastAPI best practices": "https://github.com/zhanymkanov/fastapi-best-practices",
    "fastapi deployment": f"{FASTAPI}/deployment/concepts/",
    "server-sent events fastapi": f"{FASTAPI}/tutorial/server-sent-events/",
    "Server-Sent Events with FastAPI": f"{FASTAPI}/tutorial/server-sent-events/",
    "documentation for pydantic-settings": "https://github.com/pydantic/pydantic-settings",
    "uv vs poetry": "https://github.com/astral-sh/uv/blob/main/BENCHMARKS.md",
    "asyncio task groups and cancellation": "https://docs.python.org/3/library/asyncio-task.html",
    "pytest fixtures": "https://docs.pytest.org/en/stable/how-to/fixtures.html",
    "postgres advisory lock examples": f"{POSTGRES}/explicit-locking.html",
    "; DROP TABLE runs; --": f"{POSTGRES}/sql-droptable.html",
    "sqlite wal mode": "https://www.sqlite.org/wal.html",
    "redis streams": "https://redis.io/docs/latest/develop/data-types/streams/",
    "kubernetes cron jobs": "https://kubernetes.io/docs/concepts/workloads/controllers/cron-jobs/",
    "problem details http api": "https://www.rfc-editor.org/rfc/rfc9457.html",
    "prompt injection": "https://genai.owasp.org/llmrisk/llm01-prompt-injection/",
    "ignore previous instructions": f"{OWASP}/LLM_Prompt_Injection_Prevention_Cheat_Sheet.html",
    "jwt best practices": "https://www.rfc-editor.org/rfc/rfc7519.html",
    "how does cybersecurity work": "https://www.cisa.gov/topics/cybersecurity-best-practices",
    "model context protocol": "https://modelcontextprotocol.io/docs/2026-07-28/getting-started/intro",
    "langgraph durable execution": "https://docs.langchain.com/oss/python/langgraph/durable-execution",
    "trigger.dev pricing": "https://trigger.dev/pricing",
    "latest Ethereum gas prices": "https://etherscan.io/gastracker",
    "Dencun upgrade": f"{ETHEREUM}/roadmap/dencun/",
    "zero knowledge rollups": f"{ETHEREUM}/developers/docs/scaling/zk-rollups/",
    "SOLIDITY REENTRANCY": "https://docs.soliditylang.org/en/latest/security-considerations.html",
    "dao governance models": f"{ETHEREUM}/dao/",
    "how to write a governance proposal": "https://docs.ens.domains/dao/governance/process",
    "quadratic voting": "https://en.wikipedia.org/wiki/Quadratic_voting",
    "optimistic governance": "https://github.com/aragon/optimistic-token-voting-plugin",
    "Uniswap v4 release date": "https://docs.uniswap.org/contracts/v4/overview",
    "top 10 DeFi protocols by TVL": "https://defillama.com/",
    "stablecoin regulation in the EU": "https://eur-lex.europa.eu/eli/reg/2023/1114/oj",
    "current exchange rate usd to eur": "https://www.ecb.europa.eu/stats/policy_and_exchange_rates"
    "/euro_reference_exchange_rates/html/index.en.html",
    "incident response": "https://response.pagerduty.com/",
    "C++ templates": "https://en.cppreference.com/w/cpp/language/templates",
    "standard déviation": "https://en.wikipedia.org/wiki/Standard_deviation",
}

NOT_FOUND = [
    "dog food walmart",
    "以太坊",
    "以太坊 升级",
    "café culture in Zürich",
    "recipe doubling",
    "1984 book summary",
    "weather in Berlin today",
    "when green book was created",
    "who played ronald weasly",
    "how to deodorize a car",
    "how to bake sourdough bread",
    "soufflé best practices",
    "top stories this week",
]

WITHOUT_TERMS = ["", "   ", "?!?!", "🙂", "the of for", "What's the latest?", '"" OR *', "\0", "\ud800"]


@pytest.mark.parametrize(("query", "url"), FOUND_IN_THE_FIRST_THREE.items())
def test_a_query_in_our_fields_finds_its_page_among_the_first_three(query: str, url: str) -> None:
    assert url in [result.url for result in INDEX.search(query, 3)]


@pytest.mark.parametrize("query", NOT_FOUND)
def test_a_query_outside_our_fields_finds_nothing_rather_than_something_else(query: str) -> None:
    assert INDEX.search(query, 10) == []


@pytest.mark.parametrize("query", WITHOUT_TERMS)
def test_a_query_that_names_nothing_finds_nothing(query: str) -> None:
    assert content_terms(query) == []
    assert INDEX.search(query, 10) == []


def test_the_search_that_the_readme_promises_has_three_results_about_fastapi_in_python() -> None:
    results = INDEX.search("Python FastAPI best practices", 3)
    assert len(results) == 3
    for result in results:
        assert "FastAPI" in result.title
        assert "Python" in result.snippet
        assert "est practices" in result.snippet


def test_best_practices_of_something_else_are_no_answer() -> None:
    assert all("fastapi" in result.title.lower() for result in INDEX.search("Python FastAPI best practices", 10))


def test_two_terms_must_both_match() -> None:
    assert INDEX.search("kubernetes", 3)
    assert INDEX.search("kubernetes sourdough", 3) == []


def test_more_than_two_terms_may_match_by_half_and_full_matches_come_first() -> None:
    results = [
        f"{result.title} {result.snippet}".lower() for result in INDEX.search("fastapi server sent events", 4)
    ]
    terms = ("fastapi", "server", "sent", "events")
    matched = [sum(term in result for term in terms) for result in results]
    assert matched[:2] == [4, 4]
    assert all(2 <= count < 4 for count in matched[2:])
    assert len(matched) == 4


def test_a_word_in_the_title_counts_more_than_one_in_the_description() -> None:
    assert INDEX.search("asgi", 1)[0].title == "ASGI specification"
    assert INDEX.search("durable execution", 1)[0].title == "LangGraph: Durable execution"


def test_a_query_of_qualifiers_alone_is_about_them() -> None:
    assert all("best practices" in str(result).lower() for result in INDEX.search("best practices", 3))


def test_results_are_never_more_than_asked_for() -> None:
    assert [len(INDEX.search("ethereum", wanted)) for wanted in (1, 2, 10)] == [1, 2, 10]


def test_the_same_query_has_the_same_answer_in_another_index() -> None:
    assert all(OfflineIndex().search(query, 5) == INDEX.search(query, 5) for query in ("python", "dao safe vote"))


@pytest.mark.parametrize(
    ("query", "terms"),
    [
        ("Trigger.dev PRICING", ["trigger.dev", "pricing"]),
        ("C++ and C#", ["c++", "c#"]),
        ("uv vs. uv", ["uv"]),
        ("what's Bayes' theorem", ["bayes", "theorem"]),
        ("Vitalik\u2019s essays", ["vitalik", "essays"]),
        ('title:"dao" NEAR(x)', ["title", "dao", "near", "x"]),
        (" ".join(f"w{n}" for n in range(50)), [f"w{n}" for n in range(MAX_TERMS)]),
        ("z" * 5_000, ["z" * 1_000]),
    ],
)
def test_terms_are_the_words_that_name_something(query: str, terms: list[str]) -> None:
    assert content_terms(query) == terms


FTS5_SYNTAX = ["AND", "OR", "NOT", "NEAR(", "title:", "-", "+", "*", "^", "(", ")", "{", "}", '"', "'", ":", ","]
ODDITIES = [
    "\0",
    "\ud800",
    "🙂",
    "C++",
    "dao",
    "fastapi",
    "以太坊",
    "é",
    "x" * 3_000,
    "--",
    ";",
    "\u2028",
    "²",
    "_",
]


@settings(deadline=timedelta(seconds=2))
@given(
    st.text(st.characters(exclude_categories=()))
    | st.lists(st.sampled_from(FTS5_SYNTAX + ODDITIES), max_size=60).map(" ".join)
    | st.lists(st.sampled_from(FTS5_SYNTAX + ODDITIES), max_size=60).map("".join)
)
def test_no_query_text_upsets_the_search(query: str) -> None:
    assert len(INDEX.search(query, 10)) <= 10


@settings(deadline=timedelta(seconds=2), max_examples=5)
@given(st.sampled_from(["dao ", '"', "é", "x", "a.b-", "+", "以"]))
def test_a_query_of_a_million_characters_costs_no_more_than_a_long_one(text: str) -> None:
    assert len(INDEX.search(text * 1_000_000, 10)) <= 10


def test_threads_share_one_index_from_its_first_search_on() -> None:
    index = OfflineIndex()
    queries = ["python", "dao governance models", "uv vs poetry", "nothing like this", "ethereum gas prices"] * 40
    together = Barrier(8)

    def search_all(_: int) -> list[int]:
        together.wait()
        return [len(index.search(query, 10)) for query in queries]

    with ThreadPoolExecutor(8) as pool:
        counts = list(pool.map(search_all, range(8)))
    assert counts == [[len(INDEX.search(query, 10)) for query in queries]] * 8


def test_a_sqlite_without_fts5_is_said_clearly(monkeypatch: pytest.MonkeyPatch) -> None:
    class WithoutFts5(sqlite3.Connection):
        def execute(self, sql: str, *parameters: object) -> sqlite3.Cursor:
            raise sqlite3.OperationalError("no such module: fts5")

    connect = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda name, **options: connect(name, **options, factory=WithoutFts5))
    with pytest.raises(ToolRejected, match="FTS5") as caught:
        OfflineIndex().search("python", 3)
    assert caught.value.code == "search_unavailable"


def test_every_shipped_page_has_a_title_a_unique_address_and_a_description() -> None:
    pages = shipped_pages()
    assert len(pages) >= 300
    assert len({page.url for page in pages}) == len(pages)
    assert len({page.title for page in pages}) == len(pages)
    for page in pages:
        assert page.url.startswith("https://"), page
        assert page.url.isascii(), page
        assert len(page.url) <= 200, page
        assert 2 <= len(page.title) <= 100, page
        assert 20 <= len(page.snippet) <= 200, page
        for text in page:
            assert text == text.strip(), page
            assert not any(unicodedata.category(character).startswith("C") for character in text), page


def test_the_index_is_found_whatever_the_package_is_called(tmp_path: Path) -> None:
    shutil.copytree(
        Path(app.__file__).parent, tmp_path / "llm_agent_core", ignore=shutil.ignore_patterns("__pycache__")
    )
    script = (
        "import sys; from llm_agent_core.tools.web_search import WebSearchTool; "
        "print(WebSearchTool().run({'query': 'quadratic voting'})['count'], 'app' in sys.modules)"
    )
    printed = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True
    ).stdout
    assert printed.split() == ["3", "False"]
