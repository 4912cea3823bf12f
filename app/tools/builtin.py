"""The built-in shelf: the tools every agent has, below whatever users register."""

from __future__ import annotations

from functools import cache

from .base import LayeredTools, ToolRegistry, tool_registry
from .governance import GovernanceNoteTool
from .math import MathTool
from .web_search import WebSearchTool


@cache
def default_tools() -> LayeredTools:
    """Return the built-in tools with `tool_registry` over them: one shelf, and so one note store, a process."""
    shelf = ToolRegistry([MathTool(), WebSearchTool(), GovernanceNoteTool()])
    return LayeredTools(shelf, tool_registry)
