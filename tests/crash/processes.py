"""The harness's side of processes under test: forked by a zygote, watched by handle, killed by strace."""

from __future__ import annotations

import json
import os
import re
import select
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from threading import Lock
from time import monotonic, sleep

SERVER = Path(__file__).with_name("server.py")
STRACE = shutil.which("strace")


class DiedError(Exception):
    """A process under test ended before it was ready."""


class TestProcess:
    """One process under test."""

    __test__ = False

    def __init__(self, pid: int, log: Path, strace: subprocess.Popen[bytes] | None = None) -> None:
        self.pid = pid
        self.log = log
        self._handle = os.pidfd_open(pid)
        self._strace = strace

    def has_ended(self, seconds: float = 0.0) -> bool:
        """Say whether it has ended, or does within that many seconds."""
        poll = select.poll()
        poll.register(self._handle, select.POLLIN)
        return bool(poll.poll(seconds * 1000))

    def send(self, number: int) -> None:
        if not self.has_ended():
            signal.pidfd_send_signal(self._handle, number)

    def kill(self) -> None:
        self.send(signal.SIGKILL)
        self.has_ended(10)
        self.forget()

    def forget(self) -> None:
        if self._strace is not None:
            self._strace.wait(10)
            self._strace = None

    def wait_for(self, pattern: str, seconds: float = 30.0) -> re.Match[str]:
        """Wait until its log has a line.

        Raises:
            DiedError: it has ended without one.
        """
        give_up_at = monotonic() + seconds
        while True:
            ended = self.has_ended()
            found = re.search(pattern, self.log.read_text(errors="replace")) if self.log.exists() else None
            if found:
                return found
            if ended or monotonic() > give_up_at:
                said = self.log.read_text(errors="replace")[-2000:] if self.log.exists() else ""
                raise DiedError(f"{'it ended' if ended else 'no answer'} before it said {pattern!r}: {said}")
            sleep(0.005)

    def port(self) -> int:
        """Wait until a server listens, and return where."""
        return int(self.wait_for(r"http://127\.0\.0\.1:(\d+)")[1])


class Zygote:
    """Forks processes under test in milliseconds; they end with it."""

    def __init__(self) -> None:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("COV")}
        self._process = subprocess.Popen(
            [sys.executable, str(SERVER), "zygote"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**environment, "PYTHONUNBUFFERED": "1"},
            start_new_session=True,
        )
        self._lock = Lock()
        self._count = 0

    def start(
        self, argv: list[str], environment: dict[str, str], directory: Path, *, strace: Sequence[str] = ()
    ) -> TestProcess:
        """Start `serve` or `worker`; with arguments for strace, under it."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with self._lock:
            self._count += 1
            log = directory / f"{argv[0]}-{self._count}.log"
            order = {"argv": argv, "env": environment, "log": str(log), "stop": bool(strace)}
            self._process.stdin.write(json.dumps(order).encode() + b"\n")
            self._process.stdin.flush()
            pid = int(self._process.stdout.readline())
        process = TestProcess(pid, log, _strace(pid, strace) if strace else None)
        if strace:
            process.send(signal.SIGCONT)
        return process

    def stop(self) -> None:
        self._process.communicate()


def _strace(pid: int, options: Sequence[str]) -> subprocess.Popen[bytes]:
    """Attach strace to a stopped process, and return when it has it."""
    assert STRACE is not None
    while _state(pid, "State") != "T":
        sleep(0.002)
    strace = subprocess.Popen(
        [STRACE, "-f", "-q", *options, "-p", str(pid)],
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    while _state(pid, "TracerPid") == "0" and strace.poll() is None:
        sleep(0.002)
    if strace.poll() is not None:
        raise RuntimeError("strace could not attach: no system calls can be killed at here")
    return strace


def _state(pid: int, field: str) -> str:
    text = Path(f"/proc/{pid}/status").read_text()
    return text.split(f"\n{field}:")[1].split()[0]
