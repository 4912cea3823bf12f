from __future__ import annotations

import json
import time
from typing import Any

import pytest
from fake_models import NamedModel, end_of, events_of
from fakes import FakeTool, ScriptedModel, answer, call, kinds

from app.agent.asking import MAX_CORRECTIONS
from app.agent.core import Agent
from app.agent.events import ModelRejected, RunFinished, RunStarted
from app.agent.journal import ListJournal
from app.agent.outputs import MAX_SCHEMA_BYTES, OutputForm
from app.agent.state import AgentState
from app.errors import InvalidOutputSchemaError, ModelResponseError
from app.jsonvalue import JsonObject
from app.llm.interface import CorrectionMessage, LLMResponse, Usage
from app.runs.capping import cut

TOTAL: JsonObject = {
    "type": "object",
    "properties": {"total": {"type": "integer"}},
    "required": ["total"],
    "additionalProperties": False,
}
ANYTHING: JsonObject = {}


# one answer


@pytest.mark.parametrize(
    ("text", "compact"),
    [
        ('{"total": 4}', '{"total":4}'),
        ('\n  {"total" :\n 4}  \n', '{"total":4}'),
        ('```json\n{"total": 4}\n```', '{"total":4}'),
        ('```\n{"total": 4}\n```\n', '{"total":4}'),
        ('{"total": 123456789012345678901234567890}', '{"total":123456789012345678901234567890}'),
        (f'{{"total": {"9" * 4_000}}}', f'{{"total":{"9" * 4_000}}}'),
    ],
)
def test_an_answer_of_the_form_is_returned_compact_and_exact(text: str, compact: str) -> None:
    assert OutputForm(TOTAL).checked(text) == compact


@pytest.mark.parametrize("value", [None, True, 0, -1.5, "ü語🙂", "\x00", [], {}, [[1, {"a": None}]]])
def test_any_json_value_can_be_an_answer(value: object) -> None:
    assert json.loads(OutputForm(ANYTHING).checked(json.dumps(value))) == value
    assert json.loads(OutputForm(ANYTHING).checked(json.dumps(value, ensure_ascii=False))) == value


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("four", "one JSON value and nothing else"),
        ("", "one JSON value"),
        ('The total is {"total": 4}', "one JSON value"),
        ('{"total": 4} {"total": 5}', "one JSON value"),
        ('{"total": 4', "one JSON value"),
        ('{"total": NaN}', "NaN is no JSON"),
        ('{"total": -Infinity}', "-Infinity is no JSON"),
        ('{"total": 1e999}', "1e999 is too large a number"),
        (f'{{"total": {"9" * 5_000}}}', "one JSON value"),
        ("[" * 100_000, "one JSON value"),
        ('{"total": "4"}', 'at total: "4" is not of type "integer"'),
        ('{"total": 4.5}', "at total: "),
        ("{}", '"total" is a required property'),
        ('{"total": 4, "more": 5}', "Additional properties"),
        ('{"total": "\\ud800"}', "a lone surrogate"),
        ('{"\\udfff": 4}', "a lone surrogate"),
        ("```json\n```", "one JSON value"),
        ('{"total": "' + "x" * 100_000 + '"}', "at total: "),
    ],
)
def test_any_other_is_refused_in_words_for_the_model(text: str, problem: str) -> None:
    with pytest.raises(ModelResponseError) as refused:
        OutputForm(TOTAL).checked(text)
    assert problem in str(refused.value)
    assert len(str(refused.value)) < 1_000


@pytest.mark.parametrize(
    "schema",
    [
        [],
        True,
        "object",
        {"type": "nope"},
        {"pattern": "("},
        {"$ref": "http://schemas.example/other"},
        {"$ref": "file:///etc/passwd"},
        {"$ref": "#/nowhere"},
        {"$schema": "http://schemas.example/dialect"},
        {"description": "\ud800"},
        {"description": "\0"},
        {"const": float("nan")},
        {1: 2},
        {"description": "x" * MAX_SCHEMA_BYTES},
    ],
)
def test_what_is_no_schema_is_refused_before_a_run_starts(schema: Any) -> None:
    with pytest.raises(InvalidOutputSchemaError, match="output_schema") as refused:
        Agent().opening("go", output_schema=schema)
    assert len(str(refused.value)) < 700


def doubling(levels: int) -> JsonObject:
    """A schema of a few hundred bytes that comes to 2 to the power of `levels` subschemas."""
    names: JsonObject = {f"a{n}": {"allOf": [{"$ref": f"#/$defs/a{n + 1}"}] * 2} for n in range(levels)}
    return {"$ref": "#/$defs/a0", "$defs": {**names, f"a{levels}": {"type": "object"}}}


@pytest.mark.parametrize("levels", [14, 28, 64])
def test_a_schema_that_doubles_at_every_level_is_refused_at_once(levels: int) -> None:
    begun = time.monotonic()
    with pytest.raises(InvalidOutputSchemaError, match="output_schema comes to more than 10000 subschemas"):
        OutputForm(doubling(levels))
    assert time.monotonic() - begun < 2  # the check itself would take minutes


def test_going_round_a_cycle_hides_no_doubling() -> None:
    schema = doubling(28)
    definitions: Any = schema["$defs"]
    for level in range(1, 28):
        definitions[f"a{level}"]["properties"] = {"back": {"$ref": f"#/$defs/a{level - 1}"}}
    definitions["a28"]["properties"] = {"back": {"$ref": "#/$defs/a27"}}
    for first, then in [("a0", "a28"), ("a28", "a0")]:
        schema["allOf"] = [{"$ref": f"#/$defs/{first}"}, {"$ref": f"#/$defs/{then}"}]
        del schema["$ref"]
        with pytest.raises(InvalidOutputSchemaError, match="subschemas"):
            OutputForm(schema)
        schema["$ref"] = "#"


def test_what_is_left_unevaluated_is_looked_for_again_at_every_level() -> None:
    closed: JsonObject = {"unevaluatedProperties": False}
    names: JsonObject = {f"a{n}": {**closed, "allOf": [{"$ref": f"#/$defs/a{n + 1}"}]} for n in range(28)}
    with pytest.raises(InvalidOutputSchemaError, match="subschemas"):
        OutputForm({"$ref": "#/$defs/a0", "$defs": {**names, "a28": {}}})
    nested: JsonObject = {**closed, "properties": {"a": True}}
    for _ in range(20):
        nested = {**closed, "properties": {"a": nested}}
    assert OutputForm({"allOf": [nested], **closed}).checked('{"a":{"a":{}}}') == '{"a":{"a":{}}}'


def test_a_schema_that_comes_to_a_few_subschemas_may_refer_to_them_as_it_likes() -> None:
    assert OutputForm(doubling(8)).checked("{}") == "{}"
    long: JsonObject = {f"a{n}": {"$ref": f"#/$defs/a{n + 1}"} for n in range(500)}
    assert OutputForm({"$ref": "#/$defs/a0", "$defs": {**long, "a500": True}}).checked("1") == "1"


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object", "properties": {"children": {"type": "array", "items": {"$ref": "#"}}}},
        {
            "$ref": "#/$defs/tree~1node",
            "$defs": {
                "tree/node": {
                    "type": "object",
                    "properties": {"children": {"items": {"$ref": "#/%24defs/tree~1node"}}},
                }
            },
        },
    ],
)
def test_a_schema_may_be_recursive(schema: JsonObject) -> None:
    form = OutputForm(schema)
    assert form.checked('{"children": [{"children": [{}]}]}') == '{"children":[{"children":[{}]}]}'
    with pytest.raises(ModelResponseError, match="at children/0/children/0"):
        form.checked('{"children": [{"children": [4]}]}')


@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": "#name", "$defs": {"a": {"$anchor": "name"}}},
        {"$id": "http://schemas.example/a", "$ref": "a"},
        {"$ref": "https://json-schema.org/draft/2020-12/schema"},
        {"$dynamicRef": "#name", "$defs": {"a": {"$dynamicAnchor": "name"}}},
        {"$recursiveRef": "#"},
        {"$ref": "#/$defs/a", "$defs": {"a": {"$id": "http://schemas.example/a"}}},
        {"$schema": "http://json-schema.org/draft-04/schema#", "not": {"id": "http://schemas.example/a"}},
        {"$ref": "#/allOf/7", "allOf": [{}]},
        {"$ref": "#/title", "title": "text"},
    ],
)
def test_references_whose_expansion_is_not_plain_are_refused(schema: JsonObject) -> None:
    with pytest.raises(InvalidOutputSchemaError, match="output_schema"):
        OutputForm(schema)


@pytest.mark.parametrize("schema", [{"enum": [{"$ref": "x"}]}, {"properties": {"$ref": {}, "id": {}, "$id": {}}}])
def test_what_only_looks_like_a_reference_is_none(schema: JsonObject) -> None:
    OutputForm(schema)


@pytest.mark.parametrize("char", ["x", '"', "語", "\\u0001"])
def test_an_answer_is_stored_whole_or_refused(char: str) -> None:
    form = OutputForm({"type": "string"})
    kept = 0
    for length in range(1_000, 100_000, 1_000):
        text = json.dumps(json.loads('"' + char.replace('"', '\\"') + '"') * length, ensure_ascii=False)
        try:
            compact = form.checked(text)
        except ModelResponseError as error:
            assert "Be shorter" in str(error)  # noqa: PT017
            break
        assert cut(RunFinished("success", compact)) == RunFinished("success", compact)
        kept = length
    assert 0 < kept < 99_000


def test_a_schema_is_copied_when_the_run_starts() -> None:
    schema: JsonObject = {"enum": [4]}
    opening = Agent().opening("go", output_schema=schema)
    schema["enum"] = [5]
    assert opening.output_schema == {"enum": [4]}


# in a run


async def run(*replies: object, schema: JsonObject = TOTAL) -> tuple[NamedModel, list[Any]]:
    model = NamedModel("a", *replies)
    return model, await events_of(Agent(model, [FakeTool()]), output_schema=schema)


async def test_the_output_of_a_run_is_json_of_its_form_and_the_model_is_told_which() -> None:
    model, events = await run(call("probe"), answer('```json\n{"total": 4}\n```'))
    assert end_of(events) == RunFinished("success", '{"total":4}')
    assert [request.output_schema for request in model.requests] == [TOTAL, TOTAL]
    assert isinstance(events[0], RunStarted)
    assert events[0].output_schema == TOTAL


async def test_a_model_mends_its_answer_when_it_is_told_what_is_wrong() -> None:
    model, events = await run(answer("four"), answer('{"total": "4"}'), answer('{"total": 4}'))
    assert end_of(events) == RunFinished("success", '{"total":4}')
    told = [message.problem for message in model.seen[2] if isinstance(message, CorrectionMessage)]
    assert len(told) == 2
    assert "nothing else" in told[0]
    assert told[1] == 'The answer does not satisfy its schema at total: "4" is not of type "integer"'


async def test_a_model_that_does_not_mend_it_ends_the_run_as_an_error() -> None:
    model, events = await run(answer("four"))
    end = end_of(events)
    assert (end.status, end.reason) == ("error", "model_response_invalid")
    assert len(model.requests) == MAX_CORRECTIONS + 1
    assert "nothing else" in end.output


async def test_corrections_count_in_a_row_only() -> None:
    bad, good = answer("four"), answer('{"total": 4}')
    _, events = await run(bad, bad, call("probe"), bad, bad, good)
    assert end_of(events).status == "success"


async def test_an_answer_that_was_refused_is_paid_all_the_same() -> None:
    _, events = await run(LLMResponse("four", usage=Usage(10, 5)), answer('{"total": 4}'))
    assert isinstance(events[2], ModelRejected)
    assert events[2].usage == Usage(10, 5)


async def test_an_honest_refusal_needs_no_form() -> None:
    _, events = await run(LLMResponse("I cannot do this.", declined=True))
    assert end_of(events) == RunFinished("error", "I cannot do this.", "declined")


async def test_a_resumed_run_keeps_its_form() -> None:
    _, events = await run(call("probe"), answer('{"total": 4}'))
    state = AgentState.fold(events[:5])
    agent = Agent(NamedModel("a", answer("four"), answer('{"total": 5}')), [FakeTool()])
    ended = [event async for event in agent.advance(state, ListJournal())]
    assert kinds(ended)[-3:] == ["ModelRequested", "ModelDecided", "RunFinished"]
    assert end_of(ended).output == '{"total":5}'


async def test_a_client_of_nothing_but_text_is_told_the_form_too() -> None:
    class Text:
        def __init__(self) -> None:
            self.systems: list[str] = []

        async def generate(self, prompt: str, system_prompt: str = "") -> LLMResponse:
            self.systems.append(system_prompt)
            return answer('{"answer": {"total": 4}}')

    client = Text()
    events = await events_of(Agent(client, []), output_schema=TOTAL)
    assert end_of(events) == RunFinished("success", '{"total":4}')
    assert json.dumps(TOTAL, separators=(",", ":")) in client.systems[0]


async def test_the_offline_planner_cannot_do_it_and_says_so() -> None:
    events = await events_of(Agent(), "Calculate 2+2", output_schema=TOTAL)
    end = end_of(events)
    assert (end.status, end.reason) == ("error", "model_response_invalid")
    assert [step.output for step in AgentState.fold(events).steps] == [{"result": 4, "expression": "2+2"}]


async def test_without_a_form_an_answer_may_be_any_text() -> None:
    model = ScriptedModel(answer("four"))
    assert (await Agent(model, []).arun("go")).output == "four"
    assert model.requests[0].output_schema is None


def test_a_schema_that_refers_to_itself_in_several_ways_does_not_take_for_ever() -> None:
    def nested(levels: int) -> str:
        return '{"a":' * levels + "{}" + "}" * levels

    twice = OutputForm({"allOf": [{"properties": {"a": {"$ref": "#"}}}] * 60})
    assert twice.checked(nested(2)) == nested(2)
    with pytest.raises(ModelResponseError, match="nested too deeply"):
        twice.checked(nested(4))
    tree = OutputForm({"properties": {"a": {"$ref": "#"}, "b": {"$ref": "#"}}})
    assert tree.checked(nested(60)) == nested(60)
