"""Build hook: in a checkout the package is `app`, in a wheel `llm_agent_core`; the command has to find either."""

from __future__ import annotations

from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class CommandHook(BuildHookInterface):  # type: ignore[type-arg]  # hatchling's own generic is not exported
    """Points the console script at the checkout's package when the build is an editable one."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:  # noqa: ARG002
        """Called by hatchling before it builds; `version` is "standard" or "editable"."""
        if version == "editable":
            self.metadata.core.scripts["llm-agent-core"] = "app.cli:main"
