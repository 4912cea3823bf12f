"""The built-in shelf: the tools every agent has, below whatever users register."""

from __future__ import annotations

from functools import cache

from .base import LayeredTools, ToolRegistry, tool_registry
from .governance import GovernanceNoteTool, NoteStore, default_note_store
from .math import MathTool
from .web_search import WebSearchTool


@cache
def default_tools() -> LayeredTools:
    """Return the built-in tools with `tool_registry` over them: one shelf, and so one note store, a process."""
    return tools_over(default_note_store)


def tools_over(notes: NoteStore) -> LayeredTools:
    """Return the built-in tools, with the notes in that store, and `tool_registry` over them."""
    shelf = ToolRegistry([MathTool(), WebSearchTool(), GovernanceNoteTool(notes)])
    return LayeredTools(shelf, tool_registry)
