"""Live: what is heard of a run between two of its events, and never kept: words of a model, news of its tools."""

from __future__ import annotations

from typing import Final, TypeAlias

from msgspec import Struct

MAX_CHARS: Final = 64 * 1024
"""How much of one text can be heard while the model speaks; the rest comes with the decision."""

PIECE_CHARS: Final = 16 * 1024
"""How much of it is handed to a listener at once."""

MAX_PIECES: Final = 256
"""How many pieces are kept apart: each is a string of its own, and costs fifty bytes more than its text."""

MAX_CALLS: Final = 64
"""Of how many calls at once progress is heard."""

Place: TypeAlias = tuple[int, int]
"""Where in a run something is said: its epoch, and the number of the event before it; later ones are greater."""

NOWHERE: Final[Place] = (0, 0)


class Delta(Struct, frozen=True):
    """A piece of what the model says in its `turn`-th decision, from character `offset` on.

    A piece at offset 0 begins the text; every other goes on where the listener's last one ended.
    """

    turn: int
    offset: int
    text: str


class Progress(Struct, frozen=True):
    """How the call of a step gets on, in its tool's words; `fraction` of it is done (0 to 1; None: not known)."""

    step: int
    tool: str
    text: str
    fraction: float | None = None


Heard: TypeAlias = Delta | Progress


class Ear:
    """What one listener has heard so far."""

    __slots__ = ("offset", "place", "reports")

    def __init__(self) -> None:
        self.place = NOWHERE
        self.offset = 0
        self.reports = 0

    @property
    def position(self) -> tuple[Place, int, int]:
        """How far this listener is."""
        return self.place, self.offset, self.reports


class Live:
    """What can be heard at one place of a run: the whole text so far, and the last report of each call.

    Adding to it costs an append. Listeners take what is new to them when they come to it, so one that is late or
    slow hears the same text in fewer pieces.
    """

    __slots__ = ("_calls", "_pieces", "length", "place", "reports", "turn")

    def __init__(self, place: Place, turn: int) -> None:
        self.place = place
        self.turn = turn
        self.length = 0
        self.reports = 0
        self._pieces: list[str] = []
        self._calls: dict[int, tuple[int, Progress]] = {}

    def say(self, text: str) -> None:
        """Add what the model says next."""
        length = self.length + len(text)
        if length > MAX_CHARS:
            text = text[: MAX_CHARS - self.length]
            length = MAX_CHARS
        if length > self.length:
            self._pieces.append(text)
            self.length = length
            if len(self._pieces) > MAX_PIECES:
                self._text()

    def repeat(self, delta: Delta) -> None:
        """Add what is new in a piece that another process has heard; one behind a gap is of no use."""
        if delta.turn == self.turn and delta.offset <= self.length:
            self.say(delta.text[self.length - delta.offset :])

    def report(self, progress: Progress) -> None:
        """Take note of how a call gets on."""
        if progress.step in self._calls or len(self._calls) < MAX_CALLS:
            self.reports += 1
            self._calls[progress.step] = self.reports, progress

    def has_more(self, ear: Ear) -> bool:
        """Say whether there is something to hear that this listener has not heard."""
        if ear.place != self.place:
            ear.place, ear.offset, ear.reports = self.place, 0, 0
        return self.length > ear.offset or self.reports > ear.reports

    def hear(self, ear: Ear, chars: int = PIECE_CHARS) -> list[Heard]:
        """Return what is new to this listener, at most `chars` of the text, and take note that it was heard."""
        if not self.has_more(ear):
            return []
        heard: list[Heard] = []
        if self.length > ear.offset:
            piece = self._text()[ear.offset : ear.offset + chars]
            heard.append(Delta(self.turn, ear.offset, sound(piece)))
            ear.offset += len(piece)
        if self.reports > ear.reports:
            heard.extend(progress for number, progress in self._calls.values() if number > ear.reports)
            ear.reports = self.reports
        return heard

    def _text(self) -> str:
        if len(self._pieces) > 1:
            self._pieces = ["".join(self._pieces)]
        return self._pieces[0]


def sound(text: str) -> str:
    """Return text that can be sent, of the same length: half of a surrogate pair is a question mark."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "replace").decode()
    return text
