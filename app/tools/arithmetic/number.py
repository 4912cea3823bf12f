"""The numbers of a calculation, and the operations on them, which refuse before a result grows too large."""

from __future__ import annotations

import math
from decimal import Context, Decimal, DivisionByZero, InvalidOperation, Overflow, Underflow
from fractions import Fraction
from typing import TypeAlias

from ...errors import ToolRejected
from ...jsonvalue import INTEGER_BOUND, MAX_INTEGER_DIGITS

Number: TypeAlias = int | Fraction | Decimal
"""An int or a Fraction is exact; a Decimal stands for a real number of which at least 50 digits are known."""

MAX_BITS = 66_432
"""The largest whole number on the way to a result has 19,999 digits; a result has to be storable JSON as well."""

MAX_FRACTION_BITS = 4_000
"""A Fraction that takes more becomes a Decimal: it would cost much and nobody could see the difference."""

MAX_EXPONENT = 20_000

PRECISION = 80
SURE_DIGITS = 50
"""What agrees in this many digits is equal: a function may lose 25 of the 80 on its way."""

CONTEXT = Context(
    prec=PRECISION,
    Emax=MAX_EXPONENT,
    Emin=-MAX_EXPONENT,
    traps=[InvalidOperation, DivisionByZero, Overflow, Underflow],
)
"""The decimal context in which everything here has to run; whoever evaluates enters a copy of it."""


def too_large() -> ToolRejected:
    """The refusal of what has too many digits, or is no float."""
    return ToolRejected("The result is too large.", code="result_too_large")


def too_small() -> ToolRejected:
    """The refusal of what would have to be taken for zero and is not."""
    return ToolRejected("The result is too close to zero.", code="result_too_small")


def division_by_zero() -> ToolRejected:
    """The refusal to divide by zero, to whatever power."""
    return ToolRejected("Division by zero has no result.", code="division_by_zero")


def outside_domain(sentence: str) -> ToolRejected:
    """The refusal of a number for which there is no (real) result."""
    return ToolRejected(sentence, code="domain_error")


def size(value: int | Fraction) -> int:
    """The bits it takes to write `value` down."""
    if isinstance(value, int):
        return value.bit_length()
    return value.numerator.bit_length() + value.denominator.bit_length()


def decimal(value: Number) -> Decimal:
    """Return `value` to PRECISION digits."""
    if isinstance(value, Fraction):
        return Decimal(value.numerator) / value.denominator
    return +Decimal(value)


def negligible(value: Decimal, beside: Decimal) -> bool:
    """Whether `value` is no more than the rounding noise of numbers as large as `beside`."""
    return not value or value.adjusted() < beside.adjusted() - SURE_DIGITS


def settle(value: Number) -> Number:
    """Return `value` in its simplest form: an int where it is whole, a Fraction only while that is small.

    Raises:
        ToolRejected: `result_too_large`.
    """
    if isinstance(value, int):
        if value.bit_length() > MAX_BITS:
            raise too_large()
        return value
    if isinstance(value, Fraction):
        if value.denominator == 1:
            return settle(value.numerator)
        return value if size(value) <= MAX_FRACTION_BITS else settle(decimal(value))
    nearest = value.to_integral_value()
    if value.adjusted() < PRECISION - SURE_DIGITS and negligible(value - nearest, value):
        return int(nearest)  # sqrt(2)**2 is 2, and its floor is not 1
    return value


def plain(value: Number) -> int | float:
    """Return an int for what is whole, for all else the nearest float.

    Raises:
        ToolRejected: `result_too_large`.
    """
    if isinstance(value, int):
        if not -INTEGER_BOUND < value < INTEGER_BOUND:
            raise ToolRejected(f"The result has more than {MAX_INTEGER_DIGITS} digits.", code="result_too_large")
        return value
    try:
        result = float(value)
    except OverflowError:
        raise too_large() from None
    if math.isinf(result):
        raise too_large()
    return result or 0.0  # not -0.0


def add(left: Number, right: Number) -> Number:
    """Return the sum; what is left of two Decimals that cancel each other is zero, not noise."""
    if not isinstance(left, Decimal) and not isinstance(right, Decimal):
        return settle(left + right)
    left, right = decimal(left), decimal(right)
    total = left + right
    return 0 if negligible(total, left.max_mag(right)) else settle(total)


def subtract(left: Number, right: Number) -> Number:
    """Return the difference, as `add` does."""
    return add(left, -right)


def multiply(left: Number, right: Number) -> Number:
    """Return the product, refusing it unmade if it has more than MAX_BITS."""
    if isinstance(left, Decimal) or isinstance(right, Decimal):
        return settle(decimal(left) * decimal(right))
    if size(left) + size(right) > MAX_BITS + MAX_FRACTION_BITS:
        raise too_large()
    return settle(left * right)


def divide(left: Number, right: Number) -> Number:
    """Return the quotient, exactly unless it takes a large Fraction."""
    if not right:
        raise division_by_zero()
    if isinstance(left, Decimal) or isinstance(right, Decimal):
        return settle(decimal(left) / decimal(right))
    if isinstance(left, int) and isinstance(right, int) and not left % right:
        return left // right  # ten times as fast as by way of a Fraction
    return settle(Fraction(left, right))


def floor(value: Number) -> Number:
    """Return `value` rounded down; a Decimal with SURE_DIGITS before its point has none to drop behind it."""
    if isinstance(value, Decimal) and value.adjusted() >= SURE_DIGITS:
        return value
    return math.floor(value)


def floor_divide(left: Number, right: Number) -> Number:
    """Return the quotient rounded down, as in Python: 7 // -2 is -4."""
    if isinstance(left, Decimal) or isinstance(right, Decimal) or not right:
        return floor(divide(left, right))
    return settle(left // right)


def modulo(left: Number, right: Number) -> Number:
    """Return what `floor_divide` leaves; it has the sign of `right`, as in Python: -7 % 3 is 2."""
    if isinstance(left, Decimal) or isinstance(right, Decimal) or not right:
        return subtract(left, multiply(right, floor_divide(left, right)))
    return settle(left % right)


def power(base: Number, exponent: Number) -> Number:
    """Return `base` to the power of `exponent`, exactly where that is rational and small enough; 0**0 is 1."""
    if not base and exponent < 0:
        raise division_by_zero()
    if not base or not exponent:
        return 0 if exponent else 1
    if isinstance(exponent, int):
        if isinstance(base, int):
            return _whole_power(base, exponent)
        if isinstance(base, Fraction) and size(base) * abs(exponent) <= MAX_FRACTION_BITS:
            return base**exponent
    elif base < 0:
        raise outside_domain("A negative number has no real power with a fractional exponent.")
    return settle(decimal(base) ** decimal(exponent))


def _whole_power(base: int, exponent: int) -> Number:
    if (base.bit_length() - 1) * abs(exponent) > MAX_BITS:
        raise too_large()
    return settle(base**exponent) if exponent > 0 else divide(1, base**-exponent)
