"""Postgres: a checked URL, and an engine on psycopg."""

from __future__ import annotations

import re
from time import monotonic, sleep
from typing import Any, Final

from sqlalchemy import Connection, Engine, column, create_engine, event, func, select, table
from sqlalchemy.exc import DBAPIError

from ..errors import ConfigurationError, DatabaseVersionError, MissingExtraError
from .dialect import now_us
from .failures import one_line
from .tables import workers

FIRST_SUPPORTED: Final = 15
CONNECTIONS, MORE_CONNECTIONS = 5, 11
"""How many a process keeps, and how many more it opens when it is busy; a server lets in 100 by default."""

POOL_WAIT_S = 10.0
STARTING_PAUSE_S = 0.25

_DEFAULTS: Final[dict[str, str]] = {
    "application_name": "llm-agent-core",
    "connect_timeout": "10",
    # a peer that is gone without a word is noticed within half a minute
    "keepalives_idle": "10",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "tcp_user_timeout": "30000",
}

_SESSION: Final = (
    # A worker that is suspended in the middle of a transaction holds the locks of its runs, and nobody could take
    # them over: the server ends its session before its lease (6 s) does.
    "SET idle_in_transaction_session_timeout = '5s'",
    "SET statement_timeout = '15s'",
    # what is acknowledged is durable, whatever the server's default is
    "SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'",
)

_TENANT: Final = "agent_core.tenant"
"""The setting of a session that row-level security goes by; see the migration 0005."""

EVERY_TENANT: Final = "*"
NO_TENANT: Final = ""
"""No tenant is called so."""

_SCHEME: Final = re.compile(r"postgres(?:ql)?(?:\+psycopg)?://")


def is_postgres_url(url: str) -> bool:
    """Say whether `url` names a Postgres database."""
    return _SCHEME.match(url) is not None


def conninfo_of(url: str) -> str:
    """Return the URL as libpq and psycopg take it.

    Raises:
        ConfigurationError: it is none; the message does not hold it, for there may be a password in it.
        MissingExtraError: psycopg is not installed.
    """
    if not is_postgres_url(url):
        raise ConfigurationError(
            "DATABASE_URL: it is no Postgres URL; one looks like postgresql://user:password@host:5432/database"
        )
    conninfo = _SCHEME.sub("postgresql://", url, count=1)
    _parameters(conninfo)
    return conninfo


def open_url(
    conninfo: str, *, readonly: bool = False, owner: str | None = None, sees_everything: bool = True
) -> Engine:
    """Return an engine for it; nothing is connected yet. `owner` is what its sessions are called.

    Row-level security shows its sessions the rows of all tenants; or, if they do not see everything, none before
    `see_only` has said whose.
    """
    defaults = {key: value for key, value in _DEFAULTS.items() if key not in _parameters(conninfo)}
    sees = f"SET {_TENANT} = '{EVERY_TENANT if sees_everything else NO_TENANT}'"
    read_only = ("SET default_transaction_read_only = on",) if readonly else ()
    session = "; ".join((*_SESSION, sees, *read_only))
    engine = create_engine(
        "postgresql+psycopg://",
        hide_parameters=True,  # what runs hold is for no log
        isolation_level="READ COMMITTED",
        pool_size=CONNECTIONS,
        max_overflow=MORE_CONNECTIONS,
        pool_timeout=POOL_WAIT_S,
    )

    def connect_with(_dialect: object, _record: object, arguments: list[Any], keywords: dict[str, Any]) -> None:
        # the URL as libpq reads it, not as SQLAlchemy would: several hosts, services, percent-encoding
        arguments[:] = [conninfo]
        keywords.update(defaults)
        if owner is not None:
            keywords["application_name"] = owner

    def set_session(connection: Any, _record: object) -> None:
        connection.autocommit = True
        connection.execute(session)
        connection.autocommit = False

    event.listen(engine, "do_connect", connect_with)
    event.listen(engine, "connect", set_session)
    return engine


def see_only(connection: Connection, tenant: str) -> None:
    """Let a session see, and write, rows of this tenant alone, until it is told otherwise.

    What it was told in a transaction that is rolled back is undone: call `see_again` then.
    """
    if connection.info.get(_TENANT) != tenant:
        connection.execute(select(func.set_config(_TENANT, tenant, False)))
        connection.info[_TENANT] = tenant


def see_again(connection: Connection) -> None:
    """Note that nobody knows what the session sees."""
    connection.info.pop(_TENANT, None)


def is_above_security(connection: Connection) -> bool:
    """Say whether row-level security is not for our role: a superuser, or one that was made to bypass it."""
    roles = table("pg_roles", column("rolname"), column("rolsuper"), column("rolbypassrls"))
    ours = roles.c.rolname == func.current_user()
    return bool(connection.execute(select(roles.c.rolsuper | roles.c.rolbypassrls).where(ours)).scalar())


def end_sessions_of_the_dead(connection: Connection) -> None:
    """End the sessions of processes whose lease has run out.

    One that is suspended while it sends rows, or waits for a lock, is in no state that the time-outs above end,
    and holds the locks of its runs for as long as it sleeps. If it wakes, it connects anew, and is fenced.
    """
    sessions = table("pg_stat_activity", column("pid"), column("application_name"), column("datname"))
    connection.execute(
        select(func.pg_terminate_backend(sessions.c.pid)).where(
            sessions.c.datname == func.current_database(),
            sessions.c.application_name.in_(select(workers.c.id).where(workers.c.expires_at < now_us())),
        )
    )


def check_server(engine: Engine, conninfo: str, patience_s: float) -> None:
    """Connect; again and again, for `patience_s`, while the server says that it is starting up.

    Raises:
        ConfigurationError: the server cannot be reached, or does not let us in; the message has no password in it.
        DatabaseVersionError: it is older than FIRST_SUPPORTED.
    """
    give_up_at = monotonic() + patience_s
    while True:
        try:
            version = _major_version(engine)
        except DBAPIError as error:
            said = one_line(error)
            if "starting up" not in said or monotonic() > give_up_at:
                engine.dispose()
                raise ConfigurationError(f"DATABASE_URL: {without_password(said, conninfo)}") from None
            sleep(STARTING_PAUSE_S)
            continue
        if version < FIRST_SUPPORTED:
            engine.dispose()
            raise DatabaseVersionError(
                f"The database server is Postgres {version}; {FIRST_SUPPORTED} or newer is needed."
            )
        return


def _major_version(engine: Engine) -> int:
    with engine.connect() as connection:
        return int(connection.exec_driver_sql("SHOW server_version_num").scalar_one()) // 10_000


def without_password(text: str, conninfo: str) -> str:
    """Return `text` without the password of the URL, should it hold it."""
    password = _parameters(conninfo).get("password")
    return text.replace(str(password), "***") if password else text


def _parameters(conninfo: str) -> dict[str, Any]:
    try:
        from psycopg import ProgrammingError
        from psycopg.conninfo import conninfo_to_dict
    except ImportError as error:
        raise MissingExtraError(
            "DATABASE_URL names a Postgres database, which needs: uv sync --extra postgres"
        ) from error
    try:
        return dict(conninfo_to_dict(conninfo))
    except ProgrammingError:
        # libpq quotes the part that it does not understand, which may be the password
        raise ConfigurationError("DATABASE_URL: it is ill-formed; special characters are written %XX") from None
