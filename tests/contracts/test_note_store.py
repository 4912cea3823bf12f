"""What every note store promises, run against every implementation."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from app.storage.notes import SqlNoteStore
from app.tools.governance import GovernanceNoteStore, NoteStore


@pytest.fixture(params=["memory", "sqlite", "postgres"])
def store(request: pytest.FixtureRequest) -> NoteStore:
    if request.param == "memory":
        return GovernanceNoteStore()
    return SqlNoteStore(request.getfixturevalue(f"{request.param}_database"))


def test_a_proposal_without_notes_has_none(store: NoteStore) -> None:
    assert store.get_notes("PROP-2025-001") == []


def test_notes_come_back_in_the_order_they_were_added(store: NoteStore) -> None:
    assert [store.add_note("PROP-2025-001", text) for text in ("one", "two", "two")] == [1, 2, 3]
    assert store.get_notes("PROP-2025-001") == ["one", "two", "two"]


def test_proposals_do_not_mix(store: NoteStore) -> None:
    store.add_note("PROP-2025-001", "one")
    assert store.get_notes("PROP-2025-002") == []


def test_what_is_handed_out_is_a_copy(store: NoteStore) -> None:
    store.add_note("PROP-2025-001", "one")
    store.get_notes("PROP-2025-001").append("forged")
    assert store.get_notes("PROP-2025-001") == ["one"]


@pytest.mark.parametrize("note", ["line\nbreak", "Zürich 以太坊 🙂", "'; DROP TABLE notes; --", " padded "])
def test_a_note_is_kept_verbatim(store: NoteStore, note: str) -> None:
    store.add_note("PROP-2025-001", note)
    assert store.get_notes("PROP-2025-001") == [note]


def test_nothing_is_lost_between_threads(store: NoteStore) -> None:
    with ThreadPoolExecutor(8) as pool:
        counts = list(pool.map(lambda n: store.add_note("PROP-2025-001", str(n)), range(400)))
    assert sorted(counts) == list(range(1, 401))
    assert sorted(map(int, store.get_notes("PROP-2025-001"))) == list(range(400))
