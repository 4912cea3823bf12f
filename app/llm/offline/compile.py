"""A goal compiled to a program: every clause is understood, or nothing is done."""

from __future__ import annotations

from . import notes, subjects
from .calculation import RESULT, NotArithmeticError, calculations, starting_number
from .clauses import QUESTION_WORDS, Clause, split
from .dictation import check_text, dictation
from .openings import is_call_for_help, is_presenting, without_politeness
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
    interleaved,
)
from .reading import reading
from .references import (
    aggregate,
    combined,
    is_pointer,
    is_reference,
    means_several,
    needs_one,
    of_calculation,
    of_search,
    places,
    position,
    results_of_search,
    stands_for_something,
)
from .refusals import ABILITIES, HOW_TO_ADD, not_understood, too_much
from .statements import is_statement
from .words import PROPOSAL, QUOTED, Words, read_words, unquoted

MAX_CHARACTERS = 10_000
MAX_CLAUSES = 48

_FIGURES = frozenset("0123456789-–/.,:%")


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
        self.open_questions: set[int] = set()  # searches whose findings are no answer
        self.aggregates: dict[int, str] = {}  # steps that sum up the ones before, with what they make of them
        self.start = ""  # a number that a later clause is to go on from
        self.pending: Words | None = None  # a text that a later clause may tell what to do with

    def run(self) -> list[Step]:
        if is_call_for_help(self.words):
            raise RefusalError(ABILITIES)
        note = notes.text_of_next_sentence(self.words)
        if note:
            return [note]
        data = dictation(self.words)
        clauses = split(data.before if data else self.words)
        if len(clauses) > MAX_CLAUSES:
            raise too_much()
        for clause in clauses:
            self.read(clause)
        if self.pending is not None or self.start:
            raise not_understood(self.pending or self.words)
        if data:
            self.steps += [NoteAddition(proposal, (text,)) for proposal in data.proposals for text in data.texts]
        if not self.steps:
            raise not_understood(self.words)
        if len(self.steps) > MAX_STEPS:
            raise too_much()
        return self.steps

    def read(self, clause: Clause) -> None:
        words = without_politeness(clause.words)
        if not words or self.read_aggregate(words):
            return
        if self.steps and is_presenting(words):
            return
        proposals = reading(words)
        if proposals:
            self.add(*(NoteReading(proposal) for proposal in proposals))
        elif not (self.read_search(words) or self.read_note(words) or self.read_arithmetic(words)):
            self.read_question(words, clause)

    def read_search(self, words: Words) -> bool:
        subject = subjects.search_order(words)
        if subject is None:
            return False
        if not subject:
            return self.search_what_was_said()
        if is_reference(subject.line) and self.results():
            self.add(Search(self.referred(subject)))
        else:
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
        self.add(Search((subjects.query(subject),)))
        self.searched = subject

    def read_note(self, words: Words) -> bool:
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
        if not text:
            return self.last_result(addition)
        check_text(text.text(), addition.proposals)
        if text.words == [QUOTED]:
            return self.filled(unquoted(text.text()))
        selected = self.selected(text)
        if selected is not None:
            return (selected,)
        if is_reference(text.line) and (self.results() or not addition.is_literal):
            return self.referred(text)
        if not addition.is_literal and (self.read_sum(text) or self.read_searched(text)):
            return (len(self.steps) - 1,)
        if not addition.is_literal and stands_for_something(text.line, bool(self.results())):
            raise not_understood(text)
        return (unquoted(text.text()),) if addition.is_literal or addition.may_be_plain else ()

    def last_result(self, addition: notes.Addition) -> Template:
        """Return what "search for X and add a note to PROP-..." wants noted."""
        if self.steps and isinstance(self.steps[-1], Calculation | Search) and not addition.is_literal:
            return self.every(self.unused())
        raise RefusalError(
            f"There is no text to add to {addition.proposals[0]}; nothing was written. {HOW_TO_ADD}"
        )

    def read_searched(self, words: Words) -> bool:
        """Search first for "the top results of a search for X"."""
        subject = words.after(results_of_search())
        if len(subject) == len(words) or not subject or is_reference(words.line) or self.results():
            return False
        self.search(subject)
        return True

    def read_sum(self, words: Words) -> bool:
        """Work out a note that is plainly an expression: a date, a score and a telephone number are none."""
        is_text = words.words[0] == "+" or _FIGURES.issuperset(words.line.replace(" ", ""))
        return not is_text and self.read_arithmetic(words)

    def results(self) -> list[int]:
        return [index for index, step in enumerate(self.steps) if not isinstance(step, NoteAddition)]

    def filled(self, text: str) -> Template:
        """Put the last result where a quoted text has a place for it, as in 'Quorum: <result>'."""
        results, parts = self.results(), places(text)
        if not results or len(parts) < 2:
            return (text,)
        unused = self.unused()
        if len(unused) < 2:
            return interleaved(parts, results[-1])
        if len(unused) != len(parts) - 1:
            raise not_understood(self.words)
        filled: list[str | int] = [parts[0]]
        for index, part in zip(unused, parts[1:], strict=True):
            filled += (index, part)
        return tuple(item for item in filled if item != "")

    def unused(self) -> list[int]:
        """Return the results since the last notes that no later step has taken up."""
        end = len(self.steps)
        while end and isinstance(self.steps[end - 1], NoteAddition):
            end -= 1
        start = end
        while start and not isinstance(self.steps[start - 1], NoteAddition):
            start -= 1
        used: set[str | int] = set()
        for step in self.steps[start:end]:
            used.update(step.expression if isinstance(step, Calculation) else ())
            used.update(step.query if isinstance(step, Search) else ())
        return [index for index in range(start, end) if index not in used]

    def unused_numbers(self) -> list[int]:
        return [index for index in self.unused() if isinstance(self.steps[index], Calculation)]

    def every(self, results: list[int]) -> Template:
        return tuple(part for index in results for part in ("; ", index))[1:]

    def selected(self, words: Words) -> int | None:
        """Return which of several results "the second" or "the sum" means; a sum is worked out first."""
        kind, place, unused = aggregate(words.line), position(words.line), self.unused()
        if kind and [self.aggregates.get(index, kind) for index in unused] != [kind] * len(unused):
            raise not_understood(words)
        if self.read_aggregate(words):
            return len(self.steps) - 1
        if place is None or len(unused) < 2:
            return None
        if unused != self.unused_numbers() or place >= len(unused):
            raise not_understood(words)
        return unused[place]

    def read_aggregate(self, words: Words) -> bool:
        """Work out the sum, the average or the like of at least two results."""
        kind, numbers = aggregate(words.line), self.unused_numbers()
        if not kind or len(numbers) < 2:
            return False
        expression = combined(kind, numbers)
        if not expression:
            raise not_understood(words)
        self.add(Calculation(expression))
        self.aggregates[len(self.steps) - 1] = kind
        return True

    def referred(self, words: Words) -> Template:
        results = self.results()
        if not results:
            return (self.said(words),)
        line = words.line
        if means_several(line) and not of_calculation(line):
            return self.every(results)
        wanted = Calculation if of_calculation(line) else Search if of_search(line) else None
        found = [index for index in results if wanted is None or isinstance(self.steps[index], wanted)]
        if (not found and wanted is Calculation) or (found or results)[-1] in self.open_questions:
            raise not_understood(words)
        several = [index for index in self.unused() if wanted is None or index in found]
        if len(several) < 2:
            return ((found or results)[-1],)
        if needs_one(line) or any(isinstance(self.steps[index], NoteReading) for index in several):
            raise not_understood(words)
        return self.every(several)

    def said(self, words: Words) -> str:
        """Return the statement or the context that "it" means.

        Raises:
            RefusalError: nothing was said that could be meant.
        """
        if self.pending is None and self.context_text:
            return self.context_text
        if self.pending is not None and is_pointer(words.line) and is_statement(self.pending):
            text, self.pending = unquoted(subjects.subject(self.pending).text()), None
            return text
        raise RefusalError(
            f"There is nothing that {words.text()!r} could mean, so nothing was written. {HOW_TO_ADD}"
        )

    def read_arithmetic(self, words: Words) -> bool:
        if not self.start and starting_number(words):
            self.start = starting_number(words)
            return True
        has_result = bool(self.start) or (bool(self.steps) and isinstance(self.steps[-1], Calculation))
        try:
            expressions = calculations(words, has_result)
        except NotArithmeticError:
            return False
        takes_up = any(RESULT in expression for expression in expressions)
        if takes_up and not self.start and len(self.unused_numbers()) > 1:
            raise not_understood(words)
        last = self.start or len(self.steps) - 1
        self.start = ""
        self.add(*(Calculation(interleaved(expression.split(RESULT), last)) for expression in expressions))
        return True

    def read_question(self, words: Words, clause: Clause) -> None:
        subject = subjects.question(words)
        follows = self.searched is not None and not clause.is_apart and PROPOSAL not in words.words
        if follows and (subject is None or words.words[0] in QUESTION_WORDS):
            self.lengthen_search(words)
        elif subject is not None:
            self.search(subject)
            if subjects.wants_an_answer(words):
                self.open_questions.add(len(self.steps) - 1)
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
