"""Expressions under construction: what binds how tightly, and how expressions are put together."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import NamedTuple

SUM, PRODUCT, SIGN, POWER, ATOM = range(1, 6)
LEVELS = {"+": SUM, "-": SUM, "*": PRODUCT, "/": PRODUCT, "//": PRODUCT, "%": PRODUCT, "mod": PRODUCT, "**": POWER}


_FIGURE = re.compile(r"[0-9][0-9,]*(?:\.[0-9]+)?")


class NotArithmeticError(Exception):
    """These words are no arithmetic, or could be read in two ways."""


class Value(NamedTuple):
    """An expression, and how tightly its outermost operation binds."""

    text: str
    level: int = ATOM

    def inside(self, level: int) -> str:
        """The expression as an operand of an operation that binds with `level`."""
        return self.text if self.level >= level else f"({self.text})"

    @property
    def is_compound(self) -> bool:
        return self.level < ATOM and self.level != SIGN

    @property
    def is_calculation(self) -> bool:
        return self.is_compound or self.text[0] == "(" or self.text[0].isalpha()


def joined(left: Value, sign: str, right: Value) -> Value:
    """Return the operation, with brackets where they are needed (and around both sides of a power)."""
    level = LEVELS[sign]
    sign = "%" if sign == "mod" else sign
    if sign == "**":
        return Value(f"{left.inside(ATOM)}**{right.inside(ATOM)}", level)
    return Value(f"{left.inside(level)} {sign} {right.inside(level + 1)}", level)


def chained(sign: str, values: Sequence[Value]) -> Value:
    """Return `values` with the same sign between all of them."""
    result = values[0]
    for value in values[1:]:
        result = joined(result, sign, value)
    return result


def changed(value: Value, sign: str, percent: Value) -> Value:
    """Return `value` made larger or smaller by so many per cent of it."""
    return Value(f"{value.inside(PRODUCT)} * (1 {sign} {percent.inside(ATOM)}/100)", PRODUCT)


def _two(sign: str) -> Callable[[list[Value]], Value]:
    def apply(values: list[Value]) -> Value:
        if len(values) != 2:
            raise NotArithmeticError
        return chained(sign, values)

    return apply


def repeated(sign: str) -> Callable[[list[Value]], Value]:
    """Return what makes one expression of a list; "the sum of 3 plus 5" is a list of one that has its sign."""

    def apply(values: list[Value]) -> Value:
        if len(values) == 1 and values[0].level != LEVELS[sign]:
            raise NotArithmeticError
        return chained(sign, values)

    return apply


def _distance(values: list[Value]) -> Value:
    """Return how far apart two values are: the difference between 5 and 12 is 7."""
    if len(values) != 2:
        raise NotArithmeticError
    if not all(_FIGURE.fullmatch(value.text) for value in values):
        return Value(f"abs({chained('-', values).text})")
    first, second = (Decimal(value.text.replace(",", "")) for value in values)
    return chained("-", values if first >= second else values[::-1])


def mean(values: list[Value]) -> Value:
    """Return the average of at least two values."""
    if len(values) < 2:
        raise NotArithmeticError
    return Value(f"({chained('+', values).text}) / {len(values)}", PRODUCT)


def _call(name: str) -> Callable[[list[Value]], Value]:
    def apply(values: list[Value]) -> Value:
        if len(values) < 2:
            raise NotArithmeticError
        return Value(f"{name}({', '.join(value.text for value in values)})")

    return apply


AGGREGATES = {
    "SUM": repeated("+"),
    "PRODUCT": repeated("*"),
    "DIFFERENCE": _distance,
    "QUOTIENT": _two("/"),
    "MEAN": mean,
    "MAX": _call("max"),
    "MIN": _call("min"),
}
