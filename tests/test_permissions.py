"""Permissions: what a rule allows, what it costs to ask, and that a run keeps to them whoever carries it out."""

from __future__ import annotations

from typing import Any

import pytest
from durable_runs import House, of
from fakes import FakeTool, ScriptedModel, answer, call, calls
from growth import MOST, growth
from hypothesis import given
from hypothesis import strategies as st

from app.agent.core import Agent
from app.agent.events import RunStarted, ToolCompleted
from app.auth.principal import Principal
from app.errors import InvalidPermissionsError
from app.permissions import ArgumentRule, Permissions
from app.runs.models import RunKey, RunRequest
from app.storage.database import Database
from app.tools.base import ToolRegistry

RULE = ArgumentRule.parse("probe:id=PROP-2025-*")


@pytest.mark.parametrize(
    ("arguments", "is_kept"),
    [
        ({"id": "PROP-2025-001"}, True),
        ({"id": "PROP-2025-"}, True),
        ({"id": "PROP-2025-1\n2"}, True),
        ({}, False),
        ({"ID": "PROP-2025-001"}, False),
        ({"id ": "PROP-2025-001"}, False),
        ({"id": None}, False),
        ({"id": True}, False),
        ({"id": 2025}, False),
        ({"id": ["PROP-2025-001"]}, False),
        ({"id": {"id": "PROP-2025-001"}}, False),
        ({"deep": {"id": "PROP-2025-001"}}, False),
        ({"id": "prop-2025-001"}, False),
        ({"id": " PROP-2025-001"}, False),
        ({"id": "PROP-2024-001"}, False),
        ({"id": "XPROP-2025-001"}, False),
        ({"id": "PROP\uff0d2025-001"}, False),
        ({"id": "PROP-\u0662\u0660\u0662\u0665-001"}, False),
        ({"id": "PROP-2025"}, False),
        ({"id": ""}, False),
    ],
)
def test_a_rule_wants_a_text_that_matches_letter_by_letter(arguments: dict[str, Any], is_kept: bool) -> None:
    assert RULE.is_kept_by(arguments) is is_kept


@given(st.text("ab*.[]?\\", max_size=12), st.text("ab.", max_size=12))
def test_only_a_star_is_special_in_a_pattern(pattern: str, text: str) -> None:
    def matches(rest: str, said: str) -> bool:
        if not rest:
            return not said
        if rest[0] == "*":
            return matches(rest[1:], said) or (said != "" and matches(rest, said[1:]))
        return said[:1] == rest[0] and matches(rest[1:], said[1:])

    assert ArgumentRule("probe", "id", pattern).is_kept_by({"id": text}) is matches(pattern, text)


def test_no_pattern_takes_long() -> None:
    rule = ArgumentRule.parse("probe:id=" + "*a" * 249 + "b")
    assert growth(lambda text: rule.is_kept_by({"id": text}), "a" * 100_000) < MOST
    assert not rule.is_kept_by({"id": "a" * 100_000})


@pytest.mark.parametrize(
    "text", ["", "probe", "probe:id", "probe:id=", "probe:=x", ":id=x", "pro be:id=x", "a:b=\0"]
)
def test_what_is_no_rule_is_refused(text: str) -> None:
    with pytest.raises(InvalidPermissionsError):
        ArgumentRule.parse(text)


def made(**tools: Any) -> tuple[ToolRegistry, list[tuple[str, Any]]]:
    """Return tools of these names and attributes, and the list of the calls that have reached them."""
    registry, reached = ToolRegistry(), list[tuple[str, Any]]()
    for name, attributes in tools.items():
        registry.register(
            FakeTool(lambda given, name=name: reached.append((name, given)) or {}, name, **attributes)
        )
    return registry, reached


async def carried_out(database: Database, model: ScriptedModel, tools: ToolRegistry, who: Principal) -> list[Any]:
    """Submit a run in one process, carry it out in another, and return the errors of its steps."""
    agent = Agent(model, tools=tools)
    async with House(database, agent, owner="taker") as taker:
        run = await taker.service.submit(RunRequest("go"), who=who)
        key = RunKey(run.tenant, run.run_id)
    async with House(database, Agent(model, tools=tools), owner="other") as other:
        await other.execute(key)
        events = await other.events(key)
    [started] = of(RunStarted, events)
    assert (started.submitted_by, started.permissions) == (who.name, who.permissions)
    return [event.step.error for event in of(ToolCompleted, events)]


@pytest.mark.parametrize("effect", ["read", "unsafe"])
async def test_each_call_of_a_run_is_held_against_its_permissions_whoever_carries_it_out(
    sqlite_database: Database, effect: str
) -> None:
    tools, reached = made(probe={"effect": effect}, other={"effect": effect})
    ours, theirs = {"id": "PROP-2025-001"}, {"id": "PROP-2024-001"}
    model = ScriptedModel(
        calls(("probe", theirs), ("probe", ours), ("other", {}), ("probe", {"id": [ours["id"]]})),
        call("probe", id="PROP-2025-002"),
        answer(),
    )
    who = Principal("key:narrow", permissions=Permissions.of(["runs:write", "tools:probe"], [RULE]))
    errors = await carried_out(sqlite_database, model, tools, who)
    denied = "permission_denied: Only a text in 'id' that matches 'PROP-2025-*' is allowed here."
    assert errors == [denied, None, "permission_denied: The scope tools:other is missing.", denied, None]
    assert reached == [("probe", ours), ("probe", {"id": "PROP-2025-002"})]


async def test_a_tool_that_cannot_say_what_a_call_takes_is_not_called(sqlite_database: Database) -> None:
    def broken(_: object) -> list[str]:
        raise KeyError("id")

    tools, reached = made(
        broken={"required_scopes": broken},
        writing={"required_scopes": lambda _: ["notes:write"]},
        odd={"required_scopes": lambda _: "runs:write"},  # a text is as many scopes as it has letters
    )
    model = ScriptedModel(calls(("broken", {}), ("writing", {}), ("odd", {})), answer())
    who = Principal("key:narrow", permissions=Permissions.of(["runs:write", "tools:*"]))
    errors = await carried_out(sqlite_database, model, tools, who)
    assert [error.partition(":")[0] for error in errors] == ["permission_denied"] * 3
    assert reached == []


@pytest.mark.parametrize("effect", ["read", "unsafe"])
async def test_a_call_whose_secret_was_masked_is_not_made(sqlite_database: Database, effect: str) -> None:
    """What a model says under such a name is masked before anything else: a tool would act on the mask."""
    tools, reached = made(login={"effect": effect})
    model = ScriptedModel(call("login", user="ann", password="hunter2hunter2"), answer())  # noqa: S106
    who = Principal("key:any", permissions=Permissions.of(["runs:write", "tools:*"]))
    [error] = await carried_out(sqlite_database, model, tools, who)
    assert error == "invalid_input: password: a secret, and masked; tools get theirs elsewhere."
    assert reached == []
