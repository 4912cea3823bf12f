"""`db`: the database's version, and what is kept in it."""

from __future__ import annotations

import argparse
from contextlib import ExitStack
from typing import TYPE_CHECKING

from ..errors import ConfigurationError
from .terminal import say, whole_number

if TYPE_CHECKING:
    from ..config import Settings
    from ..storage.database import Database
    from .terminal import Commands

DAY_S = 86_400


def add_to(commands: Commands) -> None:
    """Declare the commands."""
    database = commands.add_parser("db", help="upgrade, check or prune the database")
    actions = database.add_subparsers(required=True, metavar="ACTION")
    upgrade = actions.add_parser("upgrade", help="bring the database's tables to this version")
    upgrade.set_defaults(command=_upgrade)
    check = actions.add_parser("check", help="print the versions of the database and of its tables")
    check.set_defaults(command=_check)
    prune = actions.add_parser("prune", help="remove the events of ended runs; each run leaves its head hash")
    prune.add_argument(
        "--older-than",
        type=whole_number(0, 36_500),
        metavar="DAYS",
        help="runs that ended before that (default: RETENTION_DAYS)",
    )
    prune.add_argument(
        "--keep",
        type=whole_number(0, 999_999_999),
        metavar="N",
        help="all but the N that ended last (default: RETENTION_RUNS)",
    )
    prune.add_argument("--dry-run", action="store_true", help="only say how many runs that are")
    prune.set_defaults(command=_prune)


def _upgrade(_: argparse.Namespace) -> int:
    from ..bootstrap.database import declare_database
    from ..config import Settings
    from ..storage.lockfile import DirectoryLock
    from ..storage.schema import HEAD_REVISION, upgrade

    settings = Settings()
    with ExitStack() as stack:
        database = declare_database(settings)
        stack.callback(database.close)
        if database.is_sqlite:
            stack.enter_context(DirectoryLock.acquire(settings.data_dir, "llm-agent-core db upgrade"))
        database.connect()
        before = upgrade(database)
    if before == HEAD_REVISION:
        say(f"The tables are of version {HEAD_REVISION} already.")
    else:
        say(f"The tables are of version {HEAD_REVISION} now; before, {before or 'there were none'}.")
    return 0


def _check(_: argparse.Namespace) -> int:
    from ..bootstrap.database import declare_database
    from ..config import Settings
    from ..storage.schema import HEAD_REVISION, stored_revision

    settings = Settings()
    database = declare_database(settings, readonly=True)
    try:
        database.connect()
        say(f"database  {_describe(database, settings)}")
        found = database.read_now(stored_revision)
    finally:
        database.close()
    if found == HEAD_REVISION:
        say(f"tables    version {found}, this program's")
        return 0
    if found is not None and found > HEAD_REVISION:
        say(f"tables    version {found}, newer than this program's ({HEAD_REVISION})")
    else:
        state = "none" if found is None else f"version {found}, older than this program's ({HEAD_REVISION})"
        say(f"tables    {state}; run: llm-agent-core db upgrade")
    return 1


def _describe(database: Database, settings: Settings) -> str:
    from ..storage.database import FILE_NAME

    if database.is_sqlite:
        version = database.read_now(lambda to: to.exec_driver_sql("SELECT sqlite_version()").scalar_one())
        return f"SQLite {version}, {settings.data_dir / FILE_NAME}"
    version = database.read_now(lambda to: to.exec_driver_sql("SHOW server_version").scalar_one())
    return f"PostgreSQL {version}"


def _prune(options: argparse.Namespace) -> int:
    from ..bootstrap.database import open_database
    from ..config import Settings
    from ..storage.retention import count_prunable, prune

    settings = Settings()
    days, keep = options.older_than, options.keep
    if days is None and keep is None:
        days, keep = settings.retention_days or None, settings.retention_runs or None
    if days is None and keep is None:
        raise ConfigurationError("Say which runs to prune: --older-than DAYS, --keep N, or both.")
    older_than_s = None if days is None else days * DAY_S
    with open_database(settings, readonly=options.dry_run) as database:
        if options.dry_run:
            say(f"{_count(count_prunable(database, older_than_s, keep), 'run')} would be pruned.")
        else:
            done = prune(database, older_than_s, keep)
            say(f"Pruned {_count(done.runs, 'run')}, which had {_count(done.events, 'event')}.")
    return 0


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
