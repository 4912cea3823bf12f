from __future__ import annotations

from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
from fakes import FakeTool

from app.errors import DuplicateToolError, InvalidToolError
from app.tools.base import DEFAULT_TIMEOUT_S, Effect, LayeredTools, ToolRegistry, prepare


class Greeter:
    """A tool as the README shows it: no base class."""

    name = "greet"
    description = "Greets somebody by name."
    input_schema = {
        "type": "object",
        "properties": {"who": {"type": "string", "minLength": 1}},
        "required": ["who"],
        "additionalProperties": False,
    }

    def run(self, input: dict[str, Any]) -> dict[str, Any]:
        return {"greeting": f"Hello, {input['who']}!"}


def test_a_plain_class_is_a_tool_and_unsafe_unless_it_says_otherwise() -> None:
    tool = prepare(Greeter())
    assert (tool.name, tool.effect, tool.timeout_s, tool.quick) == (
        "greet",
        Effect.UNSAFE,
        DEFAULT_TIMEOUT_S,
        False,
    )
    tool.check_input({"who": "Ada"})
    with pytest.raises(jsonschema_rs.ValidationError):
        tool.check_input({"who": ""})


def test_optional_attributes_are_taken() -> None:
    tool = prepare(FakeTool(effect="keyed", timeout_s=2, quick=True, output_schema={"type": "object"}))
    assert (tool.effect, tool.timeout_s, tool.quick) == (Effect.KEYED, 2.0, True)
    assert tool.check_output is not None


def test_an_async_run_is_seen() -> None:
    async def run(given: dict[str, Any]) -> dict[str, Any]:
        return {}

    assert prepare(FakeTool(run)).is_async


def test_a_later_change_of_the_schema_changes_nothing() -> None:
    tool = FakeTool(input_schema={"type": "object", "properties": {}})
    prepared = prepare(tool)
    tool.input_schema["properties"]["x"] = {"type": "integer"}
    assert prepared.input_schema == {"type": "object", "properties": {}}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"name": None}, "needs a `name`"),
        ({"name": "has space"}, "needs a `name`"),
        ({"name": "x" * 65}, "needs a `name`"),
        ({"description": None}, "needs a `description`"),
        ({"run": None}, "needs a method `run"),
        ({"input_schema": "text"}, "JSON Schema object"),
        ({"input_schema": {"type": "nonsense"}}, "invalid `input_schema`"),
        ({"input_schema": {"x": float("nan")}}, "invalid `input_schema`"),
        ({"input_schema": {"x": "y" * 300_000}}, "invalid `input_schema`: it is too large"),
        ({"output_schema": {"type": "nonsense"}}, "invalid `output_schema`"),
        ({"effect": "harmless"}, "one of pure, read, transactional, keyed, unsafe"),
        ({"timeout_s": 0}, "timeout_s"),
        ({"timeout_s": True}, "timeout_s"),
        ({"timeout_s": "30"}, "timeout_s"),
        ({"timeout_s": float("inf")}, "timeout_s"),
    ],
)
def test_an_object_without_the_shape_of_a_tool_is_refused_with_the_reason(
    change: dict[str, Any], reason: str
) -> None:
    tool = FakeTool()
    vars(tool).update(change)
    with pytest.raises(InvalidToolError, match=reason):
        prepare(tool)


def test_a_class_is_not_an_instance() -> None:
    with pytest.raises(InvalidToolError, match=r"register an instance: Greeter\(\)"):
        prepare(Greeter)


def test_a_name_is_not_a_tool() -> None:
    with pytest.raises(InvalidToolError, match=r"'math' is a name"):
        prepare("math")


def test_a_schema_never_makes_the_process_fetch_or_read_anything(tmp_path: Path) -> None:
    elsewhere = tmp_path / "schema.json"
    elsewhere.write_text('{"type": "integer"}')  # valid, so that only the refusal to look can refuse it
    for reference in (elsewhere.as_uri(), "http://127.0.0.1:1/schema"):
        with pytest.raises(InvalidToolError, match="invalid `input_schema`"):
            prepare(FakeTool(input_schema={"$ref": reference}))


def test_references_inside_a_schema_work() -> None:
    schema = {"$defs": {"id": {"type": "integer"}}, "properties": {"id": {"$ref": "#/$defs/id"}}}
    with pytest.raises(jsonschema_rs.ValidationError):
        prepare(FakeTool(input_schema=schema)).check_input({"id": "x"})


def test_a_snapshot_never_changes() -> None:
    registry = ToolRegistry([FakeTool(name="a")])
    before = registry.snapshot()
    registry.register(FakeTool(name="b"))
    assert (list(before), list(registry.snapshot())) == (["a"], ["a", "b"])
    registry.unregister("a")
    assert list(registry.snapshot()) == ["b"]
    with pytest.raises(KeyError):
        registry.unregister("a")
    with pytest.raises(TypeError):
        before["c"] = prepare(FakeTool())  # type: ignore[index]


def test_a_name_is_registered_once() -> None:
    registry = ToolRegistry([FakeTool(name="a")])
    with pytest.raises(DuplicateToolError, match="'a' is already registered"):
        registry.register(FakeTool(name="a"))


def test_an_upper_layer_replaces_what_lies_below_it() -> None:
    below, above = ToolRegistry([FakeTool(name="a"), FakeTool(name="b")]), ToolRegistry()
    layers = LayeredTools(below, above)
    before = layers.snapshot()
    assert layers.snapshot() is before
    mine = FakeTool(name="a")
    above.register(mine)
    after = layers.snapshot()
    assert list(after) == ["a", "b"]
    assert after["a"].source is mine
    assert before["a"].source is not mine
