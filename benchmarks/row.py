"""One line of the table: what was measured, ours beside its reference, and how that stands to the target."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

HEAD = ("what", "ours", "target", "reference", "ours ÷ ref", "verdict")

HAND = "hand-made loop"
BARE = "bare route"


@dataclass(frozen=True)
class Row:
    """A measured pair.

    `target` bounds `ours`, or with `of_ratio` the ratio of ours to the reference, if there is one. `scales` says
    that it was set on another machine and moves with how fast this one is; without a target the row is for
    information.
    """

    what: str
    unit: str
    ours: float
    reference: float | None = None
    reference_name: str = ""
    target: float | None = None
    bound: Literal["at most", "at least"] = "at most"
    of_ratio: bool = False
    scales: bool = False
    measured_ratio: float | None = None

    @property
    def ratio(self) -> float | None:
        """Ours over the reference; where rounds were paired, the median of their ratios."""
        if self.measured_ratio is not None or self.reference is None:
            return self.measured_ratio
        return self.ours / self.reference

    def verdict(self, slowness: float) -> str:
        """Return "ok", "ok (scaled)" or "over" on a machine `slowness` times as slow as that of the targets."""
        if self.target is None:
            return "–"
        value = self.ratio if self.of_ratio else self.ours
        assert value is not None
        if self._meets(value, self.target):
            return "ok"
        factor = slowness if self.bound == "at most" else 1 / slowness
        return "ok (scaled)" if self.scales and self._meets(value, self.target * factor) else "over"

    def _meets(self, value: float, target: float) -> bool:
        return value <= target if self.bound == "at most" else value >= target

    def cells(self, slowness: float) -> tuple[str, ...]:
        """Return the texts of the columns of HEAD."""
        target = "–"
        if self.target is not None:
            sign = "≤" if self.bound == "at most" else "≥"
            target = (
                f"{sign} {self.target:g} × ref" if self.of_ratio else f"{sign} {_number(self.target, self.unit)}"
            )
        return (
            self.what,
            _number(self.ours, self.unit),
            target,
            "–" if self.reference is None else f"{_number(self.reference, self.unit)} ({self.reference_name})",
            "–" if self.ratio is None else f"{self.ratio:.2f}",
            self.verdict(slowness),
        )


def _number(value: float, unit: str) -> str:
    digits = 0 if value >= 1000 or (not unit and value == int(value)) else 1 if value >= 10 else 2
    return f"{value:,.{digits}f} {unit}".rstrip()


def table(rows: Sequence[Row], slowness: float) -> str:
    """Return the rows as a Markdown table that is also readable in a terminal."""
    lines = [HEAD, *(row.cells(slowness) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(HEAD))]
    texts = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |"
        for line in lines
    ]
    texts.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(texts)
