"""Promises of the compiler that hold for any text."""

import pytest
from growth import MOST, growth
from hypothesis import given
from hypothesis import strategies as st

from app.llm.offline.compile import MAX_CHARACTERS, compile_goal
from app.llm.offline.program import MAX_STEPS, NoteAddition, Program
from app.llm.offline.statements import is_blank

VOCABULARY = (
    "add note to PROP-2025-001 PROP-2025-1 : , ; . ? ! and then calculate search for what is 2 + 3 * ( ) the "
    "result it as a 'x' \" percent of off square root sum average list read notes on twenty five % $ with saying "
    "that divide by not don't"
)
WORDS = st.sampled_from([*VOCABULARY.split(), "\n"])
SENTENCES = st.lists(WORDS, max_size=25).map(" ".join)


def additions(program: Program) -> list[NoteAddition]:
    return [step for step in program.steps if isinstance(step, NoteAddition)]


@given(st.text(max_size=300) | SENTENCES)
def test_any_text_compiles_to_steps_or_a_refusal_and_always_to_the_same(goal: str) -> None:
    program = compile_goal(goal)
    assert bool(program.steps) != bool(program.refusal)
    assert len(program.steps) <= MAX_STEPS
    assert compile_goal(goal) == program


@given(SENTENCES)
def test_nothing_is_written_without_an_id(goal: str) -> None:
    assert not additions(compile_goal(goal.replace("PROP-2025-001", "proposal")))


@given(SENTENCES, st.sampled_from(["don't add a note to PROP-2025-001: ", "never note on PROP-2025-001: "]))
def test_nothing_is_written_that_is_forbidden(text: str, ban: str) -> None:
    assert not additions(compile_goal(ban + text))


@given(st.text(max_size=200) | SENTENCES)
def test_the_text_behind_the_colon_is_data_to_the_letter(text: str) -> None:
    program = compile_goal(f"Add note to PROP-2025-001: {text}")
    if not is_blank(text):
        assert program.steps == (NoteAddition("PROP-2025-001", (text.strip(),)),)
    else:
        assert "no text" in program.refusal


@given(st.text(max_size=200) | SENTENCES)
def test_a_quotation_is_never_an_instruction(text: str) -> None:
    quoted = text.replace('"', "")
    assert not additions(compile_goal(f'Search for "{quoted}"'))


@pytest.mark.parametrize(
    "junk", ["; DROP TABLE notes", " apples and pears", " eval('1')", " #", " @ 3", " [0]", " 'a'"]
)
def test_no_part_of_a_calculation_with_something_left_over_is_worked_out(junk: str) -> None:
    assert not compile_goal(f"Calculate 2+2{junk}").steps


def test_a_goal_longer_than_the_limit_is_declined() -> None:
    assert "longer" in compile_goal("a" * (MAX_CHARACTERS + 1)).refusal


def test_a_refusal_says_what_can_be_done_instead() -> None:
    assert "I can calculate" in compile_goal("book a flight").refusal


@pytest.mark.parametrize("part", ["!", ", ", ". ", "PROP-2025-001 and ", "2 ", "the sum ", "note ", ": "])
@pytest.mark.parametrize("opening", ["Add a note to PROP-2025-001 saying ", "note the ", "What is ", "Add "])
def test_a_long_repetition_takes_no_longer_than_its_length(opening: str, part: str) -> None:
    goal = opening + part * ((MAX_CHARACTERS - len(opening)) // len(part))
    assert growth(compile_goal, goal) < MOST
