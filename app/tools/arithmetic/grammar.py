"""The notation of a calculation: read from left to right, and worked out on the way."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal, DivisionByZero, InvalidOperation, Overflow, Underflow, localcontext
from functools import lru_cache
from typing import NamedTuple

from ...errors import ToolRejected
from .function import CONSTANTS, FUNCTIONS
from .literal import parse_number
from .number import (
    CONTEXT,
    Number,
    add,
    divide,
    floor_divide,
    modulo,
    multiply,
    outside_domain,
    plain,
    power,
    settle,
    size,
    subtract,
    too_large,
    too_small,
)
from .token import END, Token, ambiguous, invalid, tokenize

MAX_DEPTH = 100
"""Operands within operands; a bracket takes one level, an operator in front of it another."""

MAX_WORK = 25_000
"""About a microsecond each: a calculation ends within some 50 ms, whatever it is made of."""

CALL_WORK = 150
BITS_SQUARED_PER_WORK = 400_000

_RAISED_DIGITS = frozenset("⁰¹²³⁴⁵⁶⁷⁸⁹")
_LOWERED = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻", "0123456789-")
_ROOTS = {"√": "sqrt", "∛": "cbrt"}


class Operator(NamedTuple):
    """How tightly a sign binds to its left and to its right, and what it does."""

    left: int
    right: int
    apply: Callable[[Number, Number], Number]
    work: int = 1


_SUM, _PRODUCT, _SIGN, _POWER, _ROOT = 1, 2, 3, 4, 5
_PLUS, _MINUS = frozenset({"+", "plus"}), frozenset({"-", "minus"})
_IMPLIED = Operator(_PRODUCT, _PRODUCT + 1, multiply)

_OPERATORS = {
    **dict.fromkeys(_PLUS, Operator(_SUM, _SUM + 1, add)),
    **dict.fromkeys(_MINUS, Operator(_SUM, _SUM + 1, subtract)),
    **dict.fromkeys(("*", "x", "times", "multiplied by", "of"), Operator(_PRODUCT, _PRODUCT + 1, multiply)),
    **dict.fromkeys(("/", "divided by"), Operator(_PRODUCT, _PRODUCT + 1, divide)),
    **dict.fromkeys(("//",), Operator(_PRODUCT, _PRODUCT + 1, floor_divide)),
    **dict.fromkeys(("%", "mod"), Operator(_PRODUCT, _PRODUCT + 1, modulo)),
    **dict.fromkeys(("^", "**"), Operator(_POWER, _POWER, power, CALL_WORK)),
}
_STARTS = {"(", *_ROOTS, *CONSTANTS, *FUNCTIONS} - _OPERATORS.keys()
"""What opens an operand, apart from numbers and signs."""


@lru_cache(maxsize=512)  # pure, and at most some 6 KB an entry
def evaluate(expression: str) -> int | float:
    """Return the value of `expression`: an int if it is whole, else the float nearest to it.

    Raises:
        ToolRejected: `invalid_expression`, `division_by_zero`, `domain_error`, `result_too_large`,
            `result_too_small`, `too_much_work`.
    """
    tokens = tokenize(expression)
    with localcontext(CONTEXT):
        try:
            return plain(_Calculation(tokens).result())
        except Overflow:
            raise too_large() from None
        except Underflow:
            raise too_small() from None


class _Calculation:
    """One pass over the tokens, by precedence climbing; what it has cost so far bounds what it may still cost."""

    __slots__ = ("depth", "is_percentage", "next", "tokens", "work")

    def __init__(self, tokens: list[Token]) -> None:
        self.tokens = tokens
        self.next = 0
        self.depth = 0
        self.work = 0
        self.is_percentage = False  # of the value read last: 200 + 10% is 220, not 200.1

    def result(self) -> Number:
        value = self.operation(0)
        if self.tokens[self.next] is not END:
            raise self.unexpected()
        return value

    def operation(self, binding: int) -> Number:
        """Read an operand, and each operator behind it that binds at least as tightly as `binding`."""
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise invalid("The expression is nested too deeply.")
        value, before = self.operand(), None
        while (operator := self.operator(before)) and operator.left >= binding:
            value, before = self.applied(operator, value), operator
        self.depth -= 1
        return value

    def operator(self, before: Operator | None) -> Operator | None:
        """The operator that comes next; a product with a number in front needs no sign: 2(3 + 4), 2pi."""
        _, word, symbol, _ = self.tokens[self.next]
        if (sign := symbol or word) in _OPERATORS:
            return _OPERATORS[sign]
        number, _, _, space = self.tokens[self.next - 1]
        if not number or sign not in _STARTS or (not space and (word == "e" or number[-1] == ".")):
            return None
        if (before and before.apply is not multiply) or self.is_lone_number():
            raise ambiguous("A product without a sign")  # 8/2(2 + 2); 1.23(4), which may mean 1.23 +- 0.04
        return _IMPLIED

    def is_lone_number(self) -> bool:
        """Whether a number alone in brackets comes next."""
        opening, inside, *closing = self.tokens[self.next : self.next + 3]
        return opening[2] == "(" and inside[0] != "" and closing[0][2] == ")"

    def applied(self, operator: Operator, left: Number) -> Number:
        """Read what stands behind `operator`, and work it out."""
        word = self.tokens[self.next][1]
        if word == "of" and isinstance(left, int) and not self.is_percentage:
            raise ambiguous("'of' behind a whole number")
        if operator is not _IMPLIED:
            self.next += 1
        left_is_percentage = self.is_percentage
        right = self.operation(operator.right)
        if self.is_percentage:
            if operator.apply in {modulo, floor_divide}:
                raise ambiguous("'%' behind this operator")
            self.is_percentage = left_is_percentage and operator.left == _SUM
            if operator.left == _SUM and not left_is_percentage:
                right = multiply(left, right)
        return self.paid(operator.apply(left, right), operator.work)

    def operand(self) -> Number:
        number, word, symbol, _ = self.tokens[self.next]
        self.next += 1
        if number:
            value = parse_number(number)
            if "e" in number:  # other numbers are no larger than the text that they stand in
                self.paid(value)
        elif symbol == "(":
            value = self.operation(0)
            self.expect(")")
        elif (symbol or word) in _MINUS:
            return -self.operation(_SIGN)
        elif (symbol or word) in _PLUS:
            return self.operation(_SIGN)
        elif symbol in _ROOTS:
            value = self.root(_ROOTS[symbol])
        else:
            value = self.named(word)
        return self.followed_up(value)

    def followed_up(self, value: Number) -> Number:
        """Apply what follows an operand: !, % and raised digits."""
        self.is_percentage = False
        while True:
            symbol = self.tokens[self.next][2]
            if symbol == "!" and self.tokens[self.next - 1][2] != "!":  # 5!! has a meaning of its own
                value = self.called("factorial", value)
            elif symbol == "%" and self.is_percent_sign():
                self.next += 1
                self.is_percentage = True
                return divide(value, 100)
            elif symbol[-1:] in _RAISED_DIGITS:
                value = self.paid(power(value, int(symbol.translate(_LOWERED))), CALL_WORK)
            else:
                return value
            self.next += 1

    def is_percent_sign(self) -> bool:
        """Tell 50% from 50 % 3 by what follows, and 50% - 20 from 50 % -20 by where the spaces are."""
        (*_, before), (*_, behind), (number, word, symbol, after) = self.tokens[self.next - 1 : self.next + 2]
        is_sign = symbol in {"+", "-"}
        if not is_sign and not number and (symbol or word) not in _STARTS:
            return True
        if is_sign and after and not before:
            return True
        if symbol == "+" or (is_sign and after) or (behind and not before):
            raise ambiguous("'%' in front of this")
        return False

    def root(self, name: str) -> Number:
        value = self.operation(_ROOT)
        _, _, last, _ = self.tokens[self.next - 1]
        if last in {"!", "%"} or self.operator(None) is _IMPLIED:
            raise ambiguous("What stands behind the root sign")
        return self.called(name, value)

    def named(self, name: str) -> Number:
        if name in CONSTANTS:
            return CONSTANTS[name]
        if name not in FUNCTIONS:
            self.next -= 1
            raise self.unexpected()
        _, fewest, most = FUNCTIONS[name]
        arguments = self.arguments()
        if not fewest <= len(arguments) <= (most or len(arguments)):
            raise invalid(f"{name}() does not take {len(arguments)} arguments.")
        return self.called(name, *arguments)

    def arguments(self) -> list[Number]:
        self.expect("(")
        values: list[Number] = []
        if self.tokens[self.next][2] != ")":
            values.append(self.operation(0))
            while self.tokens[self.next][2] == ",":
                self.next += 1
                values.append(self.operation(0))
        self.expect(")")
        return values

    def called(self, name: str, *arguments: Number) -> Number:
        try:
            value = settle(FUNCTIONS[name].apply(*arguments))
        except (InvalidOperation, DivisionByZero):
            raise outside_domain(f"{name}() has no real value there.") from None
        return self.paid(value, CALL_WORK)

    def paid(self, value: Number, work: int = 1) -> Number:
        """Charge for making `value` and, since nothing is used twice, for using it: both grow with its square."""
        if not isinstance(value, Decimal):
            work += size(value) ** 2 // BITS_SQUARED_PER_WORK
        self.work += work
        if self.work > MAX_WORK:
            raise ToolRejected("The calculation takes too much work.", code="too_much_work")
        return value

    def expect(self, symbol: str) -> None:
        if self.tokens[self.next][2] != symbol:
            raise self.unexpected()
        self.next += 1

    def unexpected(self) -> ToolRejected:
        token = "".join(self.tokens[self.next][:3])
        if not token:
            return invalid("The expression ends too early.")
        return invalid(f"{token[:30]!r} is not understood here.")
