"""Turns: how much of the process those who listen to runs may take, however many they are."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable

TICK_S = 0.05
TURNS_A_TICK = 50


class Turns:
    """Grants turns in the order they were asked for, at once while few ask, at most so many in a tick for all.

    What is done with a turn (handing one page to one listener) takes about 30 us, so 50 of them in 50 ms keep a
    process's streams to a thirtieth of a core. Who has to wait for his turn gets more with it.
    """

    def __init__(self, tick_s: float = TICK_S, turns_a_tick: int = TURNS_A_TICK) -> None:
        self._tick_s = tick_s
        self._all = turns_a_tick
        self._left = turns_a_tick
        self._asking: deque[asyncio.Future[None]] = deque()
        self._timer: asyncio.TimerHandle | None = None

    async def take(self) -> None:
        """Return when it is the caller's turn."""
        if self._left and not self._asking:
            self._left -= 1
            self._arm()
            return
        turn = asyncio.get_running_loop().create_future()
        self._asking.append(turn)
        await turn

    def grant(self, waiting: Iterable[asyncio.Future[None]]) -> None:
        """Give a turn to each of those who wait, by the result of what they wait for."""
        self._asking.extend(waiting)
        self._give()
        self._arm()

    def _give(self) -> None:
        while self._left and self._asking:
            turn = self._asking.popleft()
            if not turn.done():  # its owner has gone
                turn.set_result(None)
                self._left -= 1

    def _arm(self) -> None:
        if self._timer is None and self._left < self._all:
            self._timer = asyncio.get_running_loop().call_later(self._tick_s, self._tick)

    def _tick(self) -> None:
        self._timer = None
        self._left = self._all
        self._give()
        self._arm()
