"""Numbers as people write them: 1_000, 1,000.50, .5, 6e23, 0x1F, 2½."""

from __future__ import annotations

import unicodedata
from decimal import Decimal

from ...errors import ToolRejected
from .number import MAX_EXPONENT, Number, add, divide, multiply, settle, too_large, too_small
from .token import ambiguous

EXACT_PLACES = 600
"""A number with more places after the point than this is kept as a Decimal."""


def parse_number(text: str) -> Number:
    """Return the number that `text` says, which has to look like one: digits, points, commas, underscores.

    Raises:
        ToolRejected: `invalid_expression` if it could be read in two ways; `result_too_large`, `result_too_small`.
    """
    if text.isdecimal():
        return _whole(text)
    if text[:2] in {"0x", "0o", "0b"}:
        return _in_base(text)
    if not text.isascii() and text.isnumeric() and not text[-1].isdecimal():
        return _vulgar_fraction(text)
    mantissa, _, exponent = text.partition("e")
    whole, _, fraction = mantissa.partition(".")
    return _scaled(_ungrouped(whole), fraction.replace("_", ""), int(exponent or 0))


def _whole(digits: str) -> int:
    if digits[0] == "0" and len(digits) > 1:
        raise _unclear(digits)  # 010 is eight to some readers
    return int(digits)


def _in_base(text: str) -> int:
    try:
        return int(text, 0)
    except ValueError:
        raise _unclear(text) from None


def _vulgar_fraction(text: str) -> Number:
    numerator, denominator = unicodedata.normalize("NFKC", text[-1]).split("\N{FRACTION SLASH}")
    return add(_whole(text[:-1] or "0"), divide(int(numerator), int(denominator)))


def _ungrouped(whole: str) -> str:
    first, *groups = whole.split(",")
    if groups and (len(first) > 3 or "_" in whole):
        raise _unclear(whole)
    return str(_whole(whole.replace(",", "").replace("_", "") or "0"))


def _scaled(whole: str, fraction: str, exponent: int) -> Number:
    """Return "whole.fraction" times ten to the power of `exponent`."""
    digits, power = whole + fraction, exponent - len(fraction)
    if power > MAX_EXPONENT:
        raise too_large()
    if power < -MAX_EXPONENT:
        raise too_small()
    if power < -EXACT_PLACES:
        return settle(+Decimal(f"{digits}e{power}"))
    return multiply(int(digits), 10**power) if power >= 0 else divide(int(digits), 10**-power)


def _unclear(text: str) -> ToolRejected:
    return ambiguous(f"The number {text[:30]!r}")
