"""What a clause is that asks for nothing: a statement, which "it" may mean, or code, which nothing may."""

from __future__ import annotations

import re

from .clauses import HEADS
from .lexicon import lexicon
from .words import QUOTED, Words, unquoted

_NO_SUBJECTS = HEADS | lexicon(
    "approve accept adopt allow analyse analyze apply archive ask assign book buy call cancel change choose clean "
    "close compare confirm convert copy correct count create decide delegate delete deploy describe discuss do "
    "don't draft edit email ensure estimate execute explore finish fix follow forward generate give go grant help "
    "identify if ignore implement inform inspect install investigate invite is are was were did does has have can "
    "could should would let list measure merge move name notify open order pay plan play prepare print process "
    "propose provide publish pull push put query raise read reject remember remind remove rename repeat replace "
    "reply report request reserve reset resolve return rewrite round run say schedule select sell send set sell "
    "share ship sign sort split start stop subscribe suggest summarise summarize take talk test text think "
    "translate transfer try turn undo unless update upload use vote wait wipe withdraw never not when before "
    "after "
    "until while once because verify validate hire fire ping contact  please note example system count "
    "convert calculating computing searching finding"
)
_OBJECTS = lexicon(
    "the a an my our your that this these those it them him me us all every each if whether how what"
)
"""What follows an order more often than a subject: verify the audit passed."""

_ADVERBS = lexicon(
    "today yesterday now both all finally unfortunately fortunately at on in as after since during by"
)
_VERB = re.compile(
    r" (?:is|are|was|were|has|have|had|isn't|wasn't|weren't|hasn't|will|won't|can't|cannot|must|should|paid"
    r"|met|sent"
    r"|won|lost|spent|began|grew|rose|fell|sold|bought|withdrew|left|went|came|made|took|gave|got|said|knew"
    r"|held|ran"
    r"|chose|wrote|did|agree|agrees|wants|needs|requires|supports|has been|looks|seems|starts|ends|opens|closes) "
    r"| [a-z]+ed (?:$|[.!,;] |(?:by|on|in|at|for|to|with|from|off|out|up|down|over|as|after|before|until"
    r"|since|today"
    r"|yesterday|twice|again|early|late|well|unanimously|successfully|fully|and|but|that|the|a|an|its|their|our"
    r"|his|her|all|both|into|within|without|under|via|per|due|\d\S*) )"
)
_CODE = re.compile(
    r"[\w\])]\(|__|;|`|\{|\*\*|==|:=|\[\s*\d|['\"]\s*[*+]|\blambda\b|\bimport\b|(?<![\d.])\d[\d.]*+e\d"
    r"|[\w)]\s*[*^=]\s*[\w(]"
    r"|[\w)] \+ [\w(]|\d [-/] \w|\w [-/] \d"
    r"|\b(?:inf|infinity|nan)\b.*\b(?:inf|infinity|nan)\b|^\W*(?:inf|nan|\d*+e\d+)\W*$",
    re.IGNORECASE,
)
_NOTHING = re.compile(
    r"[\s\x00-\x1f\u00ad\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u2028-\u202f"
    r"\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff]*"
)


def is_statement(words: Words) -> bool:
    """Whether these words say something: a quotation, or a clause with a subject and a finite verb."""
    said = words.line.rstrip(" .!,;-–—")
    if said == QUOTED:
        return True
    if "?" in words.line or is_code(words) or not words or words.words[0] in _NO_SUBJECTS:
        return False
    if words.words[1:2] and words.words[1] in _OBJECTS and words.words[0] not in _ADVERBS:
        return False
    return _VERB.search(words.line, len(words.words[0])) is not None


def is_code(words: Words) -> bool:
    """Whether these words are an expression or a program, which to look up would be to misunderstand."""
    return _CODE.search(words.text()) is not None or not _is_balanced(words.words)


def _is_balanced(words: list[str]) -> bool:
    depth = 0
    for word in words:
        depth += (word == "(") - (word == ")")
        if depth < 0:
            return False
    return depth == 0


def is_blank(text: str) -> bool:
    """Whether nothing in a text, or inside the quotation marks around it, can be seen."""
    return _NOTHING.fullmatch(unquoted(text.strip())) is not None
