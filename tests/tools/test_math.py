"""The math tool: what it takes, what it answers, and how it refuses."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import jsonschema_rs
import pytest

from app.errors import ToolRejected
from app.tools.arithmetic.token import MAX_LENGTH
from app.tools.base import Effect, prepare
from app.tools.math import MathTool, evaluate


def test_the_answer_holds_the_result_and_the_expression_as_given() -> None:
    given = " (100 + 50) × 2 = "
    assert MathTool().run({"expression": given}) == {"result": 300, "expression": given}


def test_a_refusal_has_a_stable_code_and_a_sentence() -> None:
    with pytest.raises(ToolRejected) as refusal:
        MathTool().run({"expression": "1/0"})
    assert refusal.value.as_text() == "division_by_zero: Division by zero has no result."


@pytest.mark.parametrize("bad", [{}, {"expression": 5}, {"expression": None}, {"expression": True}])
def test_an_input_without_a_text_is_refused(bad: dict[str, object]) -> None:
    with pytest.raises(ToolRejected) as refusal:
        MathTool().run(bad)  # type: ignore[arg-type]
    assert refusal.value.code == "invalid_expression"


def test_the_tool_is_pure_and_runs_on_the_event_loop() -> None:
    prepared = prepare(MathTool())
    assert (prepared.name, prepared.effect, prepared.quick) == ("math", Effect.PURE, True)


@pytest.mark.parametrize(
    "bad",
    [
        {},
        {"expression": ""},
        {"expression": "1" * (MAX_LENGTH + 1)},
        {"expression": "1", "x": 2},
        {"expression": 1},
    ],
)
def test_the_schema_refuses_what_the_tool_would(bad: dict[str, object]) -> None:
    check = prepare(MathTool()).check_input
    check({"expression": "1" * MAX_LENGTH})
    with pytest.raises(jsonschema_rs.ValidationError):
        check(bad)  # type: ignore[arg-type]


def test_threads_do_not_disturb_each_other() -> None:
    expressions = [f"sin({n})^2 + cos({n})^2 + sqrt({n}) * 10%" for n in range(50)]
    alone = [evaluate(expression) for expression in expressions]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(evaluate, expressions * 4)) == alone * 4


def test_the_callers_decimal_context_is_left_alone() -> None:
    from decimal import Decimal, localcontext

    with localcontext() as context:
        context.prec = 3
        assert evaluate("1/3 + pi") == 3.4749259869231266
        assert str(Decimal(1) / 3) == "0.333"


def test_importing_the_tool_loads_no_heavy_package() -> None:
    code = "import sys, json, app.tools.math; print(json.dumps(sorted(sys.modules)))"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")}
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True, env=environment)
    loaded = json.loads(ran.stdout)
    assert not {"mpmath", "numpy", "sympy", "fastapi", "pydantic", "sqlalchemy", "ast"} & set(loaded)
