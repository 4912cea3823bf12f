"""The version of a database's tables: checked whenever it is opened, and brought up to that of this program."""

from __future__ import annotations

import re
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

from sqlalchemy import Connection, inspect, text
from sqlalchemy.exc import DBAPIError

from ..errors import DatabaseVersionError, MissingExtraError
from .database import Database
from .failures import one_line, trouble_of

HEAD_REVISION: Final = "0005"
"""The newest migration's; numbers of four digits, so that comparing them as text tells the newer."""

UPGRADE_COMMAND: Final = "llm-agent-core db upgrade"

SCRIPTS: Final = Path(__file__).parent / "migrations"

PROCRASTINATE_SERIES: Final = "3.10."
"""The version whose tables the migrations make, and so the only one that may use them."""

_LOCK: Final = 0x6C6C6D5F61636F72
"""The key of the advisory lock under which Postgres databases are upgraded, one upgrade at a time."""


def stored_revision(connection: Connection) -> str | None:
    """Return the revision of the database's tables; None if it has none of ours.

    Raises:
        DatabaseVersionError: what stands there is no revision of this program.
    """
    if not inspect(connection).has_table("alembic_version"):
        return None
    found = connection.execute(text("SELECT version_num FROM alembic_version")).scalars().all()
    if not found:
        return None
    if len(found) > 1 or not re.fullmatch(r"\d{4}", found[0]):
        raise DatabaseVersionError("The database holds the tables of another program; give this one its own.")
    return str(found[0])


def check(database: Database) -> None:
    """Make sure that the tables are those that this program knows.

    Older ones, or none, are brought up to date in SQLite, unless it was opened for reading only; in Postgres that
    is left to whoever runs the service, since other processes may use them.

    Raises:
        DatabaseVersionError: they are newer than this program, or older and have to be upgraded first.
        StorageUnavailableError: the database does not answer.
    """
    found = database.read_now(stored_revision)
    if found == HEAD_REVISION:
        return
    _refuse_newer(found)
    if database.is_sqlite and not database.readonly:
        upgrade(database)
        return
    has = "has no tables yet" if found is None else f"has tables of version {found}, older than this program's"
    how = "start the server once" if database.is_sqlite else f"run: {UPGRADE_COMMAND}"
    raise DatabaseVersionError(f"The database {has} ({HEAD_REVISION}); {how}")


def upgrade(database: Database) -> str | None:
    """Bring the tables up to date in one transaction, and return the revision they had; one process at a time.

    Raises:
        DatabaseVersionError: they are newer than this program, or cannot be upgraded.
        MissingExtraError: Procrastinate is not installed, or in a version whose tables are others.
        StorageUnavailableError: the database does not answer.
    """
    if not database.is_sqlite:
        check_procrastinate()
    try:
        return database.transact_now(_upgrade)
    except DBAPIError as error:
        if trouble_of(error) is not None:
            raise
        raise DatabaseVersionError(f"The database cannot be upgraded: {one_line(error)}") from error


def check_procrastinate() -> None:
    """Make sure that the installed Procrastinate is the one whose tables the database has.

    Raises:
        MissingExtraError: it is not, or there is none.
    """
    try:
        installed = version("procrastinate")
    except PackageNotFoundError:
        installed = "none"
    if not installed.startswith(PROCRASTINATE_SERIES):
        raise MissingExtraError(
            f"Postgres needs procrastinate {PROCRASTINATE_SERIES}x, and {installed} is installed; "
            "run: uv sync --extra postgres"
        )


def _upgrade(connection: Connection) -> str | None:
    if connection.dialect.name == "postgresql":
        # a big table may take its time, and so may whoever is upgrading it now
        connection.execute(text("SET LOCAL statement_timeout = 0"))
        connection.execute(text("SET LOCAL idle_in_transaction_session_timeout = 0"))
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
    found = stored_revision(connection)
    _refuse_newer(found)
    if found != HEAD_REVISION:
        _migrate(connection)
    return found


def _migrate(connection: Connection) -> None:
    # loaded only here: with all that it needs, Alembic takes longer to load than the rest of a command
    from alembic import command
    from alembic.config import Config

    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", str(SCRIPTS).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    command.upgrade(config, "head")


def _refuse_newer(found: str | None) -> None:
    if found is not None and found > HEAD_REVISION:
        raise DatabaseVersionError(
            f"The database has tables of version {found}, newer than this program's ({HEAD_REVISION}); "
            "use the program that made them, or a newer one."
        )
