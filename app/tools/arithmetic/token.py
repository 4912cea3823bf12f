"""The text of a calculation taken apart into numbers, words and symbols."""

from __future__ import annotations

import re
from typing import TypeAlias

from ...errors import ToolRejected
from .function import FUNCTIONS

MAX_LENGTH = 4_000

Token: TypeAlias = tuple[str, str, str, str]
"""A number, a word or a symbol (two of the three are empty), and the space behind it."""

END: Token = ("", "", "", "")

# Possessive (++, ?+) where a match could otherwise be tried again in other ways: the time is linear in the text.
_TOKEN = re.compile(
    r"""(?: ( 0[xob]\w+
            | \d*+[¼-¾⅐-⅞]
            | (?: \d+(?:_\d+|,\d{3}(?!\d))*+ \.?+ | \.(?=\d) ) (?:\d+(?:_\d+)*+)?+ (?:e[+-]?\d+)?+
            )
          | ( (?:divided|multiplied)[ ]by\b | (?!x(?![a-z_])) [a-z_][a-z0-9_]* )
          | ( \*\* | // | ⁻?[⁰¹²³⁴-⁹]+ | . )
        ) ([ \t\u00a0\u2007\u2009\u202f]*)""",
    re.VERBOSE | re.DOTALL,
)

_TYPESET = str.maketrans(
    {
        "\N{MINUS SIGN}": "-",
        "\N{MULTIPLICATION SIGN}": "*",
        "\N{DOT OPERATOR}": "*",
        "\N{DIVISION SIGN}": "/",
        "\N{DIVISION SLASH}": "/",
        "π": "pi",
        "τ": "tau",
    }
)


def invalid(sentence: str) -> ToolRejected:
    """The refusal of what cannot be read as a calculation."""
    return ToolRejected(sentence, code="invalid_expression")


def ambiguous(what: str) -> ToolRejected:
    """The refusal of what can be read as two."""
    return invalid(f"{what} can be read in two ways: use brackets, or write it out.")


def tokenize(expression: str) -> list[Token]:
    """Return the tokens of `expression`, at least one, with END behind them; any character makes some token.

    Raises:
        ToolRejected: `invalid_expression`.
    """
    if len(expression) > MAX_LENGTH:
        raise invalid(f"The expression is longer than {MAX_LENGTH} characters.")
    text = expression.strip().lower()
    tokens: list[Token] = _TOKEN.findall(text if text.isascii() else text.translate(_TYPESET))
    if "," in text:
        tokens = _with_arguments_apart(tokens)
    if tokens and tokens[-1][2] == "=":
        tokens.pop()
    if not tokens:
        raise invalid("There is nothing to calculate.")
    tokens.append(END)
    return tokens


def _with_arguments_apart(tokens: list[Token]) -> list[Token]:
    """Take numbers such as 48,180 apart where they are two arguments of a function and not thousands."""
    result: list[Token] = []
    brackets: list[set[str] | None] = [None]  # for each open bracket of a call, the kinds of comma in it
    for number, word, symbol, space in tokens:
        commas = brackets[-1]
        if symbol == "(":
            brackets.append(set() if result and result[-1][1] in FUNCTIONS else None)
        elif symbol == ")" and len(brackets) > 1:
            brackets.pop()
        elif commas is not None and (symbol == "," or "," in number):
            commas.add("in a number" if number else "before a space" if space else "tight")
            if {"in a number", "before a space"} <= commas:
                raise ambiguous("A comma between digits")
        *arguments, number = number.split(",") if commas is not None else [number]
        for argument in arguments:
            result += [(argument, "", "", ""), ("", "", ",", "")]
        result.append((number, word, symbol, space))
    return result
