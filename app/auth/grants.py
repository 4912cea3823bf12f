"""What a key may be given: by nobody more than they have themselves, in scopes, rules, limits and time."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Final

from msgspec.structs import asdict

from ..errors import InvalidPermissionsError
from ..permissions import ArgumentRule, Permissions
from .principal import UNLIMITED, Limits

MOST: Final = 10**12
"""The largest number of runs, steps or tokens that can be given; who is to have more is given none."""

_SECONDS: Final[Mapping[str, int]] = {"second": 1, "minute": 60, "hour": 3600, "day": 86_400}
_RATE: Final = re.compile(r"([1-9][0-9]{0,8})/(second|minute|hour|day)", re.ASCII)
RATE_PATTERN: Final = f"^{_RATE.pattern}$"


_NO_UTF_8: Final = re.compile("[\ud800-\udfff]")


def covers(mine: Permissions, theirs: Permissions) -> bool:
    """Say whether theirs are no more than mine: no scope beyond, and every one of my rules."""
    return all(mine.allows(scope) for scope in theirs.scopes) and set(mine.rules) <= set(theirs.rules)


def check_rules(rules: Iterable[ArgumentRule]) -> None:
    """Make sure that rules can be kept.

    Raises:
        InvalidPermissionsError: one holds text that has no UTF-8.
    """
    for rule in rules:
        if _NO_UTF_8.search(str(rule)):
            raise InvalidPermissionsError("A rule holds a lone surrogate, which cannot be stored.")


def parse_limits(limits: Limits) -> Limits:
    """Return limits that can be: rates such as 600/minute, and whole numbers from 1.

    Raises:
        InvalidPermissionsError: one of them is none.
    """
    if limits.requests is not None:
        _read_rate(limits.requests)
    for name, number in (
        ("runs", limits.runs),
        ("steps_per_day", limits.steps_per_day),
        ("tokens_per_day", limits.tokens_per_day),
    ):
        if number is not None and not 1 <= number <= MOST:
            raise InvalidPermissionsError(f"The limit {name} is a whole number from 1 to {MOST}.")
    return limits


def narrowed_limits(mine: Limits | None, wanted: Limits | None, usual: Limits = UNLIMITED) -> Limits | None:
    """Return the limits of a child that is to have these; what is not said is ours.

    `usual` is what holds where a limit is None.

    Raises:
        InvalidPermissionsError: one of them is none, or wider than ours.
    """
    if wanted is None:
        return mine
    said = asdict(parse_limits(wanted))
    inherited, bounds = asdict(mine or UNLIMITED), _in_force(mine, usual)
    for name, limit in said.items():
        if limit is not None and not _is_within(limit, bounds[name]):
            raise InvalidPermissionsError(f"Nobody can give what they do not have: {name} is {bounds[name]} here.")
    return Limits(**{name: inherited[name] if limit is None else limit for name, limit in said.items()})


def limits_are_within(theirs: Limits | None, mine: Limits | None, usual: Limits = UNLIMITED) -> bool:
    """Say whether limits are no wider than ours; `usual` is what holds where one is None."""
    bounds = _in_force(mine, usual)
    return all(_is_within(limit, bounds[name]) for name, limit in _in_force(theirs, usual).items())


def _in_force(limits: Limits | None, usual: Limits) -> dict[str, str | int | None]:
    own = asdict(limits or UNLIMITED)
    return {name: usual_one if own[name] is None else own[name] for name, usual_one in asdict(usual).items()}


def _is_within(limit: str | int | None, bound: str | int | None) -> bool:
    if bound is None or limit is None:
        return bound is None
    if isinstance(limit, str) and isinstance(bound, str):
        return _rate_is_within(limit, bound)
    return isinstance(limit, int) and isinstance(bound, int) and limit <= bound


def _rate_is_within(limit: str, bound: str) -> bool:
    """Say whether what keeps to one rate keeps to the other: in no period of the other are there more requests."""
    requests, period_s = _read_rate(limit)
    most, of_s = _read_rate(bound)
    return requests * -(-of_s // period_s) <= most


def _read_rate(text: str) -> tuple[int, int]:
    """Return how many requests in how many seconds."""
    found = _RATE.fullmatch(text)
    if found is None:
        raise InvalidPermissionsError(
            f"{text[:40]!r} is no rate; one looks like 600/minute, with second, minute, hour or day."
        )
    return int(found[1]), _SECONDS[found[2]]
