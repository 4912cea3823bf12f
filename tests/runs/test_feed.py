"""The feed: every listener hears everything once and in order, and costs little."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from random import Random
from typing import cast

import pytest
from fake_runs import FakeRunStore, step
from msgspec.structs import replace

from app.agent.events import Event, RunFinished, RunStarted
from app.errors import RunNotFoundError, RunPrunedError, StorageUnavailableError
from app.runs.feed import EventFeed
from app.runs.models import RunKey, RunStatus, StoredEvent
from app.runs.ports import RunStore
from app.runs.turns import Turns
from app.runs.window import PAGE_BYTES, Page, Window

RUN = "run-1"
KEY = RunKey("default", RUN)
STARTED = RunStarted("go", None, ("probe",))
END = RunFinished("success", "done")


class Scene:
    """A store, a feed over it, and a writer of this process or of another."""

    def __init__(self, poll_s: float | None = None, turns: Turns | None = None) -> None:
        self.store = FakeRunStore()
        self.feed = EventFeed(cast(RunStore, self.store), poll_s, turns)

    def here(self, *events: Event, status: RunStatus = "running") -> None:
        added = self.store.append(RUN, *events, status=status)
        self.feed.committed(KEY, added, self.store.runs[RUN].status)

    def elsewhere(self, *events: Event, status: RunStatus = "running", told: bool = True) -> None:
        self.store.append(RUN, *events, status=status)
        if told:
            self.feed.changed(KEY)

    def listen(self, after: int = 0) -> asyncio.Task[list[int]]:
        return asyncio.ensure_future(numbers(self.feed.follow(KEY, after)))


async def numbers(pages: AsyncGenerator[list[StoredEvent], None]) -> list[int]:
    async with aclosing(pages):
        return [event.seq async for page in pages for event in page]


async def until(condition: Callable[[], object]) -> None:
    """Wait, for a bounded time, until something has come about."""
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110 - a test has nothing else to wait for
            await asyncio.sleep(0.001)


async def within(awaited: Awaitable[list[int]]) -> list[int]:
    async with asyncio.timeout(5):
        return await awaited


async def test_a_finished_run_is_read_to_its_end() -> None:
    scene = Scene()
    scene.store.append(RUN, STARTED, *map(step, range(1, 9)), END)
    assert await within(scene.listen()) == list(range(1, 11))
    assert await within(scene.listen(7)) == [8, 9, 10]
    assert await within(scene.listen(10)) == await within(scene.listen(99)) == []
    assert len(scene.feed) == 0


async def test_what_is_committed_while_one_listens_comes_after_what_was_there() -> None:
    scene = Scene()
    scene.here(STARTED, step(1))
    listening = scene.listen()
    await until(lambda: scene.store.reads)
    for number in range(2, 30):
        scene.here(step(number))
        await asyncio.sleep(0)
    scene.here(END)
    assert await within(listening) == list(range(1, 32))
    assert scene.store.reads == [0], "what is fresh is not read again"


async def test_nothing_is_lost_that_is_committed_while_the_store_is_read() -> None:
    scene = Scene()
    scene.here(STARTED)
    read = scene.store.events

    async def while_reading(*request: object) -> list[StoredEvent]:
        page = await read(*request)  # type: ignore[arg-type]
        scene.here(step(1), END)
        return page

    scene.store.events = while_reading  # type: ignore[assignment]
    assert await within(scene.listen()) == [1, 2, 3]


async def test_a_status_that_was_read_before_the_end_does_not_hide_the_end() -> None:
    scene = Scene()
    scene.here(STARTED)
    get = scene.store.get

    async def overtaken(key: RunKey) -> object:
        run = await get(key)
        if scene.store.gets == 1:
            scene.here(END)
        return run

    scene.store.get = overtaken  # type: ignore[assignment]
    assert await within(scene.listen()) == [1, 2]


async def test_what_another_process_commits_is_heard_when_it_is_told() -> None:
    scene = Scene()
    scene.elsewhere(STARTED)
    listening = scene.listen()
    await until(lambda: scene.store.reads)
    scene.elsewhere(step(1), step(2))
    scene.elsewhere(step(3))
    await until(lambda: len(scene.store.reads) > 1)
    scene.elsewhere(END)
    assert await within(listening) == [1, 2, 3, 4, 5]


async def test_news_that_was_lost_is_found_by_the_poll() -> None:
    scene = Scene(poll_s=0.01)
    scene.elsewhere(STARTED)
    listening = scene.listen()
    resting = asyncio.ensure_future(scene.feed.wait_ended(KEY, 5))
    await until(lambda: scene.store.reads)
    scene.elsewhere(step(1), END, told=False)
    assert await within(listening) == [1, 2, 3]
    assert await resting == "success"
    asked = scene.store.gets
    await asyncio.sleep(0.03)
    assert scene.store.gets == asked, "nobody listens and the poll goes on"


async def test_a_poll_survives_a_database_that_is_away_for_a_while() -> None:
    scene = Scene(poll_s=0.01)
    scene.elsewhere(STARTED)
    listening = scene.listen()
    await until(lambda: scene.store.reads)
    scene.store.failure = StorageUnavailableError("away")
    asked = scene.store.gets
    await until(lambda: scene.store.gets > asked + 1)
    scene.store.failure = None
    scene.elsewhere(END, told=False)
    assert await within(listening) == [1, 2]


async def test_a_run_that_moves_between_processes_is_heard_in_order() -> None:
    scene = Scene()
    scene.here(STARTED)
    listening = scene.listen()
    await until(lambda: scene.store.reads)
    scene.here(step(1))
    scene.elsewhere(step(2), step(3))
    scene.here(step(4))
    scene.elsewhere(step(5), told=False)
    scene.here(END)
    assert await within(listening) == list(range(1, 8))


async def test_a_thousand_listeners_hear_all_and_the_store_is_read_once() -> None:
    scene = Scene(turns=Turns(tick_s=0.001))
    scene.here(STARTED, step(1))
    listening = [scene.listen() for _ in range(1000)]
    # what happens while the first page is being read may be the first that is kept: then it is read once more
    await until(lambda: KEY in scene.feed._channels and scene.feed._channels[KEY]._pages)
    for number in range(2, 50):
        scene.here(step(number))
        await asyncio.sleep(0.001)
    scene.here(END)
    heard = await asyncio.gather(*listening)
    assert all(seqs == list(range(1, 52)) for seqs in heard)
    assert scene.store.reads == [0]
    assert scene.store.gets == 1
    assert len(scene.feed) == 0


async def test_a_thousand_listeners_far_behind_share_what_is_read() -> None:
    scene = Scene(turns=Turns(tick_s=0.001))
    scene.store.append(RUN, STARTED, *(step(number, {"text": "x" * 10_000}) for number in range(100)), END)
    heard = await asyncio.gather(*[scene.listen() for _ in range(1000)])
    assert all(seqs == list(range(1, 103)) for seqs in heard)
    assert len(scene.store.reads) < 40, "1 MB in pages of 48 KiB is 25 reads"


async def test_listeners_at_the_same_place_are_handed_the_same_page() -> None:
    scene = Scene()
    scene.here(STARTED, step(1))
    feeds = [scene.feed.follow(KEY, 0) for _ in range(3)]
    firsts = [await anext(pages) for pages in feeds]
    assert isinstance(firsts[0], Page)
    assert firsts[0] is firsts[1] is firsts[2]
    scene.here(step(2))
    seconds = [await anext(pages) for pages in feeds]
    assert seconds[0] is seconds[1] is seconds[2]
    for pages in feeds:
        await pages.aclose()


async def test_a_listener_that_fell_behind_reads_from_the_store() -> None:
    scene = Scene()
    scene.here(STARTED)
    pages = scene.feed.follow(KEY, 0)
    seqs = [event.seq for event in await anext(pages)]
    for number in range(1, 101):
        scene.here(step(number, {"text": "é" * 5_000}))
    scene.here(END)
    sizes = []
    async for page in pages:
        seqs += [event.seq for event in page]
        sizes.append(sum(len(event.body.encode()) for event in page))
    assert seqs == list(range(1, 103))
    assert max(sizes) <= PAGE_BYTES
    assert len(scene.store.reads) >= 1_000_000 // PAGE_BYTES


async def test_a_busy_run_wakes_a_listener_at_most_twenty_times_a_second() -> None:
    scene = Scene()
    scene.here(STARTED)
    sizes = []
    pages = scene.feed.follow(KEY, 0)

    async def listen() -> None:
        async for page in pages:
            sizes.append(len(page))  # noqa: PERF401 - it is looked at meanwhile

    listening = asyncio.ensure_future(listen())
    await until(lambda: sizes)
    started = asyncio.get_running_loop().time()
    number = 0
    while asyncio.get_running_loop().time() - started < 0.3:
        number += 1
        scene.here(step(number))
        await asyncio.sleep(0.001)
    scene.here(END)
    await listening
    assert sum(sizes) == number + 2
    assert len(sizes) <= 0.3 * 20 + 4


async def test_turns_are_given_at_a_bounded_rate_and_in_order() -> None:
    turns = Turns(tick_s=0.02, turns_a_tick=5)
    order: list[int] = []

    async def take(number: int) -> None:
        await turns.take()
        order.append(number)

    loop = asyncio.get_running_loop()
    started = loop.time()
    await asyncio.gather(*(take(number) for number in range(21)))
    assert order == list(range(21))
    assert loop.time() - started >= 0.06
    await until(lambda: turns._timer is None)


@pytest.mark.parametrize("seed", range(8))
async def test_whoever_joins_whenever_hears_each_event_once_and_in_order(seed: int) -> None:
    chance = Random(seed)  # noqa: S311 - it plays dice, no more
    scene = Scene(turns=Turns(tick_s=0.001, turns_a_tick=chance.randint(1, 20)))
    scene.here(STARTED)
    listening: list[tuple[int, asyncio.Task[list[int]]]] = []
    for number in range(1, 150):
        write = scene.here if chance.random() < 0.7 else scene.elsewhere
        write(
            *(step(number, {"text": "x" * chance.choice((1, 100, 20_000))}) for _ in range(chance.randint(1, 3)))
        )
        if chance.random() < 0.2:
            after = chance.randint(0, scene.store.runs[RUN].events)
            listening.append((after, scene.listen(after)))
        if chance.random() < 0.1 and listening:
            listening.pop(chance.randrange(len(listening)))[1].cancel()
        for _ in range(chance.randint(0, 3)):
            await asyncio.sleep(chance.choice((0, 0.001)))
    chance.choice((scene.here, scene.elsewhere))(END)
    last = scene.store.runs[RUN].events
    for after, task in listening:
        assert await within(task) == list(range(after + 1, last + 1))
    assert len(scene.feed) == 0


async def test_a_listener_that_goes_leaves_nothing_behind() -> None:
    scene = Scene(poll_s=0.01)
    scene.here(STARTED)
    staying = scene.listen()
    await until(lambda: len(scene.feed) and len(scene.feed._channels[KEY]._waiting) == 1)
    for _ in range(20):
        listening = scene.listen()
        await until(lambda: len(scene.feed._channels[KEY]._waiting) == 2)
        listening.cancel()
        with pytest.raises(asyncio.CancelledError):
            await listening
        assert len(scene.feed._channels[KEY]._waiting) == 1
    staying.cancel()
    with pytest.raises(asyncio.CancelledError):
        await staying
    assert len(scene.feed) == 0
    await until(lambda: len(asyncio.all_tasks()) == 1)


async def test_one_that_reads_for_others_may_go_without_them_noticing() -> None:
    scene = Scene()
    scene.here(STARTED, END)
    release = asyncio.Event()
    read = scene.store.events

    async def slow(*request: object) -> list[StoredEvent]:
        await release.wait()
        return await read(*request)  # type: ignore[arg-type]

    scene.store.events = slow  # type: ignore[assignment]
    first, second = scene.listen(), scene.listen()
    await until(lambda: scene.feed._channels and scene.feed._channels[KEY]._reading.locked())
    first.cancel()
    release.set()
    assert await within(second) == [1, 2]


async def test_there_is_nothing_to_hear_of_a_run_that_does_not_exist() -> None:
    scene = Scene()
    with pytest.raises(RunNotFoundError):
        await within(scene.listen())
    with pytest.raises(RunNotFoundError):
        await scene.feed.wait_ended(KEY, 1)
    assert len(scene.feed) == 0


async def test_a_pruned_run_is_gone_before_the_first_page_and_in_between() -> None:
    scene = Scene()
    scene.store.append(RUN, STARTED, *(step(number, {"text": "x" * 50_000}) for number in range(3)), END)
    pages = scene.feed.follow(KEY, 0)
    await anext(pages)
    scene.store.stored[RUN].clear()
    with pytest.raises(RunPrunedError):
        await numbers(pages)
    scene.store.runs[RUN] = replace(scene.store.runs[RUN], pruned_at=scene.store.runs[RUN].created_at)
    with pytest.raises(RunPrunedError):
        await within(scene.listen())


async def test_a_database_that_does_not_answer_is_said_to_every_listener() -> None:
    scene = Scene()
    scene.here(STARTED)
    scene.store.failure = StorageUnavailableError("away")
    heard = await asyncio.gather(scene.listen(), scene.listen(), return_exceptions=True)
    assert all(isinstance(error, StorageUnavailableError) for error in heard)
    assert len(scene.feed) == 0


@pytest.mark.parametrize("status", ["success", "error", "cancelled", "waiting"])
async def test_one_can_wait_for_a_run_to_end_or_to_wait_for_a_person(status: RunStatus) -> None:
    scene = Scene()
    scene.here(STARTED)
    resting = [asyncio.ensure_future(scene.feed.wait_ended(KEY, 5)) for _ in range(3)]
    await until(lambda: scene.store.gets == 3)
    scene.here(step(1))
    scene.here(status=status)
    assert await asyncio.gather(*resting) == [status] * 3
    assert await scene.feed.wait_ended(KEY, 5) == status
    assert len(scene.feed) == 0


async def test_a_wait_ends_when_its_time_is_over() -> None:
    scene = Scene()
    scene.here(STARTED, status="waiting")
    scene.here(step(1))
    assert await scene.feed.wait_ended(KEY, 0.01) is None
    assert len(scene.feed) == 0


def test_a_window_keeps_the_newest_events_without_gaps() -> None:
    store = FakeRunStore()
    events = store.append(RUN, *(step(number, {"text": "x" * 10_000}) for number in range(20)))
    window = Window()
    assert window.beyond(0) == []
    window.add(events[:3])
    window.add(events[1:4])
    assert window.beyond(0) == events[:4]
    assert window.beyond(2) == events[2:4]
    assert window.beyond(4) == []
    window.add(events[8:10])
    assert window.beyond(3) == []
    assert window.beyond(8) == events[8:10]
    window.add(events[:2])
    assert window.beyond(8) == events[8:10]
    window.add(events[10:])
    assert window.beyond(16) == events[16:], "four of 10 KB are a page"
    assert window.beyond(15) == []
    large = store.append(RUN, step(21, {"text": "x" * 100_000}))
    window.add(large)
    assert window.beyond(20) == large
