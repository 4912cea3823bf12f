"""Orders to work something out: "add 3 to 4", "subtract 5 from it", "increase 50 by 20%"."""

from __future__ import annotations

from collections.abc import Callable

from .arithmetic import RESULT, Reader
from .expression import ATOM, PRODUCT, NotArithmeticError, Value, chained, joined, mean, repeated


def _add(reader: Reader) -> Value:
    reader.took("up", "together")
    values = reader.items()
    if reader.took("to"):
        return joined(chained("+", values), "+", reader.expression())
    if len(values) == 1 and reader.has_result and RESULT not in values[0].text:
        return joined(Value(RESULT), "+", values[0])
    return repeated("+")(values)


def _subtract(reader: Reader) -> Value:
    value = reader.expression()
    if reader.took("from"):
        return joined(reader.expression(), "-", value)
    if not reader.has_result:
        raise NotArithmeticError
    return joined(Value(RESULT), "-", value)


def _multiply(reader: Reader) -> Value:
    values = [Value(RESULT)] if reader.has_result and reader.word == "by" else reader.items()
    while reader.took("by"):
        values.append(reader.operand())
    return repeated("*")(values)


def _divide(reader: Reader) -> Value:
    value = Value(RESULT) if reader.has_result and reader.word == "by" else reader.expression()
    if not reader.took("by"):
        if value.level != PRODUCT:
            raise NotArithmeticError
        return value
    return joined(value, "/", reader.operand())


def _raised(exponent: str) -> Callable[[Reader], Value]:
    return lambda reader: joined(reader.operand(), "**", Value(exponent))


def _changed(sign: str) -> Callable[[Reader], Value]:
    def apply(reader: Reader) -> Value:
        value = reader.operand()
        reader.expect("by")
        amount = reader.bare_operand()
        if reader.took("percent", "%"):
            return Value(f"{value.inside(PRODUCT)} * (1 {sign} {amount.inside(ATOM)}/100)", PRODUCT)
        return joined(value, sign, amount)

    return apply


def _take(reader: Reader) -> Value:
    value = reader.expression()
    return joined(reader.expression(), "-", value) if reader.took("from") else value


ORDERS: dict[str, Callable[[Reader], Value]] = {
    "add": _add,
    "sum": _add,
    "subtract": _subtract,
    "deduct": _subtract,
    "multiply": _multiply,
    "divide": _divide,
    "square": _raised("2"),
    "cube": _raised("3"),
    "halve": lambda reader: joined(reader.operand(), "/", Value("2")),
    "average": lambda reader: mean(reader.items()),
    "increase": _changed("+"),
    "decrease": _changed("-"),
    "reduce": _changed("-"),
    "raise": lambda reader: reader.expression(),
    "take": _take,
}
