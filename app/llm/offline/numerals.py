"""Numbers in words: seventeen, twenty-five, one hundred and five, 2.5 million, two thirds, the twelfth."""

from __future__ import annotations

from collections.abc import Sequence

from .lexicon import listed

_ONES = listed(
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
    "seventeen eighteen nineteen"
)
_TENS = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
_SMALL = {word: value for value, word in enumerate(_ONES)}
_SMALL |= {word: 10 * value for value, word in enumerate(_TENS, 2)}
_LARGE = {"thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}
_SCALES = _LARGE | {"hundred": 100, "dozen": 12, "k": 1000}

_ORDINAL_ONES = listed(
    "zeroth first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth thirteenth "
    "fourteenth fifteenth sixteenth seventeenth eighteenth nineteenth twentieth"
)
_ORDINALS = {word: value for value, word in enumerate(_ORDINAL_ONES)}

_FRACTIONS = {"half": 2, "quarter": 4, "hundredth": 100, "thousandth": 1000}
_FRACTIONS |= {word: value for word, value in _ORDINALS.items() if value > 2}
_FRACTIONS |= {f"{word}s": value for word, value in _FRACTIONS.items()} | {"halves": 2}

_SMALL_RUNS = [[word] for word in _SMALL if word != "zero"]

NUMBER_WORDS = frozenset({*_SMALL, *_SCALES})
FRACTION_WORDS = frozenset(_FRACTIONS)


def is_scale(word: str) -> bool:
    """Whether `word` says how many units there are in one: million, dozen."""
    return word in _SCALES


def is_figure(word: str) -> bool:
    """Whether `word` is a number in digits."""
    return "0" <= word[-1] <= "9" and (word[0] == "." or "0" <= word[0] <= "9")


def denominator(word: str) -> int | None:
    """Return 3 for third and thirds, 2 for half, None for anything that is no fraction."""
    return _FRACTIONS.get(word)


def ordinal(word: str) -> int | None:
    """Return 12 for 12th and twelfth, None for anything that is no ordinal."""
    if word[:1].isdecimal() and word[-2:] in {"st", "nd", "rd", "th"}:
        return int(word[:-2])
    return _ORDINALS.get(word)


def read_numeral(words: Sequence[str], start: int) -> tuple[str, int]:
    """Read the number that begins at `start`; return it in digits and where it ends, or "" if there is none."""
    if is_figure(words[start]):
        return _scaled_figure(words, start)
    digits, index = _read_whole(words, start)
    return _with_decimals(words, digits, index) if digits else (digits, index)


def _with_decimals(words: Sequence[str], digits: str, index: int) -> tuple[str, int]:
    """Read "point five" behind a number."""
    decimals = ""
    at = index + 1
    while index < len(words) and words[index] == "point" and at < len(words):
        word = words[at]
        if not (_SMALL.get(word, 10) < 10 or word.isdecimal()):
            break
        decimals += word if word.isdecimal() else str(_SMALL[word])
        at += 1
    return (f"{digits}.{decimals}", at) if decimals else (digits, index)


def _read_whole(words: Sequence[str], start: int) -> tuple[str, int]:
    total, group, index = 0, int(words[start] in _SCALES), start
    below, ceiling = 100, 10**15  # what a small number and a large unit must stay under to belong to this one
    while index < len(words):
        word = words[index]
        if word in _SMALL and _SMALL[word] < below and (_SMALL[word] or index == start):
            group, below = group + _SMALL[word], 10 if _SMALL[word] >= 20 else 0
        elif word == "hundred" and 0 < group < 100:
            group, below = group * 100, 100
        elif group and _LARGE.get(word, ceiling) < ceiling:
            total, group, below, ceiling = total + group * _LARGE[word], 0, 100, _LARGE[word]
        elif word == "dozen" and group and not total:
            group, below = group * 12, 0
        elif not (
            word == "and" and start < index and below == 100 and words[index + 1 : index + 2] in _SMALL_RUNS
        ):
            break
        index += 1
    return (str(total + group), index) if index > start else ("", start)


def _scaled_figure(words: Sequence[str], start: int) -> tuple[str, int]:
    figure = words[start]
    scale = _SCALES.get(words[start + 1]) if start + 1 < len(words) else None
    if scale is None:
        return _with_decimals(words, figure, start + 1) if figure.isdecimal() else (figure, start + 1)
    return f"({figure.replace(',', '')} * {scale})", start + 2
