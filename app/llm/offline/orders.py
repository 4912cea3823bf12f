"""Orders to work something out ("add 3 to 4"), and what may follow a value ("increased by 10%")."""

from __future__ import annotations

import re
from collections.abc import Callable
from decimal import Decimal

from .arithmetic import RESULT, Reader
from .expression import PRODUCT, NotArithmeticError, Value, chained, changed, joined, mean, repeated
from .lexicon import lexicon
from .numerals import read_numeral

_FRACTION = re.compile(r"\([0-9]+/[0-9]+\)$")
"""A half, two thirds: numbers written as such in words."""

_DECIMAL = re.compile(r"[0-9]{1,20}\.[0-9]{1,20}")
_PEOPLE = lexicon("people persons friends ways kids children members teams parts groups pieces guests equal us")
_UNITS = {"whole": 0, "integer": 0, "number": 0, "one": 0, "unit": 0, "dollar": 0, "tenth": 1, "hundredth": 2}
_UNITS |= {"cent": 2, "thousandth": 3, "ten": -1, "hundred": -2, "thousand": -3}
_PLACES = lexicon("decimal decimals place places dp digit digits point points")
_MAX_PLACES = 12


def _add(reader: Reader) -> Value:
    reader.took("up", "together")
    values = reader.items()
    is_percent = len(values) == 1 and reader.took_percent()
    if reader.took("to"):
        whole = reader.expression()
        return changed(whole, "+", values[0]) if is_percent else joined(chained("+", values), "+", whole)
    if len(values) == 1 and reader.has_result and RESULT not in values[0].text:
        return changed(Value(RESULT), "+", values[0]) if is_percent else joined(Value(RESULT), "+", values[0])
    return repeated("+")(values)


def _subtract(reader: Reader) -> Value:
    value = reader.expression()
    is_percent = reader.took_percent()
    if reader.took("from"):
        whole = reader.expression()
    elif reader.has_result:
        whole = Value(RESULT)
    else:
        raise NotArithmeticError
    return changed(whole, "-", value) if is_percent else joined(whole, "-", value)


def _multiply(reader: Reader) -> Value:
    values = [Value(RESULT)] if reader.has_result and reader.word == "by" else reader.items()
    while reader.took("by"):
        values.append(values[-1] if reader.took("itself") else reader.operand())
    return repeated("*")(values)


def _divide(reader: Reader) -> Value:
    value = Value(RESULT) if reader.has_result and reader.word == "by" else reader.expression()
    if reader.took("by"):
        return _shared(reader, value)
    if reader.took("in"):
        reader.expect("half")
        return joined(value, "/", Value("2"))
    if reader.took("into") or reader.word in {"between", "among"}:
        return _parts(reader, value)
    if value.level != PRODUCT:
        raise NotArithmeticError
    return value


def _parts(reader: Reader, value: Value) -> Value:
    """Read "into 4 parts" and "between 4 people"; "divide 5 into 20" asks how often 5 goes into 20."""
    is_into = not reader.took("between", "among")
    if not is_into or not _PEOPLE.isdisjoint(reader.words):
        return _shared(reader, value)
    other = reader.operand()
    if not (value.text.isdecimal() and other.text.isdecimal() and int(value.text) < int(other.text)):
        raise NotArithmeticError
    return joined(other, "/", value)


def _split(reader: Reader) -> Value:
    value = reader.operand()
    reader.took("equally", "evenly")
    if reader.took("between", "among", "by", "into", "across"):
        return _shared(reader, value)
    if reader.ahead() != "ways":
        raise NotArithmeticError
    return _shared(reader, value)


def _shared(reader: Reader, value: Value) -> Value:
    quotient = joined(value, "/", reader.operand())
    while reader.took(*_PEOPLE):
        pass
    return quotient


def _raised(exponent: str) -> Callable[[Reader], Value]:
    return lambda reader: joined(reader.operand(), "**", Value(exponent))


def _changed(sign: str) -> Callable[[Reader], Value]:
    return lambda reader: _by(reader, reader.operand(), sign)


def _by(reader: Reader, value: Value, sign: str) -> Value:
    """Read "by 20", "by 20%" and "by a third", which is a third of the value."""
    reader.expect("by")
    amount = reader.bare_operand()
    if reader.took_percent():
        return changed(value, sign, amount)
    if _FRACTION.match(amount.text):
        return Value(f"{value.inside(PRODUCT)} * (1 {sign} {amount.text[1:-1]})", PRODUCT)
    return joined(value, sign, amount)


def _raise(reader: Reader) -> Value:
    value = reader.expression()
    return _by(reader, value, "+") if reader.word == "by" else value


def _take(reader: Reader) -> Value:
    value = reader.expression()
    is_percent = reader.took_percent()
    if reader.took("from"):
        whole = reader.expression()
        return changed(whole, "-", value) if is_percent else joined(whole, "-", value)
    return value


def _round(reader: Reader) -> Value:
    value = Value(RESULT) if reader.has_result and reader.word == "to" else reader.expression()
    if reader.word == "to":
        return rounded(reader, value)
    if _is_tie(value, 0):
        raise NotArithmeticError
    return Value(f"round({value.text})")


def rounded(reader: Reader, value: Value) -> Value:
    """Read "to 2 decimal places" and "to the nearest tenth"."""
    reader.expect("to")
    if reader.took("nearest"):
        places = _UNITS.get(reader.word)
        reader.at += 1
        reader.took("number")
    else:
        places = _places(reader)
    if places is None or _is_tie(value, places):
        raise NotArithmeticError
    return Value(f"round({value.text}, {places})" if places else f"round({value.text})")


def _is_tie(value: Value, places: int) -> bool:
    """Whether a number stands half-way: schools round it up, and the tool to the even digit."""
    if not _DECIMAL.fullmatch(value.text):
        return False
    return Decimal(value.text).scaleb(places) % 1 == Decimal("0.5")


def _places(reader: Reader) -> int | None:
    digits, reader.at = read_numeral(reader.words, reader.at) if reader.word else ("", reader.at)
    if not digits.isdecimal() or int(digits) > _MAX_PLACES or not reader.took(*_PLACES):
        return None
    reader.took(*_PLACES)
    return int(digits)


def followed(reader: Reader, value: Value) -> Value:
    """Read what may follow a value and goes on from it, as often as there is such a thing."""
    if reader.word == "," and reader.ahead() == "rounded":
        reader.at += 1
    while reader.word in _SEQUELS:
        sequel = _SEQUELS[reader.word]
        reader.at += reader.word != "to"
        value = sequel(reader, value)
    return value


def _more(sign: str) -> Callable[[Reader, Value], Value]:
    def apply(reader: Reader, value: Value) -> Value:
        whole = reader.expression()
        if value.is_compound or whole.is_compound:
            raise NotArithmeticError
        return joined(whole, sign, value)

    return apply


def _from(reader: Reader, value: Value) -> Value:
    reader.expect("from")
    return joined(reader.expression(), "-", value)


def _into(reader: Reader, value: Value) -> Value:
    return joined(reader.operand(), "/", value)


def _with(reader: Reader, value: Value) -> Value:
    """Read "with a 20% tip"."""
    reader.took("a", "an")
    rate = reader.bare_operand()
    sign = "-" if "discount" in reader.words else "+"
    if value.is_compound or not reader.took_percent() or reader.words[reader.at - 1] in {"percent", "%"}:
        raise NotArithmeticError
    return changed(value, sign, rate)


_SEQUELS: dict[str, Callable[[Reader, Value], Value]] = {
    **dict.fromkeys(("increased", "raised"), lambda reader, value: _by(reader, value, "+")),
    **dict.fromkeys(("decreased", "reduced", "lowered", "cut"), lambda reader, value: _by(reader, value, "-")),
    **dict.fromkeys(("subtracted", "deducted", "taken"), _from),
    "MORE": _more("+"),
    "LESS": _more("-"),
    "INTO": _into,
    "with": _with,
    "rounded": rounded,
    "to": rounded,
}

ORDERS: dict[str, Callable[[Reader], Value]] = {
    "add": _add,
    "sum": _add,
    **dict.fromkeys(("subtract", "subract", "substract", "deduct"), _subtract),
    "multiply": _multiply,
    "divide": _divide,
    **dict.fromkeys(("split", "share"), _split),
    "square": _raised("2"),
    "cube": _raised("3"),
    "halve": lambda reader: joined(reader.operand(), "/", Value("2")),
    "average": lambda reader: mean(reader.items()),
    "increase": _changed("+"),
    **dict.fromkeys(("decrease", "reduce", "cut", "lower", "discount"), _changed("-")),
    "raise": _raise,
    "take": _take,
    "round": _round,
}
