"""The values a goal is compiled to: the steps of a program, and texts with places for earlier results."""

from __future__ import annotations

from typing import TypeAlias

from msgspec import Struct

Template: TypeAlias = "tuple[str | int, ...]"
"""A text in parts; an int is the place of the result of the step with that index."""

MAX_STEPS = 16


def interleaved(parts: list[str], place: str | int) -> Template:
    """Return `parts` with the same place, or text, between each two of them."""
    template = [item for part in parts for item in (place, part)][1:]
    return tuple(item for item in template if item != "")


class Calculation(Struct, frozen=True):
    """Work out an expression."""

    expression: Template


class Search(Struct, frozen=True):
    """Look something up."""

    query: Template


class NoteAddition(Struct, frozen=True):
    """Add a note to a proposal."""

    proposal_id: str
    text: Template


class NoteReading(Struct, frozen=True):
    """List the notes of a proposal."""

    proposal_id: str


Step: TypeAlias = Calculation | Search | NoteAddition | NoteReading


class Program(Struct, frozen=True):
    """What to do for a goal: its steps in order, or `refusal`, a sentence saying why nothing is done."""

    steps: tuple[Step, ...] = ()
    refusal: str = ""


class RefusalError(Exception):
    """The goal must not be carried out, not even in part; the message is the sentence that says why."""
