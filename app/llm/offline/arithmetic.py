"""Arithmetic in words and signs, read by precedence climbing and written as expressions for the math tool."""

from __future__ import annotations

from typing import Final

from .expression import (
    AGGREGATES,
    ATOM,
    LEVELS,
    POWER,
    PRODUCT,
    SIGN,
    SUM,
    NotArithmeticError,
    Value,
    changed,
    joined,
)
from .numerals import NUMBER_WORDS, denominator, is_figure, is_scale, ordinal, read_numeral
from .vocabulary import (
    ANGLES,
    BILLS,
    CHARGES,
    CURRENCIES,
    FUNCTIONS,
    LISTING,
    PERCENTAGES,
    POWERS,
    RAISED,
    REFERENCES,
    SCALES,
    SKIPPED,
    UP_TO_HERE,
)

RESULT: Final = "\0"
"""Where the result of the step before belongs in an expression."""

MAX_DEPTH = 40
MAX_ITEMS = 500
MAX_EXPONENT = 300
"""Of a number such as 6e23: a larger one is written only to break something."""


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
            if sign == "%" and self.ends_percentage():
                break
            self.at += 1
            left = self.joined(left, sign)
            if sign == "/" and self.took("of"):
                left = joined(left, "*", self.operand())
        return left

    def joined(self, left: Value, sign: str) -> Value:
        """Read what follows a sign; 200 minus 10 percent is 180."""
        if self.took("itself") and not left.is_compound:
            return joined(left, sign, left)
        right = self.exponent() if sign == "**" else self.expression(LEVELS[sign] + 1)
        if sign not in {"+", "-"} or not self.took_percent():
            return joined(left, sign, right)
        if left.is_compound or right.is_compound:
            raise NotArithmeticError
        return changed(left, sign, right)

    def ends_percentage(self) -> bool:
        return not self.ahead() or self.ahead() in {")", "to", "from", "and", *CHARGES}

    def took_percent(self) -> bool:
        """Step over "percent", and over what is charged behind it: $50 plus 20% tip."""
        if not self.took("percent", "%"):
            return False
        self.took("sales")
        self.took(*CHARGES)
        return True

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
        while self.word in SKIPPED:
            self.at += 1
        word = self.word
        if self.has_result and self.ahead() != "(" and self.took(*REFERENCES):
            return Value(RESULT)
        if word in AGGREGATES:
            self.at += 1
            return AGGREGATES[word](self.items())
        if word in FUNCTIONS:
            return self.function()
        if word in RAISED:
            self.at += 1
            return joined(self.operand(), "**", Value(RAISED[word]))
        if self.ahead() == "ROOT" and ordinal(word):
            self.at += 2
            return Value(f"{self.operand().inside(ATOM)}**(1/{ordinal(word)})", POWER)
        if word == "REMAINDER":
            return self.remainder()
        if self.took("("):
            value = Value(f"({self.expression().text})")
            self.expect(")")
            return value
        if self.took("-"):
            return self.negative()
        if self.took("+"):
            return self.operand()
        if word in SCALES:
            self.at += 1
            return joined(Value(SCALES[word]), "*", self.operand())
        return self.number_or_reference()

    def remainder(self) -> Value:
        self.at += 1
        whole = self.operand()
        self.took("is")
        if not self.took("/", "and"):
            raise NotArithmeticError
        return joined(whole, "%", self.operand())

    def negative(self) -> Value:
        value = self.operand()
        if value.level == POWER or self.word == "**":  # minus two squared: 4 to some readers, -4 to others
            raise NotArithmeticError
        return Value(f"-{value.inside(ATOM)}", SIGN)

    def number_or_reference(self) -> Value:
        if self.has_result and not self.word:
            return Value(RESULT)
        if self.word in CURRENCIES and self.ahead():
            self.take_currency()
        if denominator(self.word):
            return self.fraction("1")
        if self.took("pi"):
            return Value("pi")
        if not (is_figure(self.word or " ") or self.word in NUMBER_WORDS):
            raise NotArithmeticError
        digits, self.at = read_numeral(self.words, self.at)
        if denominator(self.word):
            return self.fraction(digits)
        if self.word == "and" and self.ahead() in SKIPPED and denominator(self.ahead(2)):
            if is_scale(self.words[self.at - 1]):  # a million and a half: 1,500,000 to most
                raise NotArithmeticError
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
            return self.function_of(name)
        self.at += 1
        arguments = [self.expression().text]
        while self.took(","):
            arguments.append(self.expression().text)
        self.expect(")")
        return Value(f"{name}({', '.join(arguments)})")

    def function_of(self, name: str) -> Value:
        """Read "sin of 30 degrees" and "gcd of 12 and 18"; "log of 100" has two meanings."""
        if self.took("of") and name in LISTING:
            return Value(f"{name}({', '.join(value.text for value in self.items())})")
        value = self.operand()
        if name in UP_TO_HERE and self.word in LEVELS:  # the absolute value of 3 minus 10: 7 to most, -7 to others
            raise NotArithmeticError
        if name == "log" or (name in ANGLES and self.word not in {"degrees", "radians"}):
            raise NotArithmeticError
        if name in ANGLES and self.took("degrees"):
            return Value(f"{name}(radians({value.text}))")
        self.took("radians")
        return Value(f"{name}({value.text})")

    def followed_up(self, value: Value) -> Value:
        """Read what may stand behind an operand: squared, percent of, a currency, the bill."""
        while True:
            if self.word in POWERS:
                value = joined(value, "**", Value(str(POWERS[self.word])))
            elif self.word in {"!", "factorial"}:
                value = Value(f"factorial({value.text})")
            elif self.word in {"percent", "%"} and self.ahead() in PERCENTAGES and self.ahead(2):
                return self.percentage(value)
            elif self.word in CURRENCIES:
                self.take_currency()
                continue
            elif self.word not in BILLS or value.is_compound:
                return value
            self.at += 1

    def percentage(self, rate: Value) -> Value:
        kind = self.ahead()
        self.at += 2
        whole, part = self.operand(), f"{rate.inside(ATOM)}/100"
        if kind == "off":
            return Value(f"{whole.inside(PRODUCT)} * (1 - {part})", PRODUCT)
        return joined(Value(part, PRODUCT), "*", whole)

    def items(self) -> list[Value]:
        """Read a list: "3, 4 and 5". "3 and 4 times 5" is none: where it ends is not certain."""
        values = [self.expression()]
        while self.follows_figure():
            values.append(self.expression())
            if values[-1].is_compound or len(values) > MAX_ITEMS:
                raise NotArithmeticError
        while (
            self.word in {",", "and"}
            and len(values) <= MAX_ITEMS
            and not (len(values) > 1 and self.begins_another())
        ):
            self.at += 1
            self.took("and")
            values.append(self.expression())
        if len(values) > MAX_ITEMS or (values[-1].is_compound and not all(value.is_compound for value in values)):
            raise NotArithmeticError
        return values

    def follows_figure(self) -> bool:
        """Whether one number follows another, as in "add 3 4 and 5"."""
        word, before = self.word, self.words[self.at - 1]
        return is_figure(word or " ") and is_figure(before) and (len(word) == 1 or word[0] != "0")

    def begins_another(self) -> bool:
        """Whether a new calculation, and no further item, follows the comma or the and."""
        return any(word in AGGREGATES for word in self.words[self.at + 1 : self.at + 4])

    def take_currency(self) -> None:
        self.currencies.add(CURRENCIES[self.word])
        self.at += 1


def _bounded(digits: str) -> str:
    """Refuse numbers that only an attack needs."""
    _, _, exponent = digits.partition("e")
    if exponent and abs(int(exponent[:6])) > MAX_EXPONENT:
        raise NotArithmeticError
    return digits
