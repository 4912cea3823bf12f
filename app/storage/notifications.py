"""News between the processes of one Postgres database: one NOTIFY for each group that was committed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from typing import Final, NoReturn
from uuid import uuid4

from sqlalchemy import Connection, func, select

from ..patience import Patience
from ..runs.models import RunKey
from ..runs.ports import Unit
from . import relay as live
from .database import Database

CHANNEL: Final = "llm_agent_core_runs"

MAX_CHARS: Final = 7_000
"""How long a payload may be; Postgres takes less than 8,000 bytes."""

FIRST_PAUSE_S: Final = 0.1
LONGEST_PAUSE_S: Final = 2.0

HELD_S: Final = 1.0
"""How long a connection has to hold before an outage is over: it may be taken and broken off again and again."""


class Notifier:
    """Tells other processes which runs have something new, and hears it of them. What it is, each reads itself."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._me = uuid4().hex[:12]

    def notify(self, connection: Connection, units: Sequence[Unit]) -> None:
        """Tell of these units when the transaction commits."""
        for payload in self._payloads(units):
            connection.execute(select(func.pg_notify(CHANNEL, payload)))

    async def listen_forever(self, changed: Callable[[RunKey], None], relay: live.Relay | None = None) -> NoReturn:
        """Call `changed` for every run that another process tells of, through any outage of the database.

        `relay` is given what other processes say that is not kept.
        """
        patience = Patience("hearing of other processes", first_s=FIRST_PAUSE_S, longest_s=LONGEST_PAUSE_S)
        while True:
            try:
                await self._listen(changed, relay, patience)
            except Exception as error:
                await asyncio.sleep(patience.failed(error))

    async def _listen(
        self, changed: Callable[[RunKey], None], relay: live.Relay | None, patience: Patience
    ) -> None:
        from psycopg import AsyncConnection, sql

        assert self._database.conninfo is not None
        async with await AsyncConnection.connect(self._database.conninfo, autocommit=True) as connection:
            await connection.execute(sql.SQL("LISTEN {}").format(sql.Identifier(CHANNEL)))
            if relay is not None:
                await connection.execute(sql.SQL("LISTEN {}").format(sql.Identifier(live.CHANNEL)))
                relay.call_again()
            held = asyncio.get_running_loop().call_later(HELD_S, patience.succeeded)
            try:
                async for notification in connection.notifies():
                    if relay is not None and notification.channel == live.CHANNEL:
                        relay.receive(notification.payload)
                    else:
                        self._receive(notification.payload, changed)
            finally:
                held.cancel()

    def _receive(self, payload: str, changed: Callable[[RunKey], None]) -> None:
        sender, *lines = payload.split("\n")
        if sender != self._me:
            for line in lines:
                tenant, _, run_id = line.rpartition(" ")
                changed(RunKey(tenant, run_id))

    def _payloads(self, units: Sequence[Unit]) -> Iterator[str]:
        payload = self._me
        for key in dict.fromkeys(unit.key for unit in units):
            line = f"\n{key.tenant} {key.run_id}"
            if len(payload) + len(line.encode()) > MAX_CHARS:
                yield payload
                payload = self._me
            payload += line
        if payload != self._me:
            yield payload
