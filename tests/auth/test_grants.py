"""What limits and permissions may be given by somebody who has some."""

from __future__ import annotations

import pytest

from app.auth.grants import covers, limits_are_within, narrowed_limits
from app.auth.principal import Limits
from app.errors import InvalidPermissionsError
from app.permissions import ArgumentRule, Permissions


@pytest.mark.parametrize(
    ("limit", "bound", "within"),
    [
        ("60/minute", "60/minute", True),
        ("61/minute", "60/minute", False),
        ("1/second", "60/minute", True),
        ("2/second", "60/minute", False),
        ("60/minute", "1/second", False),  # all of them in the same second
        ("1/minute", "1/second", True),
        ("10/day", "10/hour", True),
        ("24/day", "1/hour", False),
        ("1/hour", "24/day", True),
        (None, "1/hour", False),
        ("1000/second", None, True),
        (None, None, True),
    ],
)
def test_a_rate_is_within_another_if_no_period_has_more(
    limit: str | None, bound: str | None, within: bool
) -> None:
    assert limits_are_within(Limits(limit), Limits(bound)) is within


@pytest.mark.parametrize(
    ("theirs", "mine", "usual", "within"),
    [
        (None, None, Limits(runs=5), True),
        (Limits(runs=5), None, Limits(runs=5), True),
        (Limits(runs=6), None, Limits(runs=5), False),
        (None, Limits(runs=4), Limits(runs=5), False),
        (None, Limits(runs=6), Limits(runs=5), True),
        (Limits(tokens_per_day=1), Limits(steps_per_day=1), Limits(), False),
    ],
)
def test_where_a_limit_is_none_the_usual_one_holds(
    theirs: Limits | None, mine: Limits | None, usual: Limits, within: bool
) -> None:
    assert limits_are_within(theirs, mine, usual) is within


def test_what_is_not_said_is_the_givers() -> None:
    mine = Limits("60/minute", 5)
    assert narrowed_limits(mine, None) is mine
    assert narrowed_limits(mine, Limits(runs=4)) == Limits("60/minute", 4)
    assert narrowed_limits(None, Limits(steps_per_day=7)) == Limits(steps_per_day=7)
    with pytest.raises(InvalidPermissionsError, match="runs is 5 here"):
        narrowed_limits(None, Limits(runs=6), Limits(runs=5))


def test_permissions_cover_others_with_fewer_scopes_and_all_the_rules() -> None:
    one, two = ArgumentRule.parse("math:expression=1*"), ArgumentRule.parse("math:expression=*2")
    mine = Permissions.of(["runs:read", "tools:*"], [one])
    assert covers(mine, Permissions.of(["tools:math"], [two, one]))
    assert covers(Permissions(), mine)
    assert not covers(mine, Permissions.of(["tools:math"], [two]))
    assert not covers(mine, Permissions.of(["runs:write"], [one]))
    assert not covers(mine, Permissions.of(["*"], [one]))
