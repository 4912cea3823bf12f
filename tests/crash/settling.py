"""Waiting until every run has ended, as a person does who knows from the ledger what became of steps in doubt."""

from __future__ import annotations

from contextlib import suppress
from time import monotonic, sleep
from typing import Any

from crash.client import Caller, UnansweredError
from crash.ledger import Ledger

SETTLE_S = 60.0
ENDED = ("success", "error", "cancelled")


def settle(caller: Caller, ledger: Ledger, seconds: float = SETTLE_S) -> tuple[int, list[str]]:
    """Return how many steps had to be resolved, and what went wrong."""
    give_up_at = monotonic() + seconds
    resolved, faults = 0, []
    while open_ := [run for run in caller.runs() if run["status"] not in ENDED]:
        if monotonic() > give_up_at:
            return resolved, [*faults, f"stuck: {[(run['run_id'], run['status']) for run in open_]}"]
        for run in open_:
            if run["status"] == "waiting":
                status, answer = _resolve(caller, ledger, run["run_id"])
                resolved += status == 200
                if status not in (0, 200, 409, 503):
                    faults.append(f"wrong: resolving was answered with {status}: {answer}")
        sleep(0.03)
    return resolved, faults


def _resolve(caller: Caller, ledger: Ledger, run_id: str) -> tuple[int, dict[str, Any]]:
    """Tell the truth about the step that a run waits for; 0 if it waits no more, or nobody has heard."""
    trace = caller.read(f"/api/v1/runs/{run_id}/trace?limit=100")["trace"]
    step: dict[str, Any] = trace[-1] if trace else {}
    if not str(step.get("error")).startswith("in_doubt"):
        return 0, {}
    name = step["input"]["call"]
    happened = any(e.get("call") == name and e["kind"] in ("unsafe", "keyed") for e in ledger.read())
    answer: dict[str, Any] = {"outcome": "happened" if happened else "did_not_happen"}
    if happened:
        number = {"number": int(step["input"]["number"]) + 1} if "number" in step["input"] else {}
        answer["output"] = {"call": name, **number}
    with suppress(UnansweredError):
        return caller.ask("POST", f"/api/v1/runs/{run_id}/steps/{step['step']}/resolve", answer)
    return 0, {}
