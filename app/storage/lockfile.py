"""The lock of the data directory: one process serves it, and another is told which one that is."""

from __future__ import annotations

import os
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Final

import msgspec
from filelock import FileLock, Timeout
from msgspec import Struct

from ..errors import ConfigurationError, DataInUseError

LOCK_NAME: Final = "lock"
HOLDER_NAME: Final = "lock.holder.json"


class Holder(Struct, frozen=True):
    """Who holds a data directory: its process id, what it calls itself, and since when."""

    pid: int
    program: str
    since: datetime


class DirectoryLock:
    """The data directory, held by this process until `release` or its end, however it comes by that.

    The lock is the operating system's, on the file `lock`, which stays; what is written beside it is only there to
    be read by whoever is refused.
    """

    def __init__(self, data_dir: Path, lock: FileLock) -> None:
        self._data_dir = data_dir
        self._lock = lock

    @classmethod
    def acquire(cls, data_dir: Path, program: str) -> DirectoryLock:
        """Create the directory if there is none (for this user only), and lock it for `program`.

        Raises:
            DataInUseError: another process holds it; the message names it.
            ConfigurationError: it is none, cannot be created or written to, or its file system knows no locks.
        """
        try:
            data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
            # no marker file where the system has no locks: one would outlive the process that made it
            lock = FileLock(data_dir / LOCK_NAME, thread_local=False, fallback_to_soft=False)
            lock.acquire(blocking=False)
        except Timeout:
            raise DataInUseError(_refusal(data_dir)) from None
        except FileExistsError:
            raise ConfigurationError(f"DATA_DIR: {data_dir} is a file, not a directory.") from None
        except OSError as error:
            raise ConfigurationError(f"DATA_DIR: {data_dir} cannot be used: {error.strerror or error}.") from None
        _write_holder(data_dir, Holder(os.getpid(), program, datetime.now(UTC).replace(microsecond=0)))
        return cls(data_dir, lock)

    def release(self) -> None:
        """Let go of the directory; another process may have it at once."""
        if self._lock.is_locked:
            with suppress(OSError):
                (self._data_dir / HOLDER_NAME).unlink()
            self._lock.release()

    def __enter__(self) -> DirectoryLock:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


def read_holder(data_dir: Path) -> Holder | None:
    """Return who last locked the directory and has not released it; None if nobody has, or it cannot be read."""
    try:
        return msgspec.json.decode((data_dir / HOLDER_NAME).read_bytes(), type=Holder)
    except (OSError, msgspec.DecodeError):
        return None


def _write_holder(data_dir: Path, holder: Holder) -> None:
    with suppress(OSError):  # a full disk is no reason not to start, and the database says it better
        unfinished = data_dir / f"{HOLDER_NAME}.new"
        unfinished.write_bytes(msgspec.json.encode(holder))
        unfinished.replace(data_dir / HOLDER_NAME)


def _refusal(data_dir: Path) -> str:
    holder = read_holder(data_dir)
    by = "another process"
    if holder is not None:
        by = f"process {holder.pid} ({holder.program}, since {holder.since.isoformat().replace('+00:00', 'Z')})"
    return (
        f"DATA_DIR: {data_dir} is in use by {by}. One process serves a data directory; for several workers use "
        "Postgres (DATABASE_URL)."
    )
