"""What a request does with the notes of proposals: add one, and with which text, or read them."""

from __future__ import annotations

import re
from typing import NamedTuple

from .clauses import NOTE_VERBS
from .lexicon import lexicon, listed
from .program import RefusalError
from .words import PROPOSAL, QUOTED, Words, unquoted

HOW_TO_ADD = "Say for example: Add note to PROP-2025-001: Legal review completed."

_NOTE_NOUNS = frozenset({"note", "notes", "comment", "comments", "remark", "remarks", "governance_note"})
_NOTING_VERBS = lexicon("note document jot annotate record log")
_WRITING_VERBS = _NOTING_VERBS | lexicon("add append attach capture enter insert put save store write")
_VOTES = frozenset({"vote", "votes", "my", "me", "yes", "no", "approval"})
_ARTICLES = listed(
    "a an the this that these following new another one two three both governance short quick brief empty blank"
)
_BEFORE_ID = _NOTE_NOUNS.union(
    _ARTICLES,
    listed("proposal proposals id number record file log to on for under against in into at of onto with as down"),
)
_AFTER_ID = _NOTE_NOUNS | lexicon(
    f"record file log with saying that reads says please text content as a an the for me . , and & {PROPOSAL}"
)
_POLITE = lexicon(
    "please kindly and then also next finally lastly afterwards after that now just first can could would will "
    "you i i'd want like need to use using the governance_note governance tool let me ok hello hi hey go ahead"
)
_SEPARATORS = frozenset({",", ";", ".", "?", "!", ":", "-", "–", "—"})

_NOTE = r"(?:governance )?(?:notes?|comments?|remarks?)"
_NOUN = re.compile(rf"(?:(?:{'|'.join(_ARTICLES)}) )*{_NOTE} (?:that (?=says|reads))?|(?:(?:a|an|the|new) )+$")
_INTRODUCER = re.compile(
    r"(?:(?:that|which) )?(?:saying|says|say|stating|states|reading|reads)(?: that)? (?:: )?"
    r"|that (?=\S)|with (?:the )?(?:text|content|message|words|wording) (?:: )?|about |titled |[:,=–—-] |-> "
    r"|=> |→ |\| "
)
_BEFORE_TEXT = re.compile(
    r"(?:with (?!(?:the )?(?:text|content|message|words|wording) )|, |please |down "
    rf"|as (?={QUOTED})|{_NOUN.pattern})*"
)
_AS_NOTE = re.compile(rf"(?:as|in|to|into) (?:(?:a|an|the|its|new|another) )*{_NOTE} ")
_DESTINATION = re.compile(
    rf"(?:(?:to|in|into|under|on|with) (?:the )?(?:{_NOTE}|record|file|log|page) (?=of|for|on|in|to|under))?"
    r"(?:(?:to|on|for|under|against|in|into|at|of|onto|regarding) )?(?:the )?"
    rf"(?:proposals? )?{PROPOSAL} (?:(?:, and|,|and|&) (?:proposal )?{PROPOSAL} )*"
    r"(?:notes |comments |record |file )?"
)
_POINTER = re.compile(r"(?:it|this|that|the (?:result|answer|number|total)) $")
_SEVERAL = re.compile(r"(?:two|three|four|both|these|2|3|4)(?: new| governance| following)* notes ")
_QUOTED_LIST = re.compile(rf"{QUOTED} (?:(?:, and|,|;|and|&) {QUOTED} )+(?:\. )?$")
_CONTEXT_TEXT = re.compile(
    r"\s*(?:the )?(?:note )?(?:text|note|message|content)(?: is| reads)?\s*[:=]\s*(?=\S)", re.IGNORECASE
)

_READING = re.compile(
    r"(?:show|list|read|retrieve|get|fetch|display|view|see|print|summarise|summarize|review|check|open|recall|tell"
    r"|give|pull|bring|let|what|what's|whats|which|are|is|has|have|do|does|did|any|how many|notes|find|look|search"
    rf"|count|i need|i want|governance|all|the|anything|everything|{PROPOSAL}) "
)
_NOTED = re.compile(
    r"\b(?:notes?|noted|recorded|documented|logged|written|write down|wrote down|comments?|remarks?)\b"
)
_BARE_READING = re.compile(
    rf"(?:show|list|read|display|view)(?: me)?(?: the)?(?: proposal)? {PROPOSAL} (?:[.?!] )*$"
)
_NO_READING = re.compile(
    r"\b(?:rid|delete|remove|clear|erase|edit|change|replace|add|write(?! down)|rename|move|save|store) "
)


class Addition(NamedTuple):
    """Notes to add: to which proposals, and the words that say with which text."""

    proposals: list[str]
    text: Words
    is_literal: bool
    may_be_plain: bool


class DataNote(NamedTuple):
    """Notes whose text is all that follows a colon, and the words in front of the request for them."""

    before: Words
    proposals: list[str]
    texts: list[str]


def data_note(words: Words) -> DataNote | None:
    """Find "add a note to PROP-...: TEXT" with its colon; everything behind that is data.

    Raises:
        RefusalError: there is no text.
    """
    start = 0
    while PROPOSAL in words.words[start:]:
        first = words.words.index(PROPOSAL, start)
        colon = first + 1
        while colon < len(words) and words.words[colon] in _AFTER_ID:
            colon += 1
        if colon < len(words) and words.words[colon] in {":", "："}:
            begin = _request_before(words.words, first)
            before = _clause_before(words.words, begin)
            request = words.cut(begin, colon)
            if before is not None and (
                request.words[0] in _NOTING_VERBS or not _NOTE_NOUNS.isdisjoint(request.words)
            ):
                return _data_note(words.cut(0, before), request, words.cut(colon))
        start = colon
    return None


def _data_note(before: Words, request: Words, data: Words) -> DataNote:
    proposals = request.proposals()
    text = data.source[data.ends[0] :].strip()
    if not text:
        raise RefusalError(f"There is no text to add to {proposals[0]}; nothing was written. {HOW_TO_ADD}")
    texts = [text]
    if _SEVERAL.search(request.line) and _QUOTED_LIST.match(data.cut(1).line):
        texts = [unquoted(data.word_text(index)) for index, word in enumerate(data.words) if word == QUOTED]
    return DataNote(before, proposals, texts)


def _request_before(words: list[str], first: int) -> int:
    """Return where the words begin that lead up to the proposal id at `first`: the verb and its object."""
    begin = first
    while begin and (words[begin - 1] in _BEFORE_ID or _is_label(words, begin, first)):
        begin -= 1
    return begin - (begin > 0 and words[begin - 1] in NOTE_VERBS)


def _clause_before(words: list[str], begin: int) -> int | None:
    """Return where the clause in front of a request ends; None if the request does not begin a clause itself."""
    at, joined = begin, False
    while at and words[at - 1] in _POLITE:
        at -= 1
        joined = joined or words[at] in {"and", "then"}
    return at if not at or joined or words[at - 1] in _SEPARATORS else None


def _is_label(words: list[str], at: int, first: int) -> bool:
    """Whether the sign before `at` belongs to a label, as in "Add a note. Proposal: PROP-2025-001. Note: ..."."""
    before = words[at - 1]
    return (before in {":", "="} and at == first and at > 1) or (before in {".", ","} and words[at] == "proposal")


def addition(words: Words) -> Addition | None:
    """Read a request to add a note; None if this is none.

    Raises:
        RefusalError: it is one, but the id or the text is missing or malformed.
    """
    proposals, request = _topic(words)
    verb = request.words[0] if request.words else ""
    if verb not in NOTE_VERBS and not _NOUN.match(request.line):
        return None
    if verb == "drop" and not _NOUN.match(request.cut(1).line):
        return None
    is_note = not _NOTE_NOUNS.isdisjoint(request.words)
    bad = words.bad_proposal()
    if bad is not None and (is_note or verb in _WRITING_VERBS):
        raise RefusalError(
            f"{bad[:60]!r} is not a proposal id, so nothing was written. "
            "A proposal id looks like PROP-2025-001: PROP, a year, and three to six digits."
        )
    rest = request.cut(1) if verb in NOTE_VERBS else request
    destination = None if proposals else _DESTINATION.search(rest.line)
    if destination:
        left = rest.cut(0, rest.line.count(" ", 0, destination.start()))
        right = rest.cut(rest.line.count(" ", 0, destination.end()))
        proposals = request.proposals()
    else:
        left, right = rest, rest.cut(len(rest))
    if not proposals:
        if is_note and verb != "note":
            raise RefusalError(f"A note needs the id of its proposal; nothing was written. {HOW_TO_ADD}")
        return None
    if len(words.proposals()) > len(proposals) or not (is_note or _writes_to(verb, destination)):
        return None
    return _with_text(proposals, left, right, is_note, verb)


def _writes_to(verb: str, destination: re.Match[str] | None) -> bool:
    """Whether a request that speaks of no note is one all the same: "write to PROP-...", not "create PROP-..."."""
    is_object = destination is not None and destination.group().startswith((PROPOSAL, "the ", "proposal"))
    return verb in _WRITING_VERBS and (verb == "annotate" or not is_object)


def _topic(words: Words) -> tuple[list[str], Words]:
    """Take the proposal from the front: "For PROP-2025-001, add a note ..."."""
    match = _DESTINATION.match(words.line)
    if not match:
        return [], words
    size = match.group().count(" ")
    rest = words.cut(size)
    while rest.words and rest.words[0] in {",", ":", "-", "please"}:
        rest = rest.cut(1)
    return words.cut(0, size).proposals(), rest


def _with_text(proposals: list[str], left: Words, right: Words, is_note: bool, verb: str) -> Addition | None:
    has_more = right.line.startswith("with ")
    left, said_left = _content(left)
    right, said_right = _content(right)
    if left and right and _POINTER.match(left.line):
        left = left.cut(len(left))
    if (left and right) or right.line.startswith("; "):
        return None
    text, is_said = (left, said_left) if left else (right, said_right or (is_note and not has_more))
    if not text:
        if is_note:
            raise RefusalError(f"There is no text to add to {proposals[0]}; nothing was written. {HOW_TO_ADD}")
        return None
    is_vote = not _VOTES.isdisjoint(text.words)
    return Addition(proposals, text, is_said, is_note or (verb in _NOTING_VERBS and len(text) > 1 and not is_vote))


def _content(words: Words) -> tuple[Words, bool]:
    """Return the words of the note itself, and whether they were introduced as such (by "saying", by a sign)."""
    while words.words and words.words[-1] in {".", "?", "!", "please", ",", "down"}:
        words = words.cut(0, len(words) - 1)
    match = _AS_NOTE.search(words.line)
    if match and match.end() == len(words.line):
        words = words.cut(0, words.line.count(" ", 0, match.start()))
    words = words.after(_AS_NOTE).after(_BEFORE_TEXT)
    rest = words.after(_INTRODUCER)
    return (rest, True) if len(rest) < len(words) else (words, False)


def reading(words: Words) -> list[str]:
    """Return the proposals whose notes a request wants to see."""
    if not _READING.match(words.line) or _NO_READING.search(words.line):
        return []
    return words.proposals() if _NOTED.search(words.line) or _BARE_READING.match(words.line) else []


def text_in_context(context: str | None) -> str:
    """Return the text that a context holds for a note, as in "The text is: Board approved", or ""."""
    match = _CONTEXT_TEXT.match(context or "")
    return (context or "")[match.end() :].strip() if match else ""
