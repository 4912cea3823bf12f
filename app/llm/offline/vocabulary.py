"""The words of arithmetic by kind, in their canonical form."""

from __future__ import annotations

from .lexicon import lexicon

FUNCTIONS = lexicon(
    "sqrt cbrt abs min max mean median sum round floor ceil log ln log2 log10 exp sin cos tan asin acos atan "
    "sinh cosh tanh factorial pow gcd lcm comb perm hypot trunc degrees radians"
)
CURRENCIES = dict.fromkeys(("$", "dollar", "dollars", "bucks", "usd"), "dollars")
CURRENCIES |= dict.fromkeys(("€", "euro", "euros", "eur"), "euros")
CURRENCIES |= dict.fromkeys(("£", "pound", "pounds", "gbp"), "pounds")

SKIPPED = frozenset({"the", "a", "an"})
BILLS = lexicon("bill meal check tab dinner lunch purchase order item")
PERCENTAGES = frozenset({"of", "off", "tip"})
REFERENCES = lexicon("it that this result sum total product difference quotient answer number value average")
POWERS = {"squared": 2, "cubed": 3}
SCALES = {"double": "2", "twice": "2", "triple": "3", "thrice": "3"}
RAISED = {"SQUARE": "2", "CUBE": "3", "RECIPROCAL": "(-1)"}
LISTING = lexicon("gcd lcm median mean min max sum hypot")
ANGLES = lexicon("sin cos tan")
CHARGES = lexicon("tip tax vat gratuity discount off")
UP_TO_HERE = lexicon("abs floor ceil trunc round")
"""Functions of a whole expression as often as of one number."""
