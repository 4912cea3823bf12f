"""What a request wants looked up: the subject of a search, or a plain question about the world."""

from __future__ import annotations

import re

from .lexicon import lexicon
from .numerals import NUMBER_WORDS, is_figure
from .program import RefusalError
from .statements import is_code
from .words import PROPOSAL, QUOTED, Words, unquoted

_WEB = r"(?:the )?(?:web|internet|net|online|google|world wide web)"
_DOING = (
    r"(?:(?:go online|go|try|start|do|run|perform|make|conduct|carry out|use|using|call|invoke|with) (?:and "
    r"|to )?)?"
    r"(?:(?:a|an|the|some|another|quick|simple|thorough|brief|deep|fresh|new|web|internet|online|google) )*"
)
_SEARCH = re.compile(
    rf"{_DOING}(?:search(?:ing)?|web_search|websearch)(?: tool)?(?: (?:on |in )?{_WEB})?(?: up| online)?"
    r"(?: to find| for| about| on| into|(?= [:,(]))? (?:[:,(] )?"
    rf"|(?:look|check|browse|scan|scour|query) (?:on |in |through |around )?{_WEB}(?: for| about| on)? (?:: )?"
    r"|(?:look|looking) (?:up|for|into|online for) (?:: )?|lookup |google (?:for )?|bing "
    rf"|{_DOING}research (?:on |about |into )?(?:: )?|browse (?:for )?|query (?:: )?|investigate |explore "
    rf"|(?:find out|see|check|let me know|tell me) what (?:you can find|{_WEB} (?:says|has)|there is) (?:online )?"
    r"(?:about|on|for|regarding) |what can you find (?:about|on|for|regarding) "
)
"""An order to search: what follows is the subject, whatever it is."""

_FIND = re.compile(
    r"(?:find|get|fetch|give|show|send|gather|collect|read|retrieve|pull|bring|i need|i want|i'm looking for"
    r"|i am looking for)(?: me| us)?(?: up)? (?:out )?(?:on |about )?"
)
_SOME = (
    r"(?:(?:some|any|more|the|a|an|recent|latest|good|all|few|several|current|of|list|detailed|further"
    r"|relevant|useful|search) )*"
)
_KINDS = (
    r"(?:information|info|articles?|news|details|facts|resources|documentation|docs|sources|papers|data|tutorials"
    r"|results|links|pages|reports?|examples|background|material|updates|headlines|guides?|blog posts|posts"
    r"|latest)"
)
_ABOUT = r"(?:on|about|regarding|concerning|for|from|of|related to) "
_MATERIAL = re.compile(rf"{_SOME}{_KINDS}(?: online| on {_WEB})? (?:{_ABOUT})?")
_ANY_MATERIAL = re.compile(
    rf"(?:(?:is|are) there |do you have |have you got )?(?:any|some"
    rf"|anything) (?:{_SOME}{_KINDS} )?(?:out there )?{_ABOUT}"
)
_LEARN = re.compile(
    r"(?:learn|know|read|hear|understand|find out|know more|learn more)(?: some)?(?: more| everything)? "
    r"(?:about|on|regarding) |tell (?:me|us) (?:all |more |everything |something )?about "
    r"|(?:let me know|inform me|educate me|brief me|fill me in) (?:about|on) |find out (?:more )?(?:about "
    r"|on |if |whether )?"
    r"|(?:define|explain|describe) |(?:what do you know|what can you tell me) about "
    r"|see (?:if|whether) there (?:is|are) "
)
_ASKING = re.compile(
    r"(?:(?:tell|inform) (?:me|us)|know|let me know|(?:do )?(?:you|u) (?:happen to )?know|i wonder"
    r"|i'm wondering"
    r"|i'm curious|i am curious|i(?:'d| would)? (?:want|need|like|love)(?: to (?:know|find out|learn"
    r"|understand))?|find out"
    r"|i don't know|any idea|explain(?: to me)?|see) (?=(?:what|who|when|where|why|how|which|whose|the|if"
    r"|whether)\b)"
)
_QUESTION = re.compile(
    r"(?:(?:in|on|at|for|from|by|of|with|to|under|since) )?"
    r"(?:what|what's|whats|who|who's|whos|whose|whom|when|when's|whens|where|where's|wheres|why|how|how's"
    r"|hows|which"
    r"|is|are|was|were|does|do(?= \S+ \S)|did|can|could|will|would|should|has|have) (?!not |nothing )"
)
_TOPIC = re.compile(
    r"(?:(?:the|a|an|current|latest|today's|todays|recent|live|tomorrow's|weekly|local|new|top|official"
    r"|average) )*"
    r"(?:weather|forecast|temperature|exchange rate|conversion rate|definition|meaning|news|headlines|price"
    r"|prices"
    r"|capital|population|history|rate|synonyms?|distance|directions|etymology|biography|stock price|value"
    r"|cost|status"
    r"|things to do|places to|attractions|sights|rules|release date|version|recipe)(?: \S+){1,60}"
)
_CURRENCY = lexicon(
    "dollar dollars usd euro euros eur yen jpy pound pounds gbp peso pesos mxn rupee rupees inr yuan rmb cny "
    "ruble rubles franc francs chf won krw cad aud lira krona kronor bitcoin btc eth ether real reais"
)
_PERSONAL = re.compile(
    r"\b(?:your|yours|yourself|u|(?<!to )mine"
    r"|this (?:playlist|song|album|email|message)"
    r"|are you|were you|you like|(?<!how )(?<!where )do you|did you|have you"
    r"|you do|you are|you been"
    r"|(?<!how )(?:did|do|have|should|are|can) we|am i|did i|have i|do i (?:have|owe|own)|i (?:have|spend|owe"
    r"|own|spent) (?!to )|i'm|i am|i've|on my"
    r"|in my|is my|are my"
    r"|what's my|whats my|where's my|wheres my|when's my|was my|much my|me a|us a|is me)\b"
)
_MINE = re.compile(r"\b(?:my|me|mine|our|you|your|we|us)\b")
_OWN = (["my"], ["our"], ["your"])
_YES_NO = re.compile(r"(?:is|are|was|were|does|do|did|can|could|will|would|should|has|have) ")
_DEICTIC = lexicon("this that it these those here up")
_CLOCK = re.compile(
    r"(?:what|what's|whats|tell|is|the|me|current|exact|time|date|day|month|year|it|today|today's|todays|now"
    r"|right|of"
    r"|\?|is|week) (?:(?:what|is|the|current|exact|time|date|day|month|year|it|today|today's|now|right|of"
    r"|week|\?) )*$"
)
_RECKONING = lexicon(
    "total sum average product difference quotient tip percent percentage discount off area volume perimeter "
    "interest root square squared cubed cube double triple twice half times divided multiplied multiply divide "
    "plus minus add subtract remainder factorial log logarithm power left each per more fewer less altogether "
    "many much remain remaining cost earn equals equal calculate percent % + * / ( ) = ^ × "
    "mile miles kilometer kilometers km meter meters foot feet inch inches ounce ounces cup cups gram grams "
    "kilogram "
    "kilograms liter liters gallon gallons celsius fahrenheit degrees seconds minutes"
)
_CLOSING = lexicon("please thanks thank . ? ! , ; :")
_MAX_COURTESIES = 3
_GOING_ON = re.compile(rf"\b(?:(?:and|then) (?!{PROPOSAL} )|but |or |if |unless ).*{PROPOSAL} ")
_CLOSING_PHRASE = re.compile(
    rf"(?:for me|and (?:show|give|tell|send) (?:me )?(?:the|what) \S+|(?:and )?(?:search|using|on"
    rf"|from|via|through|with|in) {_WEB}|online|and|then|thank you) $"
)
_EMPTY = re.compile(
    rf"(?:(?:the|it|that|this|some|any|a|articles|information|info|something|anything|about|for|on|up|results"
    rf"|one|{_WEB}"
    r"|[.?!,;:]) )*$"
)
_TRAVEL = re.compile(
    r"\b(?:flights?|hotels?|reservations?|table|seat|car|uber|taxi|ride|ticket|tickets|phone|keys) "
)


def search_order(words: Words) -> Words | None:
    """Return the subject of an explicit order to search (empty if it has none), None if there is no such order.

    Raises:
        RefusalError: it goes on with something to do to a proposal that is not understood.
    """
    rest = words.after(_SEARCH)
    if len(rest) == len(words) and words.words[0] == "look":
        end = len(subject(words))
        if words.words[end - 1] == "up":
            return subject(words.cut(1, end - 1))
    if len(rest) < len(words):
        if PROPOSAL in rest.words and _GOING_ON.search(rest.line):
            raise RefusalError(f"I do not understand all of {words.text()[:80]!r}, so I did nothing.")
        return None if rest.words[:1] in _OWN else subject(rest.after(_MATERIAL))
    rest = words.after(_FIND)
    empty = len(rest) < len(words) and not subject(rest.after(_MATERIAL))
    return words.cut(len(words)) if empty else None


def subject(words: Words) -> Words:
    """Return what to search for, without closing courtesies; empty if nothing is left."""
    for _ in range(_MAX_COURTESIES):
        end = len(words)
        open_ = words.words.count("(")
        while end and (
            words.words[end - 1] in _CLOSING or (words.words[end - 1] == ")" and words.words.count(")") > open_)
        ):
            end -= 1
        words = words.cut(0, end).before(_CLOSING_PHRASE)
    return words.cut(len(words)) if _EMPTY.match(words.line) else words


def query(subject: Words) -> str:
    """Return the text of a search, without quotation marks around all of it."""
    return unquoted(subject.text()).strip() if subject.words == [QUOTED] else subject.text()


def question(words: Words) -> Words | None:
    """Return what to look up for a question about the world or a request for information; None if it is neither.

    Questions about the caller or the planner, and those that are to be worked out, are nothing to look up.
    """
    asked = _asked(words)
    if asked is None or _is_personal(asked) or is_reckoning(asked) or is_code(asked):
        return None
    return subject(asked) or None


def wants_an_answer(words: Words) -> bool:
    """Whether pages that were found are no answer to note down: has the audit passed, how many votes."""
    return _YES_NO.match(words.line) is not None or words.line.startswith(("how many ", "how much "))


def _asked(words: Words) -> Words | None:
    for opening in (_LEARN, _ASKING, _ANY_MATERIAL):
        rest = words.after(opening)
        if len(rest) < len(words):
            return rest
    rest = words.after(_FIND)
    if len(rest) == len(words):
        return rest if _QUESTION.match(rest.line) or _TOPIC.match(rest.line) or _is_exchange(rest) else None
    material = rest.after(_MATERIAL)
    if len(material) < len(rest) or _TOPIC.match(rest.line):
        return material
    return rest if words.words[0] == "find" and not _TRAVEL.search(rest.line) else None


def _is_exchange(words: Words) -> bool:
    first = words.words[0]
    may_begin = first in {"convert", "current", "exchange"} or first in _CURRENCY
    return (may_begin or (is_figure(first) and "to" in words.words)) and len(
        _CURRENCY.intersection(words.words)
    ) > 1


def _is_personal(words: Words) -> bool:
    if words.words[:1] in _OWN:
        return True
    if words.words and (words.words[-1] in _DEICTIC or PROPOSAL in words.words):
        return True
    if "my" in words.words and not _is_incidental(words.words):
        return True
    if _CLOCK.match(words.line) or _PERSONAL.search(words.line):
        return True
    return bool(_YES_NO.match(words.line) and _MINE.search(words.line))


def _is_incidental(words: list[str]) -> bool:
    """Whether "my" only closes a question about the world: how do i get wine out of my carpet."""
    return words[0] in {"how", "what", "which"} and "my" in words[-3:]


def is_reckoning(words: Words) -> bool:
    """Whether the answer would have to be worked out from numbers in the text, years aside."""
    numbers = [word for word in words.words if (is_figure(word) or word in NUMBER_WORDS) and not _is_year(word)]
    if not numbers or len(_CURRENCY.intersection(words.words)) > 1:
        return False
    return len(numbers) > 1 or not _RECKONING.isdisjoint(words.words)


def _is_year(word: str) -> bool:
    return len(word) == 4 and word.isdecimal()
