"""News between processes through outages of the database: heard again afterwards, and each outage told of."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

import psycopg
import pytest
from durable_runs import until
from postgres import PostgresServer

from app.runs.models import RunKey
from app.storage import notifications
from app.storage.database import Database
from app.storage.notifications import CHANNEL, Notifier


async def test_each_outage_is_told_of_once_and_so_is_its_end(
    postgres: PostgresServer, postgres_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    database = Database.open(Path(), postgres_url, patience_s=5)
    heard: list[RunKey] = []

    def told(run_id: str) -> bool:
        with psycopg.connect(postgres_url) as other:
            other.execute("SELECT pg_notify(%s, %s)", (CHANNEL, f"another process\nacme {run_id}"))
        return RunKey("acme", run_id) in heard

    with caplog.at_level(logging.INFO, "app.patience"):
        listening = asyncio.create_task(Notifier(database).listen_forever(heard.append))
        await until(lambda: told("r1"))
        for run_id, said in (("r2", 1), ("r3", 3)):
            postgres.crash()
            await until(lambda said=said: len(caplog.records) == said)  # type: ignore[misc]
            postgres.start()
            await until(lambda run_id=run_id: told(run_id))  # type: ignore[misc]
            await until(lambda said=said: len(caplog.records) == said + 1)  # type: ignore[misc]
        listening.cancel()
        await asyncio.wait([listening])
    database.close()
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"] * 2
    assert all("hearing of other processes" in record.message for record in caplog.records)


async def test_a_connection_that_never_holds_is_one_outage(
    postgres_url: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notifications, "FIRST_PAUSE_S", 0.01)
    database = Database.open(Path(), postgres_url, patience_s=5)
    broken_off = 0

    def break_off() -> bool:
        nonlocal broken_off
        with psycopg.connect(postgres_url) as other:
            found = other.execute(
                "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
                " WHERE query LIKE 'LISTEN%' AND datname = current_database()"
            ).fetchone()
        assert found is not None
        broken_off += found[0]
        return broken_off >= 4

    with caplog.at_level(logging.INFO, "app.patience"):
        listening = asyncio.create_task(Notifier(database).listen_forever(lambda _: None))
        await until(break_off)
        listening.cancel()
        await asyncio.wait([listening])
    database.close()
    assert [record.levelname for record in caplog.records] == ["WARNING"]
