"""The chain: whatever happens to a stored log is found, and where it happened."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from app.agent.events import RunFinished
from app.runs.chain import GENESIS, Fault, Head, link, verify
from app.runs.codec import store
from app.runs.models import StoredEvent

RUN = "019aab7e-5c1b-7e07-9d5c-3f0a9a1b2c3d"
AT = datetime(2026, 11, 22, tzinfo=UTC)


def chain(texts: list[str], run_id: str = RUN) -> list[StoredEvent]:
    events: list[StoredEvent] = []
    for number, text in enumerate(texts, 1):
        prev_hash = events[-1].hash if events else GENESIS
        events.append(store(run_id, number, prev_hash, AT, RunFinished("success", text)))
    return events


def forged(event: StoredEvent, prev_hash: bytes, **changes: Any) -> StoredEvent:
    """The event with other contents and everything in it computed anew."""
    changed = replace(event, prev_hash=prev_hash, **changes)
    return replace(changed, hash=link(prev_hash, changed.body.encode()))


def found_at(events: list[StoredEvent], head: Head | None = None) -> int | None:
    fault = verify(iter(events), RUN, head)
    return fault.seq if fault else None


chains = st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=20), min_size=1, max_size=8).map(
    chain
)
long_chains = chains.filter(lambda events: len(events) > 1)


def heads(events: list[StoredEvent]) -> list[Head]:
    return [Head(events[-1].hash), Head(events[-1].hash, events[-1].seq)]


def test_an_events_hash_is_that_of_the_hash_before_it_and_its_text() -> None:
    first, second = chain(["a", "ä"])
    assert first.prev_hash == bytes(32)
    assert first.hash == sha256(bytes(32) + first.body.encode("utf-8")).digest()
    assert second.prev_hash == first.hash
    assert second.hash == sha256(first.hash + second.body.encode("utf-8")).digest()


@given(chains)
def test_a_chain_that_nobody_touched_is_in_order(events: list[StoredEvent]) -> None:
    for head in [None, *heads(events)]:
        assert verify(iter(events), RUN, head) is None


@given(chains, st.data())
def test_an_edit_of_any_byte_is_found_where_it_is(events: list[StoredEvent], data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(events) - 1))
    name = data.draw(st.sampled_from(["body", "hash", "prev_hash"]))
    value = getattr(events[place], name)
    content = bytearray(value.encode() if name == "body" else value)
    at = data.draw(st.integers(0, len(content) - 1))
    content[at] ^= data.draw(st.integers(1, 255))
    changed = content.decode("utf-8", "surrogateescape") if name == "body" else bytes(content)
    events[place] = replace(events[place], **{name: changed})
    for head in [None, Head(events[-1].hash)]:
        assert found_at(events, head) == place + 1


@given(long_chains, st.data())
def test_a_deletion_is_found_at_the_first_event_that_is_gone(
    events: list[StoredEvent], data: st.DataObject
) -> None:
    first = data.draw(st.integers(0, len(events) - 2))
    after = data.draw(st.integers(first + 1, len(events) - 1))
    del events[first:after]
    assert found_at(events) == first + 1


@given(long_chains, st.data())
def test_a_swap_is_found_at_the_first_event_that_is_not_in_its_place(
    events: list[StoredEvent], data: st.DataObject
) -> None:
    first = data.draw(st.integers(0, len(events) - 2))
    second = data.draw(st.integers(first + 1, len(events) - 1))
    events[first], events[second] = events[second], events[first]
    assert found_at(events) == first + 1


@given(chains, chains, st.data())
def test_an_insertion_is_found_where_it_is(
    events: list[StoredEvent], others: list[StoredEvent], data: st.DataObject
) -> None:
    """Of an event of this run, or of another one."""
    foreign = [replace(event, body=event.body.replace(RUN, "another")) for event in others]
    inserted = data.draw(st.sampled_from([*events, *foreign]))
    place = data.draw(st.integers(0, len(events)))
    doubled = place < len(events) and inserted is events[place]  # before itself or after is the same
    events.insert(place, inserted)
    assert found_at(events) == place + 1 + doubled


@given(long_chains, st.data())
def test_truncation_is_found_with_the_head_at_the_first_event_that_is_gone(
    events: list[StoredEvent], data: st.DataObject
) -> None:
    left = data.draw(st.integers(1, len(events) - 1))
    for head in heads(events):
        assert found_at(events[:left], head) == left + 1
    assert found_at(events[:left]) is None  # nothing in it says that there was more


def test_a_run_without_events_is_none() -> None:
    assert verify([], RUN) == Fault(1, "it is missing; there are no events")


@given(long_chains, st.data())
def test_a_forged_event_is_found_at_the_first_one_that_is_bound_to_the_old(
    events: list[StoredEvent], data: st.DataObject
) -> None:
    place = data.draw(st.integers(0, len(events) - 2))
    body = events[place].body.replace("success", "error")
    events[place] = forged(events[place], events[place].prev_hash, body=body)
    assert found_at(events) == place + 2


def rewritten(events: list[StoredEvent], place: int) -> list[StoredEvent]:
    """What an insider does: one event changed, and every hash from there on computed anew."""
    kept = events[:place]
    for event in events[place:]:
        body = event.body.replace("success", "error") if event.seq == place + 1 else event.body
        kept.append(forged(event, kept[-1].hash if kept else GENESIS, body=body))
    return kept


@given(chains, st.data())
def test_a_log_rewritten_to_its_end_is_told_only_by_a_head_that_was_kept(
    events: list[StoredEvent], data: st.DataObject
) -> None:
    false = rewritten(events, data.draw(st.integers(0, len(events) - 1)))
    assert found_at(false) is None
    assert found_at(false, Head(events[-1].hash, len(events))) == len(events)
    assert found_at(false, Head(events[-1].hash)) == len(events) + 1  # for all it says, more is to come


@given(long_chains, st.data())
def test_what_was_added_after_the_head_is_found(events: list[StoredEvent], data: st.DataObject) -> None:
    last = data.draw(st.integers(1, len(events) - 1))
    for head in heads(events[:last]):
        assert found_at(events, head) == last + 1


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        (f'{{"v":1,"run":"{RUN}","seq":2}}', "its text has another number"),
        (f'{{"v":1,"run":"{RUN}","seq":1.0}}', "its text has another number"),
        (f'{{"v":1,"run":"{RUN}","seq":true}}', "its text has another number"),
        (f'{{"v":1,"run":"{RUN}","seq":"1"}}', "its text has another number"),
        (f'{{"v":1,"run":"{RUN}"}}', "its text has another number"),
        ('{"v":1,"run":"another","seq":1}', "its text belongs to another run"),
        ('{"v":1,"seq":1}', "its text belongs to another run"),
        ("[]", "its text is not an envelope"),
        ("", "its text is not JSON"),
        ("[" * 100_000, "its text is not JSON"),
        (f'{{"run":"{RUN}","seq":1,"event":"\ud800"}}', "its text is not UTF-8"),
    ],
)
def test_a_text_that_is_not_this_runs_is_found_whatever_its_hash(body: str, problem: str) -> None:
    event = StoredEvent(1, body, GENESIS, link(GENESIS, body.encode("utf-8", "surrogatepass")))
    assert verify([event], RUN) == Fault(1, problem)


@pytest.mark.parametrize("digits", [str(2**53 + 1), "9" * 4300, "9" * 100_000])
def test_integers_of_any_length_are_nothing_to_it(digits: str) -> None:
    body = f'{{"run":"{RUN}","seq":1,"event":{{"n":{digits}}}}}'
    assert verify([StoredEvent(1, body, GENESIS, link(GENESIS, body.encode()))], RUN) is None


def test_the_problem_says_what_stands_in_the_place() -> None:
    one, two, three = chain(["a", "b", "c"])
    other = replace(one, prev_hash=b"")
    assert verify([one, three], RUN) == Fault(2, "it is missing; event 3 stands in its place")
    assert verify([one, one], RUN) == Fault(2, "event 1 stands in its place")
    assert verify([other], RUN) == Fault(1, "its prev_hash is not 32 zero bytes")
    assert verify([one, replace(two, prev_hash=GENESIS)], RUN) == Fault(
        2, "its prev_hash is not the hash of event 1"
    )
    assert verify([replace(one, hash=GENESIS)], RUN) == Fault(1, "its text does not match its hash")
    assert verify([one, two], RUN, Head(one.hash)) == Fault(2, "it comes after the head")
    assert verify([one, two], RUN, Head(one.hash, 2)) == Fault(2, "it comes after the head")
    assert verify([one], RUN, Head(two.hash, 1)) == Fault(1, "its hash is not that of the head")
    assert verify([one], RUN, Head(two.hash, 2)) == Fault(
        2, "it is missing; the events end before it, and the head is event 2"
    )
    assert verify([one], RUN, Head(one.hash, 2)) == Fault(
        2, "it is missing; the events end before it, and the head is event 2"
    )
    assert verify([one], RUN, Head(two.hash)) == Fault(
        2, "it is missing; the events end before it, and the head is another"
    )


def test_a_log_of_any_length_takes_no_more_memory() -> None:
    def endless() -> Iterator[StoredEvent]:
        prev_hash = GENESIS
        for number in range(1, 3_001):
            event = store(RUN, number, prev_hash, AT, RunFinished("success", "x" * 10_000))
            prev_hash = event.hash
            yield event

    tracemalloc.start()
    assert verify(endless(), RUN) is None
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1_000_000
