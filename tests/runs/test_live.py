"""What is heard between two events: the whole text in order, by whoever is there in time, and nothing twice."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from random import Random
from typing import cast

import pytest
from durable_runs import until
from fake_runs import FakeRunStore, step

from app.agent.events import Event, ModelDecided, ModelRequested, RunFinished, RunStarted
from app.runs.channel import PAUSE_S
from app.runs.feed import EventFeed
from app.runs.live import MAX_CALLS, MAX_CHARS, PIECE_CHARS, Delta, Ear, Live, Progress
from app.runs.models import RunKey, StoredEvent
from app.runs.ports import RunStore
from app.runs.turns import Turns
from app.runs.window import Page

KEY = RunKey("default", "run-1")
END = RunFinished("success", "done")


# what is said at one place


def test_a_listener_hears_the_text_from_its_beginning_whenever_it_comes() -> None:
    live, early, late = Live((1, 2), 7), Ear(), Ear()
    live.say("Once ")
    assert live.hear(early) == [Delta(7, 0, "Once ")]
    live.say("upon ")
    live.say("a time")
    assert live.hear(early) == [Delta(7, 5, "upon a time")]
    assert live.hear(late) == [Delta(7, 0, "Once upon a time")]
    assert live.hear(early) == live.hear(late) == []


def test_an_ear_that_comes_from_another_place_begins_anew() -> None:
    ear = Ear()
    before, now = Live((1, 2), 1), Live((2, 2), 1)
    before.say("half of")
    before.hear(ear)
    assert not now.has_more(ear)
    now.say("all")
    assert now.hear(ear) == [Delta(1, 0, "all")]


def test_a_long_text_is_heard_in_pieces_and_up_to_its_limit() -> None:
    live, ear, heard = Live((1, 1), 1), Ear(), ""
    for _ in range(20):
        live.say("é" * 7_000)
    while live.has_more(ear):
        (piece,) = live.hear(ear)
        assert isinstance(piece, Delta)
        assert piece.offset == len(heard)
        assert len(piece.text) <= PIECE_CHARS
        heard += piece.text
    assert heard == "é" * MAX_CHARS


def test_halves_of_a_pair_do_not_keep_a_text_from_being_sent() -> None:
    live, ear = Live((1, 1), 1), Ear()
    live.say("a\ud83d")
    live.say("b")
    assert live.hear(ear) == [Delta(1, 0, "a?b")]


def test_of_each_call_the_last_report_is_heard() -> None:
    live, ear = Live((1, 1), 1), Ear()
    for number in range(3):
        live.report(Progress(1, "probe", f"one {number}"))
        live.report(Progress(2, "other", f"two {number}", number / 2))
    last = [Progress(1, "probe", "one 2"), Progress(2, "other", "two 2", 1.0)]
    assert live.hear(ear) == last
    live.report(last[0])
    assert live.hear(ear) == last[:1]
    for number in range(3, 200):
        live.report(Progress(number, "probe", ""))
    assert len(live.hear(ear)) == MAX_CALLS - 2


@pytest.mark.parametrize("seed", range(5))
def test_pieces_that_come_again_or_get_lost_never_give_a_wrong_text(seed: int) -> None:
    chance = Random(seed)  # noqa: S311 - it plays dice, no more
    said, heard, sender, receiver = Live((1, 1), 1), Live((1, 1), 1), Ear(), Ear()
    whole, received, pieces = "", "", []
    for number in range(200):
        whole += f"{number} "
        said.say(f"{number} ")
        pieces += said.hear(sender, 10)
        if chance.random() < 0.1:
            sender = Ear()  # somebody else begins to listen
        if chance.random() < 0.5 and pieces:
            piece = pieces.pop(0)
            assert isinstance(piece, Delta)
            if chance.random() < 0.9:
                heard.repeat(piece)
        received += "".join(piece.text for piece in heard.hear(receiver) if isinstance(piece, Delta))
        assert whole.startswith(received)
    assert received


# on their way to listeners


class Scene:
    """A feed over a store, and a run that speaks."""

    def __init__(self, turns: Turns | None = None) -> None:
        self.store = FakeRunStore()
        self.feed = EventFeed(cast(RunStore, self.store), None, turns)
        self.live = Live((0, 0), 0)

    def write(self, *events: Event) -> None:
        added = self.store.append("run-1", *events)
        self.feed.committed(KEY, added, self.store.runs["run-1"].status)

    def say(self, text: str, turn: int = 1, epoch: int = 1) -> None:
        place = epoch, self.store.runs["run-1"].events
        if self.live.place != place:
            self.live = Live(place, turn)
        self.live.say(text)
        self.feed.heard(KEY, self.live)

    def listen(self, after: int = 0) -> Listener:
        return Listener(self.feed.follow(KEY, after))


class Listener:
    """What one listener was handed, in order."""

    def __init__(self, pages: AsyncGenerator[list[StoredEvent], None]) -> None:
        self.heard: list[int | Delta | Progress] = []
        self.pages = pages
        self.task = asyncio.ensure_future(self._listen())

    async def _listen(self) -> None:
        async with aclosing(self.pages):
            async for page in self.pages:
                assert isinstance(page, Page)
                assert bool(page) != bool(page.heard)
                self.heard += [event.seq for event in page]
                self.heard += page.heard

    async def has(self, *expected: int | Delta | Progress) -> None:
        await until(lambda: len(self.heard) >= len(expected))
        assert self.heard == list(expected)


async def test_words_come_between_the_request_and_the_decision() -> None:
    scene = Scene()
    scene.write(RunStarted("go", None, ()), ModelRequested(1))
    listener = scene.listen()
    await until(lambda: listener.heard == [1, 2])
    scene.say("It ")
    await until(lambda: len(listener.heard) == 3)
    scene.say("is 42.")
    await until(lambda: len(listener.heard) == 4)
    scene.write(ModelDecided(1, "It is 42."), END)
    await listener.task
    await listener.has(1, 2, Delta(1, 0, "It "), Delta(1, 3, "is 42."), 3, 4)
    assert not scene.feed.followed


async def test_who_joins_in_mid_speech_hears_the_text_so_far_and_who_joins_later_the_decision() -> None:
    scene = Scene()
    scene.write(RunStarted("go", None, ()), ModelRequested(1))
    first = scene.listen(2)
    await until(lambda: KEY in scene.feed)
    scene.say("half ")
    await first.has(Delta(1, 0, "half "))
    again = scene.listen(2)
    await again.has(Delta(1, 0, "half "))
    scene.say("done")
    await again.has(Delta(1, 0, "half "), Delta(1, 5, "done"))
    scene.write(ModelDecided(1, "half done"))
    late = scene.listen(2)
    await late.has(3)
    scene.write(END)
    for listener in (first, again, late):
        await listener.task
    assert late.heard == [3, 4]


async def test_nothing_of_a_text_comes_behind_its_decision() -> None:
    scene = Scene()
    scene.write(RunStarted("go", None, ()), ModelRequested(1))
    listener = scene.listen(2)
    await until(lambda: KEY in scene.feed)
    scene.say("too late to be heard")
    scene.write(ModelDecided(1, "all of it"))
    scene.feed.heard(KEY, scene.live)
    await listener.has(3)
    await asyncio.sleep(2 * PAUSE_S)
    scene.say("the next", turn=2)
    await listener.has(3, Delta(2, 0, "the next"))
    scene.write(END)
    await listener.task


async def test_a_model_that_is_asked_again_by_another_process_begins_its_text_anew() -> None:
    scene = Scene()
    scene.write(RunStarted("go", None, ()), ModelRequested(1))
    listener = scene.listen(2)
    await until(lambda: KEY in scene.feed)
    scene.feed.overheard(KEY, (1, 2), 1, Delta(1, 0, "a process that "))
    await listener.has(Delta(1, 0, "a process that "))
    scene.feed.overheard(KEY, (2, 2), 1, Delta(1, 0, "I think"))
    scene.feed.overheard(KEY, (1, 2), 1, Delta(1, 15, "is dead"))
    await listener.has(Delta(1, 0, "a process that "), Delta(1, 0, "I think"))
    scene.write(END)
    await listener.task


async def test_a_text_whose_beginning_was_not_heard_is_not_heard_at_all() -> None:
    scene = Scene()
    scene.write(RunStarted("go", None, ()), ModelRequested(1))
    listener = scene.listen(2)
    await until(lambda: KEY in scene.feed)
    scene.feed.overheard(KEY, (1, 2), 1, Delta(1, 9, "of a text"))
    scene.feed.overheard(KEY, (1, 2), 1, Delta(1, 0, "the end "))
    scene.feed.overheard(KEY, (1, 2), 1, Delta(1, 9, "lost"))
    await listener.has(Delta(1, 0, "the end "))
    scene.write(END)
    await listener.task
    assert listener.heard == [Delta(1, 0, "the end "), 3]


async def test_words_are_heard_at_most_twenty_times_a_second() -> None:
    scene = Scene()
    scene.write(RunStarted("go", None, ()), ModelRequested(1))
    listener = scene.listen(2)
    loop = asyncio.get_running_loop()
    started = loop.time()
    said = 0
    while loop.time() - started < 0.3:
        scene.say("x")
        said += 1
        await asyncio.sleep(0.001)
    await until(lambda: sum(len(heard.text) for heard in listener.heard if isinstance(heard, Delta)) == said)
    assert len(listener.heard) <= 0.3 * 20 + 3
    scene.write(END)
    await listener.task


async def test_a_slow_reader_misses_words_and_no_event() -> None:
    scene = Scene()
    scene.write(RunStarted("go", None, ()))
    pages = scene.feed.follow(KEY, 0)
    seqs = [event.seq for event in await anext(pages)]
    for turn in range(1, 50):
        scene.write(ModelRequested(turn))
        for _ in range(20):
            scene.say("x" * 1000, turn=turn)
        scene.write(ModelDecided(turn, "x" * 1000), step(turn))
    scene.write(END)
    heard: list[object] = []
    async for page in pages:
        seqs += [event.seq for event in page]
        heard += cast(Page, page).heard
    assert seqs == list(range(1, 150))
    assert heard == []


async def test_listeners_who_have_heard_the_same_are_handed_the_same_page() -> None:
    scene = Scene()
    scene.write(RunStarted("go", None, ()), ModelRequested(1))
    listening = [scene.feed.follow(KEY, 2) for _ in range(3)]
    tasks = [asyncio.ensure_future(anext(pages)) for pages in listening]
    await until(lambda: KEY in scene.feed)
    scene.say("to all")
    handed = await asyncio.gather(*tasks)
    assert handed[0] is handed[1] is handed[2]
    for pages in listening:
        await pages.aclose()


async def test_nobody_listens_to_a_run_that_has_ended_or_is_only_waited_for() -> None:
    scene = Scene()
    begun: list[RunKey] = []
    scene.feed.call_out = begun.append
    scene.write(RunStarted("go", None, ()))
    waiting = asyncio.ensure_future(scene.feed.wait_ended(KEY, 5))
    await until(lambda: scene.store.gets)
    assert KEY not in scene.feed
    listeners = [scene.listen(), scene.listen()]
    await until(lambda: all(listener.heard for listener in listeners))
    assert KEY in scene.feed
    assert begun == scene.feed.followed == [KEY]
    scene.write(END)
    await waiting
    for listener in [*listeners, scene.listen()]:
        await listener.task
    assert KEY not in scene.feed
    assert begun == [KEY]
