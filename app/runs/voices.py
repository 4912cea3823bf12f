"""Voices: what the runs that are driven here let be heard, on its way to whoever listens, here or elsewhere."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from threading import Lock

from ..agent.state import AgentState
from ..redaction import PLAIN_REDACTOR, RedactedStream, Redactor
from ..tools.call import ToolCallContext
from .journal import DurableJournal
from .live import NOWHERE, Live, Progress, sound
from .models import RunKey
from .ports import Audience

REPORTS_S = 0.05
"""Of what a call reports within this time only the last is heard."""


class Voices:
    """The voices of the runs that are driven here, and who is there to hear them.

    Secrets that `redactor` knows are masked before anybody hears of them.
    """

    def __init__(self, redactor: Redactor = PLAIN_REDACTOR) -> None:
        self._redactor = redactor
        self._speaking: dict[RunKey, Voice] = {}
        self._audiences: list[Audience] = []

    def join(self, audience: Audience) -> None:
        """Let somebody hear, from now on, of the runs that they say they listen to."""
        self._audiences.append(audience)

    def voice(self, journal: DurableJournal, state: AgentState) -> Voice:
        """Return the voice of a run that this process has claimed."""
        return Voice(journal, state, self._audiences, self._redactor)

    def begin(self, key: RunKey, voice: Voice) -> None:
        """Take note that a run is driven here from now on."""
        self._speaking[key] = voice

    def end(self, key: RunKey) -> None:
        """Forget what a run has said; it is not driven here any more."""
        del self._speaking[key]

    def live(self, key: RunKey) -> Live | None:
        """Return what can be heard just now of a run that is driven here; None of any other."""
        voice = self._speaking.get(key)
        return None if voice is None else voice.live


class Voice:
    """The voice of one run that is driven here."""

    __slots__ = (
        "_audiences",
        "_is_due",
        "_journal",
        "_lock",
        "_loop",
        "_redactor",
        "_reported",
        "_reports",
        "_said",
        "_state",
        "live",
    )

    def __init__(
        self, journal: DurableJournal, state: AgentState, audiences: Sequence[Audience], redactor: Redactor
    ) -> None:
        self._journal = journal
        self._state = state
        self._audiences = audiences
        self._redactor = redactor
        self._said = RedactedStream(redactor)
        self._loop = asyncio.get_running_loop()
        self._lock = Lock()
        self._reports: dict[ToolCallContext, tuple[str, float | None]] = {}
        self._is_due = False
        self._reported = 0.0
        self.live: Live = _SILENCE

    def say(self, text: str) -> None:
        """Let be heard what the model says next."""
        live = self._here()
        text = self._said.take(text)
        if text:
            live.say(text)
            self._tell()

    def report(self, call: ToolCallContext, text: str, fraction: float | None) -> None:
        """Let be heard how a call gets on; from any thread, however often."""
        if not any(self._journal.key in audience for audience in self._audiences):
            return
        with self._lock:
            self._reports[call] = text, fraction
            if self._is_due:
                return
            self._is_due = True
        with suppress(RuntimeError):  # the loop has closed, and with it everything else
            self._loop.call_soon_threadsafe(self._come_to_reports)

    def _come_to_reports(self) -> None:
        self._loop.call_at(max(self._loop.time(), self._reported + REPORTS_S), self._take_reports)

    def _take_reports(self) -> None:
        self._reported = self._loop.time()
        with self._lock:
            reports, self._reports = self._reports, {}
            self._is_due = False
        for call, (text, fraction) in reports.items():
            tool = self._tool_of(call)
            if tool is not None:
                self._here().report(Progress(call.step, tool, self._redactor.text(sound(text)), fraction))
                self._tell()

    def _tool_of(self, call: ToolCallContext) -> str | None:
        """Return the name of the tool of a call that is under way; None of one that is over."""
        at = call.step - len(self._state.steps) - 1
        pending = self._state.pending
        return pending[at].name if 0 <= at < len(pending) else None

    def _here(self) -> Live:
        """Return what can be heard where the run is now: what was said before its last event is over."""
        if self.live.place[1] != self._journal.head_seq:
            self.live = Live((self._journal.epoch, self._journal.head_seq), self._state.turns)
            self._said = RedactedStream(self._redactor)
        return self.live

    def _tell(self) -> None:
        key = self._journal.key
        for audience in self._audiences:
            if key in audience:
                audience.heard(key, self.live)


_SILENCE = Live(NOWHERE, 0)
