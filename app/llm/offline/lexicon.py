"""Lists of words, written down as text."""

from __future__ import annotations


def listed(text: str) -> tuple[str, ...]:
    """Return the words of `text`, in order."""
    return tuple(text.split())


def lexicon(text: str) -> frozenset[str]:
    """Return the set of the words of `text`."""
    return frozenset(text.split())
