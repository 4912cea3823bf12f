"""The bundle: an exported run that reads back byte for byte, and a clear word about any file that is none."""

from __future__ import annotations

import asyncio
import io
import json
import tracemalloc
from collections.abc import AsyncIterator, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.errors import InvalidBundleError
from app.runs.bundle import Bundle, write_bundle
from app.runs.chain import GENESIS, Head, link, verify
from app.runs.models import Run, StoredEvent

RUN = "019aab7e-5c1b-7e07-9d5c-3f0a9a1b2c3d"
AT = datetime(2026, 11, 22, tzinfo=UTC)
TEXTS = {
    "line separators": "a\u2028b\u2029c\u0085d\x0be",
    "beyond the basic plane": "\U0001f600\U0010ffff",
    "quotes and escapes": '\\"\\\\\\u0000\\n\t',
    "2^53+1": f'{{"n":{2**53 + 1}}}',
    "4,300 digits": f'{{"n":{"9" * 4300}}}',
    "256 KiB": "\u00e9\\" * 131_072,
}


def stored(texts: Iterable[str]) -> list[StoredEvent]:
    events: list[StoredEvent] = []
    for number, text in enumerate(texts, 1):
        prev_hash = events[-1].hash if events else GENESIS
        body = json.dumps({"v": 1, "run": RUN, "seq": number, "event": text}, ensure_ascii=False)
        events.append(StoredEvent(number, body, prev_hash, link(prev_hash, body.encode())))
    return events


def run_of(events: list[StoredEvent], **changes: Any) -> Run:
    values: dict[str, Any] = dict.fromkeys(Run.__struct_fields__)
    values |= {"run_id": RUN, "status": "success", "tenant": "default", "cancel_requested": False}
    values |= {"events": len(events), "head_hash": events[-1].hash if events else GENESIS}
    return Run(**values | {"steps": 0, "priority": 0, "created_at": AT} | changes)


async def one_by_one(events: Iterable[StoredEvent]) -> AsyncIterator[StoredEvent]:
    for event in events:
        yield event


def exported(events: list[StoredEvent], **changes: Any) -> str:
    out = io.StringIO()
    asyncio.run(write_bundle(out, run_of(events, **changes), one_by_one(events)))
    return out.getvalue()


def written(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


@pytest.mark.parametrize("name", TEXTS)
def test_every_text_comes_back_byte_for_byte(name: str, tmp_path: Path) -> None:
    events = stored([TEXTS[name], "next"])
    content = exported(events)
    bundle = Bundle(written(tmp_path / "run.json", content))
    assert list(bundle.events()) == events
    assert [item["body"] for item in json.loads(content)["events"]] == [event.body for event in events]
    assert verify(bundle.events(), bundle.header.run_id, bundle.header.head) is None


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"])), max_size=5))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_any_text_comes_back(tmp_path: Path, texts: list[str]) -> None:
    events = [StoredEvent(number, text, GENESIS, GENESIS) for number, text in enumerate(texts, 1)]
    assert list(Bundle(written(tmp_path / "run.json", exported(events))).events()) == events


def test_it_is_one_json_document_with_the_members_that_were_promised() -> None:
    (event,) = events = stored(["é"])
    content = exported(events, tenant="desk", status="error")
    assert content.isascii()
    assert json.loads(content) == {
        "format": "llm-agent-core.run/1",
        "tenant": "desk",
        "run_id": RUN,
        "status": "error",
        "head_seq": 1,
        "head_hash": event.hash.hex(),
        "events": [{"seq": 1, "prev_hash": "00" * 32, "hash": event.hash.hex(), "body": event.body}],
    }


LAYOUTS = {
    "indented": {"indent": 4},
    "sorted": {"sort_keys": True},
    "without blanks": {"separators": (",", ":")},
    "in UTF-8": {"ensure_ascii": False},
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_any_layout_of_the_document_will_do(layout: str, tmp_path: Path) -> None:
    events = stored(TEXTS.values())
    document = {**json.loads(exported(events)), "a later member": [1.5e300, {"deep": [None]}]}
    bundle = Bundle(written(tmp_path / "run.json", json.dumps(document, **LAYOUTS[layout])))  # type: ignore[arg-type]
    assert list(bundle.events()) == events
    assert bundle.header.head == Head(events[-1].hash, len(events))


def test_it_is_read_in_pieces_wherever_they_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    events = stored(["a\U0001f600", "b"])
    document = exported(events).replace('"format"', '"x": -1.5e-3, "y": 1e+25, "z": [10.25, true], "format"')
    path = written(tmp_path / "run.json", document)
    for piece in range(1, 40):
        monkeypatch.setattr("app.runs.scanner._PIECE", piece)
        assert list(Bundle(path).events()) == events


def document(**changes: Any) -> dict[str, Any]:
    return {**json.loads(exported(stored(["a", "b"]))), **changes}


def changed_event(**changes: Any) -> dict[str, Any]:
    whole = document()
    whole["events"][1].update(changes)
    return whole


NOT_BUNDLES: dict[str, tuple[object, str]] = {
    "nothing": (b"", "'{' is expected"),
    "no JSON": (b"hello", "at character 0, '{' is expected"),
    "an array": ([], "'{' is expected"),
    "binary": (b"\xff\xfe\x00{", "not UTF-8"),
    "latin-1": (json.dumps(document(status="é"), ensure_ascii=False).encode("latin-1"), "not UTF-8"),
    "half a document": (json.dumps(document())[:-80], "at character"),
    "its last brace missing": (json.dumps(document())[:-1], "',' is expected"),
    "two documents": (json.dumps(document()) * 2, "nothing more is expected"),
    "another format": (document(format="llm-agent-core.run/2"), "$.format"),
    "no events": ({k: v for k, v in document().items() if k != "events"}, "no member 'events'"),
    "no head": ({k: v for k, v in document().items() if k != "head_hash"}, "head_hash"),
    "events that are no list": (document(events={}), "'[' is expected"),
    "an event that is no object": (document(events=[1]), "event 1 of it: Expected `object`"),
    "a member twice": (json.dumps(document())[:-1] + ', "events": []}', "not there before"),
    "a member of an event twice": (json.dumps(document()).replace('"seq": 2', '"seq": 2, "seq": 2'), "twice"),
    "a hash in capitals": (changed_event(hash="A" * 64), "event 2 of it: Expected `str` matching"),
    "a hash that is short": (changed_event(prev_hash="0" * 63), "$.prev_hash"),
    "a hash with a line end": (changed_event(hash="0" * 64 + "\n"), "$.hash"),
    "a number as text": (changed_event(seq="2"), "event 2 of it: Expected `int`"),
    "a body that is no text": (changed_event(body={"v": 1}), "$.body"),
    "a long number": (changed_event(seq=10**30), "event 2 of it"),
    "NaN": (changed_event(seq=float("nan")), "NaN is no JSON"),
    "deep nesting": (b'{"format": ' + b"[" * 200_000, "recursion"),
    "an endless value": (b'{"format": "' + b"x" * 9_000_000, "a value is too long"),
    "an endless event": (changed_event(body="x" * 9_000_000), "a value is too long"),
    "endless blanks": (b" " * 9_000_000, "'{' is expected"),
}


@pytest.mark.parametrize("name", NOT_BUNDLES)
def test_a_file_that_is_no_bundle_is_a_clear_error(name: str, tmp_path: Path) -> None:
    content, reason = NOT_BUNDLES[name]
    path = written(tmp_path / "run.json", content if isinstance(content, str | bytes) else json.dumps(content))
    with pytest.raises(InvalidBundleError) as raised:
        list(Bundle(path).events())
    assert str(raised.value).startswith(f"{path} is no bundle")
    assert reason in str(raised.value)
    assert len(str(raised.value)) < 300 + len(str(path))


@pytest.mark.parametrize("padding", [0, 70_000, 200_000])
def test_the_place_where_it_stops_being_a_bundle_is_told(padding: int, tmp_path: Path) -> None:
    content = " " * padding + '{"format": [1, 2, nope]}'
    path = written(tmp_path / "run.json", content)
    with pytest.raises(InvalidBundleError, match=f"at character {content.index('nope')}, "):
        Bundle(path)
    content = " " * padding + '{"format" 1}'
    with pytest.raises(InvalidBundleError, match=f"at character {content.index('1')}, ':' is expected"):
        Bundle(written(path, content))


def test_a_file_that_cannot_be_read_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(InvalidBundleError, match="There is no file"):
        Bundle(tmp_path / "nothing.json")
    with pytest.raises(InvalidBundleError, match="is no file"):
        Bundle(tmp_path)


def test_a_bundle_larger_than_memory_can_be_written_and_read(tmp_path: Path) -> None:
    """20 MB here, of which never more than a few are held."""
    (event,) = stored(["x" * 200_000])
    path = tmp_path / "run.json"
    tracemalloc.start()
    with path.open("w") as out:
        asyncio.run(write_bundle(out, run_of([event]), one_by_one(event for _ in range(100))))
    assert sum(1 for _ in Bundle(path).events()) == 100
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 5_000_000
