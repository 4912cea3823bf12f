"""Arithmetic in words and signs, read by precedence climbing and written as expressions for the math tool."""

from __future__ import annotations

from typing import Final

from .expression import AGGREGATES, ATOM, LEVELS, POWER, PRODUCT, SIGN, SUM, NotArithmeticError, Value, joined
from .lexicon import lexicon
from .numerals import NUMBER_WORDS, denominator, is_figure, ordinal, read_numeral

RESULT: Final = "\0"
"""Where the result of the step before belongs in an expression."""

FUNCTIONS = lexicon(
    "sqrt cbrt abs min max mean median sum round floor ceil log ln log2 log10 exp sin cos tan asin acos atan "
    "sinh "
    "cosh tanh factorial pow gcd lcm comb perm hypot trunc degrees radians"
)
MAX_DEPTH = 40
MAX_EXPONENT = 300
"""Of a number such as 6e23: a larger one is written only to break something."""

_CURRENCIES = dict.fromkeys(("$", "dollar", "dollars", "bucks", "usd"), "dollars")
_CURRENCIES |= dict.fromkeys(("€", "euro", "euros", "eur"), "euros")
_CURRENCIES |= dict.fromkeys(("£", "pound", "pounds", "gbp"), "pounds")

_SKIPPED = frozenset({"the", "a", "an"})
_BILLS = lexicon("bill meal check tab dinner lunch purchase order item")
_PERCENTAGES = frozenset({"of", "off", "tip"})
_REFERENCES = lexicon("it that this result sum total product difference quotient answer number value average")
_POWERS = {"squared": 2, "cubed": 3}
_SCALES = {"double": "2", "twice": "2", "triple": "3", "thrice": "3"}


class Reader:
    """One pass over canonical words."""

    def __init__(self, words: list[str], has_result: bool) -> None:
        self.words = words
        self.has_result = has_result
        self.at = 0
        self.depth = 0
        self.currencies: set[str] = set()

    @property
    def word(self) -> str:
        return self.words[self.at] if self.at < len(self.words) else ""

    def ahead(self, distance: int = 1) -> str:
        return self.words[self.at + distance] if self.at + distance < len(self.words) else ""

    def took(self, *words: str) -> bool:
        """Step over the next word if it is one of these."""
        if self.word not in words or not self.word:
            return False
        self.at += 1
        return True

    def expect(self, word: str) -> None:
        if not self.took(word):
            raise NotArithmeticError

    def expression(self, level: int = SUM) -> Value:
        left = self.operand()
        while LEVELS.get(self.word, 0) >= level:
            sign = self.word
            self.at += 1
            right = self.exponent() if sign == "**" else self.expression(LEVELS[sign] + 1)
            left = joined(left, sign, right)
            if sign == "/" and self.took("of"):
                left = joined(left, "*", self.operand())
        return left

    def exponent(self) -> Value:
        number = ordinal(self.word)
        if number is None:
            return self.expression(POWER)
        self.at += 1
        self.took("power")
        return Value(str(number))

    def operand(self) -> Value:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise NotArithmeticError
        value = self.followed_up(self.bare_operand())
        self.depth -= 1
        return value

    def bare_operand(self) -> Value:
        while self.word in _SKIPPED:
            self.at += 1
        word = self.word
        if self.has_result and self.ahead() != "(" and self.took(*_REFERENCES):
            return Value(RESULT)
        if word in AGGREGATES:
            self.at += 1
            return AGGREGATES[word](self.items())
        if word in FUNCTIONS:
            return self.function()
        if self.took("("):
            value = Value(f"({self.expression().text})")
            self.expect(")")
            return value
        if self.took("-"):
            return self.negative()
        if self.took("+"):
            return self.operand()
        if word in _SCALES:
            self.at += 1
            return joined(Value(_SCALES[word]), "*", self.operand())
        return self.number_or_reference()

    def negative(self) -> Value:
        value = self.operand()
        if value.level == POWER or self.word == "**":  # minus two squared: 4 to some readers, -4 to others
            raise NotArithmeticError
        return Value(f"-{value.inside(ATOM)}", SIGN)

    def number_or_reference(self) -> Value:
        if self.has_result and not self.word:
            return Value(RESULT)
        if self.word in _CURRENCIES and self.ahead():
            self.take_currency()
        if denominator(self.word):
            return self.fraction("1")
        if not (is_figure(self.word or " ") or self.word in NUMBER_WORDS):
            raise NotArithmeticError
        digits, self.at = read_numeral(self.words, self.at)
        if denominator(self.word):
            return self.fraction(digits)
        if self.word == "and" and self.ahead() in _SKIPPED and denominator(self.ahead(2)):
            self.at += 2
            return Value(f"({digits} + 1/{self.taken_denominator()})")
        return Value(_bounded(digits))

    def taken_denominator(self) -> int:
        number = denominator(self.word)
        assert number
        self.at += 1
        return number

    def fraction(self, numerator: str) -> Value:
        value = Value(f"{numerator}/{self.taken_denominator()}", PRODUCT)
        return joined(value, "*", self.operand()) if self.took("of") else Value(f"({value.text})")

    def function(self) -> Value:
        name = self.word
        self.at += 1
        if self.word != "(":
            return Value(f"{name}({self.operand().text})")
        self.at += 1
        arguments = [self.expression().text]
        while self.took(","):
            arguments.append(self.expression().text)
        self.expect(")")
        return Value(f"{name}({', '.join(arguments)})")

    def followed_up(self, value: Value) -> Value:
        """Read what may stand behind an operand: squared, percent of, a currency, the bill."""
        while True:
            if self.word in _POWERS:
                value = joined(value, "**", Value(str(_POWERS[self.word])))
            elif self.word in {"!", "factorial"}:
                value = Value(f"factorial({value.text})")
            elif self.word == "percent" or (self.word == "%" and self.ahead() in _PERCENTAGES):
                return self.percentage(value)
            elif self.word in _CURRENCIES:
                self.take_currency()
                continue
            elif self.word not in _BILLS or value.is_compound:
                return value
            self.at += 1

    def percentage(self, rate: Value) -> Value:
        self.at += 1
        kind = self.word
        if kind not in _PERCENTAGES:
            raise NotArithmeticError
        self.at += 1
        whole, part = self.operand(), f"{rate.inside(ATOM)}/100"
        if kind == "off":
            return Value(f"{whole.inside(PRODUCT)} * (1 - {part})", PRODUCT)
        return joined(Value(part, PRODUCT), "*", whole)

    def items(self) -> list[Value]:
        """Read a list: "3, 4 and 5". "3 and 4 times 5" is none: where it ends is not certain."""
        values = [self.expression()]
        while self.word in {",", "and"} and not (len(values) > 1 and self.begins_another()):
            self.at += 1
            self.took("and")
            values.append(self.expression())
        if values[-1].is_compound and not all(value.is_compound for value in values):
            raise NotArithmeticError
        return values

    def begins_another(self) -> bool:
        """Whether a new calculation, and no further item, follows the comma or the and."""
        return any(word in AGGREGATES for word in self.words[self.at + 1 : self.at + 4])

    def take_currency(self) -> None:
        self.currencies.add(_CURRENCIES[self.word])
        self.at += 1


def _bounded(digits: str) -> str:
    """Refuse numbers that only an attack needs."""
    _, _, exponent = digits.partition("e")
    if exponent and abs(int(exponent[:6])) > MAX_EXPONENT:
        raise NotArithmeticError
    return digits
