"""The chain of a run's events: how each is bound to all before it, and where one is broken (`docs/journal.md`)."""

from __future__ import annotations

import json
from collections.abc import Iterable
from hashlib import sha256
from typing import Final

from msgspec import Struct

from .models import StoredEvent

GENESIS: Final = bytes(32)
"""What stands in for the hash of the event before the first."""


def link(prev_hash: bytes, body: bytes) -> bytes:
    """Return the hash of an event: SHA-256 of the 32 bytes of the hash before it and its stored UTF-8 text."""
    return sha256(prev_hash + body).digest()


class Head(Struct, frozen=True):
    """Where a chain is said to end: the hash of its last event and, if it is known, that event's number."""

    hash: bytes
    seq: int | None = None


class Fault(Struct, frozen=True):
    """The first place where a log is not one chain: the events before `seq` are bound to each other, `seq` is not.

    What was changed, put in, taken out or moved at `seq` shows there. If whoever did it computed the hash of what
    he wrote, that became part of the chain, and `seq` is the first old event after it, which is bound to another.
    `problem` ends a sentence that begins with the event: "its text does not match its hash".
    """

    seq: int
    problem: str


class ChainCheck:
    """Checks the events of one run, one after the other, in constant memory; of no use after the first fault.

    `seq` and `hash` are those of the last event that was in order. Each of `heads` is where the chain has to end;
    without any, a chain that lost its last events looks like one that never had them.
    """

    __slots__ = ("_heads", "_run_id", "hash", "seq")

    def __init__(self, run_id: str, *heads: Head) -> None:
        self.seq = 0
        self.hash = GENESIS
        self._run_id = run_id
        self._heads = heads

    def take(self, event: StoredEvent) -> Fault | None:
        """Take the next event; return the fault if it is not the one that belongs here."""
        seq = self.seq + 1
        problem = self._problem(event, seq)
        if problem:
            return Fault(seq, problem)
        self.seq = seq
        self.hash = event.hash
        return None

    def take_all(self, events: Iterable[StoredEvent]) -> Fault | None:
        """Take all events that there are; return the first fault in them or at their end."""
        for event in events:
            fault = self.take(event)
            if fault:
                return fault
        return self.end()

    def end(self) -> Fault | None:
        """Return the fault if the chain must not end here. Every run has a first event."""
        if self.seq == 0:
            return Fault(1, "it is missing; there are no events")
        for head in self._heads:
            if head.hash != self.hash or (head.seq or 0) > self.seq:
                meant = "another" if head.seq is None else f"event {head.seq}"
                return Fault(self.seq + 1, f"it is missing; the events end before it, and the head is {meant}")
        return None

    def _problem(self, event: StoredEvent, seq: int) -> str | None:
        if event.seq != seq:
            return f"{'it is missing; ' if event.seq > seq else ''}event {event.seq} stands in its place"
        if event.prev_hash != self.hash:
            return "its prev_hash is not " + ("32 zero bytes" if seq == 1 else f"the hash of event {seq - 1}")
        try:
            if event.hash != link(self.hash, event.body.encode()):
                return "its text does not match its hash"
        except (UnicodeEncodeError, AttributeError):  # what a database may hold in the place of a text
            return "its text is not UTF-8"
        return _misnamed(event.body, self._run_id, seq) or self._beyond(event, seq)

    def _beyond(self, event: StoredEvent, seq: int) -> str | None:
        for head in self._heads:
            if head.hash == self.hash:
                return "it comes after the head"
            if head.seq == seq and head.hash != event.hash:
                return "its hash is not that of the head"
        return None


def verify(events: Iterable[StoredEvent], run_id: str, head: Head | None = None) -> Fault | None:
    """Return the first fault in all the events of a run, in the order they are given; None if there is none.

    Found are events that were changed, taken out, put in, moved, doubled or brought from another run. That the
    last ones are missing is found if `head` is given.
    """
    return ChainCheck(run_id, *([head] if head else [])).take_all(events)


def _misnamed(body: str, run_id: str, seq: int) -> str | None:
    """Say how the envelope contradicts where the event was found."""
    try:
        envelope = json.loads(body, parse_int=_integer)
    except (ValueError, RecursionError):
        return "its text is not JSON"
    if not isinstance(envelope, dict):
        return "its text is not an envelope"
    if envelope.get("run") != run_id:
        return "its text belongs to another run"
    found = envelope.get("seq")
    if type(found) is not int or found != seq:
        return "its text has another number"
    return None


def _integer(digits: str) -> int | str:
    # numbers of events are short; Python refuses to read very long ones, and would take long to
    return int(digits) if len(digits) < 20 else digits
