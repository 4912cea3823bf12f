"""Reading the notes of a proposal from whatever store the active governance_note tool writes to."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from ..blocking import call_in_thread
from ..errors import NotesUnavailableError
from ..timelimit import TimeLimitError, within
from ..tools.base import ToolSource
from ..tools.governance import GovernanceNoteTool, parse_proposal_id

READ_TIMEOUT_S = 10.0


class NoteService:
    """Reads notes; writing them is the tool's."""

    def __init__(self, tools: ToolSource) -> None:
        self._tools = tools

    async def notes_of(self, proposal_id: str) -> tuple[str, list[str]]:
        """Return the canonical id and its notes in the order they were added; none is an empty list.

        Raises:
            InvalidProposalIdError: the id is ill-formed.
            NotesUnavailableError: the active tool has no readable store, or the store does not answer.
        """
        canonical = parse_proposal_id(proposal_id)
        tool = self._tools.snapshot().get(GovernanceNoteTool.name)
        get_notes = getattr(getattr(tool, "source", None), "store", None)
        get_notes = getattr(get_notes, "get_notes", None)
        if tool is None or not callable(get_notes):
            raise NotesUnavailableError(
                "The active governance_note tool has no store that notes can be read from."
            )
        try:
            notes = await within(READ_TIMEOUT_S, _read(get_notes, canonical, inline=tool.quick))
        except TimeLimitError:
            raise NotesUnavailableError(f"The note store did not answer within {READ_TIMEOUT_S:g} s.") from None
        return canonical, [str(note) for note in notes]


async def _read(get_notes: Callable[[str], Any], proposal_id: str, *, inline: bool) -> list[object]:
    notes = get_notes(proposal_id) if inline else await call_in_thread(get_notes, proposal_id)
    return list(await notes if inspect.isawaitable(notes) else notes)
