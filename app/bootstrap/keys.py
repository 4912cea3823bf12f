"""The keys of the settings' database, for commands: also beside the server that holds it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from ..auth.key_service import KeyService
from ..auth.principal import Limits
from ..config import Settings
from ..errors import DataInUseError
from ..storage.database import Database
from ..storage.keys import SqlKeyStore
from .database import declare_database, open_database
from .pepper import Peppers


@contextmanager
def open_keys(settings: Settings, *, readonly: bool = False) -> Iterator[KeyService]:
    """Open what the settings name, and yield the service that makes, lists and changes keys.

    Unlike all else, keys may be changed while a server holds the data directory; with tables of its version.

    Raises:
        ConfigurationError, DatabaseVersionError, StorageUnavailableError: the database cannot be had.
    """
    with ExitStack() as stack:
        try:
            database = stack.enter_context(open_database(settings, readonly=readonly))
        except DataInUseError:
            database = stack.enter_context(_open_beside(settings))
        yield KeyService(SqlKeyStore(database), Peppers(settings), usual=usual_limits(settings))


def usual_limits(settings: Settings) -> Limits:
    """Return the limits of every key that has none of its own."""
    return Limits(
        settings.key_rate_limit,
        settings.key_max_runs or None,
        settings.key_steps_per_day or None,
        settings.key_tokens_per_day or None,
    )


def tenant_limits(settings: Settings) -> Limits:
    """Return the limits of every tenant."""
    return Limits(
        settings.tenant_rate_limit,
        settings.tenant_max_runs or None,
        settings.tenant_steps_per_day or None,
        settings.tenant_tokens_per_day or None,
    )


@contextmanager
def _open_beside(settings: Settings) -> Iterator[Database]:
    """Open the database for writing although another process serves it, and upgrade nothing."""
    with open_database(settings, readonly=True):
        pass  # which has checked that the tables are ours
    database = declare_database(settings)
    try:
        database.connect()
        yield database
    finally:
        database.close()
