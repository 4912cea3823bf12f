"""What runs say, between two processes over Postgres: heard where somebody listens, and sent nowhere else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from durable_runs import House, until
from fakes import FakeTool, answer, call
from sqlalchemy import text
from streaming import Listener, Speaker, agent_of

import app.storage.relay as relay_module
from app.agent.core import Agent
from app.bootstrap import build_services
from app.config import Settings
from app.errors import StorageUnavailableError
from app.runs.live import Delta, Live, Progress
from app.runs.models import RunKey, RunRequest
from app.storage.database import Database
from app.storage.notifications import Notifier
from app.storage.relay import MAX_BYTES, Relay, _packed, _wanted
from app.tools.call import report_progress


@asynccontextmanager
async def process(url: str, agent: Agent, owner: str, **options: Any) -> AsyncIterator[tuple[House, Relay]]:
    """A process over Postgres as it is wired for real."""
    database = Database.open(Path(), url, patience_s=5)
    house = House(database, agent, owner=owner, **options)
    relay = Relay(database, house.voices, house.feed)
    notifier = Notifier(database)
    house.writer._committer._notify = notifier.notify
    async with house:
        tasks = [
            asyncio.ensure_future(notifier.listen_forever(house.feed.changed, relay)),
            asyncio.ensure_future(relay.send_forever()),
        ]
        try:
            yield house, relay
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
    database.close()


async def listening(house: House, processes: int = 2) -> None:
    """Wait until so many processes hear each other: the sessions that listen are there."""

    def sessions() -> int:
        statement = text("SELECT count(*) FROM pg_stat_activity WHERE query = 'LISTEN \"llm_agent_core_live\"'")
        return int(house.database.read_now(lambda connection: connection.execute(statement)).scalar_one())

    await until(lambda: sessions() == processes)


async def test_what_a_worker_says_is_heard_where_somebody_listens(reused_postgres_url: str) -> None:
    model = Speaker(call("probe"), answer("It is 42."))
    told = asyncio.Event()

    async def run(given: dict[str, Any]) -> dict[str, Any]:
        report_progress("half", 0.5)
        await told.wait()
        return {}

    tool = FakeTool(run, effect="read")
    async with (
        process(reused_postgres_url, agent_of(model, tool), "api", executes=False) as (api, _),
        process(reused_postgres_url, agent_of(model, tool), "worker") as (worker, relay),
    ):
        await listening(api)
        key = await api.submit()
        listener = Listener(api, key)
        await until(lambda: key in relay)
        driving = asyncio.ensure_future(worker.execute(key))
        await until(lambda: model.asked)
        model.say("Let me ", "see\0 \ud83d.")
        await until(lambda: listener.text == "Let me see\0 ?.")
        model.say(None)
        await until(listener.hears(Progress(1, "probe", "half", 0.5)))
        told.set()
        await until(lambda: model.asked == 2)
        model.say("It is 42.")
        await until(listener.hears(Delta(2, 0, "It is 42.")))
        model.say(None)
        await asyncio.gather(driving, listener.task)
        assert listener.seqs == list(range(1, listener.seqs[-1] + 1))


async def test_who_joins_in_mid_speech_hears_a_long_text_from_its_beginning(reused_postgres_url: str) -> None:
    model = Speaker(answer("end"))
    said = "".join(f"{number} \x01\U0001f600" for number in range(6_000))
    async with (
        process(reused_postgres_url, agent_of(model), "api", executes=False) as (api, _),
        process(reused_postgres_url, agent_of(model), "worker") as (worker, relay),
    ):
        await listening(api)
        key = await api.submit()
        driving = asyncio.ensure_future(worker.execute(key))
        await until(lambda: model.asked)
        model.say(said[:30_000])
        await until(model.said.empty)
        assert key not in relay, "nobody listens yet"
        first = Listener(api, key)
        await until(lambda: first.text == said[:30_000])
        first.task.cancel()
        await asyncio.wait([first.task])
        again = Listener(api, key, first.seqs[-1])
        await until(lambda: again.text == said[:30_000])
        model.say(said[30_000:])
        await until(lambda: again.text == said)
        model.say(None)
        await asyncio.gather(driving, again.task)
        assert again.seqs[0] == first.seqs[-1] + 1


async def test_listeners_make_themselves_known_again_when_a_connection_was_lost(
    reused_postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay_module, "REPEAT_S", 60.0)
    model = Speaker(answer("end"))
    async with (
        process(reused_postgres_url, agent_of(model), "api", executes=False) as (api, _),
        AsyncExitStack() as stack,
    ):
        await listening(api, 1)
        worker, relay = await stack.enter_async_context(process(reused_postgres_url, agent_of(model), "worker"))
        await listening(api)
        key = await api.submit()
        listener = Listener(api, key)
        driving = asyncio.ensure_future(worker.execute(key))
        await until(lambda: model.asked and key in relay)
        model.say("first")
        await until(lambda: listener.text == "first")
        cut = text(
            "SELECT pg_terminate_backend(pid) FROM (SELECT pid FROM pg_stat_activity "
            "WHERE query = 'LISTEN \"llm_agent_core_live\"' ORDER BY backend_start LIMIT 1) AS the_api"
        )
        relay._listeners.clear()
        api.database.read_now(lambda connection: connection.execute(cut).all())
        model.say(" and second")
        await until(lambda: listener.text == "first and second")
        model.say(None)
        await asyncio.gather(driving, listener.task)


async def test_a_server_and_a_worker_are_wired_to_hear_each_other(postgres_url: str) -> None:
    model = Speaker(answer("It is 42."))
    settings = Settings(database_url=postgres_url)
    server = build_services(settings, llm_client=model, executes=False)
    worker = build_services(settings, llm_client=model, executes=True)
    await server.start()
    await worker.start()
    try:
        run = await server.runs.submit(RunRequest("go"))
        listener = Listener(server, RunKey(run.tenant, run.run_id))
        await until(lambda: model.asked)
        model.say("It is ", "42.")
        await until(lambda: listener.text == "It is 42.")
        model.say(None)
        await listener.task
    finally:
        await server.stop(0)
        await worker.stop(0)


class Line:
    """A relay whose database only notes what it is asked to send, or does not answer."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, house: House) -> None:
        monkeypatch.setattr(relay_module, "PAUSE_S", 0.001)
        monkeypatch.setattr(relay_module, "REPEAT_S", 0.02)
        self.sent: list[str] = []
        self.failure: Exception | None = None
        self.relay = Relay(self, house.voices, house.feed)  # type: ignore[arg-type]

    async def read(self, fn: Callable[[Any], Any]) -> None:
        if self.failure:
            raise self.failure
        fn(self)

    def execute(self, _statement: object, values: dict[str, list[str]]) -> Line:
        self.sent += values["payloads"]
        return self

    def all(self) -> list[object]:
        return []


@pytest.fixture
async def line(
    monkeypatch: pytest.MonkeyPatch, sqlite_database: Database
) -> AsyncIterator[tuple[Line, asyncio.Task[Any]]]:
    line = Line(monkeypatch, House(sqlite_database, agent_of(Speaker())))
    sending = asyncio.ensure_future(line.relay.send_forever())
    yield line, sending
    sending.cancel()
    await asyncio.wait([sending])


KEY = RunKey("default", "run-1")


def from_another(*messages: Any) -> str:
    (payload,) = _packed("another", messages)
    return payload


async def test_nothing_is_sent_of_a_run_that_nobody_listens_to_any_more(
    monkeypatch: pytest.MonkeyPatch, line: tuple[Line, asyncio.Task[Any]]
) -> None:
    monkeypatch.setattr(relay_module, "LISTENING_S", 0.05)
    relay = line[0].relay
    assert KEY not in relay
    relay.receive(from_another(*_wanted([KEY], begun=True)))
    assert KEY in relay
    relay.call_out(KEY)
    await until(lambda: KEY not in relay)
    live = Live((1, 1), 1)
    live.say("to nobody")
    relay.heard(KEY, live)
    relay.call_out(KEY)
    await until(lambda: len(line[0].sent) == 2)
    assert not any("to nobody" in payload for payload in line[0].sent)


async def test_what_cannot_be_sent_is_lost_and_said_once(
    caplog: pytest.LogCaptureFixture, line: tuple[Line, asyncio.Task[Any]]
) -> None:
    wire, sending = line
    wire.failure = StorageUnavailableError("away")
    for _ in range(3):
        wire.relay.call_out(KEY)
        await until(lambda: not wire.relay._begun)
    wire.failure = None
    wire.relay.call_out(KEY)
    await until(lambda: wire.sent)
    assert not sending.done()
    assert caplog.text.count("not heard in other processes") == 1


@pytest.mark.parametrize("payload", ["", "another", "another\n", "another\n[[1]]", 'another\n[["news",1]]'])
async def test_what_another_version_says_is_passed_over(
    line: tuple[Line, asyncio.Task[Any]], payload: str
) -> None:
    line[0].relay.receive(payload)
    assert KEY not in line[0].relay


async def test_a_payload_always_fits(line: tuple[Line, asyncio.Task[Any]]) -> None:
    wire, _ = line
    live = Live((2**31, 2**31), 2**31)
    live.say("\x01" * 20_000 + "\U0001f600" * 20_000)
    for step in range(10):
        live.report(Progress(2**31 + step, "t" * 64, "\x01" * 1_000, 1 / 3))
    wire.relay.receive(from_another(*_wanted([KEY], begun=True)))
    wire.relay.heard(KEY, live)
    await until(lambda: "\U0001f600" in "".join(wire.sent[-2:]) and not wire.relay._fresh)
    assert all(len(payload.encode()) <= MAX_BYTES for payload in wire.sent)
    assert len("".join(wire.sent).split("\U0001f600")) == 20_001
    assert len("".join(wire.sent).split("\\u0001")) == 30_001
    crowd = [RunKey("t" * 60, f"{number:036}") for number in range(500)]
    payloads = list(_packed("me", _wanted(crowd, begun=False)))
    assert all(len(payload.encode()) <= MAX_BYTES for payload in payloads)
    assert sum(payload.count("t" * 60) for payload in payloads) == 500
