"""The sentences that say why nothing is done, and what can be asked for instead."""

from __future__ import annotations

from .program import MAX_STEPS, RefusalError
from .words import Words

ABILITIES = (
    "I can calculate (15% of 240), search (Search for quadratic voting), and add or read the notes of a "
    "proposal "
    "(Add note to PROP-2025-001: Legal review completed)."
)

HOW_TO_ADD = "Say for example: Add note to PROP-2025-001: Legal review completed."


def too_much() -> RefusalError:
    """The refusal of a goal with more steps than any sensible one has."""
    return RefusalError(f"This asks for too much at once; I take at most {MAX_STEPS} steps, and did nothing.")


def not_understood(words: Words) -> RefusalError:
    """The refusal of a goal some words of which have no known meaning."""
    bad = words.bad_proposal()
    if bad is not None:
        return malformed(bad)
    return RefusalError(f"I do not understand {_shortened(words.text())}, so I did nothing. {ABILITIES}")


def _shortened(text: str) -> str:
    return repr(text if len(text) <= 80 else text[:77] + "...")


def malformed(proposal: str) -> RefusalError:
    """The refusal of a goal with an id that is none."""
    return RefusalError(
        f"{proposal[:60]!r} is not a proposal id, so nothing was written. "
        "A proposal id looks like PROP-2025-001: PROP, a year, and three to six digits."
    )


def no_text(proposals: list[str]) -> RefusalError:
    """The refusal of a note in which there is nothing to read."""
    return RefusalError(f"There is no text to add to {proposals[0]}; nothing was written. {HOW_TO_ADD}")
