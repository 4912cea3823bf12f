"""From a request to the expressions that it wants worked out: all of its words are arithmetic, or nothing is."""

from __future__ import annotations

import re

from .arithmetic import FUNCTIONS, RESULT, Reader
from .expression import NotArithmeticError, Value, joined
from .lexicon import lexicon
from .numerals import is_figure
from .orders import ORDERS
from .phrases import canonical
from .program import MAX_STEPS
from .words import Words

__all__ = ["RESULT", "NotArithmeticError", "calculations"]

_ASKING = lexicon(
    "what is what's whats are does do did would will calculate calc compute evaluate solve simplify work out "
    "figure find determine run get give show tell how much many i need want know to the result answer value of "
    "for expression following math maths problem equation calculation : , use using tool calculator and please "
    "you we when if can something item costs me an let's let us hey number equals"
)
_ENDING = lexicon(
    "? = . ; , equal equals to is what number come comes make makes be please thanks thank you for me in "
    "total together do i get"
)
_SUPPOSING = re.compile(r"if (?:\S+ ){1,3}?(?:is|was|costs) ")
_LABEL = re.compile(r"(?:(?!me )[a-z]+ ){1,2}: ")
_LITERAL = lexicon("+ - * / ** // ^ ( ) × ÷ − √ % . , !") | {"pi"}
_PERCENT = (["percent"], ["percentage"], ["%"])
_NOT_COUNTED = lexicon("tens hundreds thousands millions billions dozens cents times")


def calculations(words: Words, has_result: bool = False) -> list[str]:
    """Return the expressions that a request asks to be worked out, a literal one as it is written.

    Raises:
        NotArithmeticError: it is not arithmetic through and through.
    """
    words = words.after(_SUPPOSING)
    start, end = 0, len(words)
    while start < end and words.words[start] in _ASKING and words.words[start + 1 : start + 2] not in _PERCENT:
        start += 1
    words = words.cut(start, end).after(_LABEL)
    end = len(words)
    while end and words.words[end - 1] in _ENDING:
        end -= 1
    words = words.cut(0, end)
    if not words:
        raise NotArithmeticError
    return [words.text()] if _is_literal(words.words) else read_expressions(words.line, has_result)


def _is_literal(words: list[str]) -> bool:
    depth = figures = 0
    for word, follower in zip(words, [*words[1:], ""], strict=True):
        figure = is_figure(word)
        if not (figure or word in _LITERAL) and not (word in FUNCTIONS and follower == "("):
            return False
        figures += figure
        depth += (word == "(") - (word == ")")
        if (word == "," and depth < 1) or (figure and "e" in word):
            return False
    return figures > 0 and len(words) > 1 and not (words[-1] == "!" and len(words) > 2)


def read_expressions(line: str, has_result: bool) -> list[str]:
    """Return the expressions that `line` spells out; RESULT stands for the last result.

    Raises:
        NotArithmeticError: some word is left over, or what is meant is not certain.
    """
    reader = Reader(canonical(line), has_result)
    values = [_request(reader)]
    while reader.took(",", "and"):
        reader.took("and")
        values.append(reader.expression())
        if len(values) > MAX_STEPS:
            raise NotArithmeticError
    if "/100" in values[-1].text:
        _take_counted(reader)
    if reader.word or len(reader.currencies) > 1 or not all(value.is_calculation for value in values):
        raise NotArithmeticError
    return [value.text for value in values]


def _request(reader: Reader) -> Value:
    """Read an order, a question of shares ("what percent of 60 is 15"), or a plain expression."""
    order = ORDERS.get(reader.word)
    if order:
        reader.at += 1
        return order(reader)
    if reader.took("SHARE"):
        whole = reader.expression()
        reader.expect("is")
        return _share(reader.expression(), whole)
    value = reader.expression()
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
    if is_noun and not reader.ahead() and is_figure(reader.words[reader.at - 1]):
        reader.at += 1
