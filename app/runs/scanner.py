"""Reading a JSON document piece by piece, so that one larger than memory can be read."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Final, TextIO

MAX_VALUE_CHARS: Final = 4 << 20
"""How long one value may be: an event of 256 KiB, with every character of it escaped, has room in it twice."""

_PIECE: Final = 1 << 16
_BLANK: Final = " \t\r\n"


class NotScannableError(ValueError):
    """The text is no JSON object of the form that is read here; the message says where it stops being one."""


class JsonScanner:
    """One pass over a JSON text; at most about twice MAX_VALUE_CHARS of it are held at once."""

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self._text = ""
        self._at = 0
        self._before = 0
        self._decoder = json.JSONDecoder(object_pairs_hook=_distinct, parse_int=_integer, parse_constant=_refused)

    def members(self, streamed: str) -> Iterator[tuple[str, object]]:
        """Yield the name and value of each member of the object that the text is.

        The member `streamed` has to be there and to be an array; it is yielded one item at a time. Integers of
        more than 19 digits come as their digits.

        Raises:
            NotScannableError: it is no such object, names a member twice, or has a value that is too long.
        """
        seen = set()
        self._expect("{")
        if not self._skip("}"):
            while True:
                name = self._value()
                if not isinstance(name, str) or name in seen:
                    raise self._error("a name, and one that was not there before, is expected")
                seen.add(name)
                self._expect(":")
                if name == streamed:
                    for item in self._items():
                        yield name, item
                else:
                    yield name, self._value()
                if self._skip("}"):
                    break
                self._expect(",")
        if streamed not in seen:
            raise NotScannableError(f"it has no member {streamed!r}")
        if self._peek():
            raise self._error("nothing more is expected")

    def _items(self) -> Iterator[object]:
        self._expect("[")
        if self._skip("]"):
            return
        while True:
            yield self._value()
            if self._skip("]"):
                return
            self._expect(",")

    def _value(self) -> object:
        if not self._peek():
            raise self._error("it ends too early")
        while True:
            try:
                value, end = self._decoder.raw_decode(self._text, self._at)
            except json.JSONDecodeError as error:
                if not self._grow():  # it may just not have been all there
                    self._at = error.pos
                    raise self._error(error.msg) from None
            except (ValueError, RecursionError) as error:
                raise self._error(str(error)) from None
            else:
                if (
                    end + 2 < len(self._text) or not self._grow()
                ):  # a number could go on: 1 is how 1.5 and 1e+2 begin
                    self._at = end
                    return value

    def _expect(self, char: str) -> None:
        if not self._skip(char):
            raise self._error(f"{char!r} is expected")

    def _skip(self, char: str) -> bool:
        """Pass over `char` if it comes next."""
        if self._peek() != char:
            return False
        self._at += 1
        return True

    def _peek(self) -> str:
        """Return the next character that is not blank, or nothing at the end."""
        while True:
            while self._at < len(self._text):
                if self._text[self._at] not in _BLANK:
                    return self._text[self._at]
                self._at += 1
            if not self._grow():
                return ""

    def _grow(self) -> bool:
        """Read on, so much that a long value is not tried too often, and forget what is done with."""
        left = len(self._text) - self._at
        if left > MAX_VALUE_CHARS:
            raise self._error("a value is too long")
        more = self._file.read(max(_PIECE, left))
        if more:
            self._before += self._at
            self._text = self._text[self._at :] + more
            self._at = 0
        return bool(more)

    def _error(self, reason: str) -> NotScannableError:
        return NotScannableError(f"at character {self._before + self._at}, {reason}")


def _distinct(pairs: list[tuple[str, object]]) -> dict[str, object]:
    value = dict(pairs)
    if len(value) < len(pairs):
        raise ValueError("an object names a member twice")
    return value


def _integer(digits: str) -> int | str:
    # Python refuses to read very long ones, and would take long to
    return int(digits) if len(digits) < 20 else digits


def _refused(name: str) -> object:
    raise ValueError(f"{name} is no JSON")
