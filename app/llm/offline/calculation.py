"""From a request to the expressions that it wants worked out: all of its words are arithmetic, or nothing is."""

from __future__ import annotations

import re

from .arithmetic import RESULT, Reader
from .expression import NotArithmeticError, Value, joined
from .lexicon import lexicon
from .numerals import is_figure
from .orders import ORDERS, followed
from .phrases import canonical
from .program import MAX_STEPS
from .vocabulary import FUNCTIONS
from .words import NARROW, QUOTED, Words, read_words, unquoted

__all__ = ["RESULT", "NotArithmeticError", "calculations"]

_ASKING = lexicon(
    "what is what's whats are does do did would will calculate calc compute evaluate solve simplify work out "
    "provide "
    "figure find determine run get give show tell how much many i need want know to the result answer value of "
    "for expression following math maths problem equation calculation : , use using tool calculator and please "
    "you we when if can something item costs me an let's let us hey number equals solution to answer "
    "question wanna ="
)
_ENDING = lexicon(
    "? = . ; , equal equals to is what number come comes make makes be please thanks thank you for me in "
    "total together do i get"
)
_SUPPOSING = re.compile(
    r"if (?:\S+ ){1,3}?(?:is|was|costs) |how many times (?:does|do|will|can|would|could) "
    r"|(?:answer|solve|do|compute|evaluate|work out) this (?:(?:math|maths|problem|sum|equation"
    r"|expression) )?(?:: )?"
)
_STARTING = re.compile(
    r"(?:(?:start|starting|begin|beginning) (?:with|from|at)|if (?:i|you|we) (?:have|had|take|start with)"
    r"|take|given"
    r"|(?:i|we) have) (?:the number )?(?=\S)"
)
_THANKS = re.compile(r"(?:, )?and (?:thanks|thank you)(?: \S+){0,2} $")
_NO_SUM = re.compile(
    r"\d{4}-\d{1,2}-\d{1,2}|\d{1,2}([-/])\d{1,2}\1(?:\d{4}|\d{2})|(?:\d{1,3}-)?(?:\d{3}-)?\d{3}-\d{4}|[\d.]+ ?%"
)
"""A date, a telephone number, a share of nothing."""

_CALCULATE = lexicon("calculate calc compute evaluate solve work figure math maths expression")
_PAUSES = frozenset({",", "."})
_UNSPACED_DASH = re.compile(r"\S[–—]|[–—]\S")
_YES_NO = lexicon("is are was were")
_LABEL = re.compile(r"(?:(?!me )[a-z]+ ){1,2}: ")
_LITERAL = lexicon("+ - * / ** // ^ ( ) × ÷ − √ % . , !") | {"pi", "⋅", *"⁴⁵⁶⁷⁸⁹½¼¾⅓⅔⅛"}
_PERCENT = (["percent"], ["percentage"], ["%"])
_TOKENS = lexicon("usdc usdt dai eth weth ether btc wbtc arb uni link comp aave")
_NOT_COUNTED = lexicon("tens hundreds thousands millions billions dozens cents times")


def calculations(words: Words, has_result: bool = False) -> list[str]:
    """Return the expressions that a request asks to be worked out, a literal one as it is written.

    Raises:
        NotArithmeticError: it is not arithmetic through and through.
    """
    words = words.before(_THANKS).after(_SUPPOSING)
    if words.words[:1] and words.words[0] in _YES_NO:
        raise NotArithmeticError
    start, end = 0, len(words)
    while start < end and words.words[start] in _ASKING and words.words[start + 1 : start + 2] not in _PERCENT:
        start += 1
    explicit = not _CALCULATE.isdisjoint(words.words[:start])
    words = words.cut(start, end).after(_LABEL)
    if explicit and words.words == [QUOTED]:
        words = read_words(unquoted(words.text()))
    end = len(words)
    while end and words.words[end - 1] in _ENDING:
        end -= 1
        if _is_glued(words, end):
            raise NotArithmeticError
    words = words.cut(0, end)
    text = words.text().translate(NARROW)
    if not words or (not explicit and _NO_SUM.fullmatch(text)) or _UNSPACED_DASH.search(text):
        raise NotArithmeticError
    return [text] if _is_literal(words.words) else read_expressions(words.line, has_result)


def _is_glued(words: Words, index: int) -> bool:
    """Whether a word hangs on the number before it (the i of 4i), or is an "i" that asks for nothing."""
    if not index or not words.words[index].isalpha():
        return False
    is_figures = is_figure(words.words[index - 1])
    return is_figures and (words.words[index] == "i" or words.ends[index - 1] == words.starts[index])


def starting_number(words: Words) -> str:
    """Return the number that a request only starts from, as in "start with 10", or ""."""
    rest = words.after(_STARTING)
    rest = rest.without_last(_PAUSES)
    return rest.words[0] if len(rest) == 1 < len(words) and is_figure(rest.words[0]) else ""


def _is_literal(words: list[str]) -> bool:
    if words[-1] == "!" and len(words) > 2 and words.count("!") == 1:  # three plus four, or 4 factorial
        raise NotArithmeticError
    depth = figures = 0
    for word, follower in zip(words, [*words[1:], ""], strict=True):
        figure = is_figure(word)
        if not (figure or word in _LITERAL) and not (word in FUNCTIONS and follower == "("):
            return False
        figures += figure
        depth += (word == "(") - (word == ")")
        if (word == "," and depth < 1) or (figure and "e" in word):
            return False
    return figures > 0 and len(words) > 1


def read_expressions(line: str, has_result: bool) -> list[str]:
    """Return the expressions that `line` spells out; RESULT stands for the last result.

    Raises:
        NotArithmeticError: some word is left over, or what is meant is not certain.
    """
    reader = Reader(canonical(line), has_result)
    values = [_request(reader)]
    while reader.took(",", "and", "then"):
        reader.took("and")
        reader.took("then")
        values.append(reader.expression())
        if len(values) > MAX_STEPS:
            raise NotArithmeticError
    if "/100" in values[-1].text:
        _take_counted(reader)
    if (
        reader.word
        or len(reader.currencies) > 1
        or not all(value.is_calculation and value.text != "pi" for value in values)
    ):
        raise NotArithmeticError
    return [value.text for value in values]


def _request(reader: Reader) -> Value:
    """Read an order, a question of shares ("what percent of 60 is 15"), or a plain expression."""
    order = ORDERS.get(reader.word)
    if order:
        reader.at += 1
        return followed(reader, order(reader))
    if reader.took("PART"):
        part = reader.expression()
        reader.expect("of")
        return _share(part, reader.expression())
    if reader.took("SHARE"):
        whole = reader.expression()
        reader.expect("is")
        return _share(reader.expression(), whole)
    value = followed(reader, reader.expression())
    if reader.took("is"):
        reader.expect("SHARE")
        return _share(value, reader.expression())
    return value


def _share(part: Value, whole: Value) -> Value:
    return joined(joined(part, "/", whole), "*", Value("100"))


def _take_counted(reader: Reader) -> None:
    """Step over the noun at the very end that says what is counted: 4% of 10,000 tokens."""
    word = reader.word
    is_noun = len(word) > 3 and word.isalpha() and word[-1] == "s" and word not in _NOT_COUNTED
    if (is_noun or word in _TOKENS) and not reader.ahead() and is_figure(reader.words[reader.at - 1]):
        reader.at += 1
