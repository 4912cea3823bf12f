"""Ten scenarios that mix all effect classes: what a caller does while the processes die under it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from threading import Thread
from time import monotonic, sleep
from typing import Any, TypeAlias

from crash.client import Caller, UnansweredError
from crash.ledger import Ledger
from crash.model import script

Call: TypeAlias = dict[str, Any]
Scenario: TypeAlias = Callable[[Caller, Ledger], None]

BEYOND_DOUBLES = 2**53 + 1
HUGE = 10**299 + 7
PROPOSAL = "PROP-2025-001"


def note(proposal: str = PROPOSAL) -> Call:
    return {"tool": "governance_note", "action": "add", "proposal_id": proposal}


def call(tool: str, **arguments: object) -> Call:
    return {"tool": tool, **arguments}


def goal(nonce: str, *turns: list[Call]) -> dict[str, Any]:
    return {"goal": script(nonce, *turns)}


def singles(caller: Caller, ledger: Ledger) -> None:
    """One step of each class, one request after the other."""
    tools = ["pure_sync", "pure_async", "read_world", "keyed_post", "unsafe_post", "unsafe_slow"]
    for name in tools:
        caller.post("run-task", goal(f"single-{name}", [call(name)]))
    caller.post("run-task", goal("single-note", [note()]))


def chain(caller: Caller, ledger: Ledger) -> None:
    """One call after the other, each a turn of its own."""
    steps = [
        call("pure_sync"), note(), call("keyed_post"), call("unsafe_post"), call("read_world"),
        note(), call("unsafe_raising"), call("math", expression="6*7"), call("unsafe_slow"),
    ]  # fmt: skip
    caller.post("run-task", goal("chain", *[[step] for step in steps]))


def turns(caller: Caller, ledger: Ledger) -> None:
    """Several calls a turn."""
    caller.post(
        "run-task",
        goal(
            "turns",
            [call("pure_sync"), note(), call("unsafe_post"), call("keyed_post")],
            [note(), note("PROP-2025-002"), call("read_world")],
            [call("unsafe_slow_sync"), call("pure_async"), call("keyed_post"), note()],
        ),
    )


def twenty(caller: Caller, ledger: Ledger) -> None:
    """Twenty pure steps, waited for and not, and an effect behind them."""
    caller.post("run-task", goal("twenty", [call("pure_sync") for _ in range(20)]))
    caller.post("runs", goal("twenty-more", *[[call("pure_async")] for _ in range(18)], [call("unsafe_post")]))


def idempotent(caller: Caller, ledger: Ledger) -> None:
    """The same request again and again, at once and later, until it is answered."""
    later = goal("idem-runs", [call("unsafe_post"), note()])
    waited = goal("idem-task", [note(), call("keyed_post")], [call("unsafe_slow")])
    _at_once(
        *[lambda: caller.post("runs", later, key="one") for _ in range(4)],
        *[lambda: caller.post("run-task", waited, key="two") for _ in range(4)],
    )
    caller.post("runs", later, key="one")
    caller.post("run-task", waited, key="two")


def background(caller: Caller, ledger: Ledger) -> None:
    """Runs that nobody waits for, some more urgent than others."""
    for number, step in enumerate([call("keyed_post"), call("unsafe_post"), note(), call("unsafe_slow_sync")]):
        body = goal(f"back-{number}", [call("pure_sync"), step], [step])
        caller.post("runs", {**body, "priority": number * 10, "metadata": {"n": number}})


def waiting(caller: Caller, ledger: Ledger) -> None:
    """Calls that do not answer in time: runs that wait for who knows the truth, and one that does not."""
    _at_once(
        lambda: caller.post(
            "run-task", goal("wait-done", [note(), call("unsafe_hanging")], [call("unsafe_post")])
        ),
        lambda: caller.post("runs", goal("wait-not", [call("unsafe_late"), note()])),
        lambda: caller.post("runs", goal("wait-keyed", [call("keyed_hanging"), note()])),
        lambda: caller.post("runs", goal("may-fail", [note(), call("unsafe_failing")])),
    )


def cancelling(caller: Caller, ledger: Ledger) -> None:
    """Runs that are stopped: with a tool in flight, in a thread, or before they begin; and one that is not."""
    first = caller.post("runs", goal("cancel-1", [note(), call("unsafe_slow", size=4000)], [note()]), key="c1")
    second = caller.post("runs", goal("cancel-2", [call("unsafe_slow_sync", size=3000), note()]), key="c2")
    third = caller.post("runs", goal("cancel-3", [call("unsafe_post")]), key="c3")
    caller.post("runs", goal("cancel-not", [note(), call("unsafe_post")]))
    _until_begun(ledger, "cancel-1/2")
    for run in (first, second, third):
        assert run is not None
        with suppress(UnansweredError):
            caller.ask("POST", f"/api/v1/runs/{run['run_id']}/cancel")


def concurrent(caller: Caller, ledger: Ledger) -> None:
    """Twelve runs at once."""
    kinds = ["unsafe_post", "keyed_post", "read_world", "unsafe_slow", "pure_async", "unsafe_slow_sync"]
    _at_once(
        *[
            lambda n=n, kind=kind: caller.post(  # type: ignore[misc]
                "run-task" if n % 2 else "runs",
                goal(f"many-{n}-{kind}", [note(), call(kind)], [call(kind), note()]),
            )
            for kind in kinds
            for n in range(2)
        ]
    )


def large(caller: Caller, ledger: Ledger) -> None:
    """Outputs near the cap, and integers that no double holds, through every class."""
    numbers = [BEYOND_DOUBLES, -BEYOND_DOUBLES, HUGE]
    caller.post(
        "run-task",
        goal(
            "large",
            [call("pure_sync", size=200_000), call("keyed_post", number=BEYOND_DOUBLES, size=50_000)],
            [call(tool, number=n) for n in numbers for tool in ("pure_async", "read_world", "unsafe_post")],
            [note(), call("pure_async", size=250_000), note()],
        ),
    )


SCENARIOS: dict[str, Scenario] = {
    scenario.__name__: scenario
    for scenario in (
        singles,
        chain,
        turns,
        twenty,
        idempotent,
        background,
        waiting,
        cancelling,
        concurrent,
        large,
    )
}


def _at_once(*posts: Callable[[], object]) -> None:
    threads = [Thread(target=post) for post in posts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _until_begun(ledger: Ledger, name: str) -> None:
    give_up_at = monotonic() + 20
    while monotonic() < give_up_at and not any(entry.get("call") == name for entry in ledger.read()):
        sleep(0.01)
