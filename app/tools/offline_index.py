"""The default search provider: documentation pages shipped with the package, ranked by SQLite's FTS5."""

from __future__ import annotations

import re
import weakref
from collections import Counter
from threading import Lock
from typing import TYPE_CHECKING, NamedTuple

from ..errors import ToolRejected

if TYPE_CHECKING:
    from collections.abc import Sequence
    from sqlite3 import Connection

MAX_TERMS = 8
"""How many content terms of a query take part; each costs one look-up."""

_MAX_QUERY_CHARACTERS = 1_000

# Letters and digits of any script, joined as in trigger.dev and pydantic-settings, or ending as in C++ and C#.
_TERM = re.compile(r"\w+(?:[.-]\w+)*(?:\+\+|#)?")
_CLITIC = re.compile(r"['\u2019](?:s|re|ve|ll|d|m|t)\b")

# Words that ask rather than name: they would match everywhere or nowhere and say nothing of the subject.
STOP_WORDS = frozenset(
    _TERM.findall(
        """a about an and any are article articles as at be by can could current did do does docs documentation
        example examples find for from give guide guides how i in info information internet is it its latest
        look me my need new newest news of on online or page pages please recent search should show some tell
        that the there these this to today tutorial tutorials up use using versus vs want was way we web what
        when where which who why will with work works you your"""
    )
)

# Words that order the pages on a subject but are none: advice on Docker is no answer to advice on JWT.
QUALIFIERS = frozenset({"best", "better", "good", "practice", "practices", "tips", "top"})

# Contentless: the pages themselves stay Python values.
_CREATE = """
    CREATE VIRTUAL TABLE pages
    USING fts5(title, snippet, content = '', tokenize = "porter unicode61 tokenchars '+#'")
"""
_INSERT = "INSERT INTO pages (rowid, title, snippet) VALUES (?, ?, ?)"
# bm25 is negative, lower is better; a hit in the title counts four times.
_SCORES = "SELECT rowid, bm25(pages, 4.0, 1.0) FROM pages WHERE pages MATCH ?"


class SearchResult(NamedTuple):
    """One page that a provider found."""

    title: str
    url: str
    snippet: str


class OfflineIndex:
    """Searches the shipped pages; needs no network and no key, and answers the same query the same way.

    Pages that match every term of the query come first. After those come pages that match at least half of the
    terms and never fewer than two (one, if there is but one), where qualifiers do not count. Within either group
    bm25 decides, then the order of the file. Nothing else is returned: no result is padding.

    Terms are the words of the query, lower-cased, without the stop words; English endings are stemmed, accents
    ignored, and a compound such as `trigger.dev` must occur as such. Safe to use from several threads.
    """

    name = "offline-index"
    quick = True
    note = "These results come from the offline index shipped with this package, not from the live web."

    def __init__(self) -> None:
        self._lock = Lock()
        self._pages: tuple[SearchResult, ...] = ()
        self._connection: Connection | None = None

    def search(self, query: str, max_results: int) -> list[SearchResult]:
        """Return at most `max_results` pages about `query`, the best first.

        Raises:
            ToolRejected: `search_unavailable`, this Python's SQLite was built without FTS5.
        """
        terms = content_terms(query)
        if not terms:
            return []
        with self._lock:
            if self._connection is None:
                self._pages = shipped_pages()
                self._connection = _indexed(self._pages)
                weakref.finalize(self, self._connection.close)  # newer Pythons warn of one that is left open
            ranked = _ranked(self._connection, terms, max_results)
        return [self._pages[number] for number in ranked]


def content_terms(query: str) -> list[str]:
    """Return the distinct terms of `query` that say what it is about, at most MAX_TERMS, in order."""
    words = _TERM.findall(_CLITIC.sub(" ", query[:_MAX_QUERY_CHARACTERS].lower()))
    return [word for word in dict.fromkeys(words) if word not in STOP_WORDS][:MAX_TERMS]


def shipped_pages() -> tuple[SearchResult, ...]:
    """Read the pages from the package's data: one a line, title, address and description between tabs."""
    from importlib.resources import files  # slow to import, and only a search needs it

    text = files(__package__).joinpath("data", "offline_index.tsv").read_text(encoding="utf-8")
    return tuple(SearchResult(*line.split("\t")) for line in text.splitlines())


def _indexed(pages: Sequence[SearchResult]) -> Connection:
    import sqlite3  # as above

    # The lock of OfflineIndex serialises its use, so any thread may hold it.
    connection = sqlite3.connect(":memory:", check_same_thread=False)
    try:
        connection.execute(_CREATE)
    except sqlite3.OperationalError as error:
        connection.close()
        raise ToolRejected(
            f"Offline search needs SQLite with FTS5, which this Python's SQLite {sqlite3.sqlite_version} lacks.",
            "search_unavailable",
        ) from error
    with connection:
        connection.executemany(_INSERT, ((n, page.title, page.snippet) for n, page in enumerate(pages)))
    return connection


def _ranked(connection: Connection, terms: list[str], wanted: int) -> list[int]:
    subject = [term for term in terms if term not in QUALIFIERS] or terms
    enough = max((len(subject) + 1) // 2, min(2, len(subject)))
    best = _by_score(_scores(connection, terms))
    # Scoring every page of every term costs several times more, and most queries need not come to it.
    if len(best) < wanted and enough < len(terms):
        best = list(dict.fromkeys(best + _partly_matching(connection, terms, subject, enough)))
    return best[:wanted]


def _partly_matching(connection: Connection, terms: list[str], subject: list[str], enough: int) -> list[int]:
    found = {term: _scores(connection, [term]) for term in terms}
    matched = Counter(page for term in subject for page in found[term])
    # bm25 of a query is the sum over its terms, so this is the order FTS5 itself would give.
    return _by_score(
        {
            page: sum(scores.get(page, 0.0) for scores in found.values())
            for page, count in matched.items()
            if count >= enough
        }
    )


def _scores(connection: Connection, terms: list[str]) -> dict[int, float]:
    """Return the bm25 score of each page that matches all of `terms`."""
    # A quoted term is text to FTS5, never syntax, and _TERM lets no quote in.
    expression = " AND ".join(f'"{term}"' for term in terms)
    return dict(connection.execute(_SCORES, (expression,)))


def _by_score(scores: dict[int, float]) -> list[int]:
    return sorted(scores, key=lambda page: (scores[page], page))
