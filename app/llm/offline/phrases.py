"""The phrases of arithmetic, and the one word or sign that stands for all phrases of a kind."""

from __future__ import annotations

import re

_PHRASES = {
    "+": ("plus", "added to"),
    "-": ("minus", "take away", "less", "−", "negative"),
    "*": ("times", "multiplied by", "x", "×", "·"),
    "/": ("divided by", "over", "÷"),
    "%": ("mod", "modulo", "modulus"),
    "**": ("^", "to the power of", "raised to the power of", "to the", "raised to the", "raised to"),
    "percent": ("per cent", "percentage"),
    "sqrt": ("square root of", "square root", "sqrt of", "√"),
    "cbrt": ("cube root of", "cube root", "cubic root of", "∛"),
    "factorial": ("factorial of",),
    "SUM": ("sum of", "sum total of", "total of"),
    "PRODUCT": ("product of",),
    "DIFFERENCE": ("difference between", "difference of"),
    "QUOTIENT": ("quotient of",),
    "MEAN": ("average of", "mean of"),
    "MAX": ("max of", "maximum of", "largest of", "biggest of", "greatest of", "highest of", "larger of"),
    "MIN": ("min of", "minimum of", "smallest of", "lowest of", "least of", "smaller of"),
    "off": ("off of",),
    "tip": ("tip on", "tip for", "tip of", "tax on", "gratuity on", "vat on"),
    "SHARE": ("what percent of", "what % of", "what percentage of"),
    "squared": ("²",),
    "cubed": ("³",),
    "and": ("&",),
}
_CANONICAL = {phrase: word for word, phrases in _PHRASES.items() for phrase in phrases}
_PHRASE = re.compile(
    "(?<![^ ])(?:" + "|".join(re.escape(phrase) for phrase in sorted(_CANONICAL, key=len, reverse=True)) + ") "
)

_HYPHEN = re.compile("(?<=[a-z])-(?=[a-z])")


def canonical(line: str) -> list[str]:
    """Return the words of `line` with each phrase of arithmetic replaced by the word that stands for it."""
    plain = _HYPHEN.sub(" ", line)
    return _PHRASE.sub(lambda match: _CANONICAL[match.group()[:-1]] + " ", plain).split()
