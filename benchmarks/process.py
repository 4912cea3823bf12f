"""What the operating system says of a process: CPU time and memory, read from outside of it."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path


def resident_megabytes(pid: int) -> float:
    """Return the peak of its resident memory; where there is no /proc, what is resident now.

    Not getrusage: a child's ru_maxrss starts at what its parent held when it forked.
    """
    return _status_megabytes(pid, "VmHWM")


def own_megabytes(pid: int) -> float:
    """Return what is resident now of its own memory, without the files it has mapped (where there is /proc)."""
    return _status_megabytes(pid, "RssAnon")


def _status_megabytes(pid: int, field: str) -> float:
    status = Path(f"/proc/{pid}/status")
    if not status.exists():
        return int(_ps(pid, "rss")) * 1024 / 1e6
    found = re.search(rf"{field}:\s+(\d+) kB", status.read_text(encoding="ascii"))
    assert found is not None
    return int(found[1]) * 1024 / 1e6


def cpu_seconds(pid: int) -> float:
    """Return the user and system time it has used, in steps of 10 ms."""
    stat = Path(f"/proc/{pid}/stat")
    if stat.exists():
        user, system = stat.read_text(encoding="ascii").rpartition(")")[2].split()[11:13]
        return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")
    seconds = 0.0
    for part in _ps(pid, "time").replace("-", ":").split(":"):
        seconds = seconds * 60 + float(part)
    return seconds


def _ps(pid: int, column: str) -> str:
    return subprocess.run(
        ["ps", "-o", f"{column}=", "-p", str(pid)], capture_output=True, text=True, check=True
    ).stdout.strip()
