"""The pepper of API keys: KEY_PEPPER or, without it, a file in the data directory that is made once."""

from __future__ import annotations

import os
import re
import secrets
import stat
from contextlib import suppress
from pathlib import Path
from typing import Final

from ..auth.keys import Pepper
from ..config import Settings
from ..errors import ConfigurationError
from ..storage.keys import OTHER_PEPPER, SqlKeyStore

FILE_NAME: Final = "pepper"
LEAST_CHARS: Final = 32
"""A shorter KEY_PEPPER could be guessed by whoever gets hold of the database; production refuses it."""

_WRITTEN: Final = re.compile(rb"[0-9a-f]{64}\n", re.ASCII)


class Peppers:
    """A `PepperSource`: KEY_PEPPER, or else the file. That one is made when a pepper is first asked for."""

    def __init__(self, settings: Settings) -> None:
        given = settings.key_pepper
        self._known = None if given is None else Pepper(given.get_secret_value().encode())
        self._path = settings.data_dir / FILE_NAME

    def pepper(self) -> Pepper:
        """Return it.

        Raises:
            ConfigurationError: the file cannot be read or made, is damaged, or is open to others.
        """
        if self._known is None:
            self._known = _read(self._path) or _make(self._path)
        return self._known

    def existing(self) -> Pepper | None:
        """Return it if there is one already; raises what `pepper` does."""
        if self._known is None:
            self._known = _read(self._path)
        return self._known


async def check_pepper(peppers: Peppers, store: SqlKeyStore) -> None:
    """Make sure that the keys of the database were made with our pepper, if there are any.

    Raises:
        ConfigurationError: they were made with another, or ours cannot be read.
        StorageUnavailableError
    """
    ours = peppers.existing()
    if await store.has_keys_of(None if ours is None else ours.fingerprint) is False:
        raise ConfigurationError(OTHER_PEPPER)


def _read(path: Path) -> Pepper | None:
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _unusable(path, error) from None
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode):
        os.close(descriptor)
        raise ConfigurationError(f"{path}: it is no file, so that no pepper can be in it.")
    with os.fdopen(descriptor, "rb") as file:
        if os.name == "posix" and stat.S_IMODE(found.st_mode) & 0o077:
            raise ConfigurationError(
                f"{path}: others than its owner may read or change it, so it is no secret; run: chmod 600 {path}"
            )
        written = file.read(100)
    if not _WRITTEN.fullmatch(written):
        raise ConfigurationError(
            f"{path}: it is damaged, and without it no key holds. Restore it, or remove it and make new keys."
        )
    return Pepper(written.strip())


def _make(path: Path) -> Pepper:
    """Write a new one; if another process has been faster, return that one's."""
    unfinished = path.with_name(f"{FILE_NAME}.{secrets.token_hex(8)}.new")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            _write_durably(unfinished, f"{secrets.token_hex(32)}\n".encode())
            with suppress(FileExistsError):
                os.link(unfinished, path)
        finally:
            unfinished.unlink(missing_ok=True)
        _sync_directory(path.parent)
    except OSError as error:
        raise _unusable(path, error) from None
    made = _read(path)
    if made is None:
        raise ConfigurationError(f"{path}: it was removed while it was made.")
    return made


def _write_durably(path: Path, content: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(descriptor)


def _sync_directory(path: Path) -> None:
    """Let the file's name be as durable as the keys that will be made with it."""
    if os.name == "posix":
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _unusable(path: Path, error: OSError) -> ConfigurationError:
    return ConfigurationError(
        f"{path}: the pepper of API keys cannot be kept there: {error.strerror or error}. KEY_PEPPER can hold it."
    )
