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


_AGGREGATE = re.compile(
    r"(?:(?:what|what's|whats|is|calculate|compute|find|the|their|a|as|combined|overall|grand|its) )*"
    r"(?P<kind>sum|total|average|mean|product|difference) (?:between )?"
    r"(?:(?:the|these|those|both|two|three|all|of|them|results?|numbers|values|answers|calculations|as|a|note|notes"
    r"|then|and|it|instead) )*(?:[.?!] )*$"
    r"|(?P<order>add|sum|total|multiply|average) (?:up )?(?:them|these|those|both|the two|all of them|everything"
    r"|(?:the |both |all ){1,3}(?:two |three )?(?:results|numbers|answers|values)) (?:(?:up|together|all|both) )*"
    r"(?:[.?!] )*$"
)
_OF_ONE = re.compile(r"\b(?:sum|product|difference|average|mean|quotient|remainder|percentage|percent|quorum) ")
_KINDS = {"add": "sum", "total": "sum", "multiply": "product", "mean": "average"}
_POSITION = re.compile(
    r"(?:(?:only|just|the) )*(?P<place>first|second|third|fourth|fifth|last|final|former|latter) "
    r"(?:(?:result|answer|number|one|value|calculation|figure|total) )?(?:as a note )?$"
)
_PLACES = {"first": 0, "former": 0, "second": 1, "third": 2, "fourth": 3, "fifth": 4, "latter": -1, "last": -1}


def aggregate(line: str) -> str:
    """Return what is to be made of several results: sum, product, difference, average; or ""."""
    match = _AGGREGATE.match(line)
    kind = (match["kind"] or match["order"]) if match else ""
    return _KINDS.get(kind, kind)


def combined(kind: str, results: list[int]) -> tuple[str | int, ...]:
    """Return the expression for an aggregate of results; () for a difference of more than two."""
    if kind == "difference":
        return ("abs(", results[0], " - ", results[1], ")") if len(results) == 2 else ()
    sign = " * " if kind == "product" else " + "
    chain = tuple(part for index in results for part in (sign, index))[1:]
    return ("(", *chain, f") / {len(results)}") if kind == "average" else chain


def position(line: str) -> int | None:
    """Return the place in a list that "the second" or "the last result" means."""
    match = _POSITION.match(line)
    return _PLACES.get(match["place"], -1) if match else None


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


def needs_one(line: str) -> bool:
    """Whether a reference among several results cannot be to all of them: the sum, the first, the quotient."""
    return bool(aggregate(line)) or position(line) is not None or _OF_ONE.search(line) is not None


def stands_for_something(line: str, after_results: bool) -> bool:
    """Whether words that are no reference speak of a result all the same, or of what is still to be found out."""
    hanging: object = _HANGING.match(line) or _STILL_TO_FIND.match(line) or _FORBIDDING.search(line)
    hanging = hanging or aggregate(line) or position(line) is not None
    return bool(hanging or (after_results and _IN_PASSING.search(line)))


def results_of_search() -> re.Pattern[str]:
    """What stands in front of the subject in "the top results of a search for X"."""
    return _SEARCHED


def places(text: str) -> list[str]:
    """Return `text` cut where it has a place for a result, as in 'Quorum: <result>'."""
    return _PLACE.split(text)
