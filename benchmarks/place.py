"""Where benchmarks write: on a real disk, in directories that are removed again."""

from __future__ import annotations

import resource
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parent.parent
IN_MEMORY: Final = {"tmpfs", "ramfs"}
OPEN_FILES: Final = 16_384


def use_a_real_disk() -> Path:
    """Let all temporary files of this process and its children be on a disk, and return the directory.

    That is the system's temporary directory, unless it is kept in memory, where a commit costs nothing; then it is
    the checkout.
    """
    place = Path(tempfile.gettempdir())
    if file_system(place) in IN_MEMORY:
        place = ROOT
    tempfile.tempdir = str(place)
    return place


def allow_many_sockets() -> None:
    """Raise this process's limit of open files, and so its children's, for a thousand connections on each side."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = OPEN_FILES if most == resource.RLIM_INFINITY else min(OPEN_FILES, most)
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, most))


@contextmanager
def new_directory() -> Iterator[Path]:
    """Make an empty directory for one measurement."""
    directory = Path(tempfile.mkdtemp(prefix="agent-core-benchmark-"))
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def file_system(path: Path) -> str:
    """Return the type of the file system that holds a path; empty where there is no /proc."""
    mounts = Path("/proc/mounts")
    if not mounts.exists():
        return ""
    best, found = Path("/"), ""
    for line in mounts.read_text(encoding="utf-8").splitlines():
        _, point, kind, *_ = line.split(" ")
        mounted = Path(point.replace("\\040", " "))
        if path.resolve().is_relative_to(mounted) and len(mounted.parts) >= len(best.parts):
            best, found = mounted, kind
    return found
