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
    "double triple halve raise take average increase decrease reduce round"
)
SEARCH_VERBS = lexicon("search look google find research lookup web browse check define explain")
QUESTION_WORDS = lexicon(
    "what what's whats who who's whos whose when when's where where's wheres why how how's hows which"
)
HEADS = NOTE_VERBS | READ_VERBS | ORDER_VERBS | SEARCH_VERBS | QUESTION_WORDS | {"has", "return", "report", "say"}
_CONNECTIVES = lexicon(
    "and then next also please finally afterwards lastly after that now first second third firstly secondly "
    "thirdly just ,"
)
_JOINTS = frozenset({",", ";", "and", "then", "&", "-", "–", "—", "•", "("})
_ENDS = frozenset({".", "?", "!"})
_STOPS = _JOINTS | _ENDS
_NUMERIC_HEADS = frozenset({"square", "cube", "double", "triple", "average", "sum"})
"""What may follow a minus sign: - square root of 9."""

_LISTED = (["."], [")"])
_BULLETS = (["-"], ["*"], ["•"], ["–"])
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
    clauses, start, apart, done = [], int(_is_bullet(words.words)), True, 0
    for index in _stops(words):
        if index < done:
            continue
        ends = _ends_sentence(words, index, start)
        head = done = _head(words.words, index + ends)
        begins = words.words[head : head + 1]
        if ends or (begins and begins[0] in HEADS and not _is_topic(words.words[start:index])):
            clauses.append(Clause(words.cut(start, index), apart))
            start, apart = (index + 1, True) if ends else (head, "then" in words.words[index:head])
    clauses.append(Clause(words.cut(start), apart))
    return [clause for clause in clauses if clause.words.line.strip(" .,;?!")]


def _stops(words: Words) -> list[int]:
    """Return the places where a clause may end: signs, joints, the ends of lines, and the numbers of a list."""
    lines = "\n" in words.source
    items = words.words[1:2] in _LISTED
    return [
        index
        for index, word in enumerate(words.words)
        if index
        and (word in _STOPS or (lines and words.is_new_line(index)) or (items and _is_number(words.words, index)))
    ]


def _is_bullet(words: list[str]) -> bool:
    return words[:1] in _BULLETS and words[1:2] != [] and words[1] in HEADS - _NUMERIC_HEADS


def _is_number(words: list[str], index: int) -> bool:
    return words[index].isdecimal() and words[index + 1 : index + 2] in _LISTED


def _head(words: list[str], index: int) -> int:
    """Return where the first word stands that is neither a sign, a connective nor the number of a list item."""
    while index < len(words):
        if _is_number(words, index):
            index += 2
        elif words[index] in _JOINTS or words[index] in _CONNECTIVES:
            index += 1
        else:
            break
    return index


def _orders(words: Words, index: int) -> bool:
    """Whether a request begins here, with a capital: the period in front of it is no abbreviation's."""
    head = _head(words.words, index)
    return words.word_text(index)[0].isupper() and head < len(words) and words.words[head] in HEADS


def _is_topic(words: list[str]) -> bool:
    """Whether these words only name a proposal, as in "For PROP-2025-001, add ..."."""
    return len(words) < _LONGEST_TOPIC and PROPOSAL in words and _TOPIC_WORDS.issuperset(words)


def _ends_sentence(words: Words, index: int, start: int) -> bool:
    word, before = words.words[index], words.words[index - 1]
    if word not in _ENDS or index + 1 == len(words) or words.ends[index] == words.starts[index + 1]:
        return False
    if word == ".":
        return (
            len(before) > _ABBREVIATION
            or not (before.isalpha() or index - 1 == start)
            or (before.isalpha() and _orders(words, index + 1))
        )
    return word == "?" or before.isalpha()
