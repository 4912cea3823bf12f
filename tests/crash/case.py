"""One case: a scenario on a system, one process of which dies at one point, and what is true of it afterwards."""

from __future__ import annotations

import os
import traceback
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from threading import Thread
from time import monotonic

from crash.checks import Crash, problems
from crash.client import Caller
from crash.ledger import Ledger
from crash.processes import TestProcess
from crash.scenarios import SCENARIOS
from crash.settling import settle
from crash.systems import SYSTEMS, Ground, System
from msgspec import Struct


class Point(Struct, frozen=True):
    """Where which process dies.

    Args:
        place: a passage of `faults`, or a system call behind a "!".
        number: at its how manieth occurrence.
        alone: the other worker is not there until this one has died, so that all runs are this one's.
        again: the process that takes its place dies at that occurrence, too; 0 for never.
    """

    target: str
    place: str
    number: int
    alone: bool = False
    again: int = 0

    @property
    def name(self) -> str:
        extra = ("-alone" if self.alone else "") + (f"-again{self.again}" if self.again else "")
        return f"{self.target}-{self.place.replace('!', 'sys.')}-{self.number}{extra}"

    def environment(self, number: int) -> dict[str, str]:
        return {} if self.place.startswith("!") else {"CRASH_AT": f"{self.place}:{number}"}

    def strace(self, number: int) -> tuple[str, ...]:
        if not self.place.startswith("!"):
            return ()
        name = self.place[1:]
        return "-e", f"trace={name}", "-e", f"inject={name}:signal=KILL:when={number}", "-o", os.devnull


class Verdict(Struct):
    """What came of a case."""

    case: str
    scenario: str
    database: str
    kills: int = 0
    runs: int = 0
    acknowledged: int = 0
    resolved: int = 0
    keyed_again: int = 0
    seconds: float = 0.0
    problems: list[str] = []


class CaseRun:
    """Runs one case."""

    def __init__(self, ground: Ground, database: str, scenario: str, point: Point | str, pace: float) -> None:
        label = point if isinstance(point, str) else point.name
        self.verdict = Verdict(f"{database}-{scenario}-{label}", scenario, database)
        self._scenario = SCENARIOS[scenario]
        self._point = None if isinstance(point, str) else point
        self._system: System = SYSTEMS[database](ground, self.verdict.case, pace)
        self._ledger: Ledger = ground.ledger.of(self.verdict.case)
        self._caller = Caller()
        self._crashes: list[Crash] = []
        self._acknowledged_at: list[tuple[int, int]] = []
        self._failure: list[str] = []

    def run(self, *, counts: Path | None = None, calls: Sequence[str] = ()) -> Verdict:
        """Carry the case out; with `counts`, without a kill, and each process writes its passages there.

        With `calls`, the system calls of these names are written there, instead.
        """
        started = monotonic()
        try:
            self._start(counts, calls)
            driver = Thread(target=self._drive, daemon=True)
            driver.start()
            while driver.is_alive():
                self._watch()
                driver.join(0.005)
            self._judge()
        except BaseException:
            self.verdict.problems.append(f"harness: {traceback.format_exc()}")
        finally:
            self._system.stop(keep=bool(self.verdict.problems))
        self.verdict.seconds = round(monotonic() - started, 2)
        return self.verdict

    def _start(self, counts: Path | None, calls: Sequence[str]) -> None:
        point = self._point
        for role in self._system.roles:
            environment: dict[str, str] = {}
            strace: Sequence[str] = ()
            written = None if counts is None else str(counts.with_suffix(f".{role}"))
            if written is not None and calls:
                strace = "-e", f"trace={','.join(calls)}", "-o", written
            elif written is not None:
                environment = {"CRASH_COUNTS": written}
            elif point is not None and role == point.target:
                environment, strace = point.environment(point.number), point.strace(point.number)
            elif point is not None and point.alone and role != "api":
                continue
            self._system.start(role, environment, strace)
        self._open_api()

    def _open_api(self) -> None:
        with suppress(Exception):  # it may be dead already
            self._caller.up(self._system.processes["api"].port())

    def _watch(self) -> None:
        """If a process has died, keep what it left behind and start another."""
        for role, process in list(self._system.processes.items()):
            if process.has_ended():
                self._crashed(role, process)

    def _crashed(self, role: str, process: TestProcess) -> None:
        point = self._point
        process.forget()
        if role == "api":
            self._caller.down()
        if point is None or role != point.target or self.verdict.kills > (1 if point.again else 0):
            said = process.log.read_text(errors="replace")[-1500:]
            raise AssertionError(f"{role} ended by itself: {said}")
        self.verdict.kills += 1
        dead_port = self._caller.port if role == "api" else 0
        self._acknowledged_at.append((len(self._caller.acknowledged), dead_port))
        self._crashes.append(Crash(self._system.contents(), len(self._ledger.read()), []))
        number = point.again if self.verdict.kills == 1 else 0
        armed = number > 0
        self._system.start(role, point.environment(number) if armed else {}, point.strace(number) if armed else ())
        if role == "api":
            self._open_api()
        elif point.alone:
            for other in self._system.roles:
                if other not in self._system.processes:
                    self._system.start(other)

    def _drive(self) -> None:
        try:
            self._scenario(self._caller, self._ledger)
            self._settle()
        except BaseException:
            self._failure.append(f"wrong: {traceback.format_exc()}")

    def _settle(self) -> None:
        self.verdict.resolved, faults = settle(self._caller, self._ledger)
        self._failure += faults

    def _judge(self) -> None:
        verdict, now, entries = self.verdict, self._system.contents(), self._ledger.read()
        verdict.runs = len(now.runs)
        verdict.acknowledged = len(self._caller.acknowledged)
        keyed = Counter(entry["call"] for entry in entries if entry["kind"] == "keyed")
        verdict.keyed_again = sum(count - 1 for count in keyed.values())
        verdict.problems += self._failure
        all_ = self._caller.acknowledged
        for crash, (count, port) in zip(self._crashes, self._acknowledged_at, strict=True):
            # also what the dead one had answered, and the caller has only read later
            crash.acknowledged = [*all_[:count], *[promise for promise in all_[count:] if promise.port == port]]
        verdict.problems += problems(now, entries, all_, self._caller.keys, self._crashes)
