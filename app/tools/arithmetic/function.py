"""The functions and constants that a calculation may name."""

from __future__ import annotations

import math
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from functools import reduce
from typing import NamedTuple

from . import real
from .number import (
    CONTEXT,
    MAX_BITS,
    PRECISION,
    Number,
    add,
    decimal,
    divide,
    floor,
    modulo,
    multiply,
    outside_domain,
    power,
    size,
    too_large,
)

MAX_PLACES = 400
"""How many digits round() keeps or drops: a float has none further out."""

MAX_CHOICE_BITS = 15_000
"""A binomial coefficient is worked out by way of a number far larger than itself."""


class Function(NamedTuple):
    """What computes a function, and the fewest and the most arguments it takes (None: any number)."""

    apply: Callable[..., Number]
    fewest: int = 1
    most: int | None = 1


def _whole(value: Number) -> int:
    if not isinstance(value, int):
        raise outside_domain("This function takes whole numbers only.")
    return value


def _count(value: Number) -> int:
    whole = _whole(value)
    if whole < 0:
        raise outside_domain("This function takes no negative numbers.")
    return whole


def _of_reals(function: Callable[..., Decimal]) -> Callable[..., Number]:
    return lambda *values: function(*map(decimal, values))


def _sqrt(value: Number) -> Number:
    """The square root, exact for a whole number however large."""
    if isinstance(value, int) and value >= 0:
        root = math.isqrt(value)
        if root * root == value:
            return root
    return decimal(value).sqrt()


def _cbrt(value: Number) -> Number:
    third = Fraction(1, 3)
    return power(value, third) if value >= 0 else -power(-value, third)


def _log(value: Number, base: Number | None = None) -> Number:
    logarithm = real.ln(decimal(value))
    return logarithm if base is None else logarithm / real.ln(decimal(base))


def _ceil(value: Number) -> Number:
    return -floor(-value)


def _trunc(value: Number) -> Number:
    return floor(value) if value >= 0 else _ceil(value)


def _round(value: Number, digits: Number = 0) -> Number:
    """Round half to even, as Python does, but of the decimal as written: round(2.675, 2) is 2.68."""
    places = _whole(digits)
    if abs(places) > MAX_PLACES:
        raise outside_domain(f"round() keeps or drops at most {MAX_PLACES} digits.")
    if isinstance(value, Decimal) and value.adjusted() + places >= PRECISION - 1:
        return value
    return value.__round__(places)  # round() says the same, but its type is lost on mypy


def _factorial(value: Number) -> Number:
    n = _count(value)
    if n > MAX_BITS or math.lgamma(n + 1) > MAX_BITS * math.log(2):
        raise too_large()
    return math.factorial(n)


def _perm(total: Number, chosen: Number | None = None, max_bits: int = MAX_BITS) -> int:
    n = _count(total)
    k = n if chosen is None else _count(chosen)
    if k > n:
        return 0
    if k * n.bit_length() > max_bits:
        raise too_large()
    return math.perm(n, k)


def _comb(total: Number, chosen: Number) -> Number:
    n, k = _count(total), _count(chosen)
    k = min(k, n - k)  # math.comb is slow where k is large
    return _perm(n, k, MAX_CHOICE_BITS) // math.factorial(k) if k >= 0 else 0


def _lcm(*values: Number) -> Number:
    if sum(size(_whole(value)) for value in values) > MAX_BITS:
        raise too_large()
    return math.lcm(*map(_whole, values))


def _sum(*values: Number) -> Number:
    return reduce(add, values)


def _hypot(*values: Number) -> Number:
    return _sqrt(_sum(*(multiply(value, value) for value in values)))


def _mean(*values: Number) -> Number:
    return divide(_sum(*values), len(values))


def _sorted(values: tuple[Number, ...]) -> list[Number]:
    """Order exact numbers exactly; Python does not compare a Fraction with a Decimal."""
    return sorted(values, key=decimal if any(isinstance(value, Decimal) for value in values) else None)


def _median(*values: Number) -> Number:
    ordered, half = _sorted(values), len(values) // 2
    return ordered[half] if len(values) % 2 else _mean(*ordered[half - 1 : half + 1])


_PI = CONTEXT.plus(real.PI)

CONSTANTS: dict[str, Number] = {
    "pi": _PI,
    "tau": CONTEXT.multiply(2, _PI),
    "e": CONTEXT.exp(1),
    "phi": CONTEXT.divide(CONTEXT.add(1, CONTEXT.sqrt(5)), 2),
}

FUNCTIONS: dict[str, Function] = {
    "abs": Function(abs),
    "sign": Function(lambda x: (x > 0) - (x < 0)),
    "floor": Function(floor),
    "ceil": Function(_ceil),
    "trunc": Function(_trunc),
    "round": Function(_round, most=2),
    "mod": Function(modulo, 2, 2),
    "min": Function(lambda *values: _sorted(values)[0], most=None),
    "max": Function(lambda *values: _sorted(values)[-1], most=None),
    "sum": Function(_sum, most=None),
    "prod": Function(lambda *values: reduce(multiply, values), most=None),
    "mean": Function(_mean, most=None),
    "median": Function(_median, most=None),
    "factorial": Function(_factorial),
    "comb": Function(_comb, 2, 2),
    "perm": Function(_perm, most=2),
    "gcd": Function(lambda *values: math.gcd(*map(_whole, values)), most=None),
    "lcm": Function(_lcm, most=None),
    "isqrt": Function(lambda x: math.isqrt(_count(x))),
    "sqrt": Function(_sqrt),
    "cbrt": Function(_cbrt),
    "hypot": Function(_hypot, most=None),
    "pow": Function(power, 2, 2),
    "log": Function(_log, most=2),
    "ln": Function(_log),
    "log2": Function(lambda x: _log(x, 2)),
    "degrees": Function(lambda x: divide(multiply(x, 180), _PI)),
    "radians": Function(lambda x: divide(multiply(x, _PI), 180)),
    "atan2": Function(_of_reals(real.atan2), 2, 2),
    **{name: Function(_of_reals(function)) for name, function in real.FUNCTIONS.items()},
}
FUNCTIONS |= {
    alias: FUNCTIONS[name]
    for alias, name in {
        "fabs": "abs",
        "average": "mean",
        "avg": "mean",
        "ceiling": "ceil",
        "arcsin": "asin",
        "arccos": "acos",
        "arctan": "atan",
    }.items()
}
