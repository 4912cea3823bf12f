"""Tools of every effect class, each of which writes its effects down in the ledger; loaded by TOOL_MODULES."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from typing import Any

from crash.faults import passage
from crash.ledger import Ledger

from app.tools.base import tool_registry
from app.tools.call import current_call

TIMEOUT_S = 0.25


def ledger() -> Ledger:
    return Ledger(int(os.environ["CRASH_LEDGER"]), os.environ["CRASH_CASE"])


class LedgerTool:
    """Writes one entry of its kind and returns what it was given.

    It can be given a `number`, which comes back one larger, and the `size` of a text to return.
    """

    description = "Writes into the ledger."
    input_schema = {
        "type": "object",
        "properties": {"call": {"type": "string"}, "number": {"type": "integer"}, "size": {"type": "integer"}},
        "required": ["call"],
        "additionalProperties": False,
    }

    def __init__(self, name: str, effect: str, *, timeout_s: float = 20.0, on_in_doubt: str = "wait") -> None:
        self.name = name
        self.effect = effect
        self.timeout_s = timeout_s
        self.on_in_doubt = on_in_doubt

    def act(self, input: dict[str, Any]) -> int:
        """Have the effect; return how often it was had before."""
        entry: dict[str, Any] = {"call": input["call"], "tool": self.name, "pid": os.getpid()}
        if self.effect != "pure":
            call = current_call()
            entry |= {"run": call.run_id, "step": call.step, "key": call.idempotency_key}
        passage("tool.before")
        seen = ledger().add(self.effect, **entry)
        passage("tool.after")
        return seen

    def answer(self, input: dict[str, Any]) -> dict[str, Any]:
        output: dict[str, Any] = {"call": input["call"]}
        if "number" in input:
            output["number"] = input["number"] + 1
        if "size" in input:
            output["text"] = "x" * input["size"]
        return output


class SyncTool(LedgerTool):
    def run(self, input: dict[str, Any]) -> dict[str, Any]:
        self.act(input)
        return self.answer(input)


class AsyncTool(LedgerTool):
    async def run(self, input: dict[str, Any]) -> dict[str, Any]:
        self.act(input)
        await asyncio.sleep(0)
        return self.answer(input)


class SlowTool(LedgerTool):
    """Is at it for a while after its effect."""

    async def run(self, input: dict[str, Any]) -> dict[str, Any]:
        self.act(input)
        await asyncio.sleep(input.get("size", 50) / 1000)
        return {"call": input["call"]}


class SlowSyncTool(LedgerTool):
    """The same in a thread, which nobody can stop."""

    def run(self, input: dict[str, Any]) -> dict[str, Any]:
        self.act(input)
        time.sleep(input.get("size", 50) / 1000)
        return {"call": input["call"]}


class RaisingTool(LedgerTool):
    def run(self, input: dict[str, Any]) -> dict[str, Any]:
        self.act(input)
        raise OSError("it broke after its effect")


class HangingTool(LedgerTool):
    """Has its effect and does not answer in time; the third attempt does."""

    async def run(self, input: dict[str, Any]) -> dict[str, Any]:
        if self.act(input) < 2:
            await asyncio.sleep(60)
        return self.answer(input)


class LateTool(LedgerTool):
    """The first time it does not answer in time and has no effect; the second time it has."""

    async def run(self, input: dict[str, Any]) -> dict[str, Any]:
        if not ledger().add("attempt", call=input["call"]):
            await asyncio.sleep(60)
        self.act(input)
        return self.answer(input)


class DeadlyTool(LedgerTool):
    """Takes the process with it."""

    def run(self, input: dict[str, Any]) -> dict[str, Any]:
        self.act(input)
        os.kill(os.getpid(), signal.SIGKILL)
        return {}


def register() -> None:
    """Register all of them; the built-in governance_note is the transactional one."""
    pure_sync = SyncTool("pure_sync", "pure")
    pure_sync.quick = True  # type: ignore[attr-defined]
    for tool in (
        pure_sync,
        AsyncTool("pure_async", "pure"),
        SyncTool("read_world", "read"),
        AsyncTool("keyed_post", "keyed"),
        HangingTool("keyed_hanging", "keyed", timeout_s=TIMEOUT_S),
        SyncTool("unsafe_post", "unsafe"),
        SlowTool("unsafe_slow", "unsafe"),
        SlowSyncTool("unsafe_slow_sync", "unsafe"),
        HangingTool("unsafe_hanging", "unsafe", timeout_s=TIMEOUT_S),
        LateTool("unsafe_late", "unsafe", timeout_s=TIMEOUT_S),
        RaisingTool("unsafe_raising", "unsafe"),
        DeadlyTool("pure_deadly", "pure"),
        AsyncTool("unsafe_failing", "unsafe", on_in_doubt="fail"),
    ):
        tool_registry.register(tool)


register()
