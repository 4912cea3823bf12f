"""What an error of a database means: whether to try again, and for how long."""

from __future__ import annotations

from typing import Final, Literal, TypeAlias

from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as NoConnectionError

Trouble: TypeAlias = Literal["transient", "unavailable"]
"""transient: the database undid the transaction, or could not begin it, because of others; the same again may do.
unavailable: it cannot be reached, or has no room or no means to go on; it may come back. On Postgres the
connection is as good as lost, and if it was at its COMMIT, whether that took place is unknown."""

# https://sqlite.org/rescode.html: the lower byte is the kind
_SQLITE: Final[dict[int, Trouble]] = {
    5: "transient",  # SQLITE_BUSY
    6: "transient",  # SQLITE_LOCKED
    7: "unavailable",  # SQLITE_NOMEM
    10: "unavailable",  # SQLITE_IOERR
    13: "unavailable",  # SQLITE_FULL
    14: "unavailable",  # SQLITE_CANTOPEN
    15: "unavailable",  # SQLITE_PROTOCOL
}
_SQLITE_MOVED: Final = frozenset({264, 520, 1032, 1288})
"""SQLITE_READONLY_RECOVERY, _CANTLOCK, _DBMOVED, _CANTINIT; without such a reason it is a bug to have written."""

# https://www.postgresql.org/docs/current/errcodes-appendix.html
_TRANSIENT_STATES: Final = frozenset(
    {
        "40001",  # serialization_failure
        "40P01",  # deadlock_detected
        "55P03",  # lock_not_available
        "57014",  # query_canceled: a statement's time was up
    }
)
_UNAVAILABLE_STATES: Final = frozenset(
    {
        "25006",  # read_only_sql_transaction: we are connected to what has become a standby
        "25P03",  # idle_in_transaction_session_timeout
        "57P01",  # admin_shutdown
        "57P02",  # crash_shutdown
        "57P03",  # cannot_connect_now: it is starting up
        "57P05",  # idle_session_timeout
    }
)
_UNAVAILABLE_CLASSES: Final = ("08", "53", "58")  # connection, resources (disk full among them), system


def trouble_of(error: BaseException) -> Trouble | None:
    """Return what kind of trouble an error of SQLAlchemy or of a driver is; None if trying again is no use."""
    if isinstance(error, NoConnectionError):
        return "unavailable"
    if isinstance(error, DBAPIError):
        if error.connection_invalidated:
            return "unavailable"
        if error.orig is None:
            return None
        error = error.orig
    code = getattr(error, "sqlite_errorcode", None)
    if isinstance(code, int):
        return "unavailable" if code in _SQLITE_MOVED else _SQLITE.get(code & 0xFF)
    return _postgres_trouble(error)


def _postgres_trouble(error: BaseException) -> Trouble | None:
    if not type(error).__module__.startswith("psycopg"):
        return None
    state = getattr(error, "sqlstate", None)
    if state is None:
        # without a state the server did not say it: the connection was refused, broken off, or is closed
        return "unavailable" if type(error).__name__ in ("OperationalError", "InterfaceError") else None
    if state in _TRANSIENT_STATES:
        return "transient"
    if state in _UNAVAILABLE_STATES or state.startswith(_UNAVAILABLE_CLASSES):
        return "unavailable"
    return None


def is_timeout(error: BaseException) -> bool:
    """Say whether Postgres has broken a statement off because its time (`statement_timeout`) was up."""
    return getattr(error.orig if isinstance(error, DBAPIError) else error, "sqlstate", None) == "57014"


def one_line(error: BaseException) -> str:
    """Return what a driver said, in one line and without SQLAlchemy's additions."""
    said = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
    return " ".join(str(said).split()) or type(said).__name__
