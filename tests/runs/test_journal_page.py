"""docs/journal.md: enough to check and read a log, and true."""

from __future__ import annotations

import ast
import asyncio
import io
import json
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest

from app.agent.events import Event, Reserved, RunFinished, RunStarted, Step
from app.llm.interface import ToolCall, Usage
from app.permissions import ArgumentRule, Permissions
from app.runs.bundle import Bundle, write_bundle
from app.runs.chain import GENESIS, verify
from app.runs.codec import read, store
from app.runs.models import Run, StoredEvent

PAGE = (Path(__file__).parent.parent.parent / "docs/journal.md").read_text(encoding="utf-8")
RUN = "019aab7e-5c1b-7e07-9d5c-3f0a9a1b2c3d"
STARTED = datetime(2026, 11, 22, 9, 30, 0, 123456, tzinfo=UTC)
ENDED = datetime(2026, 11, 22, 9, 30, 4, 500000, tzinfo=UTC)


def example(name: str) -> str:
    found = re.search(rf"<!-- example: {name} -->\n```\w+\n(.*?)```", PAGE, re.DOTALL)
    assert found, name
    return found[1]


def rows(name: str) -> list[list[str]]:
    found = re.search(rf"<!-- catalogue: {name} -->\n((?:\|.*\n)+)", PAGE)
    assert found, name
    return [[cell.strip() for cell in line.strip("|\n").split("|")] for line in found[1].splitlines()[2:]]


def quoted(text: str) -> list[str]:
    return re.findall(r"`([^`]+)`", text)


def chain_of(*happened: tuple[datetime, Event]) -> list[StoredEvent]:
    events: list[StoredEvent] = []
    for number, (at, event) in enumerate(happened, 1):
        events.append(store(RUN, number, events[-1].hash if events else GENESIS, at, event))
    return events


def bundle_of(events: list[StoredEvent], status: str = "success") -> dict[str, Any]:
    async def one_by_one() -> AsyncIterator[StoredEvent]:
        for event in events:
            yield event

    values: dict[str, Any] = dict.fromkeys(Run.__struct_fields__)
    values |= {"run_id": RUN, "tenant": "default", "status": status}
    out = io.StringIO()
    asyncio.run(write_bundle(out, Run(**values | head_of(events)), one_by_one()))
    bundle: dict[str, Any] = json.loads(out.getvalue())
    return bundle


def head_of(events: list[StoredEvent]) -> dict[str, Any]:
    return {"events": len(events), "head_hash": events[-1].hash}


EXAMPLE = chain_of(
    (STARTED, RunStarted("Calculate 6*7", None, ("math",))),
    (ENDED, RunFinished("cancelled", "The run was cancelled.", "cancelled")),
)


def test_the_example_is_what_the_program_writes() -> None:
    assert json.loads(example("bundle")) == bundle_of(EXAMPLE, "cancelled")
    assert EXAMPLE[-1].hash.hex() in PAGE[PAGE.index("```console") :]


def test_the_worked_hashes_are_what_they_are_said_to_be() -> None:
    one, two = example("hashes").strip().split("\n\n")
    for worked, event in zip((one, two), EXAMPLE, strict=True):
        _, before, size, text, _, digest = worked.splitlines()
        assert sha256(bytes.fromhex(before) + text.encode()).hexdigest() == digest == event.hash.hex()
        assert size == f"and these {len(text.encode())} bytes:"


VERIFIER = example("verifier")


def test_the_verifier_uses_nothing_but_the_standard_library() -> None:
    imported = [
        name
        for node in ast.walk(ast.parse(VERIFIER))
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else []
        )
    ]
    assert sorted(imported) == ["hashlib", "json", "sys"]


def verified(bundle: dict[str, Any], directory: Path, *head: str) -> tuple[int, str]:
    path = directory / "run.json"
    path.write_text(json.dumps(bundle))
    ran = subprocess.run(
        [sys.executable, "-I", "-c", VERIFIER, str(path), *head],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert ran.stderr == ""
    read_back = Bundle(path)
    ours = verify(read_back.events(), read_back.header.run_id, read_back.header.head)
    if not head:
        assert (ran.stdout == "ok\n") == (ours is None)
        assert ours is None or ran.stdout.startswith(f"event {ours.seq}: ")
    return ran.returncode, ran.stdout.strip()


LONG = [
    chain_of(*[(STARTED, RunFinished("success", text)) for text in texts])
    for texts in (["é\u2028\U0001f600", str(2**53 + 1), "c", "d"], ["another", "log", "of", "the run"])
]


def test_the_verifier_finds_nothing_in_what_the_program_wrote(tmp_path: Path) -> None:
    assert verified(json.loads(example("bundle")), tmp_path) == (0, "ok")
    assert verified(bundle_of(LONG[0]), tmp_path, LONG[0][-1].hash.hex()) == (0, "ok")


Tampering = Callable[[list[dict[str, Any]]], object]

TAMPERINGS: dict[str, tuple[Tampering, int]] = {
    "an edit": (lambda events: events[1].update(body=events[1]["body"].replace("1", "2")), 2),
    "a number": (lambda events: events[1].update(seq=1), 2),
    "a hash": (lambda events: events[1].update(hash="0" * 64), 2),
    "a hash before": (lambda events: events[1].update(prev_hash="0" * 64), 2),
    "the first hash before": (lambda events: events[0].update(prev_hash="1" * 64), 1),
    "a deletion": (lambda events: events.pop(2), 3),
    "a swap": (lambda events: events.insert(1, events.pop(2)), 2),
    "a repetition": (lambda events: events.insert(1, events[1]), 3),
    "an insertion": (lambda events: events.insert(1, bundle_of(LONG[1])["events"][1]), 2),
    "a truncation": (lambda events: events.pop(), 4),
    "nothing left": (lambda events: events.clear(), 1),
    "something more": (lambda events: events.append(appended(events)), 5),
}


def appended(events: list[dict[str, Any]]) -> dict[str, Any]:
    event = store(RUN, 5, bytes.fromhex(events[-1]["hash"]), ENDED, RunFinished("error", "late"))
    members: dict[str, Any] = bundle_of([event])["events"][0]
    return members


@pytest.mark.parametrize("name", TAMPERINGS)
def test_the_verifier_finds_the_same_fault_at_the_same_event(name: str, tmp_path: Path) -> None:
    tamper, number = TAMPERINGS[name]
    bundle = bundle_of(LONG[0])
    tamper(bundle["events"])
    status, said = verified(bundle, tmp_path)
    assert status == 1
    assert said.startswith(f"event {number}: ")


def test_the_verifier_finds_a_log_that_was_rewritten_with_its_head(tmp_path: Path) -> None:
    """Or cut off and given another: only a head from elsewhere tells."""
    head = LONG[0][-1].hash.hex()
    for false in (LONG[1], LONG[0][:3]):
        assert verified(bundle_of(false), tmp_path) == (0, "ok")
        assert verified(bundle_of(false), tmp_path, head)[0] == 1


def test_the_verifier_finds_the_log_of_another_run(tmp_path: Path) -> None:
    status, said = verified({**bundle_of(LONG[0]), "run_id": "another"}, tmp_path)
    assert (status, said) == (1, "event 1: its text belongs elsewhere")


def names_of(kind: type[msgspec.Struct]) -> list[str]:
    return [field.encode_name for field in msgspec.structs.fields(kind)]


def test_the_catalogue_has_every_event_with_its_members() -> None:
    documented = {quoted(kind)[0]: quoted(members) for kind, _, members in rows("events")}
    assert documented == {kind.__struct_config__.tag: names_of(kind) for kind in get_args(Event)}


def test_the_catalogue_has_the_members_of_every_object() -> None:
    documented = {name: quoted(members) for name, members in rows("objects")}
    assert documented == {
        "step": names_of(Step),
        "call": names_of(ToolCall),
        "permissions": names_of(Permissions),
        "rule": names_of(ArgumentRule),
        "reserved": names_of(Reserved),
        "usage": names_of(Usage),
    }


def test_the_table_of_resuming_has_every_event() -> None:
    assert {quoted(last)[0] for last, _ in rows("resuming")} == {
        kind.__struct_config__.tag for kind in get_args(Event)
    }


@pytest.mark.parametrize("kind", get_args(Event))
def test_a_member_that_an_older_event_does_not_have_has_its_empty_value(kind: type[msgspec.Struct]) -> None:
    """What the page promises of versions: members are added with a default, and it is empty."""
    for field in msgspec.structs.fields(kind):
        if field.default is not msgspec.NODEFAULT:
            assert field.default in (None, False, 0, "", ())


def test_the_first_events_that_were_ever_written_still_read() -> None:
    text = '{"v":1,"run":"r","seq":1,"at":"2026-11-22T09:30:00Z","event":%s}'
    body = '{"type":"run.started","goal":"g","context":null,"tools":[],"unknown":1}'
    assert read(StoredEvent(1, text % body, GENESIS, GENESIS)).event == RunStarted("g", None, ())
