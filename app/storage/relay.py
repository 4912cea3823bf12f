"""The relay: carries what runs say, while they say it, between the processes of one Postgres database."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Iterator
from contextlib import suppress
from time import monotonic
from typing import Final, NoReturn, TypeAlias
from uuid import uuid4

import msgspec
from msgspec import Struct
from sqlalchemy import ARRAY, Text, bindparam, func, select

from ..runs.feed import EventFeed
from ..runs.live import Delta, Ear, Live, Place, Progress
from ..runs.models import RunKey
from ..runs.voices import Voices
from .database import Database

log = logging.getLogger(__name__)

CHANNEL: Final = "llm_agent_core_live"

PAUSE_S: Final = 0.05
"""A process sends at most this often, and then all that was said."""

MAX_BYTES: Final = 7_500
"""How long a payload may be; Postgres takes less than 8,000 bytes."""

PIECE_CHARS: Final = 1_000
"""How long a text may be to fit in a payload, whatever is in it: JSON takes up to six bytes for a character."""

PIECES_A_TURN: Final = 8
"""How much of one run is sent at once; what is left over comes with the next turn."""

LISTENING_S: Final = 15.0
"""How long a process is taken to listen to a run after it has said so."""

REPEAT_S: Final = 5.0
"""How often a process says again what it listens to, in case that got lost or a run has moved."""


class Wanted(Struct, array_like=True, frozen=True, tag="wanted"):
    """Somebody listens to these runs, and has `begun` to just now or goes on."""

    begun: bool
    keys: list[tuple[str, str]]


class Said(Struct, array_like=True, frozen=True, tag="said"):
    """Something to be heard of a run, at a place and in a turn of it."""

    tenant: str
    run_id: str
    place: Place
    turn: int
    delta: Delta | None
    progress: Progress | None


Message: TypeAlias = Wanted | Said

_ENCODER: Final = msgspec.json.Encoder()
_DECODER: Final = msgspec.json.Decoder(list[Message])
_NOTIFY: Final = select(func.pg_notify(CHANNEL, func.unnest(bindparam("payloads", type_=ARRAY(Text)))))


class _Listener:
    """What other processes have been sent of one run, and until when they listen."""

    __slots__ = ("ear", "until")

    def __init__(self) -> None:
        self.ear = Ear()
        self.until = 0.0


class Relay:
    """An `Audience`: the listeners in other processes, as far as they have made themselves known.

    A process says what it listens to, so that nothing is sent of a run that nobody follows. All of it goes by
    NOTIFY, on connections that the journal does not write on; it is kept nowhere and may be lost, and a listener
    then waits for the decision.

    Args:
        voices: the runs that are driven in this process.
        feed: the listeners in this process.
    """

    def __init__(self, database: Database, voices: Voices, feed: EventFeed) -> None:
        self._database = database
        self._voices = voices
        self._feed = feed
        self._me = uuid4().hex[:12]
        self._listeners: dict[RunKey, _Listener] = {}
        self._fresh: dict[RunKey, Live] = {}
        self._begun: set[RunKey] = set()
        self._due = asyncio.Event()
        self._is_down = False
        voices.join(self)
        feed.call_out = self.call_out

    def __contains__(self, key: object) -> bool:
        """Say whether somebody elsewhere follows this run."""
        return key in self._listeners

    def heard(self, key: RunKey, live: Live) -> None:
        """Take note that there is more to hear of a run that is driven here."""
        self._fresh[key] = live
        self._due.set()

    def call_out(self, key: RunKey) -> None:
        """Tell the others that somebody here begins to listen to a run."""
        self._begun.add(key)
        self._due.set()

    def call_again(self) -> None:
        """Tell the others what is listened to here, after a time in which nothing could be heard of them."""
        self._begun.update(self._feed.followed)
        self._due.set()

    async def send_forever(self) -> NoReturn:
        """Send what is said here, and which runs are listened to here."""
        repeat_at = monotonic() + REPEAT_S
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(max(repeat_at - monotonic(), 0)):
                    await self._due.wait()
            self._due.clear()
            begun, self._begun = self._begun, set()
            messages = [*_wanted(begun, begun=True), *self._said()]
            if monotonic() >= repeat_at:
                repeat_at = monotonic() + REPEAT_S
                self._forget_the_gone()
                messages += _wanted(self._feed.followed, begun=False)
            await self._send(messages)
            await asyncio.sleep(PAUSE_S)

    def receive(self, payload: str) -> None:
        """Take in what another process has sent."""
        sender, _, body = payload.partition("\n")
        if sender == self._me:
            return
        try:
            messages = _DECODER.decode(body)
        except msgspec.DecodeError:  # of another version, which can do without us
            log.debug("another process says what is not understood here")
            return
        for message in messages:
            if isinstance(message, Wanted):
                self._note(message)
            else:
                heard = message.delta or message.progress
                if heard is not None:
                    key = RunKey(message.tenant, message.run_id)
                    self._feed.overheard(key, message.place, message.turn, heard)

    def _note(self, wanted: Wanted) -> None:
        for tenant, run_id in wanted.keys:
            key = RunKey(tenant, run_id)
            listener = self._listeners.get(key)
            if listener is None:
                listener = self._listeners[key] = _Listener()
            elif wanted.begun:
                listener.ear = Ear()  # whoever has just come has heard nothing
            listener.until = monotonic() + LISTENING_S
            live = self._voices.live(key)
            if live is not None and live.has_more(listener.ear):
                self.heard(key, live)

    def _said(self) -> Iterator[Message]:
        fresh, self._fresh = self._fresh, {}
        for key, live in fresh.items():
            listener = self._listeners.get(key)
            if listener is None:
                continue
            for _ in range(PIECES_A_TURN):
                for heard in live.hear(listener.ear, PIECE_CHARS):
                    delta, progress = (heard, None) if isinstance(heard, Delta) else (None, heard)
                    yield Said(key.tenant, key.run_id, live.place, live.turn, delta, progress)
            if live.has_more(listener.ear):
                self._fresh.setdefault(key, live)
                self._due.set()

    def _forget_the_gone(self) -> None:
        now = monotonic()
        for key in [key for key, listener in self._listeners.items() if listener.until < now]:
            del self._listeners[key]

    async def _send(self, messages: Iterable[Message]) -> None:
        payloads = list(_packed(self._me, messages))
        if not payloads:
            return
        try:
            await self._database.read(lambda connection: connection.execute(_NOTIFY, {"payloads": payloads}).all())
            self._is_down = False
        except Exception as error:  # whatever it is, it is no reason for a process to die
            if not self._is_down:
                log.warning("what runs say is not heard in other processes: %s", error)
            self._is_down = True


def _wanted(keys: Iterable[RunKey], *, begun: bool) -> Iterator[Message]:
    """Return messages that fit in a payload each; ids are short, and so 50 of them do."""
    named = [(key.tenant, key.run_id) for key in keys]
    for start in range(0, len(named), 50):
        yield Wanted(begun, named[start : start + 50])


def _packed(sender: str, messages: Iterable[Message]) -> Iterator[str]:
    """Return payloads, each of as many messages as fit; one that does not fit at all is left out."""
    head = f"{sender}\n["
    parts: list[bytes] = []
    size = len(head) + 1
    for message in messages:
        part = _ENCODER.encode(message)
        if parts and size + len(part) + 1 > MAX_BYTES:
            yield _payload(head, parts)
            parts, size = [], len(head) + 1
        if size + len(part) + 1 <= MAX_BYTES:
            parts.append(part)
            size += len(part) + 1
    if parts:
        yield _payload(head, parts)


def _payload(head: str, parts: list[bytes]) -> str:
    return head + b",".join(parts).decode() + "]"
