"""Which points a scenario is killed at: every passage that a run without a kill goes through, and system calls."""

from __future__ import annotations

import os
import re
import subprocess
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Final, TypeVar

from crash.case import CaseRun, Point
from crash.processes import STRACE
from crash.systems import Ground

CALLS: Final = ("fdatasync", "fsync", "pwrite64", "write", "sendto", "sendmsg", "recvfrom", "connect", "futex")
"""The system calls that processes are killed at. On Postgres the database is behind sendto and recvfrom."""

SHARE_OF_CALLS: Final = 0.25
SAMPLES_OF_CALL: Final = 30
AGAIN_EVERY: Final = 10
"""Every so manieth point kills the process that takes the dead one's place, too."""

_LINE: Final = re.compile(r"(\d+) +(\w+)\(")

T = TypeVar("T")


def spread(items: Sequence[T], count: int) -> list[T]:
    """Return `count` of the items, evenly spread; all if there are no more."""
    if len(items) <= count:
        return list(items)
    return [items[index * len(items) // count] for index in range(count)]


def points_of(ground: Ground, database: str, scenario: str, count: int, pace: float) -> list[Point]:
    """Return that many points, as far as there are so many."""
    passages = _passages(ground, database, scenario, pace)
    calls = _calls(ground, database, scenario, pace) if STRACE else []
    of_calls = spread(calls, round(count * SHARE_OF_CALLS))
    of_passages = spread(passages, count - len(of_calls))
    if len(of_calls) + len(of_passages) < count:
        of_calls = spread(calls, count - len(of_passages))
    return [_varied(point, index) for index, point in enumerate([*of_passages, *of_calls])]


def _dry(
    ground: Ground, database: str, scenario: str, pace: float, calls: Sequence[str] = ()
) -> dict[str, list[str]]:
    """Run the scenario without a kill, and return the lines that each process has written of itself."""
    counts = ground.directory / f"counts-{database}-{scenario}"
    verdict = CaseRun(ground, database, scenario, f"dry{len(calls)}", pace).run(counts=counts, calls=calls)
    if verdict.problems:
        raise AssertionError(f"{scenario} on {database} fails without a kill: {verdict.problems}")
    found: dict[str, list[str]] = {}
    for path in sorted(ground.directory.glob(f"{counts.name}.*")):
        found[path.suffix[1:]] = path.read_text().splitlines()
        path.unlink()
    return found


def _passages(ground: Ground, database: str, scenario: str, pace: float) -> list[Point]:
    found = {role: Counter(lines) for role, lines in _dry(ground, database, scenario, pace).items()}
    # what two workers do is all one's if the other is not there yet
    one = found.pop("one", Counter()) + found.pop("two", Counter())
    if one:
        found["one"] = one
    return [
        Point(target, place, n)
        for target, places in sorted(found.items())
        for place, times in sorted(places.items())
        for n in range(1, times + 1)
    ]


def _calls(ground: Ground, database: str, scenario: str, pace: float) -> list[Point]:
    """Return points at system calls; strace counts those of each thread for itself."""
    points = []
    for role, lines in _dry(ground, database, scenario, pace, CALLS).items():
        counted = Counter(match.groups() for match in map(_LINE.match, lines) if match)
        most: dict[str, int] = {}
        for (_, name), times in counted.items():
            most[name] = max(times, most.get(name, 0))
        target = "one" if role == "two" else role
        # as many of the rare ones as of the frequent ones
        for name, times in most.items():
            points += [Point(target, f"!{name}", n) for n in spread(range(1, times + 1), SAMPLES_OF_CALL)]
    return sorted(set(points), key=lambda point: (point.target, point.place, point.number))


def _varied(point: Point, index: int) -> Point:
    return Point(
        point.target,
        point.place,
        point.number,
        alone=point.target == "one" and index % 2 == 0,
        again=1 + index % 7 if index % AGAIN_EVERY == AGAIN_EVERY - 1 else 0,
    )


def strace_works() -> str | None:
    """Return why processes cannot be killed at system calls; None if they can."""
    if STRACE is None:
        return "strace is not installed"
    ran = subprocess.run(
        [STRACE, "-f", "-q", "-o", os.devnull, "-e", "inject=getpid:signal=KILL:when=1", "true"],
        capture_output=True,
        check=False,
        text=True,
        timeout=30,
    )
    return None if ran.returncode == 0 or (Path("/proc").exists() and ran.returncode == -9) else ran.stderr.strip()
