"""Reading the notes of a proposal from whatever store the active governance_note tool writes to."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from ..blocking import call_in_thread
from ..errors import NotesUnavailableError
from ..timelimit import TimeLimitError, within
from ..tools.base import PreparedTool, ToolSource
from ..tools.governance import GovernanceNoteTool, parse_proposal_id, store_of
from .models import DEFAULT_TENANT, Note

READ_TIMEOUT_S = 10.0


class NoteService:
    """Reads notes; writing them is the tool's."""

    def __init__(self, tools: ToolSource) -> None:
        self._tools = tools

    async def notes_of(self, proposal_id: str, tenant: str = DEFAULT_TENANT) -> tuple[str, list[str]]:
        """Return the canonical id and its notes in the order they were added; none is an empty list.

        Raises:
            InvalidProposalIdError: the id is ill-formed.
            NotesUnavailableError: the active tool has no readable store, or the store does not answer.
            StorageUnavailableError
        """
        canonical = parse_proposal_id(proposal_id)
        tool, store = self._active(tenant)
        return canonical, [str(note) for note in await _answer(tool, store.get_notes, canonical)]

    async def details_of(self, proposal_id: str, tenant: str = DEFAULT_TENANT) -> tuple[str, list[Note]]:
        """Return the same with what is known of each note; of most stores, that is its text.

        A store that knows more has `read_notes(proposal_id) -> list[Note]`, which may be async.
        """
        canonical = parse_proposal_id(proposal_id)
        tool, store = self._active(tenant)
        if callable(getattr(store, "read_notes", None)):
            return canonical, await _answer(tool, store.read_notes, canonical)
        return canonical, [Note(str(note)) for note in await _answer(tool, store.get_notes, canonical)]

    def _active(self, tenant: str) -> tuple[PreparedTool, Any]:
        tool = self._tools.snapshot().get(GovernanceNoteTool.name)
        store = getattr(getattr(tool, "source", None), "store", None)
        if tool is None or not callable(getattr(store, "get_notes", None)):
            raise NotesUnavailableError(
                "The active governance_note tool has no store that notes can be read from."
            )
        of_tenant = store_of(store, tenant)
        if of_tenant is None:
            raise NotesUnavailableError(
                "The active governance_note tool has a store that keeps no tenants apart; only the default tenant "
                "can read it."
            )
        return tool, of_tenant


async def _answer(tool: PreparedTool, read: Callable[[str], Any], proposal_id: str) -> list[Any]:
    try:
        return await within(READ_TIMEOUT_S, _read(read, proposal_id, inline=tool.quick))
    except TimeLimitError:
        raise NotesUnavailableError(f"The note store did not answer within {READ_TIMEOUT_S:g} s.") from None


async def _read(read: Callable[[str], Any], proposal_id: str, *, inline: bool) -> list[Any]:
    notes = read(proposal_id) if inline else await call_in_thread(read, proposal_id)
    return list(await notes if inspect.isawaitable(notes) else notes)
