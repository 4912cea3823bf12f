"""A goal compiled to a program: every clause is understood, or nothing is done."""

from __future__ import annotations

import re

from . import notes, subjects
from .calculation import RESULT, NotArithmeticError, calculations
from .clauses import QUESTION_WORDS, Clause, split
from .openings import without_politeness
from .program import (
    MAX_STEPS,
    Calculation,
    NoteAddition,
    NoteReading,
    Program,
    RefusalError,
    Search,
    Step,
    Template,
)
from .words import PROPOSAL, QUOTED, Words, read_words, unquoted

MAX_CHARACTERS = 10_000
MAX_CLAUSES = 48

ABILITIES = (
    "I can calculate (15% of 240), search (Search for quadratic voting), and add or read the notes of a "
    "proposal "
    "(Add note to PROP-2025-001: Legal review completed)."
)

_PRESENTING = re.compile(
    r"(?:thanks|thank you|cheers)(?: \S+){0,3} $|"
    r"(?:show|give|tell|return|report|print|display|say|get|send|output)(?: me| us)?(?: back)?(?: just| only)?"
    r"(?: (?:the|a|your|both|all|final|two|three|short))*(?: (?:answers?|results?|numbers?|values?|output"
    r"|total|sum|summary"
    r"|findings|what you (?:find|found)|it|them|both))+(?: please)?(?: [.!?])* $"
    r"|(?:how much|what|what's) (?:(?:is|does|would|will|do|should|it|that|i|the|you|price|cost|final|total"
    r"|pay|be|now|get"
    r"|sale|answer|result|come|to) )*(?:[.!?] )*$"
)
_REFERENCE = re.compile(
    r"(?:(?:the|a|your|that|this|its|those|these|final|calculated|search|top|summary of|short|brief|digest of"
    r"|result|of|calculation) )*"
    r"(?:result|results|answer|answers|number|total|sum|value|output|outcome|findings|finding|it|this|that"
    r"|them|both|all|product"
    r"|difference|average|quotient|figure|amount|summary|everything|percentage|digest|quorum"
    r"|what (?:you|it|we) (?:find|found|learn|learned|get|got))(?: of (?:the|that|this) (?:search|calculation"
    r"|sum))? $"
)
_SEVERAL = re.compile(r"\b(?:both|all|everything|them|results|answers|these|those) ")
_PLACE = re.compile(
    r"<[a-z _]{1,20}>|\{\{?[a-z _]{1,20}\}?\}|\[(?:result|answer|number|value|total|sum)\]", re.IGNORECASE
)


def compile_goal(goal: str, context_text: str = "") -> Program:
    """Return the program for `goal`. `context_text` is what the context holds for a note, if anything."""
    if len(goal) > MAX_CHARACTERS:
        return Program(
            refusal=f"This is longer than the {MAX_CHARACTERS:,} characters I can plan for. {ABILITIES}"
        )
    try:
        return Program(tuple(_Compilation(read_words(goal), context_text).run()))
    except RefusalError as refusal:
        return Program(refusal=str(refusal))


class _Compilation:
    """One goal on its way to a program."""

    def __init__(self, words: Words, context_text: str) -> None:
        self.words = words
        self.context_text = context_text
        self.steps: list[Step] = []
        self.searched: Words | None = None  # the subject of the last step, if that is a search
        self.pending: Words | None = None  # a text that a later clause may tell what to do with

    def run(self) -> list[Step]:
        data = notes.data_note(self.words)
        clauses = split(data.before if data else self.words)
        if len(clauses) > MAX_CLAUSES:
            raise too_much()
        for clause in clauses:
            self.read(clause)
        if self.pending is not None:
            raise not_understood(self.pending)
        if data:
            self.steps += [NoteAddition(proposal, (text,)) for proposal in data.proposals for text in data.texts]
        if not self.steps:
            raise not_understood(self.words)
        if len(self.steps) > MAX_STEPS:
            raise too_much()
        return self.steps

    def read(self, clause: Clause) -> None:
        words = without_politeness(clause.words)
        if not words or (self.steps and _PRESENTING.match(words.line)):
            return
        if not (self.read_search(words) or self.read_note(words) or self.read_arithmetic(words)):
            self.read_question(words, clause)

    def read_search(self, words: Words) -> bool:
        if notes.reading(words):
            return False
        subject = subjects.search_order(words)
        if subject is None:
            return False
        if not subject:
            return self.search_what_was_said()
        self.search(subject)
        return True

    def search_what_was_said(self) -> bool:
        """Search for what stands before a bare "search the web"."""
        if self.pending is None:
            return self.searched is not None
        subject, self.pending = subjects.subject(self.pending), None
        self.search(subject)
        return True

    def search(self, subject: Words) -> None:
        self.add(Search(subjects.query(subject)))
        self.searched = subject

    def read_note(self, words: Words) -> bool:
        proposals = notes.reading(words)
        if proposals:
            self.add(*(NoteReading(proposal) for proposal in proposals))
            return True
        addition = notes.addition(words)
        if not addition:
            return False
        template = self.note_text(addition)
        if template:
            self.add(*(NoteAddition(proposal, template) for proposal in addition.proposals))
        return bool(template)

    def note_text(self, addition: notes.Addition) -> Template:
        """Return the text of a note: a quotation, what was said, an earlier result, or one to work out first."""
        text = addition.text
        if text.words == [QUOTED]:
            return self.filled(unquoted(text.text()))
        if _REFERENCE.match(text.line) and (self.results() or not addition.is_literal):
            return self.referred(text)
        if not addition.is_literal and self.read_arithmetic(text):
            return (len(self.steps) - 1,)
        return (unquoted(text.text()),) if addition.is_literal or addition.may_be_plain else ()

    def results(self) -> list[int]:
        return [index for index, step in enumerate(self.steps) if not isinstance(step, NoteAddition)]

    def filled(self, text: str) -> Template:
        """Put the last result where a quoted text has a place for it, as in 'Quorum: <result>'."""
        results = self.results()
        if not results:
            return (text,)
        parts: list[str | int] = []
        for index, part in enumerate(_PLACE.split(text)):
            parts += [results[-1], part] if index else [part]
        return tuple(part for part in parts if part != "")

    def referred(self, words: Words) -> Template:
        results = self.results()
        if self.pending is not None and not results:
            text, self.pending = unquoted(subjects.subject(self.pending).text()), None
            return (text,)
        if not results and self.context_text:
            return (self.context_text,)
        if not results:
            raise RefusalError(
                f"There is nothing that {words.text()!r} could mean, so nothing was written. {notes.HOW_TO_ADD}"
            )
        if not _SEVERAL.search(words.line):
            return (results[-1],)
        return tuple(part for index in results for part in ("; ", index))[1:]

    def read_arithmetic(self, words: Words) -> bool:
        has_result = bool(self.steps) and isinstance(self.steps[-1], Calculation)
        try:
            expressions = calculations(words, has_result)
        except NotArithmeticError:
            return False
        last = len(self.steps) - 1
        self.add(*(Calculation(_template(expression, last)) for expression in expressions))
        return True

    def read_question(self, words: Words, clause: Clause) -> None:
        subject = subjects.question(words)
        follows = self.searched is not None and not clause.is_apart and PROPOSAL not in words.words
        if follows and (subject is None or words.words[0] in QUESTION_WORDS):
            self.lengthen_search(words)
        elif subject is not None:
            self.search(subject)
        elif self.steps or self.pending is not None:
            raise not_understood(words)
        else:
            self.pending = words

    def lengthen_search(self, words: Words) -> None:
        """Take words that are no request of their own as part of what is searched for."""
        assert self.searched is not None
        self.steps.pop()
        self.search(subjects.subject(self.searched.through(words, self.words)))

    def add(self, *steps: Step) -> None:
        if self.pending is not None:
            raise not_understood(self.pending)
        self.steps += steps
        self.searched = None


def too_much() -> RefusalError:
    """The refusal of a goal with more steps than any sensible one has."""
    return RefusalError(f"This asks for too much at once; I take at most {MAX_STEPS} steps, and did nothing.")


def not_understood(words: Words) -> RefusalError:
    """The refusal of a goal some words of which have no known meaning."""
    return RefusalError(f"I do not understand {_shortened(words.text())}, so I did nothing. {ABILITIES}")


def _shortened(text: str) -> str:
    return repr(text if len(text) <= 80 else text[:77] + "...")


def _template(expression: str, last: int) -> Template:
    if RESULT not in expression:
        return (expression,)
    parts: list[str | int] = []
    for index, part in enumerate(expression.split(RESULT)):
        parts += [last, part] if index else [part]
    return tuple(part for part in parts if part != "")
