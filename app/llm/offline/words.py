"""A text as words that remember where they stood: quotations and proposal ids are one word each, and opaque."""

from __future__ import annotations

import re
from itertools import islice

QUOTED = "\x01"
PROPOSAL = "\x02"
BAD_PROPOSAL = "\x03"
"""What stands for a quotation, a proposal id and a malformed one; control characters are never words."""

_FORMS = r"""
    (?P<marked> ["'“‘`[(] prop-[0-9]{4}-[0-9]{3,6} ["'”’`\])] (?! \w ) )
    | (?P<quoted> "[^"]*" | “[^”]*” | «[^»]*» | `[^`]*`
        | (?<!\w) ' [^']* (?: (?<=\w)'(?=\w) [^']* )* ' (?!\w)
        | ‘ [^’]* (?: (?<=\w)’(?=\w) [^’]* )* ’ (?!\w) )
    | (?P<proposal> \b prop-[0-9]{4}-[0-9]{3,6} (?! \w | [/\\@%*+\#$^~] | [.-]\w ) ) (?:['’]s\b)?
    | (?P<bad> \b prop (?: osal )? [-_]? [0-9] [\w-]* | \b prop-[\w-]* )
    | [0-9]+ (?: st | nd | rd | th ) \b
    | (?: [0-9]{1,3} (?: ,[0-9]{3} )+ (?! [0-9] ) | [0-9]+ ) (?: \.[0-9]+ )? (?: e[+-]?[0-9]+ \b )?
    | \.[0-9]+
    | (?<=[0-9]) (?<!\b0) x (?=[0-9])
    | [^\W\d]\w* (?: ['’-](?!\d)\w+ )* (?: \+\+[0-9]* )?
    | -> | => | \*\* | //
    | [^\s\x00-\x1f]
    """
_TOKEN = re.compile(_FORMS, re.IGNORECASE | re.VERBOSE)
_LOWER_CASE_TOKEN = re.compile(_FORMS, re.VERBOSE)
"""For texts that can be lowered beforehand without moving a character; it takes half the time."""

NARROW = {0xFF01 + offset: 0x21 + offset for offset in range(94) if chr(0xFF01 + offset) != "："}
"""Full-width letters, digits and signs are read like their narrow forms."""

_KINDS = {"quoted": QUOTED, "marked": PROPOSAL, "proposal": PROPOSAL, "bad": BAD_PROPOSAL}


class Words:
    """A run of words of one source text.

    `line` is the words in lower case, each followed by one blank: phrases are recognised in it, and whatever is
    quoted from the source is cut from the source itself.
    """

    __slots__ = ("ends", "line", "source", "starts", "words")

    def __init__(self, source: str, words: list[str], starts: list[int], ends: list[int]) -> None:
        self.source = source
        self.words = words
        self.starts = starts
        self.ends = ends
        self.line = " ".join(words) + " " if words else ""

    def __len__(self) -> int:
        return len(self.words)

    def cut(self, start: int, stop: int | None = None) -> Words:
        """Return the words from `start` up to `stop`."""
        if not start and (stop is None or stop >= len(self.words)):
            return self
        span = slice(start, stop)
        return Words(self.source, self.words[span], self.starts[span], self.ends[span])

    def without_last(self, dropped: frozenset[str]) -> Words:
        """Return these words without those at the end that are in `dropped`."""
        end = len(self.words)
        while end and self.words[end - 1] in dropped:
            end -= 1
        return self.cut(0, end)

    def through(self, other: Words, everything: Words) -> Words:
        """Return these words, `other`, and what stands between them in `everything`."""
        start = everything.starts.index(self.starts[0])
        return everything.cut(start, everything.ends.index(other.ends[-1]) + 1)

    def text(self) -> str:
        """Return the stretch of the source that these words cover."""
        return self.source[self.starts[0] : self.ends[-1]] if self.words else ""

    def word_text(self, index: int) -> str:
        """Return one word as the source has it."""
        return self.source[self.starts[index] : self.ends[index]]

    def after(self, phrase: re.Pattern[str]) -> Words:
        """Return what follows `phrase` if these words begin with it, else all of them."""
        match = phrase.match(self.line)
        return self.cut(count(match)) if match and match.end() else self

    def before(self, phrase: re.Pattern[str]) -> Words:
        """Return what precedes `phrase`, which is looked for anywhere, else all of them."""
        match = phrase.search(self.line)
        return self.cut(0, self.line.count(" ", 0, match.start())) if match else self

    def is_new_line(self, index: int) -> bool:
        """Whether the word at `index`, which is not the first, begins a line."""
        return "\n" in self.source[self.ends[index - 1] : self.starts[index]]

    def proposals(self) -> list[str]:
        """Return the well-formed proposal ids among these words, in upper case."""
        places = (index for index, word in enumerate(self.words) if word == PROPOSAL)
        return [_plain_id(self.word_text(index)) for index in places]

    def bad_proposal(self) -> str | None:
        """Return the first malformed proposal id, as written."""
        found = islice((i for i, word in enumerate(self.words) if word == BAD_PROPOSAL), 1)
        return next((self.word_text(index) for index in found), None)


def count(match: re.Match[str]) -> int:
    """How many words a match of whole words covers."""
    return match.group().count(" ")


def read_words(source: str) -> Words:
    """Take a text apart; every character that is neither space nor control character is part of some word."""
    if source.isascii():
        matches = list(_LOWER_CASE_TOKEN.finditer(source.lower()))
    else:
        matches = list(_TOKEN.finditer(source.translate(NARROW)))
    words = [_KINDS[match.lastgroup] if match.lastgroup else match[0] for match in matches]
    if not source.isascii():
        words = [word.lower().replace("’", "'") for word in words]
    return Words(source, words, [match.start() for match in matches], [match.end() for match in matches])


def _plain_id(text: str) -> str:
    return text.translate(NARROW).upper().removesuffix("S").strip("\"'`“”‘’[]()")


def unquoted(text: str) -> str:
    """Return `text` without the quotation marks that enclose the whole of it."""
    return text[1:-1] if len(text) > 1 and (text[0] + text[-1]) in _MARKS else text


_MARKS = frozenset({'""', "''", "“”", "‘’", "«»", "``"})
