"""What has to be true after any crash: nothing lost, nothing silently done twice, every chain whole."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any

from crash.client import Acknowledged
from crash.ledger import Entry
from crash.model import digest
from msgspec import Struct

from app.agent.events import (
    ModelDecided,
    RunFinished,
    RunStarted,
    ToolCompleted,
)
from app.runs.chain import Head, verify
from app.runs.codec import read_all
from app.runs.models import FINISHED, StoredEvent

MAY_FAIL = {"may-fail": "in_doubt"}
MAY_BE_CANCELLED = {"cancel-1", "cancel-2", "cancel-3"}


class KeptRun(Struct):
    """A run as its rows have it."""

    run_id: str
    status: str
    head_seq: int
    head_hash: bytes
    steps: int
    events: list[StoredEvent]

    @property
    def nonce(self) -> str:
        opening = read_all(self.events[:1])[0]
        assert isinstance(opening, RunStarted)
        return str(json.loads(opening.goal)["nonce"])

    @property
    def turns(self) -> dict[str, int]:
        """Return the turn of each call by its name."""
        opening = read_all(self.events[:1])[0]
        assert isinstance(opening, RunStarted)
        turns = json.loads(opening.goal)["turns"]
        return {call["arguments"].get("call", ""): n for n, turn in enumerate(turns, 1) for call in turn}

    @property
    def script(self) -> list[dict[str, Any]]:
        opening = read_all(self.events[:1])[0]
        assert isinstance(opening, RunStarted)
        return [call for turn in json.loads(opening.goal)["turns"] for call in turn]


class Contents(Struct):
    """All that a database holds: runs by id, and notes as (proposal, number, note, run, step)."""

    runs: dict[str, KeptRun]
    notes: list[tuple[str, int, str, str, int]]


class Crash(Struct):
    """What a crash left behind: the database, how many entries the ledger had, and what had been acknowledged."""

    contents: Contents
    entries: int
    acknowledged: list[Acknowledged]


RUNS = "SELECT id, status, head_seq, head_hash, steps FROM runs"
EVENTS = "SELECT run_id, seq, body, prev_hash, hash FROM events ORDER BY run_id, seq"
NOTES = "SELECT proposal_id, number, note, run_id, step FROM notes ORDER BY proposal_id, number"


def contents(execute: Any) -> Contents:
    """Read everything with a function that runs a SELECT and returns its rows."""
    events: dict[str, list[StoredEvent]] = defaultdict(list)
    for run_id, seq, body, prev_hash, own in execute(EVENTS):
        events[run_id].append(StoredEvent(seq, body, bytes(prev_hash), bytes(own)))
    runs = {
        run_id: KeptRun(run_id, status, seq, bytes(own), steps, events.pop(run_id, []))
        for run_id, status, seq, own, steps in execute(RUNS)
    }
    assert not events, "there are events without a run"
    return Contents(runs, [tuple(row) for row in execute(NOTES)])


def unrepeatable(then: Contents) -> set[str]:
    """Return the calls and turns that must never be made again: what was durably completed or decided."""
    names = set()
    for run in then.runs.values():
        nonce, calls = run.nonce, run.script
        for event in read_all(run.events):
            if isinstance(event, ToolCompleted):
                arguments = calls[event.step.step - 1]["arguments"]
                names.add(str(arguments.get("call", arguments.get("note"))))
            elif isinstance(event, ModelDecided):
                names.add(f"{nonce}/turn{event.turn}")
    return names


def problems(
    now: Contents,
    entries: Sequence[Entry],
    acknowledged: Sequence[Acknowledged],
    keys: dict[str, set[str]],
    crashes: Sequence[Crash],
) -> list[str]:
    """Return what is wrong, each as "kind: sentence".

    Kinds: lost, missing (an acknowledged run), repeated, chain, notes, stuck, wrong.
    """
    found = []
    for run in now.runs.values():
        found += _run_problems(run)
    found += _acknowledged_problems(now, acknowledged, keys)
    found += _effect_problems(now, entries)
    found += _note_problems(now)
    found += _asked_again(now, entries)
    for crash in crashes:
        then, count = crash.contents, crash.entries
        lost = [run.nonce for run_id, run in then.runs.items() if run_id not in now.runs]
        found += [f"lost: run {nonce} was there at the crash" for nonce in lost]
        for run_id, run in then.runs.items():
            if run_id in now.runs and now.runs[run_id].events[: len(run.events)] != run.events:
                found.append(f"chain: run {run.nonce}: events that were durable have changed")
        for promise in crash.acknowledged:
            kept = then.runs.get(promise.answer["run_id"])
            if kept is None or (promise.status == 200 and kept.status not in FINISHED):
                found.append(f"missing: {promise.answer['run_id']} was answered with {promise.status} too soon")
        done = unrepeatable(then)
        again = {str(entry.get("call")) for entry in entries[count:] if entry["kind"] != "attempt"} & done
        found += [
            f"repeated: {name} was durably over before the crash, and was done again" for name in sorted(again)
        ]
    return found


def _run_problems(run: KeptRun) -> list[str]:
    found = []
    fault = verify(run.events, run.run_id, Head(run.head_hash, run.head_seq))
    if fault is not None:
        found.append(f"chain: run {run.nonce} is broken at event {fault.seq}: {fault.problem}")
    events = read_all(run.events)
    ends = [event for event in events if isinstance(event, RunFinished)]
    steps = [event.step for event in events if isinstance(event, ToolCompleted)]
    if len(ends) != 1 or events[-1] is not ends[0]:
        return [
            *found,
            f"stuck: run {run.nonce} has not ended once: {run.status}, {len(ends)} ends, {len(events)} events",
        ]
    end = ends[0]
    if end.status != run.status:
        found.append(f"wrong: the row of {run.nonce} says {run.status}, its journal {end.status}")
    if [step.step for step in steps] != list(range(1, len(steps) + 1)) or run.steps != len(steps):
        found.append(
            f"wrong: the steps of {run.nonce} are {[step.step for step in steps]}, its row counts {run.steps}"
        )
    for step, call in zip(steps, run.script, strict=False):
        if (step.tool, step.input) != (call["tool"], call["arguments"]):
            found.append(f"wrong: step {step.step} of {run.nonce} is not the call of the script")
        wanted = {"number": call["arguments"].get("number", -1) + 1} if "number" in call["arguments"] else {}
        if step.error is None and step.output is not None:
            found += [
                f"wrong: {run.nonce}, step {step.step}: {k} is {step.output[k]}"
                for k, v in wanted.items()
                if step.output[k] != v
            ]
    if end.status == "success":
        if len(steps) != len(run.script):
            found.append(f"wrong: {run.nonce} succeeded with {len(steps)} steps of {len(run.script)}")
        if end.output != f"done {digest([(step.output, step.error) for step in steps])}":
            found.append(f"wrong: the answer of {run.nonce} is not of the outputs that are stored")
    elif not (
        (end.status == "cancelled" and run.nonce in MAY_BE_CANCELLED)
        or (end.status == "error" and MAY_FAIL.get(run.nonce) == end.reason)
    ):
        found.append(f"wrong: {run.nonce} ended as {end.status}: {end.reason} {end.output}")
    return found


def _acknowledged_problems(
    now: Contents, acknowledged: Sequence[Acknowledged], keys: dict[str, set[str]]
) -> list[str]:
    found = []
    for promise in acknowledged:
        status, answer = promise.status, promise.answer
        run = now.runs.get(answer["run_id"])
        if run is None:
            found.append(f"missing: the run {answer['run_id']} was acknowledged with {status} and is missing")
        elif status == 200:
            end = read_all(run.events)[-1]
            if not isinstance(end, RunFinished) or end.output != answer["output"]:
                found.append(f"wrong: the caller of {run.nonce} was told another output than what is stored")
            if len(answer["trace"]) != run.steps:
                found.append(
                    f"wrong: the caller of {run.nonce} was told of {len(answer['trace'])} steps of {run.steps}"
                )
    found += [f"repeated: the key {key} has made {len(ids)} runs" for key, ids in keys.items() if len(ids) != 1]
    # a key also guards what nobody was told of
    nonces = Counter(run.nonce for run in now.runs.values())
    found += [f"repeated: {count} runs of {nonce}" for nonce, count in nonces.items() if count > 1]
    return found


def _effect_problems(now: Contents, entries: Sequence[Entry]) -> list[str]:
    found = []
    by_call: dict[str, list[Entry]] = defaultdict(list)
    for entry in entries:
        by_call[str(entry.get("call"))].append(entry)
    for name, of_call in by_call.items():
        kinds = Counter(entry["kind"] for entry in of_call)
        if kinds["unsafe"] > 1:
            found.append(f"repeated: {name}: the unsafe effect happened {kinds['unsafe']} times")
        if len({entry["key"] for entry in of_call if entry["kind"] == "keyed"}) > 1:
            found.append(f"repeated: {name}: the keyed effect happened under several keys")
    keys: dict[str, set[str]] = defaultdict(set)
    for entry in entries:
        if entry["kind"] == "keyed":
            keys[entry["key"]].add(entry["call"])
    found += [
        f"wrong: the key {key} was given to {len(names)} calls" for key, names in keys.items() if len(names) > 1
    ]
    for run in now.runs.values():
        for event in read_all(run.events):
            if isinstance(event, ToolCompleted) and event.step.error is None:
                name = run.script[event.step.step - 1]["arguments"].get("call")
                if name is not None and not any(e["kind"] not in ("ask", "attempt") for e in by_call[name]):
                    found.append(f"lost: {name}: completed, and its effect never happened")
    return found


def _asked_again(now: Contents, entries: Sequence[Entry]) -> list[str]:
    """Find model calls that were paid twice: asked for after something had followed from their answer."""
    found = []
    for run in now.runs.values():
        turn_of = run.turns
        reached = 0
        for entry in entries:
            name = str(entry.get("call"))
            if entry["kind"] == "ask" and entry["nonce"] == run.nonce:
                if entry["turn"] <= reached:
                    found.append(f"repeated: {name} was asked again after its answer had been used")
                reached = max(reached, entry["turn"] - 1)
            elif name in turn_of:
                reached = max(reached, turn_of[name])
    return found


def _note_problems(now: Contents) -> list[str]:
    wanted = Counter(
        (run.run_id, event.step.step, event.step.input["note"])
        for run in now.runs.values()
        for event in read_all(run.events)
        if isinstance(event, ToolCompleted) and event.step.tool == "governance_note" and event.step.error is None
    )
    there = Counter((run_id, step, text) for _, _, text, run_id, step in now.notes)
    found = [
        f"notes: {key} is there {there[key]} times, and recorded {wanted[key]} times"
        for key in there | wanted
        if there[key] != wanted[key]
    ]
    numbers: dict[str, list[int]] = defaultdict(list)
    for proposal, number, *_ in now.notes:
        numbers[proposal].append(number)
    found += [
        f"notes: those of {p} are numbered {n}" for p, n in numbers.items() if n != list(range(1, len(n) + 1))
    ]
    return found
