"""Notes in SQL: tenants, what is known of each, runs' transactions, and several writers at once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from threading import Barrier

import pytest
from sqlalchemy import Connection, insert
from stored_runs import another

from app.errors import ToolRejected
from app.runs.models import Note
from app.storage.database import Database
from app.storage.notes import MAX_NOTES, SqlNoteStore
from app.storage.tables import notes
from app.storage.units import UnitTransaction

PROPOSAL = "PROP-2025-001"


def in_run(connection: Connection, tenant: str = "default") -> UnitTransaction:
    return UnitTransaction(tenant, "a-run", 3, connection)


def test_a_note_of_a_run_says_which_and_when(database: Database) -> None:
    store = SqlNoteStore(database)
    store.add_note(PROPOSAL, "by hand")
    assert database.transact_now(lambda c: store.add_note_in(in_run(c), PROPOSAL, "by a run")) == 2
    first, second = store.read_notes(PROPOSAL)
    assert first == Note("by hand", None, None, first.created_at)
    assert second == Note("by a run", "a-run", 3, second.created_at)
    assert abs(second.created_at - datetime.now(UTC)) < timedelta(minutes=1)
    assert store.read_notes("PROP-2025-002") == []


def test_tenants_do_not_see_each_others_notes(database: Database) -> None:
    red, blue = SqlNoteStore(database, "red"), SqlNoteStore(database, "blue")
    assert red.add_note(PROPOSAL, "red") == 1
    assert blue.add_note(PROPOSAL, "blue") == 1
    database.transact_now(lambda c: red.add_note_in(in_run(c, "blue"), PROPOSAL, "of the run's tenant"))
    assert red.get_notes(PROPOSAL) == ["red"]
    assert blue.get_notes(PROPOSAL) == ["blue", "of the run's tenant"]
    assert [note.note for note in blue.read_notes(PROPOSAL)] == ["blue", "of the run's tenant"]
    assert database.transact_now(lambda c: red.get_notes_in(in_run(c, "red"), PROPOSAL)) == ["red"]


def test_a_note_goes_with_the_transaction_that_it_was_part_of(database: Database) -> None:
    store = SqlNoteStore(database)

    def fail(connection: Connection) -> None:
        assert store.add_note_in(in_run(connection), PROPOSAL, "first") == 1
        assert store.add_note_in(in_run(connection), PROPOSAL, "second") == 2
        assert store.get_notes_in(in_run(connection), PROPOSAL) == ["first", "second"]
        raise ValueError("undo")

    with pytest.raises(ValueError, match="undo"):
        database.transact_now(fail)
    assert store.get_notes(PROPOSAL) == []
    assert store.add_note(PROPOSAL, "the first that lasts") == 1


def test_a_full_proposal_refuses_and_keeps_what_it_has(database: Database) -> None:
    store = SqlNoteStore(database)
    row = {"tenant": "default", "proposal_id": PROPOSAL, "number": MAX_NOTES - 1, "note": "x", "created_at": 0}
    database.transact_now(lambda connection: connection.execute(insert(notes).values(row)))
    assert store.add_note(PROPOSAL, "the last") == MAX_NOTES
    with pytest.raises(ToolRejected) as caught:
        store.add_note(PROPOSAL, "one too many")
    assert caught.value.code == "store_full"
    with pytest.raises(ToolRejected):
        database.transact_now(lambda c: store.add_note_in(in_run(c), PROPOSAL, "one too many"))
    assert store.get_notes(PROPOSAL) == ["x", "the last"]
    assert store.add_note("PROP-2025-002", "elsewhere there is room") == 1


def test_processes_that_write_at_once_number_their_notes_one_after_the_other(postgres_database: Database) -> None:
    with another(postgres_database) as second:
        stores = [SqlNoteStore(postgres_database), SqlNoteStore(second)]
        ready = Barrier(8)

        def work(number: int) -> list[int]:
            ready.wait(20)
            return [stores[number % 2].add_note(PROPOSAL, f"{number}") for _ in range(25)]

        with ThreadPoolExecutor(8) as pool:
            counts = [count for found in pool.map(work, range(8)) for count in found]
    assert sorted(counts) == list(range(1, 201))
    assert len(stores[0].get_notes(PROPOSAL)) == 200
