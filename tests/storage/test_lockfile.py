"""The lock of the data directory, held by real processes."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from app.errors import ConfigurationError, DataInUseError
from app.storage.lockfile import HOLDER_NAME, DirectoryLock, read_holder

HOLD = """
import sys
from pathlib import Path
from app.storage.lockfile import DirectoryLock
lock = DirectoryLock.acquire(Path(sys.argv[1]), "llm-agent-core serve")
print("held", flush=True)
sys.stdin.readline()
"""


@contextmanager
def holder(data_dir: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the directory until it is told to go."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(data_dir)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdin is not None
    try:
        assert process.stdout.readline() == "held\n"
        yield process
    finally:
        process.stdin.close()
        process.wait(10)
        process.stdout.close()


def test_a_second_process_is_refused_and_told_who_holds_it(tmp_path: Path) -> None:
    with holder(tmp_path) as other:
        with pytest.raises(DataInUseError) as caught:
            DirectoryLock.acquire(tmp_path, "llm-agent-core serve")
        said = str(caught.value)
        assert f"process {other.pid} (llm-agent-core serve, since 2" in said
        assert str(tmp_path) in said
        assert "DATABASE_URL" in said
        assert "\n" not in said
        found = read_holder(tmp_path)
        assert found is not None
        assert abs(found.since - datetime.now(UTC)) < timedelta(minutes=1)


def test_a_second_server_in_one_process_is_refused_too(tmp_path: Path) -> None:
    with DirectoryLock.acquire(tmp_path, "one"), pytest.raises(DataInUseError, match=rf"{os.getpid()} \(one"):
        DirectoryLock.acquire(tmp_path, "two")


def test_what_is_released_can_be_taken(tmp_path: Path) -> None:
    for name in ("one", "two"):
        with DirectoryLock.acquire(tmp_path, name):
            found = read_holder(tmp_path)
            assert found is not None
            assert found.program == name
        assert read_holder(tmp_path) is None
    with holder(tmp_path):
        pass
    DirectoryLock.acquire(tmp_path, "three").release()


def test_releasing_twice_does_not_take_it_from_the_next(tmp_path: Path) -> None:
    first = DirectoryLock.acquire(tmp_path, "one")
    first.release()
    second = DirectoryLock.acquire(tmp_path, "two")
    first.release()
    assert read_holder(tmp_path) is not None
    with pytest.raises(DataInUseError):
        DirectoryLock.acquire(tmp_path, "three")
    second.release()


def test_the_lock_of_a_killed_process_is_free(tmp_path: Path) -> None:
    with holder(tmp_path) as other:
        other.send_signal(signal.SIGKILL)
        other.wait(10)
        assert (tmp_path / HOLDER_NAME).exists()
        with DirectoryLock.acquire(tmp_path, "next") as lock:
            found = read_holder(tmp_path)
            assert found is not None
            assert (found.pid, found.program) == (os.getpid(), "next")
        lock.release()


def test_a_child_process_does_not_keep_the_lock(tmp_path: Path) -> None:
    lock = DirectoryLock.acquire(tmp_path, "parent")
    child = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE)
    lock.release()
    DirectoryLock.acquire(tmp_path, "next").release()
    child.communicate(timeout=10)


def test_a_holder_that_cannot_be_read_is_just_another_process(tmp_path: Path) -> None:
    with holder(tmp_path):
        (tmp_path / HOLDER_NAME).write_text("{")
        with pytest.raises(DataInUseError, match="in use by another process"):
            DirectoryLock.acquire(tmp_path, "me")


def test_the_directory_is_made_for_its_owner_alone(tmp_path: Path) -> None:
    data_dir = tmp_path / "new" / "data"
    with DirectoryLock.acquire(data_dir, "me"):
        assert stat.S_IMODE(data_dir.stat().st_mode) == 0o700


def test_a_file_in_the_way_is_said_to_be_one(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("")
    with pytest.raises(ConfigurationError, match=r"DATA_DIR: .* is a file"):
        DirectoryLock.acquire(tmp_path / "data", "me")
    with pytest.raises(ConfigurationError, match=r"DATA_DIR: .* cannot be used: Not a directory"):
        DirectoryLock.acquire(tmp_path / "data" / "below", "me")


def test_a_directory_that_cannot_be_written_to_is_refused(tmp_path: Path) -> None:
    if os.geteuid() == 0:  # hardly anything is forbidden to root
        data_dir = Path("/sys")
    else:
        data_dir = tmp_path
        tmp_path.chmod(0o500)
    with pytest.raises(ConfigurationError, match=r"DATA_DIR: .* cannot be used: "):
        DirectoryLock.acquire(data_dir, "me")
    tmp_path.chmod(0o700)
