"""Notes that are dictated: behind a colon, or as arguments of the tool, everything is text to the letter."""

from __future__ import annotations

import re
from typing import NamedTuple

from .clauses import NOTE_VERBS
from .lexicon import lexicon, listed
from .refusals import no_text, not_understood
from .statements import is_blank
from .words import PROPOSAL, QUOTED, Words, count, unquoted

NOTE_NOUNS = frozenset({"note", "notes", "comment", "comments", "remark", "remarks", "governance_note"})
_SAYING_NOTE = NOTE_NOUNS | {"following", "text"}
NOTING_VERBS = lexicon("note document jot annotate record log")
ARTICLES = listed(
    "a an the this that these following new another one two three both governance short quick brief empty "
    "blank my our "
    "your more second third final public private internal important urgent official formal additional separate"
)
_BEFORE_ID = NOTE_NOUNS.union(
    ARTICLES,
    listed(
        "proposal proposals id number record file log to on for under against in into at of onto with as down text"
    ),
)
_OUTSIDE_TEXT = listed(
    "if unless once when whenever only later tomorrow tonight soon not never except until till after before "
    "provided providing assuming but or and instead without twice thrice again then next every in in-case "
    "depending pending"
)
CONDITIONS = frozenset(_OUTSIDE_TEXT)
"""What says when, how or whether to write, or names another proposal; it is never the text itself."""

_DICTATING = re.compile(
    rf"{PROPOSAL} (?:(?:, and|,|and|&) (?:to )?(?:the )?(?:proposals? )?{PROPOSAL} ){{0,15}}+"
    r"(?:(?:notes?|comments?|remarks?|governance_note|record|file|log|with|saying|that|reads"
    rf"|reading|says"
    r"|stating|states|please|text|content|message|wording|words|as|follows|following|this|these|below|here|is"
    r"|a|an|the"
    rf"|for me|proposal|[.,–—-]|[(\[] (?:(?!(?:{'|'.join(_OUTSIDE_TEXT)}) )[a-z-]+ ){{1,3}}[)\]]) )*+"
    r"(?P<colon>[:：]) "
)
_POLITE = lexicon(
    "please kindly and then also next finally lastly afterwards after that now just first second third can could "
    "would will you i i'd want like need to use using the governance_note governance tool let me ok hello hi "
    "hey go "
    "ahead"
)
_SEPARATORS = frozenset({",", ";", ".", "?", "!", ":", "-", "–", "—", ")"})
_SEVERAL = re.compile(r"(?:two|three|four|both|these|2|3|4)(?: new| governance| following)* notes ")
_QUOTED_LIST = re.compile(rf"{QUOTED} (?:(?:, and|,|;|and|&) {QUOTED} )+(?:\. )?$")

_ID = rf"(?:(?:the )?proposal(?:_id| id)? )?(?:[:=] )?{PROPOSAL} "
_TOOL = re.compile(
    r"(?:(?:please|can|could|you|use|using|call|invoke|run|with|the|to) )*governance_note (?:tool )?"
    rf"(?:(?:[:(,–—-]|with|on|for) )*{_ID}(?:(?:[,:;]|and|with) )*(?:(?:the )?(?:note|text|content) )?(?:[:=] )?"
)
_ARGUMENTS = re.compile(rf"(?:add )?(?:a )?(?:new )?(?:governance )?note [:,] {_ID}[,;] (?:note|text) [:=] ")
_TOPIC = re.compile(
    rf"(?:(?:for|on|re|regarding) )?{_ID}[.,;:–—-] (?:please )?(?:{'|'.join(sorted(NOTE_VERBS))}) "
    r"(?:(?:a|an|the|this|new|following) )*(?:governance )?(?:note|comment|remark) [:：] "
)
_HAVING = re.compile(
    rf"(?:(?:please|i want|i'd like|we want|ensure|ensure that|make sure|make sure that) )+{_ID}"
    r"(?:to have|has|to get|gets) (?:a|the) (?:note|comment) (?:(?:saying|that says|which says|reading"
    r"|stating|:) )?"
)
_TEXT_FIRST = re.compile(
    r"(?:governance )?(?:note|comment|text) [:=] (?P<text>.+ )(?:[.,;] )?(?:proposal(?:_id| id)?|id) [:=] "
    rf"{PROPOSAL} (?:\. )?$"
)
_NO_TEXT = frozenset({"list", "read", "show", "get", "tool", "please", "?", ".", "notes"})


class Dictation(NamedTuple):
    """Notes whose text is given to the letter, and the words in front of the request for them."""

    before: Words
    proposals: list[str]
    texts: list[str]


def dictation(words: Words) -> Dictation | None:
    """Find "add a note to PROP-...: TEXT" with its colon; everything behind that is data.

    Raises:
        RefusalError: there is no text, or a condition in front of it.
    """
    if PROPOSAL not in words.words:
        return None
    for match in _DICTATING.finditer(words.line):
        first = words.line.count(" ", 0, match.start())
        colon = words.line.count(" ", 0, match.start("colon"))
        begin = _request_before(words.words, first)
        before = _clause_before(words, begin)
        request = words.cut(begin, colon)
        is_note = request.words[0] in NOTING_VERBS or not _SAYING_NOTE.isdisjoint(request.words)
        if before is not None and is_note:
            return _dictated(words.cut(0, before), request, words.cut(colon))
    return _as_arguments(words)


def _dictated(before: Words, request: Words, data: Words) -> Dictation:
    proposals = request.proposals()
    text = data.source[data.ends[0] :].strip()
    check_text(text, proposals)
    texts = [text]
    if _SEVERAL.search(request.line) and _QUOTED_LIST.match(data.cut(1).line):
        texts = [unquoted(data.word_text(index)) for index, word in enumerate(data.words) if word == QUOTED]
    return Dictation(before, proposals, texts)


def _as_arguments(words: Words) -> Dictation | None:
    """Read "governance_note(PROP-..., TEXT)", "PROP-.... Add note: TEXT" and "Note: TEXT. Proposal: PROP-..."."""
    match = (
        _TOOL.match(words.line)
        or _ARGUMENTS.match(words.line)
        or _TOPIC.match(words.line)
        or _HAVING.match(words.line)
    )
    rest = words.cut(count(match)) if match else None
    last = _TEXT_FIRST.match(words.line)
    if last:
        start, end = (words.line.count(" ", 0, last.start("text")), words.line.count(" ", 0, last.end("text")))
        rest = words.cut(start, end)
    if rest is None or not rest or (len(rest) < 3 and rest.words[0] in _NO_TEXT):
        return None
    if rest.words[0] in CONDITIONS | {PROPOSAL} and ":" in rest.words:
        raise not_understood(words)
    text = rest.text()
    if match and "(" in match.group():
        text = text.removesuffix(")").rstrip()
    proposals = words.proposals()[:1]
    check_text(text, proposals)
    return Dictation(words.cut(0, 0), proposals, [unquoted(text)])


def check_text(text: str, proposals: list[str]) -> None:
    """Refuse a note in which nothing can be seen.

    Raises:
        RefusalError: there is no text.
    """
    if is_blank(text):
        raise no_text(proposals)


def _request_before(words: list[str], first: int) -> int:
    """Return where the words begin that lead up to the proposal id at `first`: the verb and its object."""
    begin = first
    while begin and (words[begin - 1] in _BEFORE_ID or _is_label(words, begin, first)):
        begin -= 1
    return begin - (begin > 0 and words[begin - 1] in NOTE_VERBS)


def _clause_before(words: Words, begin: int) -> int | None:
    """Return where the clause in front of a request ends; None if the request does not begin a clause itself."""
    at, joined = begin, False
    while at and words.words[at - 1] in _POLITE:
        at -= 1
        joined = joined or words.words[at] in {"and", "then"}
    if at and not joined and words.words[at - 1] not in _SEPARATORS and not words.is_new_line(at):
        return None
    return at - 2 * _is_item_number(words, at - 2)


def _is_item_number(words: Words, at: int) -> bool:
    """Whether "2." or "2)" at this place is the number of an item on a line of its own."""
    return (
        at >= 0
        and words.words[at].isdecimal()
        and words.words[at + 1] in {".", ")"}
        and (at == 0 or words.is_new_line(at))
    )


def _is_label(words: list[str], at: int, first: int) -> bool:
    """Whether the sign before `at` belongs to a label, as in "Add a note. Proposal: PROP-2025-001. Note: ..."."""
    before = words[at - 1]
    return (before in {":", "=", ","} and at == first and at > 1) or (
        before in {".", ","} and words[at] == "proposal"
    )
