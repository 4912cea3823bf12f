"""A request to see the notes of proposals."""

from __future__ import annotations

import re

from .words import PROPOSAL, Words

_NOTES = r"(?:notes?|comments?|remarks?)"
_IDS = rf"(?:proposals? )?{PROPOSAL} (?:(?:, and|,|and|&) (?:proposal )?{PROPOSAL} )*"
_TAIL = (
    r"(?:(?:have|has|had|say|says|contain|contains|notes?|comments?|remarks?|yet|now|right|so|far|please"
    r"|today|for|me"
    r"|us|again|aloud|back|thanks|file|record|[.?!,]) )*$"
)
_NAMED = re.compile(
    rf"(?:(?:(?:all|the|any|latest|last|recent|existing|previous) )(?:(?:latest|last|governance) )?{_NOTES}"
    rf"|(?:governance )?(?:notes|comments|remarks)) (?:(?:on|for|of|in|from|about"
    rf"|attached to) )?(?:the )?{_IDS}{_TAIL}"
    rf"|{PROPOSAL} (?:governance )?(?:notes|comments|remarks) {_TAIL}"
)
"""What only names the notes: "notes for PROP-2025-001"."""

_ASKED = re.compile(
    r"(?:show|list|read|retrieve|get|fetch|display|view|see|print|summarise|summarize|review|check|open"
    r"|recall|tell|give"
    r"|pull|bring|let me|let us|go through|count|what|what's|whats|which|are|is|has|have|do|does|did"
    r"|any|anything"
    r"|everything|how many|i need|i want|(?:look|search|find)(?: up| for| in| through| at)?(?: (?:all|the|any))*"
    r"(?: governance)?(?= notes?| comments?| remarks?)) "
)
_NOTED = re.compile(
    r"\b(?:notes?|noted|recorded|documented|logged|written"
    r"|(?:did|do|does) \w+ write|write down|wrote down|comments?|remarks?)\b"
)
_BARE = re.compile(rf"(?:show|list|read|display|view)(?: me)?(?: the)? {_IDS}(?:[.?!] )*$")
_OTHER_ORDER = re.compile(
    r"\b(?:rid|delete|remove|clear|erase|edit|change|replace|add|"
    r"(?<!did people )(?<!did they )(?<!did anyone )(?<!did everyone )write(?! down)"
    r"|rename|move|save|store|copy"
    r"|merge|send"
    r"|email|mail|forward|share|post|publish|translate|compare|sum|use|to have|(?:as|in|into) an? note|not"
    r"|don't|never"
    r"|but|should|must|if found) "
)
_TO_THE_END = re.compile(rf".*{PROPOSAL} ")
_LAST = re.compile(rf"(?:for (?!me )(?:[\w'-]+ ){{1,4}})?{_TAIL}")


def reading(words: Words) -> list[str]:
    """Return the proposals whose notes a request wants to see; it must ask for them and for nothing else."""
    if PROPOSAL not in words.words:
        return []
    line = words.line
    if _NAMED.match(line) or _BARE.match(line):
        return words.proposals()
    end = _TO_THE_END.match(line)
    asked = end and _ASKED.match(line) and _NOTED.search(line) and not _OTHER_ORDER.search(line)
    return words.proposals() if asked and end and _LAST.match(line, end.end()) else []
