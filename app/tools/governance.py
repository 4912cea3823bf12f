"""The governance_note tool: adds and lists the notes of a proposal, over any note store."""

from __future__ import annotations

import inspect
import re
from collections.abc import Awaitable, Callable
from threading import Lock
from typing import Any, Protocol, cast

from ..errors import InvalidProposalIdError, ToolRejected
from ..jsonvalue import JsonObject
from ..permissions import NOTES_READ, NOTES_WRITE
from .base import Effect, Transaction
from .call import DEFAULT_TENANT, current_tenant

PROPOSAL_ID_PATTERN = "^[Pp][Rr][Oo][Pp]-[0-9]{4}-[0-9]{3,6}$"
"""PROP, the year, and a running number of three to six digits; case does not matter."""

MAX_NOTE_CHARS = 10_000
NON_BLANK_PATTERN = r"\S"


class NoteStore(Protocol):
    """Where notes are kept; its methods may be async.

    An attribute `effect = "keyed"` says that adding honours an idempotency key; otherwise it counts as unsafe. A
    method `of_tenant(tenant)` returns the store of a tenant's notes; without it a store is the default tenant's.
    """

    def add_note(self, proposal_id: str, note: str) -> int:
        """Append a note and return how many the proposal now has."""
        ...

    def get_notes(self, proposal_id: str) -> list[str]:
        """Return the proposal's notes in the order they were added; none is an empty list."""
        ...


class TransactionalNoteStore(NoteStore, Protocol):
    """A store in the database of the journal: its notes commit together with the steps that add them."""

    def add_note_in(self, transaction: Transaction, proposal_id: str, note: str) -> int:
        """As `add_note`, inside the transaction that records the step."""
        ...

    def get_notes_in(self, transaction: Transaction, proposal_id: str) -> list[str]:
        """As `get_notes`, and sees what the transaction has added."""
        ...


class GovernanceNoteStore:
    """Notes in memory: thread-safe, bounded, and lost when the process ends."""

    def __init__(
        self, max_notes_per_proposal: int = 10_000, max_notes: int = 100_000, max_bytes: int = 64 * 1024 * 1024
    ) -> None:
        self._max_per_proposal = max_notes_per_proposal
        self._max = max_notes
        self._bytes_left = max_bytes
        self._lock = Lock()
        self._notes: dict[str, list[str]] = {}
        self._count = 0

    def add_note(self, proposal_id: str, note: str) -> int:
        """Append a note.

        Raises:
            ToolRejected: `store_full`; a full store refuses and never drops an older note.
        """
        size = len(note.encode())
        with self._lock:
            notes = self._notes.get(proposal_id, [])
            if len(notes) >= self._max_per_proposal or self._count >= self._max or size > self._bytes_left:
                raise ToolRejected(f"The note store is full; nothing was added to {proposal_id}.", "store_full")
            self._notes[proposal_id] = notes
            notes.append(note)
            self._count += 1
            self._bytes_left -= size
            return len(notes)

    def get_notes(self, proposal_id: str) -> list[str]:
        with self._lock:
            return list(self._notes.get(proposal_id, ()))


def parse_proposal_id(text: str) -> str:
    """Return the canonical, upper-case form of a proposal id.

    Raises:
        InvalidProposalIdError: `text` is not PROP-YYYY-NNN (three to six final digits).
    """
    if not re.fullmatch(PROPOSAL_ID_PATTERN, text):
        raise InvalidProposalIdError(
            f"{text[:80]!r} is not a proposal id. A proposal id looks like PROP-2025-001: PROP, a year, and a "
            "number of three to six digits."
        )
    return text.upper()


default_note_store = GovernanceNoteStore()
"""The store of every tool that is given none: one a process."""


class GovernanceNoteTool:
    """Adds a note to a proposal, or lists its notes."""

    name = "governance_note"
    description = (
        "Add a note to a governance proposal, or list the notes it has. Proposal ids look like PROP-2025-001."
    )
    input_schema: JsonObject = {
        "type": "object",
        "properties": {
            "action": {"type": "string", "enum": ["add", "list"], "default": "add"},
            "proposal_id": {"type": "string", "pattern": PROPOSAL_ID_PATTERN},
            "note": {
                "type": "string",
                "minLength": 1,
                "maxLength": MAX_NOTE_CHARS,
                "pattern": NON_BLANK_PATTERN,
            },
        },
        "required": ["proposal_id"],
        "if": {"properties": {"action": {"const": "list"}}, "required": ["action"]},
        "then": {"properties": {"note": False}},
        "else": {"required": ["note"]},
        "additionalProperties": False,
    }

    def __init__(self, store: NoteStore | None = None) -> None:
        self.store: NoteStore = default_note_store if store is None else store
        for method in ("add_note", "get_notes"):
            if not callable(getattr(self.store, method, None)):
                raise TypeError(f"{type(self.store).__name__} is no note store: it has no method {method}.")
        self.effect = _effect_of(self.store)
        self.run_in = self._run_in if _joins_transactions(self.store) else None
        # a user's own store may talk to a network; ours is a list behind a lock
        self.quick = isinstance(self.store, GovernanceNoteStore)

    def required_scopes(self, input: JsonObject) -> tuple[str]:
        """Return what reading notes, or adding one, takes of whoever asked for the run."""
        return (NOTES_READ if input.get("action") == "list" else NOTES_WRITE,)

    def run(self, input: JsonObject) -> JsonObject | Awaitable[JsonObject]:
        """Add a note or list them.

        Add: `{"proposal_id", "note"}` -> `{"proposal_id", "note", "count"}`.
        List: `{"action": "list", "proposal_id"}` -> `{"proposal_id", "notes"}`.

        Raises:
            ToolRejected: `store_full`, from the default store; `no_tenants`, if the run is another tenant's than
                the default one and the store keeps no tenants apart.
        """
        store = self._store_of_caller()
        proposal_id = parse_proposal_id(str(input["proposal_id"]))
        if input.get("action") == "list":
            return _then(store.get_notes(proposal_id), lambda notes: _listed(proposal_id, notes))
        note = str(input["note"])
        return _then(store.add_note(proposal_id, note), lambda count: _added(proposal_id, note, count))

    def _store_of_caller(self) -> NoteStore:
        tenant = current_tenant()
        store: NoteStore | None = store_of(self.store, tenant)
        if store is None:
            raise ToolRejected(
                f"This note store keeps no tenants apart, and the run is of tenant {tenant}.", "no_tenants"
            )
        return store

    def _run_in(self, transaction: Transaction, input: JsonObject) -> JsonObject:
        store = cast("TransactionalNoteStore", self.store)
        proposal_id = parse_proposal_id(str(input["proposal_id"]))
        if input.get("action") == "list":
            return _listed(proposal_id, store.get_notes_in(transaction, proposal_id))
        note = str(input["note"])
        return _added(proposal_id, note, store.add_note_in(transaction, proposal_id, note))


def store_of(store: Any, tenant: str) -> Any:
    """Return where the notes of a tenant are: what `store.of_tenant(tenant)` gives, if there is such a method.

    A store without keeps no tenants apart, and so has the notes of the default one alone: None for any other.
    """
    if callable(getattr(store, "of_tenant", None)):
        return store.of_tenant(tenant)
    return store if tenant == DEFAULT_TENANT else None


def _joins_transactions(store: object) -> bool:
    return callable(getattr(store, "add_note_in", None)) and callable(getattr(store, "get_notes_in", None))


def _effect_of(store: object) -> Effect:
    if _joins_transactions(store):
        return Effect.TRANSACTIONAL
    if isinstance(store, GovernanceNoteStore):
        return Effect.TRANSACTIONAL  # the note and the step that records it live and die with the same process
    return Effect.KEYED if getattr(store, "effect", None) == Effect.KEYED else Effect.UNSAFE


def _listed(proposal_id: str, notes: list[str]) -> JsonObject:
    return {"proposal_id": proposal_id, "notes": list(notes)}


def _added(proposal_id: str, note: str, count: object) -> JsonObject:
    # the note is in the store by now: one that forgets to count is no reason to call the step a failure
    return {"proposal_id": proposal_id, "note": note, "count": count if isinstance(count, int) else None}


def _then(result: Any, shape: Callable[[Any], JsonObject]) -> JsonObject | Awaitable[JsonObject]:
    """Shape what a store returned, now or, if its methods are async, when it is there."""
    if not inspect.isawaitable(result):
        return shape(result)

    async def later() -> JsonObject:
        return shape(await result)

    return later()
