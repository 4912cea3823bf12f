from __future__ import annotations

import json
import logging
import re
import threading
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from durable_runs import House, until
from fakes import FakeTool, ScriptedModel, answer, call
from growth import MOST, growth
from hypothesis import given
from hypothesis import strategies as st
from postgres import for_all_tenants
from starlette.testclient import TestClient
from streaming import Listener, Speaker, agent_of

from app.bootstrap import build_services
from app.bootstrap.secrets import known_secrets
from app.config import Settings
from app.redaction import MASK, RedactedStream, Redactor, names_a_secret
from app.runs.live import Progress
from app.storage.database import Database
from app.tools.base import tool_registry
from app.tools.call import report_progress

CANARY = 'canary-"k\u00e9y"/with 7 odd+signs'
OWN_KEY = "lac_0123456789abcdef_" + "5ec2e7" * 10 + "abcd"
TOKEN = ".".join(
    urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=")
    for part in ({"alg": "HS256"}, {"sub": "canary"}, "signature")
)

LLM_KEY = "canary-llm-key-1111"
OPENAI_KEY = "canary-openai-key-2222"
NAMED = "canary-by-its-name-3333"
CANARIES = (LLM_KEY, OPENAI_KEY, NAMED, OWN_KEY[-64:], TOKEN)

redactor = Redactor([CANARY, "short"])


@pytest.mark.parametrize(
    "form",
    [
        CANARY,
        json.dumps(CANARY)[1:-1],
        json.dumps(CANARY, ensure_ascii=False)[1:-1],
        quote(CANARY),
        quote(CANARY, safe=""),
        re.sub("%..", lambda found: found[0].lower(), quote(CANARY, safe="")),
    ],
)
def test_a_known_secret_is_masked_however_it_is_written(form: str) -> None:
    assert redactor.text(f"<{form}>") == f"<{MASK}>"
    stored = json.dumps({"a": form}, ensure_ascii=False)
    assert redactor.suspects(stored)


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        (OWN_KEY, f"lac_0123456789abcdef_{MASK}"),
        (f"it is {TOKEN}, he said", f"it is {MASK}, he said"),
        (f"it\\n{TOKEN}", f"it\\n{MASK}"),
        ("Authorization: Bearer abc123def456", f"Authorization: Bearer {MASK}"),
        ("authorization=basic%20dXNlcjpwYXNz", f"authorization=basic%20{MASK}"),
        ("postgresql://me:p%40ss@db:5432/x", f"postgresql://{MASK}@db:5432/x"),
        ("https://:key@host", f"https://{MASK}@host"),
    ],
)
def test_what_looks_like_a_credential_is_masked(text: str, masked: str) -> None:
    assert redactor.text(text) == masked
    assert redactor.suspects(json.dumps(text))
    assert redactor.text(masked) is masked


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a short text",
        "The bearer of news has basic responsibilities.",
        "https://example.com/a:b@c?d=e",
        "me@example.com",
        "eyJ is how tokens begin",
        "1.2.3",
        "lac_0123456789abcdef_ is a prefix",
        MASK,
    ],
)
def test_ordinary_text_stays_the_very_same(text: str) -> None:
    assert redactor.text(text) is text


@pytest.mark.parametrize(
    "name",
    [
        *("password", "passwd", "passphrase", "secret", "client_secret", "clientSecret", "db_password"),
        *("token", "access_token", "refresh-token", "ID_TOKEN", "api_key", "apikey", "X-API-Key", "private_key"),
        *("Authorization", "cookie", "Set-Cookie", "credential", "credentials"),
    ],
)
def test_what_stands_under_the_name_of_a_secret_is_masked(name: str) -> None:
    for value in ("x", ["x"], {"x": "y"}):
        given: Any = {"in": [{name: value}]}
        assert names_a_secret(given)
        assert redactor.value(given) == {"in": [{name: MASK}]}
    for harmless in (1, 1.5, True, None):
        given = {name: harmless}
        assert not names_a_secret(given)
        assert redactor.value(given) is given


@pytest.mark.parametrize("name", ["max_tokens", "token_count", "input_tokens", "tokens", "next_page_token", "key"])
def test_names_that_only_sound_like_it_are_left_alone(name: str) -> None:
    given: Any = {name: "x"}
    assert redactor.value(given) is given


def test_a_schema_may_speak_of_secrets_and_hold_none() -> None:
    schema: Any = {"properties": {"password": {"type": "string", "default": OWN_KEY}}}
    masked = redactor.object(schema, by_name=False)
    assert masked["properties"]["password"] == {"type": "string", "default": redactor.text(OWN_KEY)}


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: (
        st.lists(inner) | st.dictionaries(st.sampled_from(["password", "a", "token"]) | st.text(), inner)
    ),
    max_leaves=10,
)


@given(json_values)
def test_what_has_been_masked_stays_as_it_is(value: Any) -> None:
    once = redactor.value(value)
    assert redactor.value(once) is once
    assert not names_a_secret(once)


@given(st.text(), st.sampled_from([CANARY, OWN_KEY, TOKEN, "Bearer abc123def456", "x://u:pw@h"]), st.text())
def test_nothing_is_masked_that_a_stored_text_would_not_be_suspected_of(a: str, secret: str, b: str) -> None:
    text = a + secret + b
    if redactor.text(text) != text:
        assert redactor.suspects(json.dumps(text, ensure_ascii=False))


@given(
    st.lists(st.integers(1, 200)), st.sampled_from([CANARY, OWN_KEY, TOKEN, "Bearer abc123def456", "x://u:pw@h "])
)
def test_no_secret_slips_through_cut_in_pieces(cuts: list[int], secret: str) -> None:
    text = f"The le {secret} is told. "
    stream, heard, at = RedactedStream(redactor), "", 0
    for end in sorted({*cuts, len(text)}):
        heard += stream.take(text[at:end])
        at = max(at, end)
    assert heard == redactor.text(text)


async def test_who_listens_to_a_model_or_a_tool_hears_no_secret(sqlite_database: Database) -> None:
    said = f"The key is {OWN_KEY} and the token {TOKEN}; keep them."
    model = Speaker(call("probe"), answer(said))
    model.say(None, *(said[at : at + 7] for at in range(0, len(said), 7)))
    told = threading.Event()

    def run(given: dict[str, Any]) -> dict[str, Any]:
        report_progress(f"with {TOKEN}")
        told.wait(10)
        return {}

    tool = FakeTool(run, effect="read")
    async with House(sqlite_database, agent_of(model, tool), consumes=True) as house:
        listener = Listener(house, await house.submit())
        await until(listener.hears(Progress(1, "probe", f"with {MASK}")))
        told.set()
        await until(lambda: listener.text == redactor.text(said))
        model.say(None)
        await listener.task
    assert found(str(listener.heard)) == []


def test_ordinary_words_are_not_held_back() -> None:
    stream = RedactedStream(redactor)
    assert [stream.take(piece) for piece in ("The an", "swer", " is 4", ".")] == ["The an", "swer", " is 4", "."]


def test_what_looks_like_an_endless_secret_ends_the_stream() -> None:
    stream = RedactedStream(redactor)
    heard = [stream.take(piece) for piece in ["Well: eyJ", *["abcdefgh" * 100] * 10, " end"]]
    assert heard[0] == "Well: "
    assert not any(heard[1:])


@pytest.mark.parametrize(
    "hostile", ["eyJ", "://:", "bearer ", "a.eyJ", "lac_0", "://a:b@", "bearer\t\t", "://a@b:"]
)
def test_no_text_takes_long(hostile: str) -> None:
    assert growth(redactor.text, hostile * (100_000 // len(hostile))) < MOST
    assert growth(redactor.settled, hostile * (4096 // len(hostile))) < MOST


@pytest.mark.parametrize("row", ["a", "1", "a1", "aaaaaaaaaaa-", "A/", "%20", "+"])
@pytest.mark.parametrize("scheme", ["bearer ", "basic ", "Authorization: Bearer "])
def test_nor_does_one_long_credential(scheme: str, row: str) -> None:
    text = scheme + row * (100_000 // len(row))
    assert growth(Redactor().text, text) < MOST
    assert growth(lambda text: RedactedStream(Redactor()).take(text), text) < MOST


def test_secrets_are_not_shown_by_the_one_who_knows_them() -> None:
    assert "canary" not in repr(redactor)


def test_all_secret_settings_are_known() -> None:
    settings = Settings(
        _env_file=None,
        llm_api_key=LLM_KEY,
        openai_api_key=OPENAI_KEY,
        database_url="postgresql://me:p%40ssword@db/x?password=another-one",
    )
    assert {LLM_KEY, OPENAI_KEY, "p%40ssword", "p@ssword", "another-one"} <= set(known_secrets(settings))
    assert known_secrets(Settings(_env_file=None)) == []


def told(given: dict[str, Any]) -> dict[str, Any]:
    assert LLM_KEY not in str(given)  # what is stored is what the tool sees
    if given.get("fails"):
        raise ValueError(f"refused: {TOKEN} with {OPENAI_KEY}")
    return {"seen": f"{LLM_KEY} {OWN_KEY}", "nested": [{"Api-Key": NAMED}], "url": f"https://u:{NAMED}@host/"}


@contextmanager
def serving(monkeypatch: pytest.MonkeyPatch, **settings: Any) -> Iterator[TestClient]:
    from app import main

    tool_registry.register(FakeTool(told, effect="read"))
    model = ScriptedModel(
        call("probe", password=NAMED, note=f"use {LLM_KEY}"),
        call("probe", fails=True, header={"Authorization": f"Bearer {OWN_KEY}"}),
        call("governance_note", action="add", proposal_id="PROP-2025-001", note=f"{OPENAI_KEY} {TOKEN}"),
        call("nowhere", secret=NAMED),
        answer(f"It is {OPENAI_KEY}, {TOKEN}."),
        *[answer("done")] * 10,
    )
    monkeypatch.setattr(main, "build_services", partial(build_services, llm_client=model, executes=True))
    made = Settings(_env_file=None, llm_api_key=LLM_KEY, openai_api_key=OPENAI_KEY, **settings)
    application = main.create_app(made)
    log = application.state.services.log
    logging.getLogger().addHandler(log)  # pytest has others there, which keep it from doing so itself
    try:
        with TestClient(application, raise_server_exceptions=False) as client:
            yield client
    finally:
        logging.getLogger().removeHandler(log)
        log.flush()


def talk(client: TestClient) -> list[str]:
    """Let secrets in at every door, and return all that is answered."""
    goal = {"goal": f"Log in with {LLM_KEY}", "context": f"Authorization: Bearer {OWN_KEY}\n{TOKEN}"}
    ran = client.post("/api/v1/run-task", json=goal)
    assert [step["tool"] for step in ran.json()["trace"]] == ["probe", "probe", "governance_note", "nowhere"]
    run_id = ran.json()["run_id"]
    metadata = {"password": NAMED, "why": OPENAI_KEY, "deep": [{"token": NAMED}]}
    kept = client.post("/api/v1/runs", json={**goal, "metadata": metadata})
    assert kept.status_code == 202, kept.text
    paths = [f"runs/{run_id}", f"runs/{run_id}/trace", f"runs/{run_id}/events", "runs", "usage"]
    answers = [ran, kept, *[client.get(f"/api/v1/{path}") for path in paths], client.get("/metrics")]
    assert ran.json()["output"] == f"It is {MASK}, {MASK}."
    return [answer.text for answer in answers]


def found(text: str) -> list[str]:
    return [canary for canary in CANARIES if canary in text or quote(canary, safe="") in text]


def test_secrets_that_come_in_are_found_nowhere(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    with caplog.at_level(logging.INFO), serving(monkeypatch, data_dir=tmp_path) as client:
        answers = talk(client)
        assert (tmp_path / "agent.db-wal").exists() or list(tmp_path.glob("*-wal"))
        files = {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    files |= {f"{path.name} later": path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    kept = {name: found(content.decode("latin-1")) for name, content in files.items()}
    assert not any(kept.values()), kept
    assert sum(content.count(MASK.encode()) for content in files.values()) > 5
    assert [found(text) for text in answers] == [[]] * len(answers)
    assert MASK in answers[0]
    logged = "".join(capfd.readouterr())
    assert "ValueError: refused: [redacted]" in logged
    assert found(logged) == []


def test_no_refusal_echoes_a_secret(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with serving(monkeypatch, data_dir=tmp_path) as client:
        goal = {"goal": "go"}
        refusals = [
            client.post("/api/v1/run-task", json={**goal, "tools": [TOKEN]}),
            client.post("/api/v1/run-task", json={**goal, OWN_KEY: 1}),
            client.post("/api/v1/run-task", json={**goal, "model": OWN_KEY}),
            client.get(f"/api/v1/{TOKEN}"),
            client.get(f"/api/v1/runs/{TOKEN}"),
            client.get("/api/v1/runs", params={"cursor": TOKEN, OWN_KEY: "x"}),
            client.get("/api/v1/runs", headers={"Authorization": f"Bearer {OWN_KEY}"}),
        ]
    assert all(400 <= refusal.status_code < 500 for refusal in refusals[:-1])
    assert [found(refusal.text) for refusal in refusals] == [[]] * len(refusals)


def test_secrets_that_come_in_are_found_nowhere_in_postgres(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import psycopg

    with serving(monkeypatch, data_dir=tmp_path, database_url=postgres_url) as client:
        answers = talk(client)
    assert [found(text) for text in answers] == [[]] * len(answers)
    with psycopg.connect(for_all_tenants(postgres_url)) as connection:
        tables = connection.execute(
            "SELECT quote_ident(table_schema) || '.' || quote_ident(table_name) FROM information_schema.tables "
            "WHERE table_schema NOT IN ('pg_catalog', 'information_schema') AND table_type = 'BASE TABLE'"
        ).fetchall()
        rows = [
            row
            for (table,) in tables
            for row in connection.execute(f"SELECT t::text FROM {table} t").fetchall()  # noqa: S608
        ]
    assert any(MASK in row[0] for row in rows)
    assert [row for row in rows if found(row[0])] == []


@pytest.mark.parametrize(
    "said",
    [
        "Basic COVID-19 rules and basic income/expense report",
        "Read the basic PROP-2025-001 notes",
        "Basic Python3.11 course",
        "Basic C++/Python",
        "basic 100mg/day",
        "the bearer certificate-2024-amended",
        "a standard bearer organisations/communities",
        "bearer instruments 2026-11-22/2027-11-22",
        "Basic arithmetic",
    ],
)
def test_what_people_say_stays_as_it_is(said: str) -> None:
    redactor = Redactor()
    assert redactor.text(said) == said
    stream = RedactedStream(redactor)
    assert (stream.take(said) + stream.take(" and so on")).startswith(said)


@pytest.mark.parametrize(
    "credential",
    [
        "Basic YWxhZGRpbjpvcGVuIHNlc2FtZQ==",
        "basic dXNlcjpwYXNz",
        "Bearer abc123def456ghi789",
        "bearer 550e8400-e29b-41d4-a716-446655440a00",
        "BEARER ghp_16C7e42F292c6912E7710c838347Ae178B4a",
        "authorization: basic whatever",
        '"Authorization": "Bearer whatever"',
    ],
)
def test_what_is_a_credential_does_not(credential: str) -> None:
    masked = Redactor().text(f"send {credential} please")
    assert credential.rsplit(" ", 1)[1].strip('"') not in masked
    assert MASK in masked
