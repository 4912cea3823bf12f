"""COPY into Postgres beside a busy event loop: what is copied is gathered first and sent in few pieces."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from psycopg import Cursor
from psycopg.abc import Buffer
from psycopg.copy import LibpqWriter


class GatheringWriter(LibpqWriter):
    """Sends nothing before the end, and then 128 KiB at a time.

    psycopg sends 32 KiB at a time, and gives up and retakes the interpreter's lock for each: as with single rows in
    SQLite, that is where the time goes while a loop computes.
    """

    def __init__(self, cursor: Cursor[Any]) -> None:
        super().__init__(cursor)
        self._gathered: list[bytes] = []

    def write(self, data: Buffer) -> None:
        """Keep some data."""
        self._gathered.append(bytes(data))

    def finish(self, exc: BaseException | None = None) -> None:
        """Send it all, unless the rows could not be made."""
        if exc is None:
            super().write(b"".join(self._gathered))
        super().finish(exc)


def copy_rows(connection: Any, statement: str, rows: Iterable[tuple[Any, ...]]) -> None:
    """Copy rows with a `COPY ... FROM STDIN` statement over a connection of psycopg."""
    with connection.cursor() as cursor, cursor.copy(statement, writer=GatheringWriter(cursor)) as copy:
        for row in rows:
            copy.write_row(row)
