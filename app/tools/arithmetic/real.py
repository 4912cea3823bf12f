"""Functions of real numbers, in the current decimal context; where they have no value they raise its signals."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Context, Decimal, InvalidOperation
from typing import TypeAlias

from .number import PRECISION, negligible, outside_domain

RealFunction: TypeAlias = Callable[[Decimal], Decimal]

PI = Decimal(
    "3.14159265358979323846264338327950288419716939937510582097494459230"
    "78164062862089986280348253421170679821480865132823066470938446"
)
"""Longer than PRECISION, so that a large angle keeps its digits when whole turns are taken off."""

HALF_PI = Context(prec=2 * PRECISION).divide(PI, Decimal(2))

MAX_ANGLE_EXPONENT = 25
MIN_EXPONENT = -25

_LOWEST = Decimal(-4 * PRECISION)
"""Its exp() is nothing beside 1."""


def _straight_near_zero(function: RealFunction) -> RealFunction:
    """Return x for `function(x)` below 1e-25: no float shows the difference, and no digit is cancelled away."""
    return lambda x: function(x) if x and x.adjusted() >= MIN_EXPONENT else x


def ln(x: Decimal) -> Decimal:
    """The natural logarithm; for zero an error, where `Decimal.ln` says minus infinity."""
    if not x:
        raise InvalidOperation
    return x.ln()


def _log10(x: Decimal) -> Decimal:
    if not x:
        raise InvalidOperation
    return x.log10()


def _sin_cos(angle: Decimal) -> tuple[Decimal, Decimal]:
    """Exactly 0 and 1 where the angle is a multiple of a right one, as far as anyone can tell."""
    if angle.adjusted() > MAX_ANGLE_EXPONENT:
        raise outside_domain("The angle is too large to tell where on the circle it lies.")
    rest = angle.remainder_near(HALF_PI)
    quadrant = int(((angle - rest) / HALF_PI).to_integral_value()) % 4
    if negligible(rest, angle):
        sine, cosine = Decimal(0), Decimal(1)
    else:
        sine, cosine = _sine(rest), _sine(HALF_PI - abs(rest))
    return ((sine, cosine), (cosine, -sine), (-sine, -cosine), (-cosine, sine))[quadrant]


@_straight_near_zero
def _sine(angle: Decimal) -> Decimal:
    """Taylor's series, for at most a right angle."""
    total = term = angle
    square, n = angle * angle, 1
    while term.adjusted() > total.adjusted() - PRECISION:
        n += 2
        term *= -square / (n * (n - 1))
        total += term
    return total


def _tan(angle: Decimal) -> Decimal:
    sine, cosine = _sin_cos(angle)
    return sine / cosine


@_straight_near_zero
def _atan(x: Decimal) -> Decimal:
    """Taylor's series, for an eighth of the angle at most half a right one."""
    if abs(x) > 1:
        return HALF_PI.copy_sign(x) - _atan(1 / x)
    for _ in range(3):
        x /= 1 + (1 + x * x).sqrt()
    total = power = x
    square, n = x * x, 1
    while power.adjusted() > total.adjusted() - PRECISION:
        n += 2
        power *= -square
        total += power / n
    return 8 * total


def atan2(y: Decimal, x: Decimal) -> Decimal:
    """The angle of the point (x, y); 0 for the origin, as in Python."""
    if not x:
        return HALF_PI.copy_sign(y) if y else y
    return _atan(y / x) if x > 0 else _atan(y / x) + PI.copy_sign(y)


def _tanh(x: Decimal) -> Decimal:
    return 1 - 2 / ((2 * x).exp() + 1) if abs(x) < -_LOWEST else Decimal(1).copy_sign(x)


def _asinh(x: Decimal) -> Decimal:
    return ln(abs(x) + (x * x + 1).sqrt()).copy_sign(x)


FUNCTIONS: dict[str, RealFunction] = {
    "exp": Decimal.exp,
    "expm1": _straight_near_zero(lambda x: max(x, _LOWEST).exp() - 1),
    "log10": _log10,
    "log1p": _straight_near_zero(lambda x: ln(1 + x)),
    "sin": lambda angle: _sin_cos(angle)[0],
    "cos": lambda angle: _sin_cos(angle)[1],
    "tan": _tan,
    "asin": lambda x: atan2(x, ((1 - x) * (1 + x)).sqrt()),
    "acos": lambda x: atan2(((1 - x) * (1 + x)).sqrt(), x),
    "atan": _atan,
    "sinh": _straight_near_zero(lambda x: (x.exp() - (-x).exp()) / 2),
    "cosh": lambda x: (x.exp() + (-x).exp()) / 2,
    "tanh": _straight_near_zero(_tanh),
    "asinh": _straight_near_zero(_asinh),
    "acosh": lambda x: ln(x + ((x - 1) * (x + 1)).sqrt()),
    "atanh": _straight_near_zero(lambda x: ln((1 + x) / (1 - x)) / 2),
}
