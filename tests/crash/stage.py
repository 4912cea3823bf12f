"""A system and its caller for tests that do something of their own to it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from time import monotonic, sleep
from typing import Any, TypeVar

from crash.checks import problems
from crash.client import Caller
from crash.ledger import Ledger
from crash.processes import TestProcess
from crash.systems import SYSTEMS, Ground, System

T = TypeVar("T")

_numbers = count(1)


class Stage:
    """A system, who speaks to it, and what the ledger has of it."""

    def __init__(self, ground: Ground, system: System, ledger: Ledger) -> None:
        self.ground = ground
        self.system = system
        self.ledger = ledger
        self.caller = Caller()

    def start(self, role: str, environment: dict[str, str] | None = None) -> TestProcess:
        """Start a process and return when it is ready."""
        process = self.system.start(role, environment)
        if role == "api":
            self.caller.up(process.port())
        else:
            process.wait_for("waiting for runs")
        return process

    def submit(self, body: dict[str, Any]) -> str:
        """Submit a run and return its id."""
        answer = self.caller.post("runs", body)
        assert answer is not None
        return str(answer["run_id"])

    def run(self, run_id: str) -> dict[str, Any]:
        return self.caller.read(f"/api/v1/runs/{run_id}")

    def until(self, run_id: str, *statuses: str, seconds: float = 30.0) -> dict[str, Any]:
        """Wait until a run has one of these statuses, and return it."""

        def arrived() -> dict[str, Any] | None:
            run = self.run(run_id)
            return run if run["status"] in statuses else None

        return eventually(arrived, seconds, lambda: f"{self.run(run_id)}")

    def until_begun(self, call: str, times: int = 1, seconds: float = 20.0) -> None:
        """Wait until a call has had its effect."""
        eventually(lambda: self.times(call) >= times, seconds, lambda: f"{call}: {self.times(call)}")

    def times(self, call: str) -> int:
        """Return how often a call has had its effect."""
        return sum(entry.get("call") == call and entry["kind"] != "attempt" for entry in self.ledger.read())

    def resolve(self, run_id: str, step: int, *, happened: bool, **output: object) -> tuple[int, dict[str, Any]]:
        """Say what became of a step."""
        body = {"outcome": "happened", "output": output} if happened else {"outcome": "did_not_happen"}
        return self.caller.ask("POST", f"/api/v1/runs/{run_id}/steps/{step}/resolve", body)

    def problems(self) -> list[str]:
        """Return what is wrong with all that is kept."""
        return problems(self.system.contents(), self.ledger.read(), self.caller.acknowledged, self.caller.keys, [])


@contextmanager
def stage(ground: Ground, database: str, pace: float = 1.0) -> Iterator[Stage]:
    """A system with nothing started in it yet; all of it ends with the block."""
    name = f"stage-{next(_numbers)}"
    system = SYSTEMS[database](ground, name, pace)
    try:
        yield Stage(ground, system, ground.ledger.of(name))
    finally:
        system.stop()


def eventually(condition: Callable[[], T], seconds: float, said: Callable[[], str]) -> T:
    """Wait until a condition gives something true, and return that."""
    give_up_at = monotonic() + seconds
    while not (found := condition()):
        if monotonic() > give_up_at:
            raise AssertionError(f"not within {seconds} s: {said()}")
        sleep(0.01)
    return found
