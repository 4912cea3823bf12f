"""The bundle: a run and its stored events as one JSON document, to be checked anywhere (docs/journal.md)."""

from __future__ import annotations

import json
from collections.abc import AsyncIterable, Iterator
from pathlib import Path
from typing import Annotated, Final, Literal, TextIO, TypeVar

import msgspec
from msgspec import Meta, Struct

from ..errors import InvalidBundleError
from .chain import Head
from .models import Run, StoredEvent
from .scanner import JsonScanner, NotScannableError

_Kind = TypeVar("_Kind")

FORMAT: Final = "llm-agent-core.run/1"

Digest = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z", description="32 bytes in lower-case hexadecimal digits")]


class Header(Struct, frozen=True):
    """What stands in a bundle beside the events. Members that are not known are passed over."""

    format: Literal["llm-agent-core.run/1"]
    tenant: str
    run_id: str
    status: str
    head_seq: Annotated[int, Meta(ge=0)]
    head_hash: Digest

    @property
    def head(self) -> Head:
        """The last event that the run had when it was exported."""
        return Head(bytes.fromhex(self.head_hash), self.head_seq)


class _Event(Struct, frozen=True):
    """An event as it stands in a bundle."""

    seq: int
    prev_hash: Digest
    hash: Digest
    body: str


async def write_bundle(out: TextIO, run: Run, events: AsyncIterable[StoredEvent]) -> None:
    """Write `run` with its events, which come in order and up to its head, one a line and nothing but ASCII."""
    head = Header(FORMAT, run.tenant, run.run_id, run.status, run.events, run.head_hash.hex())
    members = [f"{json.dumps(name)}: {json.dumps(value)}" for name, value in msgspec.structs.asdict(head).items()]
    out.write("{" + ",\n ".join(members) + ',\n "events": [')
    separator = "\n"
    async for event in events:
        out.write(separator + _line(event))
        separator = ",\n"
    out.write("\n]}\n")


def _line(event: StoredEvent) -> str:
    members = _Event(event.seq, event.prev_hash.hex(), event.hash.hex(), event.body)
    return json.dumps(msgspec.structs.asdict(members))


class Bundle:
    """A bundle in a file, whatever the order and layout of its members; never all of it is in memory.

    Raises:
        InvalidBundleError: the file cannot be read or is no bundle; here, or while its events are read.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        if not path.is_file():
            raise InvalidBundleError(f"{path} is no file." if path.exists() else f"There is no file {path}.")
        members = {name: value for name, value in self._members() if name != "events"}
        self.header = self._converted(members, Header, "")

    def events(self) -> Iterator[StoredEvent]:
        """Yield its events in their order, each checked for its form and for nothing else."""
        place = 0
        for name, value in self._members():
            if name == "events":
                place += 1
                event = self._converted(value, _Event, f", event {place} of it")
                yield StoredEvent(event.seq, event.body, bytes.fromhex(event.prev_hash), bytes.fromhex(event.hash))

    def _members(self) -> Iterator[tuple[str, object]]:
        """Yield the document's members, and instead of its events each of them by itself."""
        try:
            with self._path.open(encoding="utf-8-sig") as file:
                yield from JsonScanner(file).members("events")
        except OSError as error:
            raise InvalidBundleError(f"{self._path} cannot be read: {error.strerror or error}.") from error
        except UnicodeDecodeError as error:
            raise InvalidBundleError(f"{self._path} is no bundle: it is not UTF-8 text.") from error
        except NotScannableError as error:
            raise InvalidBundleError(f"{self._path} is no bundle: {error}.") from error

    def _converted(self, value: object, kind: type[_Kind], where: str) -> _Kind:
        try:
            return msgspec.convert(value, kind)
        except msgspec.ValidationError as error:
            raise InvalidBundleError(f"{self._path} is no bundle{where}: {error}.") from error
