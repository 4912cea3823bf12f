from __future__ import annotations

from typing import Any

import pytest
from fakes import ScriptedModel, answer, call
from hypothesis import given
from hypothesis import strategies as st

from app.agent.core import Agent
from app.errors import InvalidProposalIdError, ToolRejected
from app.tools.base import Effect, prepare
from app.tools.governance import GovernanceNoteStore, GovernanceNoteTool, default_note_store, parse_proposal_id


class OwnStore:
    """A user's own store: any object with the two methods."""

    def __init__(self) -> None:
        self.notes: dict[str, list[str]] = {}

    def add_note(self, proposal_id: str, note: str) -> int:
        self.notes.setdefault(proposal_id, []).append(note)
        return len(self.notes[proposal_id])

    def get_notes(self, proposal_id: str) -> list[str]:
        return list(self.notes.get(proposal_id, []))


def run(store: Any, **arguments: Any) -> Any:
    model = ScriptedModel(call("governance_note", **arguments), answer())
    return Agent(model, [GovernanceNoteTool(store=store)]).run("go").trace[0]


def test_a_users_own_store_gets_the_notes() -> None:
    store = OwnStore()
    step = run(store, proposal_id="prop-2025-001", note="Legal review completed")
    assert step.output == {"proposal_id": "PROP-2025-001", "note": "Legal review completed", "count": 1}
    assert store.notes == {"PROP-2025-001": ["Legal review completed"]}
    assert run(store, action="list", proposal_id="PROP-2025-001").output == {
        "proposal_id": "PROP-2025-001",
        "notes": ["Legal review completed"],
    }


class AsyncStore(OwnStore):
    async def add_note(self, proposal_id: str, note: str) -> int:  # type: ignore[override]
        return super().add_note(proposal_id, note)

    async def get_notes(self, proposal_id: str) -> list[str]:  # type: ignore[override]
        return super().get_notes(proposal_id)


class ForgetfulStore(OwnStore):
    def add_note(self, proposal_id: str, note: str) -> int:
        super().add_note(proposal_id, note)
        return None  # type: ignore[return-value]


def test_a_store_may_be_async() -> None:
    store = AsyncStore()
    assert run(store, proposal_id="PROP-2025-001", note="one").output["count"] == 1
    assert run(store, action="list", proposal_id="PROP-2025-001").output["notes"] == ["one"]


def test_a_store_that_does_not_count_still_has_the_note() -> None:
    step = run(ForgetfulStore(), proposal_id="PROP-2025-001", note="one")
    assert (step.error, step.output) == (None, {"proposal_id": "PROP-2025-001", "note": "one", "count": None})


def test_what_is_no_store_is_refused_when_the_tool_is_made() -> None:
    with pytest.raises(TypeError, match="object is no note store: it has no method add_note"):
        GovernanceNoteTool(store=object())  # type: ignore[arg-type]


def test_only_a_store_that_says_so_is_more_than_unsafe() -> None:
    assert prepare(GovernanceNoteTool(OwnStore())).effect is Effect.UNSAFE
    assert not prepare(GovernanceNoteTool(OwnStore())).quick
    boastful = OwnStore()
    boastful.effect = "transactional"  # type: ignore[attr-defined]
    assert prepare(GovernanceNoteTool(boastful)).effect is Effect.UNSAFE
    keyed = OwnStore()
    keyed.effect = "keyed"  # type: ignore[attr-defined]
    assert prepare(GovernanceNoteTool(keyed)).effect is Effect.KEYED
    assert prepare(GovernanceNoteTool(GovernanceNoteStore())).effect is Effect.TRANSACTIONAL


def test_tools_without_a_store_share_the_one_of_the_process() -> None:
    assert GovernanceNoteTool().store is GovernanceNoteTool().store is default_note_store


@pytest.mark.parametrize(
    "arguments",
    [
        {"proposal_id": "PROP-25-001", "note": "x"},
        {"proposal_id": "PROP-2025-01", "note": "x"},
        {"proposal_id": "PROP-2025-001\n", "note": "x"},
        {"proposal_id": "PROP-2025-001"},
        {"proposal_id": "PROP-2025-001", "note": ""},
        {"proposal_id": "PROP-2025-001", "note": " \n\t"},
        {"proposal_id": "PROP-2025-001", "note": "x" * 10_001},
        {"proposal_id": "PROP-2025-001", "note": "x", "action": "delete"},
        {"proposal_id": "PROP-2025-001", "note": "x", "action": "list"},
        {"proposal_id": "PROP-2025-001", "note": "x", "author": "me"},
        {"note": "x"},
    ],
)
def test_input_that_is_not_a_note_for_a_proposal_writes_nothing(arguments: dict[str, Any]) -> None:
    store = OwnStore()
    assert (run(store, **arguments).error or "").startswith("invalid_input: ")
    assert store.notes == {}


@pytest.mark.parametrize("limits", [{"max_notes_per_proposal": 2}, {"max_notes": 2}, {"max_bytes": 6}])
def test_a_full_store_refuses_and_keeps_what_it_has(limits: dict[str, int]) -> None:
    store = GovernanceNoteStore(**limits)
    for note in ("one", "two"):
        store.add_note("PROP-2025-001", note)
    with pytest.raises(ToolRejected, match="full"):
        store.add_note("PROP-2025-001", "three")
    assert store.get_notes("PROP-2025-001") == ["one", "two"]
    assert (run(store, proposal_id="PROP-2025-001", note="x").error or "").startswith("store_full: ")


@given(st.from_regex(r"[Pp][Rr][Oo][Pp]-[0-9]{4}-[0-9]{3,6}", fullmatch=True))
def test_every_well_formed_id_has_one_canonical_form(text: str) -> None:
    canonical = parse_proposal_id(text)
    assert canonical == text.upper() == parse_proposal_id(canonical)


@pytest.mark.parametrize(
    "text",
    ["", "PROP-2025-01", "PROP-2025-0000001", "PROP-25-001", "PROPS-2025-001", "PROP-٢٠٢٥-001", "PROP-2025-001\n"],
)
def test_an_ill_formed_id_is_refused(text: str) -> None:
    with pytest.raises(InvalidProposalIdError, match="looks like PROP-2025-001"):
        parse_proposal_id(text)
