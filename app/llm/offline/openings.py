"""The words around a request that say nothing of what is requested: politeness, connectives, tool names."""

from __future__ import annotations

import re

from .words import Words

_POLITE = re.compile(
    r"(?:(?:please|kindly|hey|hi|hello|ok|okay|so|now|then|next|also|and|just|quickly|first|firstly|second|secondly"
    r"|third|finally|lastly|after that|afterwards|once done|go ahead and|let's|try to"
    r"|(?:can|could|would|will) (?:you|u)|can i|may i|help me(?: to)?(?! with| out| please)"
    r"|i(?:'d| would)? (?:want|need|like|love)(?: you)? to|i'm trying to|i am trying to"
    r"|(?:use|using|with|run|call|invoke) (?:the |your |a )?(?:math|calculator|web_search|web search|search"
    r"|governance_note|governance note|note)(?: tool)?(?: to| and)?(?= (?!for ))"
    r"|(?:do|perform|complete|carry out|run) (?:these|this|the following|both|(?:two|three) things|all of these)"
    r"(?: things| tasks| steps| actions)?(?= :)"
    r"|(?:i have )?a? ?(?:quick )?question(?= [:,])|\d+ [.)](?= [a-z])"
    r"|[,:.;–—]|\((?= (?:search|google|look))) )+"
)


def without_politeness(words: Words) -> Words:
    """Return what remains of a request behind "please", "can you", "then", and the like."""
    return words.after(_POLITE)
