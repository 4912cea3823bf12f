"""A request to add a note to a proposal, and the words that say with which text."""

from __future__ import annotations

import re
from typing import NamedTuple

from .clauses import NOTE_VERBS, QUESTION_WORDS
from .dictation import ARTICLES, CONDITIONS, NOTE_NOUNS, NOTING_VERBS
from .lexicon import lexicon
from .numerals import is_figure
from .program import NoteAddition, RefusalError
from .references import aggregate, is_reference, position
from .refusals import HOW_TO_ADD, malformed, not_understood
from .statements import is_statement
from .words import PROPOSAL, QUOTED, Words

_WRITING_VERBS = NOTING_VERBS | lexicon("add append attach capture enter insert put save store write")
_MY_VOTE = (["my", "vote"], ["my", "votes"], ["our", "vote"], ["our", "votes"])
_VOTES = frozenset({"vote", "votes", "my", "me", "yes", "no", "approval"})

_NOTE = r"(?:governance )?(?:notes?|comments?|remarks?)"
_NOUN = re.compile(rf"(?:(?:{'|'.join(ARTICLES)}) )*{_NOTE} (?:that (?=says|reads))?|(?:(?:a|an|the|new) )+$")
_NAMED = re.compile(
    rf"(?:(?:a|an|the|this|following|new|governance) )*(?:notes?|comments?|remarks?|text|message|words"
    rf"|content) (?!{PROPOSAL}|from |of |with |containing |including |about |summari|to |on |for |as |in )(?=\S)"
)
"""What a text follows at once, as in "the note 2025-11-20"."""

_INTRODUCER = re.compile(
    r"(?:(?:that|which) )?(?:saying|says|say|stating|states|reading|reads)(?: that)? (?:: )?"
    r"|that (?=\S)|(?:with|containing) (?:(?:the|this|following) )*(?:text|content|message|words|wording) (?:: )?"
    r"|about (?!it |them |this |that )|titled |as follows (?:: )?|(?:with )?the following(?: text"
    r"| content)? : |[:,=–—-] |-> |=> |→ |\| "
)
_BEFORE_TEXT = re.compile(
    r"(?:(?:with|containing|including) (?!(?:(?:the|this|following) )*(?:text|content|message|words|wording) )|, "
    rf"|please |down |(?:the|this) (?:text|message|content|words) |as (?={QUOTED})|{_NOUN.pattern})*"
)
_TOPIC_END = re.compile(r"(?:[,:-] |please )*")
_TEXT_NEXT = re.compile(
    rf"(?:please )?(?:add|leave|write|make) (?:(?:a|new|governance) )*note (?:to|on|for) (?:proposal )?{PROPOSAL} "
    rf"\. (?=[a-z]+ed (?!{PROPOSAL}|it |this |that )[a-z])(?P<text>[^.?!:;{PROPOSAL}]+)(?:\. )?$"
)
"""A note whose text is the only other sentence, and no order: "Add note to PROP-2025-001. Approved by all."."""

_TRAILING = frozenset({".", "?", "!", "please", ",", "down"})
_AS_NOTE = re.compile(rf"(?:as|in|to|into) (?:(?:a|an|the|its|new|another) )*{_NOTE} ")
_DESTINATION = re.compile(
    rf"(?:(?:to|in|into|under|on|with) (?:the )?(?:{_NOTE}|record|file|log|page) (?=of|for|on|in|to|under))?"
    r"(?:(?:to|on|for|under|against|in|into|at|of|onto|regarding) )?(?:the )?"
    rf"(?:proposals? )?{PROPOSAL} (?:(?:, and|,|and|&) (?:to )?(?:the )?(?:proposals? )?{PROPOSAL} )*"
    r"(?:notes |comments |record |file )?"
)
_POINTER = re.compile(r"(?:it|this|that|the (?:result|answer|number|total)) $")
_NO_TEXT_BEGINS = CONDITIONS | {PROPOSAL}
_TEXT_BEGINS = re.compile(r"(?!, |about |[–—-] )")
"""Of introducers: those behind which there is nothing but text."""

_CONTENT = re.compile(r"(?:the|your|my|our|their|his|her|its|this|these) (?:\S+ ){1,2}$")
_COMPOSING = lexicon(
    "summarizing summarising explaining describing listing outlining detailing thanking asking requesting "
    "recommending suggesting reminding noting mentioning discussing comparing highlighting showing praising "
    "warning informing telling giving recapping reflecting translating including"
)
"""What begins an instruction to compose a text: a note summarizing the discussion."""

_FRAGMENT = re.compile(r"(?:is|was|has|will|are|should|needs|history|count|list|summary|log) ")
_CONTEXT_TEXT = re.compile(
    r"\s*(?:the )?(?:note )?(?:text|note|message|content)(?: is| reads)?\s*[:=]\s*(?=\S)", re.IGNORECASE
)


class Addition(NamedTuple):
    """Notes to add: to which proposals, and the words that say with which text (none: the last result)."""

    proposals: list[str]
    text: Words
    is_literal: bool
    may_be_plain: bool


def addition(words: Words) -> Addition | None:
    """Read a request to add a note; None if this is none.

    Raises:
        RefusalError: it is one, but the id or the text is missing or malformed.
    """
    proposals, request = _topic(words)
    verb = request.words[0] if request.words else ""
    if verb not in NOTE_VERBS and not _NOUN.match(request.line):
        return None
    if request.words[:2] == ["comment", PROPOSAL]:
        return None
    if verb == "drop" and not _NOUN.match(request.cut(1).line):
        return None
    is_note = not NOTE_NOUNS.isdisjoint(request.words)
    _check_id(words, is_note or verb in _WRITING_VERBS)
    rest = request.cut(1) if verb in NOTE_VERBS else request
    destination = None if proposals else _DESTINATION.search(rest.line)
    if destination:
        left = rest.cut(0, rest.line.count(" ", 0, destination.start()))
        right = rest.cut(rest.line.count(" ", 0, destination.end()))
        proposals = rest.cut(len(left), len(rest) - len(right)).proposals()
    else:
        left, right = rest, rest.cut(len(rest))
    if not proposals:
        if is_note and verb != "note":
            raise RefusalError(f"A note needs the id of its proposal; nothing was written. {HOW_TO_ADD}")
        return None
    if not (is_note or _writes_to(verb, destination)):
        return None
    if PROPOSAL in left.words:
        raise not_understood(words)
    if verb == "note" and len(left) == 1 and left.words[0].isalpha() and not right and _names_notes(destination):
        return None
    return _with_text(proposals, left, right, is_note, verb)


def text_of_next_sentence(words: Words) -> NoteAddition | None:
    """Read "Add note to PROP-2025-001. Approved by all."."""
    match = _TEXT_NEXT.match(words.line)
    if not match:
        return None
    start, end = (words.line.count(" ", 0, place) for place in match.span("text"))
    return NoteAddition(words.proposals()[0], (words.cut(start, end).text(),))


def _names_notes(destination: re.Match[str] | None) -> bool:
    """Whether "note count for PROP-..." names something, and notes nothing."""
    return destination is not None and destination.group().startswith(("of ", "for ", PROPOSAL))


def _check_id(words: Words, is_addition: bool) -> None:
    bad = words.bad_proposal()
    if bad is not None and is_addition:
        raise malformed(bad)


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
    return words.cut(0, size).proposals(), rest.after(_TOPIC_END)


def _with_text(proposals: list[str], left: Words, right: Words, is_note: bool, verb: str) -> Addition | None:
    has_more = right.line.startswith(("with ", "containing ", "including ")) and verb != "annotate"
    tail = right
    left, said_left = _content(left)
    is_fragment = _FRAGMENT.match(right.line) or _FRAGMENT.match(left.line)
    right, said_right = _content(right)
    if left and right and _POINTER.match(left.line):
        if not said_right and tail.words[0] != ",":
            raise not_understood(tail)
        left = left.cut(len(left))
    if (left and right) or right.line.startswith("; ") or is_fragment:
        return None
    text, is_said = (
        (left, said_left) if left else (right, said_right or (bool(right) and is_note and not has_more))
    )
    if not text and not is_note:
        return None
    has_object = len(text) > 1 or verb == "annotate" or (bool(text) and is_figure(text.words[0]))
    is_noting = verb in NOTING_VERBS - {"document"} and has_object and _VOTES.isdisjoint(text.words)
    is_plain = (is_note and text.words[:2] not in _MY_VOTE) or is_noting
    return Addition(proposals, text, is_said, is_plain)


def _content(words: Words) -> tuple[Words, bool]:
    """Return the words of the note itself, and whether they were introduced as such (by "saying", by a sign)."""
    words = words.without_last(_TRAILING)
    match = _AS_NOTE.search(words.line)
    if match and match.end() == len(words.line):
        words = words.cut(0, words.line.count(" ", 0, match.start()))
    words = words.after(_AS_NOTE)
    is_named = _NAMED.match(words.line) is not None
    words = words.after(_BEFORE_TEXT)
    rest = words.after(_INTRODUCER)
    if rest.words[:1] == [QUOTED] and len(rest) > 1 and rest.words[1] in CONDITIONS:
        raise not_understood(rest)
    if words and rest:
        _check_beginning(words, rest, is_named)
    return (rest, True) if len(rest) < len(words) else (words, is_named and not _POINTER.match(words.line))


def _check_beginning(words: Words, text: Words, is_named: bool) -> None:
    """Refuse conditions ("if it passes"), other ids, and content that is still to be composed.

    Raises:
        RefusalError: the text of the note is something of the kind.
    """
    introducer = words.cut(0, len(words) - len(text))
    is_about = introducer.words == ["about"]
    if introducer and not is_about and _TEXT_BEGINS.match(introducer.line):
        return
    is_outside = text.words[0] in _NO_TEXT_BEGINS or text.line.startswith(("as soon ", "as long "))
    if is_outside or (not is_named and (PROPOSAL in text.words or _has_colon(text))):
        raise not_understood(words)
    if is_reference(text.line) or aggregate(text.line) or position(text.line) is not None:
        return
    is_content = _CONTENT.match(text.line) and not (is_about and len(text) > 2) and not is_statement(text)
    if is_content or (not is_named and text.words[0] in _COMPOSING | QUESTION_WORDS):
        raise not_understood(words)


def _has_colon(words: Words) -> bool:
    """Whether a colon that is no part of a time or an address parts these words."""
    starts = [*words.starts[1:], -1]
    return any(
        word == ":" and end != start for word, start, end in zip(words.words, starts, words.ends, strict=True)
    )


def text_in_context(context: str | None) -> str:
    """Return the text that a context holds for a note, as in "The text is: Board approved", or ""."""
    match = _CONTEXT_TEXT.match(context or "")
    return (context or "")[match.end() :].strip() if match else ""
