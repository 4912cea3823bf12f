"""Longer trials by command, each with figures: outages of the database, a full disk, clocks, many runs.

`python -m tests.crash --outages all`, or their names with commas.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from threading import Thread
from time import monotonic, sleep

import psycopg
from crash.checks import contents
from crash.plan import strace_works
from crash.processes import SERVER, TestProcess
from crash.scenarios import call, goal, note
from crash.settling import settle
from crash.stage import Stage, eventually, stage
from crash.systems import Ground
from postgres import PostgresServer, for_all_tenants
from pydantic import SecretStr

from app.bootstrap import open_runs
from app.config import Settings
from app.errors import StorageError
from app.runs.chain import Head, verify
from app.runs.models import RunRequest

ROOT = Path(__file__).parents[2]
RESTARTS = 20
MANY = 10_000
WORKERS = 3


class NotRun(Exception):  # noqa: N818 - it is no error
    """What the trial needs is not on this machine."""


def _mixed(nonce: str) -> dict[str, object]:
    return goal(nonce, [note(), call("unsafe_post")], [call("keyed_post"), call("pure_sync")], [note()])


def _end(on: Stage, seconds: float = 120.0) -> str:
    """Wait for the end of everything, hold it to its promises, and return the figures."""
    resolved, faults = settle(on.caller, on.ledger, seconds)
    faults += on.problems()
    assert not faults, faults
    return f"{len(on.caller.runs())} runs, {len(on.caller.acknowledged)} acknowledged, {resolved} resolved, 0 lost"


def postgres_restarts(ground: Ground) -> str:
    """Postgres crashes in mid-run, again and again."""
    server = ground.postgres
    assert server is not None
    with stage(ground, "postgres", 0.3) as on:
        for role in ("api", "one", "two"):
            on.start(role)
        for number in range(RESTARTS):
            posts = [Thread(target=_post, args=(on, f"r{number}-{n}", n % 2 == 0)) for n in range(4)]
            for post in posts:
                post.start()
            sleep(0.05 + 0.02 * number)
            server.crash()
            server.start()
            for post in posts:
                post.join()
        return f"{RESTARTS} crashes of Postgres: {_end(on)}"


def _post(on: Stage, nonce: str, waits: bool) -> None:
    on.caller.post("run-task" if waits else "runs", _mixed(nonce), key=nonce)


def disk_full(ground: Ground) -> str:
    """The disk has no room for a while, and has some again."""
    trouble = strace_works()
    if trouble:
        raise NotRun(trouble)
    with stage(ground, "sqlite") as on:
        full = "inject=pwrite64:error=ENOSPC:when=150..190"
        server = on.system.start("api", strace=("-e", "trace=pwrite64", "-e", full, "-o", os.devnull))
        on.caller.up(server.port())
        refused = 0
        started = monotonic()
        for number in range(40):
            status, _ = on.caller.ask("POST", "/api/v1/runs", _mixed(f"f{number}-a"))
            refused += status == 503
            on.caller.post("run-task", _mixed(f"f{number}-b"), key=f"f{number}")
        seconds = monotonic() - started
        return f"a full disk: {refused} requests refused in {seconds:.0f} s, {_end(on)}"


def clock_jumps(ground: Ground) -> str:
    """The wall clock jumps by three days to and fro, under a server that works and between two of its lives."""
    library = _libfaketime()
    with stage(ground, "sqlite") as on:
        clock = on.system.directory / "clock"
        process = _with_clock(on, library, clock, "+0")
        jumps = ["+3d", "-3d", "+0", "-3d", "+3d"]
        for number, jump in enumerate(jumps):
            body = goal(f"j{number}", [note(), call("unsafe_slow", size=400)], [note(), call("keyed_post")])
            run_id = on.submit(body)
            on.until_begun(f"j{number}/2")
            clock.write_text(jump)
            on.until(run_id, "success", seconds=20)
        waiting = on.submit(goal("k", [note(), call("unsafe_slow", size=60_000)]))
        on.until_begun("k/2")
        process.kill()
        _with_clock(on, library, clock, "-3d")
        on.until(waiting, "waiting")
    with stage(ground, "postgres", 0.3) as on:
        on.start("api")
        clocks = {role: on.system.directory / role for role in ("one", "two")}
        ahead = _with_clock(on, library, clocks["one"], "+3d", role="one")
        _with_clock(on, library, clocks["two"], "-3d", role="two")
        runs = [on.submit(_mixed(f"c{number}")) for number in range(10)]
        for run_id in runs:
            on.until(run_id, "success", "waiting")
        last = on.submit(goal("l", [call("pure_sync")], [call("unsafe_slow", size=2000)]))
        on.until_begun("l/2")
        ahead.kill()
        on.until(last, "success", "waiting")
        return f"the clock jumped by 3 days {len(jumps) + 1} times, and two workers were 6 days apart: {_end(on)}"


def _libfaketime() -> str:
    named = os.environ.get("LIBFAKETIME")
    places = [Path(named)] if named else sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
    if not places:
        raise NotRun("libfaketime is not installed (apt install libfaketime; LIBFAKETIME names it elsewhere)")
    return str(places[0])


def _with_clock(on: Stage, library: str, clock: Path, says: str, role: str = "api") -> TestProcess:
    """Start a process whose wall clock is what a file says it is off by; its monotonic clock is the system's."""
    clock.write_text(says)
    log = on.system.directory / f"{role}-{clock.name}-{monotonic()}.log"
    environment = {
        **os.environ,
        **on.system.environment,
        "LD_PRELOAD": library,
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }
    if role == "api":  # its clock jumps while it works, for which the library reads the file at every look at it
        environment |= {"FAKETIME_TIMESTAMP_FILE": str(clock), "FAKETIME_NO_CACHE": "1"}
    else:
        environment["FAKETIME"] = says
    with log.open("wb") as out:
        started = subprocess.Popen(
            [sys.executable, str(SERVER), "serve" if role == "api" else "worker"],
            env=environment,
            stdout=out,
            stderr=out,
            cwd=on.system.directory,
        )
    process = TestProcess(started.pid, log)
    on.system.processes[role] = process
    if role == "api":
        on.caller.up(process.port())
    else:
        process.wait_for("waiting for runs")
    return process


def stubborn_tool(ground: Ground) -> str:
    """A process is told to end while tools are at it that take for ever."""
    with stage(ground, "sqlite") as on:
        server = on.start("api")
        names = [on.submit(goal(f"s{n}", [call(tool, size=120_000)])) for n, tool in enumerate(_ENDLESS)]
        for number in range(len(_ENDLESS)):
            on.until_begun(f"s{number}/1")
        told_at = monotonic()
        server.send(signal.SIGTERM)
        assert server.has_ended(40), "it has not ended"
        seconds = monotonic() - told_at
        assert seconds < 30, f"it took {seconds:.1f} s"
        on.start("api")
        for run_id in names:
            on.until(run_id, "waiting")
        assert all(on.times(f"s{number}/1") == 1 for number in range(len(_ENDLESS)))
        return f"SIGTERM with endless tools: ended after {seconds:.1f} s, {len(names)} runs wait for a person"


_ENDLESS = ("unsafe_slow", "unsafe_slow_sync")


def dead_worker(ground: Ground) -> str:
    """A worker is killed, and another takes up what it had, at the pace of production."""
    worst = 0.0
    for number in range(5):
        with stage(ground, "postgres") as on:
            on.start("api")
            one = on.start("one")
            runs = [on.submit(goal(f"d{n}", [call("unsafe_slow", size=60_000)])) for n in range(4)]
            for n in range(4):
                on.until_begun(f"d{n}/1")
            on.start("two")
            sleep(number * 0.4)
            one.kill()
            died_at = monotonic()
            for run_id in runs:
                on.until(run_id, "waiting", seconds=30)
            worst = max(worst, monotonic() - died_at)
    assert worst < 10, f"{worst:.1f} s"
    return f"5 workers killed with 4 runs each: all taken up after at most {worst:.1f} s"


def many_runs(ground: Ground) -> str:
    """Ten thousand queued runs and three workers, one of which is killed half-way and replaced."""
    assert ground.postgres is not None
    name = ground.postgres.create(ground.postgres_template)
    url = ground.postgres.url(name)
    submitted_in = asyncio.run(_submit_many(url))
    environment = {**os.environ, "DATABASE_URL": url, "LOG_LEVEL": "WARNING"}
    started = monotonic()
    workers = [_worker(environment) for _ in range(WORKERS)]
    try:
        with psycopg.connect(for_all_tenants(url), autocommit=True) as connection:

            def ended() -> int:
                row = connection.execute("SELECT count(*) FROM runs WHERE finished_at IS NOT NULL").fetchone()
                assert row is not None
                return int(row[0])

            eventually(lambda: ended() >= MANY // 2, 900, lambda: f"{ended()} have ended")
            workers[0].kill()
            workers.append(_worker(environment))
            eventually(lambda: ended() == MANY, 900, lambda: f"{ended()} have ended")
            seconds = monotonic() - started
            kept = contents(lambda query: connection.execute(query.encode()).fetchall())
    finally:
        for worker in workers:
            worker.terminate()
        for worker in workers:
            worker.wait(40)
    wrong = [run.run_id for run in kept.runs.values() if run.status != "success"]
    broken = [r for r in kept.runs.values() if verify(r.events, r.run_id, Head(r.head_hash, r.head_seq))]
    assert (len(kept.runs), wrong, broken, len(kept.notes)) == (MANY, [], [], MANY)
    return (
        f"{MANY} runs submitted in {submitted_in:.0f} s, drained by {WORKERS} workers in {seconds:.0f} s "
        f"({MANY / seconds:.0f}/s), one of them killed half-way: 0 lost, all notes there, every chain whole"
    )


def _worker(environment: dict[str, str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-m", "app.cli", "worker"], env=environment, cwd=ROOT)


async def _submit_many(url: str) -> float:
    started = monotonic()
    async with open_runs(Settings(database_url=SecretStr(url))) as runs:
        places = asyncio.Semaphore(32)

        async def submit(number: int) -> None:
            proposal = f"PROP-2025-{number % 900 + 100}"
            text = f"Calculate {number}*7 and add a note to {proposal}: 'Number {number}'"
            async with places:
                try:
                    await runs.submit(RunRequest(text))
                except StorageError as error:
                    raise AssertionError(f"run {number} was not kept") from error

        await asyncio.gather(*[submit(number) for number in range(MANY)])
    return monotonic() - started


TRIALS: dict[str, Callable[[Ground], str]] = {
    trial.__name__.replace("_", "-"): trial
    for trial in (stubborn_tool, dead_worker, disk_full, clock_jumps, postgres_restarts, many_runs)
}


def main(names: str) -> int:
    """Carry the trials out; 1 if one failed."""
    failed = 0
    server = PostgresServer(durable=True)
    ground = Ground(postgres=server)
    try:
        for name in TRIALS if names == "all" else names.split(","):
            try:
                print(f"{name:18} ok      {TRIALS[name](ground)}", flush=True)
            except NotRun as missing:
                print(f"{name:18} NOT RUN {missing}", flush=True)
            except Exception as error:
                failed = 1
                print(f"{name:18} FAILED  {type(error).__name__}: {error}", flush=True)
    finally:
        ground.stop()
        server.stop()
    return failed
