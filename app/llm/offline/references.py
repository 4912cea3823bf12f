"""Words that stand for something found or said before: "it", "the result", "a summary of the findings"."""

from __future__ import annotations

import re

_LEAD = (
    r"(?:(?:the|a|an|your|that|this|its|those|these|both|two|my|final|calculated|computed|search|web|short|brief|quick"
    r"|main|key"
    r"|combined|following|all|every|of|with|about|containing|including|describing|summari[sz]ing|showing"
    r"|listing) )*"
)
_RANK = r"(?:(?:top|first|best|most relevant|leading) (?:(?:\d+|two|three|four|five|ten) )?)?"
_NUMBER = (
    r"(?:number|total|sum|value|product|difference|average|mean|quotient|remainder|percentage|percent|quorum"
    r"|figure|amount"
    r"|calculation)"
)
_FINDING = (
    r"(?:findings?|summary|digest|titles?|points|takeaways|hits|matches|overview|recap|information|info"
    r"|search|page|pages"
    r"|what (?:you|it|we) (?:find|found|learn|learned|learnt))"
)
_ANY = (
    r"(?:results?|answers?|output|outcome|it|this|that|them|those|these|both|all|everything|what (?:you"
    r"|it|we) (?:get|got))"
)
_OF_IT = (
    r"(?: of (?:the |that |this |your )?(?:top |first |best )?(?:\d )?(?:search |web )?(?:search|calculation"
    r"|sum|results?"
    r"|findings|it))?(?: from (?:the |that |your )?(?:web )?search)?(?: as)?(?: (?:a|the))?(?: notes?)?"
)
_REFERENCE = re.compile(
    rf"{_LEAD}{_RANK}(?:search |web )?(?:{_ANY}|(?P<number>{_NUMBER})|(?P<finding>{_FINDING})){_OF_IT} $"
)
_POINTER = re.compile(r"(?:about )?(?:it|this|that|them)(?: down)? $")
_SEVERAL = re.compile(r"\b(?:both|all|everything|them|(?<!\d )results|answers|those|these) ")
_HEAD = (
    r"(?:results?|answers?|findings?|summary|title|titles|url|urls|link|links|number|total|points|takeaways"
    r"|hits?|matches"
    r"|best|first|top|larger|largest|smaller|smallest|bigger|biggest|higher|highest|lower|lowest|former"
    r"|latter|output"
    r"|outcome|sum|product|difference|average|quotient|remainder|percentage|steps|working|snippets?|pages?"
    r"|articles?|headlines?)"
)
_HANGING = re.compile(
    rf"(?:(?:the|a|an|your|its|their|of|with|about|all|only|just|containing|summari[sz]ing|describing|search"
    rf"|web|key|main"
    rf"|top|first|second|third|last|next|best|most|relevant|\d+|two|three|five|short|brief) )*{_HEAD} "
    r"(?:$|of |for |from |in |on |about |as |was |were |above |plus |and )|how (?:many|much) |what (?:you|it|we) "
    r"|summari[sz]ing |(?:this|that|it|its|them|these|those|both) |whether |which "
)
_IN_PASSING = re.compile(rf"\b{_HEAD} ")
_STILL_TO_FIND = re.compile(
    r"(?:the |a )?(?:current |latest |live |today's |present |(?:exact )?(?:time|date|day|weather|price"
    r"|exchange rate) (?:$"
    r"|in |of |now |today )|(?:sum|total|product|difference|quotient|average|mean|median|square root"
    r"|cube root|remainder"
    r"|square|cube|percentage|number|count|maximum|minimum|factorial|half|quarter|third|double|twice) of )"
    r"|[\d.,]+ (?:%|percent) of (?!.* (?:is|are|was|were|has|have|had|voted|paid) )"
    r"|[\d.,]+ [a-z]+ (?:in|to|into) [a-z]+ $"
)
_FORBIDDING = re.compile(r"\b(?:not|don't|never|didn't) (?:want|wish|write|note|record|log|add|save) ")
_SEARCHED = re.compile(
    r"(?:the )?(?:(?:top|first|best|\d+|three|five|search|web|key) )*(?:results?|findings?|hits|articles|summary)"
    r" (?:(?:of|from) (?:a |the |your )?(?:web |quick |online )?search )?(?:for|about|on) "
)
_PLACE = re.compile(
    r"<[a-z _]{1,20}>|\{\{?[a-z _]{1,20}\}?\}|\[(?:result|answer|number|value|total|sum)\]", re.IGNORECASE
)


def is_reference(line: str) -> bool:
    """Whether words mean an earlier result."""
    return _REFERENCE.match(line) is not None


def of_calculation(line: str) -> bool:
    """Whether a reference can only be to the result of a calculation."""
    kind = _REFERENCE.match(line)
    return kind is not None and (kind["number"] is not None or "calculation " in line)


def of_search(line: str) -> bool:
    """Whether a reference is to what a search has found."""
    kind = _REFERENCE.match(line)
    return kind is not None and (kind["finding"] is not None or "search " in line)


def is_pointer(line: str) -> bool:
    """Whether these words may also mean a statement: "it", "this", "that"."""
    return _POINTER.match(line) is not None


def means_several(line: str) -> bool:
    """Whether a reference is to every result so far."""
    return _SEVERAL.search(line) is not None


def stands_for_something(line: str, after_results: bool) -> bool:
    """Whether words that are no reference speak of a result all the same, or of what is still to be found out."""
    hanging = _HANGING.match(line) or _STILL_TO_FIND.match(line) or _FORBIDDING.search(line)
    return bool(hanging or (after_results and _IN_PASSING.search(line)))


def results_of_search() -> re.Pattern[str]:
    """What stands in front of the subject in "the top results of a search for X"."""
    return _SEARCHED


def places(text: str) -> list[str]:
    """Return `text` cut where it has a place for a result, as in 'Quorum: <result>'."""
    return _PLACE.split(text)
