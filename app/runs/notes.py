"""Reading the notes of a proposal from whatever store the active governance_note tool writes to."""

from __future__ import annotations

import inspect

from ..blocking import call_in_thread
from ..errors import NotesUnavailableError
from ..tools.base import ToolSource
from ..tools.governance import GovernanceNoteTool, parse_proposal_id


class NoteService:
    """Reads notes; writing them is the tool's."""

    def __init__(self, tools: ToolSource) -> None:
        self._tools = tools

    async def notes_of(self, proposal_id: str) -> tuple[str, list[str]]:
        """Return the canonical id and its notes in the order they were added; none is an empty list.

        Raises:
            InvalidProposalIdError: the id is ill-formed.
            NotesUnavailableError: the active tool was replaced by one without a readable store.
        """
        canonical = parse_proposal_id(proposal_id)
        tool = self._tools.snapshot().get(GovernanceNoteTool.name)
        get_notes = getattr(getattr(tool, "source", None), "store", None)
        get_notes = getattr(get_notes, "get_notes", None)
        if tool is None or not callable(get_notes):
            raise NotesUnavailableError(
                "The active governance_note tool has no store that notes can be read from."
            )
        notes = get_notes(canonical) if tool.quick else await call_in_thread(get_notes, canonical)
        if inspect.isawaitable(notes):
            notes = await notes
        return canonical, [str(note) for note in notes]
