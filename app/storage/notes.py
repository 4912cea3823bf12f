"""The notes of proposals in SQL."""

from __future__ import annotations

from typing import Final

from sqlalchemy import Connection, func, insert, select

from ..errors import ToolRejected
from ..runs.models import DEFAULT_TENANT, Note
from ..tools.base import Transaction
from .database import Database
from .dialect import now_us
from .moments import EPOCH, MICROSECOND
from .tables import notes

MAX_NOTES: Final = 10_000
"""How many notes a proposal may have."""


class SqlNoteStore:
    """A `NoteStore` in SQLite or Postgres, for one tenant, whose notes can also be part of a run's transaction.

    `add_note_in` and `get_notes_in` are of the transaction's tenant, and see what was added in it before.
    """

    def __init__(self, database: Database, tenant: str = DEFAULT_TENANT) -> None:
        self._database = database
        self._tenant = tenant

    def of_tenant(self, tenant: str) -> SqlNoteStore:
        """Return the store of another tenant's notes."""
        return SqlNoteStore(self._database, tenant)

    def add_note(self, proposal_id: str, note: str) -> int:
        """Append a note outside any run, and return how many the proposal now has once that is durable.

        Raises:
            ToolRejected: `store_full`; the proposal has MAX_NOTES.
            StorageUnavailableError: the database does not answer; on Postgres the note may have been added.
        """
        return self._database.transact_now(
            lambda connection: _add(connection, self._tenant, proposal_id, note, None, None),
            self._tenant,
            once=True,
        )

    def get_notes(self, proposal_id: str) -> list[str]:
        """Return the proposal's notes in the order they were added; none is an empty list."""
        return self._database.read_now(
            lambda connection: _texts(connection, self._tenant, proposal_id), self._tenant
        )

    def read_notes(self, proposal_id: str) -> list[Note]:
        """Return the proposal's notes with all that is known of them, in the order they were added."""
        statement = (
            select(notes.c.note, notes.c.run_id, notes.c.step, notes.c.created_at)
            .where(notes.c.tenant == self._tenant, notes.c.proposal_id == proposal_id)
            .order_by(notes.c.number)
        )
        rows = self._database.read_now(lambda connection: connection.execute(statement).all(), self._tenant)
        return [Note(row.note, row.run_id, row.step, EPOCH + row.created_at * MICROSECOND) for row in rows]

    def add_note_in(self, transaction: Transaction, proposal_id: str, note: str) -> int:
        """Append a note in a run's transaction, and return how many the proposal has with it.

        Raises:
            ToolRejected: `store_full`; the proposal has MAX_NOTES.
        """
        return _add(
            transaction.connection, transaction.tenant, proposal_id, note, transaction.run_id, transaction.step
        )

    def get_notes_in(self, transaction: Transaction, proposal_id: str) -> list[str]:
        """Return the proposal's notes as a run's transaction sees them."""
        return _texts(transaction.connection, transaction.tenant, proposal_id)


def _add(
    connection: Connection, tenant: str, proposal_id: str, note: str, run_id: str | None, step: int | None
) -> int:
    if connection.dialect.name == "postgresql":
        # until this transaction ends nobody else numbers a note of the proposal; two would take the same number
        name = f"{tenant} {proposal_id}"
        connection.execute(select(func.pg_advisory_xact_lock(func.hashtextextended(name, 2))))
    of_proposal = (notes.c.tenant == tenant, notes.c.proposal_id == proposal_id)
    count: int = connection.execute(select(func.max(notes.c.number)).where(*of_proposal)).scalar() or 0
    if count >= MAX_NOTES:
        raise ToolRejected(f"{proposal_id} has {MAX_NOTES} notes, and can have no more.", "store_full")
    connection.execute(
        insert(notes).values(
            tenant=tenant,
            proposal_id=proposal_id,
            number=count + 1,
            note=note,
            run_id=run_id,
            step=step,
            created_at=now_us(),
        )
    )
    return count + 1


def _texts(connection: Connection, tenant: str, proposal_id: str) -> list[str]:
    statement = (
        select(notes.c.note)
        .where(notes.c.tenant == tenant, notes.c.proposal_id == proposal_id)
        .order_by(notes.c.number)
    )
    return list(connection.execute(statement).scalars())
