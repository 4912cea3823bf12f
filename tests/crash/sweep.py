"""The kill sweep by command: `python -m tests.crash --points 200 --scenarios all --databases sqlite,postgres`.

What is done is written to a file as it goes, and a sweep that was broken off goes on there.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections import Counter, defaultdict
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from threading import Lock

import msgspec
from crash import outages
from crash.case import CaseRun, Point, Verdict
from crash.plan import points_of, strace_works
from crash.scenarios import SCENARIOS
from crash.systems import SYSTEMS, Ground
from msgspec import Struct
from postgres import PostgresServer

KINDS = ("lost", "missing", "repeated", "chain", "notes", "stuck", "wrong", "harness")
LANES = {"sqlite": 2, "postgres": 6}
PACE = {"sqlite": 1.0, "postgres": 0.3}


class Planned(Struct, tag="plan"):
    """The points of one scenario on one database."""

    database: str
    scenario: str
    points: list[Point]


class Done(Struct, tag="done"):
    verdict: Verdict


class Record:
    """The file of what is planned and done."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = Lock()
        self.plans: dict[tuple[str, str], list[Point]] = {}
        self.verdicts: dict[str, Verdict] = {}
        if path.exists():
            for line in path.read_bytes().splitlines():
                self._take(msgspec.json.decode(line, type=Planned | Done))

    def add(self, item: Planned | Done) -> None:
        with self._lock, self._path.open("ab") as file:
            self._take(item)
            file.write(msgspec.json.encode(item) + b"\n")

    def _take(self, item: Planned | Done) -> None:
        if isinstance(item, Planned):
            self.plans[item.database, item.scenario] = item.points
        else:
            self.verdicts[item.verdict.case] = item.verdict


def sweep(ground: Ground, record: Record, database: str, scenario: str, count: int, lanes: int) -> None:
    """Kill a scenario at all its points, but for those that have been done."""
    pace = PACE[database]
    if (database, scenario) not in record.plans:
        record.add(Planned(database, scenario, points_of(ground, database, scenario, count, pace)))
    points = record.plans[database, scenario]
    pool = ThreadPoolExecutor(lanes)
    try:
        cases = [CaseOf(ground, database, scenario, point, pace) for point in points]
        waiting = [pool.submit(case.run) for case in cases if case.name not in record.verdicts]
        for case in as_completed(waiting):
            verdict = case.result()
            record.add(Done(verdict))
            for problem in verdict.problems:
                print(f"!! {verdict.case}: {problem}", flush=True)
    finally:
        pool.shutdown(cancel_futures=True)
    print(
        _row(database, scenario, [v for v in record.verdicts.values() if _is_of(v, database, scenario)]),
        flush=True,
    )


class CaseOf:
    """A case that makes its system only when its turn comes."""

    def __init__(self, ground: Ground, database: str, scenario: str, point: Point, pace: float) -> None:
        self._arguments = ground, database, scenario, point, pace
        self.name = f"{database}-{scenario}-{point.name}"

    def run(self) -> Verdict:
        return CaseRun(*self._arguments).run()


def _is_of(verdict: Verdict, database: str, scenario: str) -> bool:
    return verdict.database == database and verdict.scenario == scenario


HEAD = (
    f"{'database':9}{'scenario':12}{'points':>7}{'killed':>7}{'kills':>6}{'runs':>6}{'acked':>6}{'resolved':>9}"
    f"{'keyed+':>7}" + "".join(f"{kind:>9}" for kind in KINDS)
)


def _row(database: str, scenario: str, verdicts: list[Verdict]) -> str:
    kinds = Counter(problem.partition(":")[0] for verdict in verdicts for problem in verdict.problems)
    return (
        f"{database:9}{scenario:12}{len(verdicts):7}{sum(v.kills > 0 for v in verdicts):7}"
        f"{sum(v.kills for v in verdicts):6}{sum(v.runs for v in verdicts):6}"
        f"{sum(v.acknowledged for v in verdicts):6}{sum(v.resolved for v in verdicts):9}"
        f"{sum(v.keyed_again for v in verdicts):7}" + "".join(f"{kinds[kind]:9}" for kind in KINDS)
    )


def table(verdicts: list[Verdict]) -> str:
    """Return the figures, a line for each scenario on each database and one for all."""
    grouped: dict[tuple[str, str], list[Verdict]] = defaultdict(list)
    for verdict in verdicts:
        grouped[verdict.database, verdict.scenario].append(verdict)
    rows = [_row(database, scenario, of) for (database, scenario), of in sorted(grouped.items())]
    return "\n".join([HEAD, *rows, _row("all", "", verdicts)])


def main(arguments: list[str] | None = None) -> int:
    """Run the sweep that the arguments ask for; 1 if anything is wrong."""
    parser = argparse.ArgumentParser(prog="tests.crash", description=__doc__)
    parser.add_argument("--points", type=int, default=200)
    parser.add_argument("--scenarios", default="all", help="all, or names with commas: " + ", ".join(SCENARIOS))
    parser.add_argument("--databases", default="sqlite,postgres")
    parser.add_argument("--lanes", type=int, default=0, help="cases at once (default: 2, on Postgres 4)")
    parser.add_argument(
        "--record", type=Path, default=Path(tempfile.gettempdir()) / "agent-core-crash-sweep.jsonl"
    )
    parser.add_argument("--fresh", action="store_true", help="forget what an earlier sweep has done")
    parser.add_argument("--outages", help="not the sweep but other trials: all, or " + ", ".join(outages.TRIALS))
    options = parser.parse_args(arguments)
    if options.outages:
        return outages.main(options.outages)
    if options.fresh:
        options.record.unlink(missing_ok=True)
    trouble = strace_works()
    if trouble:
        print(f"!! NOT RUN: no process is killed at system calls: {trouble}", file=sys.stderr)
    names = list(SCENARIOS) if options.scenarios == "all" else options.scenarios.split(",")
    databases = options.databases.split(",")
    assert set(databases) <= set(SYSTEMS)
    record = Record(options.record)
    server = PostgresServer(durable=True) if "postgres" in databases else None
    ground = Ground(postgres=server)
    print(HEAD, flush=True)
    try:
        for database in databases:
            for name in names:
                sweep(ground, record, database, name, options.points, options.lanes or LANES[database])
    finally:
        if any(verdict.problems for verdict in record.verdicts.values()):
            print(f"logs of what went wrong: {ground.directory}")
            ground.stop(keep=True)
        else:
            ground.stop()
        if server is not None:
            server.stop()
    verdicts = list(record.verdicts.values())
    print(f"\n{table(verdicts)}\nwritten to {options.record}")
    return int(any(verdict.problems for verdict in verdicts))
