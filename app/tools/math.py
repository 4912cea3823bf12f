"""The math tool: arithmetic as a good calculator does it, for anything that can write an expression."""

from __future__ import annotations

from typing import Final

from ..errors import ToolRejected
from ..jsonvalue import JsonObject
from .arithmetic.grammar import evaluate
from .arithmetic.token import MAX_LENGTH

__all__ = ["MathTool", "evaluate"]


class MathTool:
    """Works out one arithmetic expression; quick enough to run inline, whatever it is given."""

    name: Final = "math"
    description: Final = (
        "Evaluate an arithmetic expression exactly and return the number. "
        "Operators: + - * / // % mod ^ ** ! and percentages (15% of 240, 200 + 10%). "
        "Functions: sqrt, cbrt, abs, round(x, digits), floor, ceil, trunc, min, max, sum, mean, median, gcd, lcm, "
        "factorial, comb, perm, exp, ln, log(x, base), log2, log10, pow, hypot, "
        "sin, cos, tan and their inverses (radians), sinh, cosh, tanh, degrees, radians. "
        "Constants: pi, e, tau, phi. log(x) is the natural logarithm."
    )
    input_schema: Final[JsonObject] = {
        "type": "object",
        "properties": {
            "expression": {
                "type": "string",
                "minLength": 1,
                "maxLength": MAX_LENGTH,
                "description": "For example (100 + 50) * 2, or sqrt(2) * 15% of 240. No variables, no words.",
            }
        },
        "required": ["expression"],
        "additionalProperties": False,
    }
    effect: Final = "pure"
    quick: Final = True

    def run(self, input: JsonObject) -> JsonObject:
        """Return the `result` and the `expression` it belongs to.

        Raises:
            ToolRejected: as `evaluate` does.
        """
        expression = input.get("expression")
        if not isinstance(expression, str):
            raise ToolRejected("The expression must be a text.", code="invalid_expression")
        return {"result": evaluate(expression), "expression": expression}
