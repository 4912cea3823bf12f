"""The pepper of API keys: given, or made once and kept where nobody else reads it."""

from __future__ import annotations

import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from app.auth.key_service import KeyService
from app.bootstrap.pepper import FILE_NAME, Peppers, check_pepper
from app.config import Settings
from app.errors import ConfigurationError
from app.permissions import Permissions
from app.storage.database import Database
from app.storage.keys import SqlKeyStore

GIVEN = "0123456789abcdef0123456789abcdef"


def peppers(data_dir: Path, **settings: Any) -> Peppers:
    return Peppers(Settings(_env_file=None, data_dir=data_dir, **settings))


def test_a_pepper_is_made_once_and_for_its_owner_alone(tmp_path: Path) -> None:
    data_dir = tmp_path / "new" / "data"
    known = peppers(data_dir)
    assert known.existing() is None
    assert not data_dir.exists()
    made = known.pepper()
    assert known.pepper() is made
    path = data_dir / FILE_NAME
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [file.name for file in data_dir.iterdir()] == [FILE_NAME]
    again = peppers(data_dir)
    existing = again.existing()
    assert existing is not None
    assert existing.fingerprint == again.pepper().fingerprint == made.fingerprint
    assert peppers(tmp_path / "other").pepper().fingerprint != made.fingerprint


def test_a_umask_does_not_open_it(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        peppers(tmp_path).pepper()
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / FILE_NAME).stat().st_mode) == 0o600


def test_a_pepper_that_is_given_is_used_and_kept_nowhere(tmp_path: Path) -> None:
    known = peppers(tmp_path, key_pepper=GIVEN)
    assert known.pepper().fingerprint == peppers(tmp_path / "other", key_pepper=GIVEN).pepper().fingerprint
    assert known.pepper().fingerprint != peppers(tmp_path, key_pepper=GIVEN[::-1]).pepper().fingerprint
    assert list(tmp_path.iterdir()) == []
    assert GIVEN not in repr(Settings(_env_file=None, key_pepper=GIVEN))


def test_processes_that_make_one_at_once_have_the_same(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: peppers(tmp_path).pepper().fingerprint, range(16)))
    assert len(set(made)) == 1
    assert [file.name for file in tmp_path.iterdir()] == [FILE_NAME]


@pytest.mark.parametrize("content", [b"", b"0" * 63 + b"\n", b"0" * 64, b"0" * 65 + b"\n", b"g" * 64 + b"\n"])
def test_a_damaged_one_is_refused_and_left_as_it_is(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / FILE_NAME
    path.write_bytes(content)
    path.chmod(0o600)
    for read in (peppers(tmp_path).pepper, peppers(tmp_path).existing):
        with pytest.raises(ConfigurationError, match="pepper: it is damaged"):
            read()
    assert path.read_bytes() == content


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602])
def test_one_that_others_can_read_or_change_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / FILE_NAME
    path.write_bytes(b"0" * 64 + b"\n")
    path.chmod(mode)
    with pytest.raises(ConfigurationError, match="chmod 600") as refused:
        peppers(tmp_path).pepper()
    assert "\n" not in str(refused.value)
    assert "0" * 64 not in str(refused.value)


def test_a_directory_that_keeps_nothing_is_named(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("a file")
    with pytest.raises(ConfigurationError, match="KEY_PEPPER can hold it"):
        peppers(tmp_path / "data").pepper()


async def test_a_process_with_another_pepper_refuses_to_start(database: Database, tmp_path: Path) -> None:
    store = SqlKeyStore(database)
    ours, others = peppers(tmp_path), peppers(tmp_path, key_pepper=GIVEN)
    nothing = peppers(tmp_path / "nothing")
    for known in (ours, others, nothing):
        await check_pepper(known, store)  # there are no keys
    made = await KeyService(store, ours).create("ci", Permissions())
    await check_pepper(ours, store)
    for known in (others, nothing):
        with pytest.raises(ConfigurationError, match=r"KEY_PEPPER: .* another pepper") as refused:
            await check_pepper(known, store)
        assert "\n" not in str(refused.value)
    assert not (tmp_path / "nothing").exists()
    await KeyService(store, others).revoke(made.key.id)
    await check_pepper(others, store)


def test_a_directory_in_its_place_is_one_clear_line(tmp_path: Path) -> None:
    """What Docker makes of a file to be mounted that is not there."""
    (tmp_path / "pepper").mkdir()
    with pytest.raises(ConfigurationError, match="it is no file"):
        Peppers(Settings(_env_file=None, data_dir=tmp_path)).pepper()
