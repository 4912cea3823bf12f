"""The words around a request that say nothing of what is requested: politeness, connectives, tool names."""

from __future__ import annotations

import re

from .lexicon import lexicon
from .words import Words

_POLITE = re.compile(
    r"(?:(?:please|kindly|(?:hey|hi|hello)(?: there)?|yo|um+|uh+|hmm+|well|alright|ok|okay|so|now|then|next"
    r"|also|and|just|quickly|first|firstly|second|secondly"
    r"|third|thirdly|finally|lastly|after that|afterwards|once done|go ahead and|let's|try to|go ahead|•"
    r"|(?:can|could|would|will) (?:you|u)|can i|may i|help me(?: to)?(?! with| out| please)"
    r"|i(?:'d| would)? (?:want|need|like|love)(?: you)? to|i'm trying to|i am trying to"
    r"|(?:use|using|with|run|call|invoke) (?:the |your |a )?(?:math|calculator|web_search|web search|search"
    r"|governance_note|governance note|note)(?: tool)?(?: to| and)?(?= (?!for |on |about |: |, |tool |[(] |with ))"
    r"|(?:do|perform|complete|carry out|run) (?:these|this|the following|both|(?:two|three) things|all of these)"
    r"(?: things| tasks| steps| actions)?(?= :)"
    r"|(?:i have )?a? ?(?:quick )?question(?= [:,])|\d+ [.)](?= [a-z])"
    r"|[,:.;–—]|\((?= (?:search|google|look))) )+"
)


def without_politeness(words: Words) -> Words:
    """Return what remains of a request behind "please", "can you", "then", and the like."""
    return words.after(_POLITE)


_PRESENT = lexicon(
    "show give tell return report print display say get send output summarise summarize list present explain "
    "share let"
)
_PRESENTED = lexicon(
    "me us back just only the a an your both all final two three five short brief key main top first best to "
    "know what "
    "you find found it them both answer answers result results number numbers value values output total sum "
    "summary "
    "findings points takeaways results hits titles links about of for each please . ! ? , - briefly"
)
_CLOSING = re.compile(
    r"(?:thanks|thank you|cheers)(?: \S+){0,3} $"
    r"|(?:how much|what|what's) (?:(?:is|does|would|will|do|should|it|that|i|the|you|price|cost|final|total"
    r"|pay|be|now|get|sale|answer|result|come|to) )*(?:[.!?] )*$"
)

_HELP = re.compile(
    r"(?:help|help me|i need help|(?:what|which things) (?:can|could|do) you (?:do|help with|help me with|offer)"
    r"|what are (?:you able|your abilities|you capable).*"
    r"|how (?:do|can) (?:i use (?:this|you)|you (?:help|work)).*"
    r"|(?:can|could|will) you help|who are you|what are you) (?:(?:please|[?.!,]|me|for) )*$"
)


def is_call_for_help(words: Words) -> bool:
    """Whether someone only asks what can be asked for."""
    return _HELP.match(words.line) is not None


def is_presenting(words: Words) -> bool:
    """Whether these words only ask for what every answer has: the results, said to the caller."""
    if words.words[0] not in _PRESENT:
        return _CLOSING.match(words.line) is not None
    return all(word in _PRESENTED or word.isdecimal() for word in words.words[1:]) and words.words[0] != "share"
