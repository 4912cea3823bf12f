"""A goal cut into clauses, each of which may be a request of its own."""

from __future__ import annotations

from typing import NamedTuple

from .lexicon import lexicon
from .words import PROPOSAL, Words

NOTE_VERBS = lexicon(
    "add write record save store log note put attach append document file leave make create enter register "
    "insert "
    "submit drop place pin include annotate update set jot post capture mention mark keep"
)
READ_VERBS = lexicon(
    "show list read retrieve get fetch display view see print summarise summarize review check give tell pull "
    "open recall"
)
ORDER_VERBS = lexicon(
    "calculate compute evaluate solve work figure determine add subtract deduct multiply divide sum square "
    "cube "
    "double triple halve raise take average increase decrease reduce"
)
SEARCH_VERBS = lexicon("search look google find research lookup web browse check define explain")
QUESTION_WORDS = lexicon(
    "what what's whats who who's whos whose when when's where where's wheres why how how's hows which"
)
_HEADS = NOTE_VERBS | READ_VERBS | ORDER_VERBS | SEARCH_VERBS | QUESTION_WORDS | {"has", "return", "report", "say"}
_CONNECTIVES = lexicon(
    "and then next also please finally afterwards lastly after that now first second third just ,"
)
_JOINTS = frozenset({",", ";", "and", "then", "&", "-", "–", "—", "("})
_ENDS = frozenset({".", "?", "!"})
_LISTED = (["."], [")"])
_LONGEST_TOPIC = 7
_ABBREVIATION = 3
"""A period behind a word of at most so many letters may belong to it: St., Dr., U.S."""


_TOPIC_WORDS = frozenset({PROPOSAL, "for", "on", "in", "to", "regarding", "about", "under", "the", "proposal"})


class Clause(NamedTuple):
    """Some words, and whether they must be a request of their own; if not, they may belong to the one before."""

    words: Words
    is_apart: bool


def split(words: Words) -> list[Clause]:
    """Cut at the ends of sentences, and where "and", "then", a comma or the like precedes a verb or a question."""
    clauses, start, apart = [], 0, True
    index = 1
    while index < len(words):
        ends = _ends_sentence(words, index, start)
        if not (ends or words.words[index] in _JOINTS or _is_new_line(words, index)):
            index += 1
            continue
        head = _head(words.words, index + ends)
        begins = words.words[head : head + 1]
        if ends or (begins and begins[0] in _HEADS and not _is_topic(words.words[start:index])):
            clauses.append(Clause(words.cut(start, index), apart))
            start, apart = (index + 1, True) if ends else (head, "then" in words.words[index:head])
        index = max(head, index + 1)
    clauses.append(Clause(words.cut(start), apart))
    return [clause for clause in clauses if clause.words.line.strip(" .,;?!")]


def _head(words: list[str], index: int) -> int:
    """Return where the first word stands that is neither a sign, a connective nor the number of a list item."""
    while index < len(words):
        if words[index].isdecimal() and words[index + 1 : index + 2] in _LISTED:
            index += 2
        elif words[index] in _JOINTS or words[index] in _CONNECTIVES:
            index += 1
        else:
            break
    return index


def _is_topic(words: list[str]) -> bool:
    """Whether these words only name a proposal, as in "For PROP-2025-001, add ..."."""
    return len(words) < _LONGEST_TOPIC and PROPOSAL in words and _TOPIC_WORDS.issuperset(words)


def _ends_sentence(words: Words, index: int, start: int) -> bool:
    word, before = words.words[index], words.words[index - 1]
    if word not in _ENDS or index + 1 == len(words) or words.ends[index] == words.starts[index + 1]:
        return False
    if word == ".":
        return len(before) > _ABBREVIATION or not (before.isalpha() or index - 1 == start)
    return word == "?" or before.isalpha()


def _is_new_line(words: Words, index: int) -> bool:
    return "\n" in words.source[words.ends[index - 1] : words.starts[index]]
