"""The phrases of arithmetic, and the one word or sign that stands for all phrases of a kind."""

from __future__ import annotations

import re

_PHRASES = {
    "+": ("plus", "added to"),
    "-": ("minus", "take away", "less", "−", "–", "—", "negative"),
    "*": ("times", "multiplied by", "×", "·", "⋅", "∗"),
    "/": ("divided by", "divided buy", "over", "÷"),
    "mod": ("modulo", "modulus"),
    "**": ("^", "to the power of", "raised to the power of", "to the", "raised to the", "raised to"),
    "percent": ("per cent", "percentage", "pct"),
    "sqrt": ("square root of", "square root", "squareroot of", "sqrt of", "√"),
    "cbrt": ("cube root of", "cube root", "cubic root of", "∛"),
    "factorial": ("factorial of",),
    "SUM": ("sum of", "sum total of", "total of"),
    "PRODUCT": ("product of",),
    "DIFFERENCE": ("difference between", "difference of"),
    "QUOTIENT": ("quotient of",),
    "MEAN": ("average of", "mean of"),
    "MAX": ("max of", "maximum of", "largest of", "biggest of", "greatest of", "highest of", "larger of"),
    "MIN": ("min of", "minimum of", "smallest of", "lowest of", "least of", "smaller of"),
    "off": ("off of", "discount on", "discount off", "reduction on"),
    "MORE": ("more than",),
    "LESS": ("less than", "fewer than"),
    "INTO": ("go into", "goes into", "fit into", "fits into", "divided into"),
    "REMAINDER": ("remainder when", "remainder of", "remainder if", "remainder from"),
    "SQUARE": ("square of",),
    "CUBE": ("cube of",),
    "RECIPROCAL": ("reciprocal of",),
    "ROOT": ("root of", "root"),
    "abs": ("absolute value of", "absolute value"),
    "gcd": ("greatest common divisor", "greatest common factor", "highest common factor", "gcf", "hcf"),
    "lcm": ("least common multiple", "lowest common multiple"),
    "ceil": ("ceiling",),
    "ln": ("natural log", "natural logarithm"),
    "log2": ("log base 2", "logarithm base 2", "log base two"),
    "log10": ("log base 10", "logarithm base 10", "common log", "log base ten"),
    "sin": ("sine",),
    "cos": ("cosine",),
    "tan": ("tangent",),
    "degrees": ("degree", "°"),
    "from": ("away from",),
    "to nearest": ("to the nearest",),
    "to result": ("to the result", "to the answer"),
    "6": ("half a dozen",),
    "500000": ("half a million",),
    "tip": ("tip on", "tip for", "tip of", "tax on", "gratuity on", "vat on"),
    "PART": ("what percentage is", "what percent is", "what % is"),
    "SHARE": ("what percent of", "what % of", "what percentage of"),
    "squared": ("²",),
    "cubed": ("³",),
    "and": ("&",),
}
_CANONICAL = {phrase: word for word, phrases in _PHRASES.items() for phrase in phrases}
_PHRASE = re.compile(
    "(?<![^ ])(?:" + "|".join(re.escape(phrase) for phrase in sorted(_CANONICAL, key=len, reverse=True)) + ") "
)

_TIMES = re.compile(r"(?<![^ ])x (?=[\d(.$√])")
"""An x between two numbers; one before a sign is a variable."""

_HALF = re.compile(r"(?<![\d] )(?<![^ ])([½¼]) ")
_HYPHEN = re.compile("(?<=[a-z])-(?=[a-z])")


def canonical(line: str) -> list[str]:
    """Return the words of `line` with each phrase of arithmetic replaced by the word that stands for it."""
    plain = _HYPHEN.sub(" ", line)
    plain = _TIMES.sub("* ", plain)
    if not plain.isascii():
        plain = _HALF.sub(lambda match: "half " if match[1] == "½" else "quarter ", plain)
    return _PHRASE.sub(lambda match: _CANONICAL[match.group()[:-1]] + " ", plain).split()
