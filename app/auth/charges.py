"""Against whose limits it counts what somebody does."""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from msgspec import Struct

from .principal import Limits, Principal

TENANT: Final = ""
"""The subject under which a tenant's own sum stands; nobody is called so."""


class Charge(Struct, frozen=True):
    """Against whose limits something counts: `whose` is what answers call them."""

    whose: str
    subject: str
    limits: Limits


@lru_cache(maxsize=1024)
def charges(principal: Principal, key: Limits, tenant: Limits) -> tuple[Charge, ...]:
    """Return against whose limits it counts what somebody does: theirs, their key's ancestors', their tenant's.

    `key` are the limits of each one who has none of their own, `tenant` those of each tenant.
    """
    return (
        Charge("key", principal.name, _limits_of(principal.limits, key)),
        *(
            Charge(_ancestry(number), ancestor.name, _limits_of(ancestor.limits, key))
            for number, ancestor in enumerate(principal.ancestors, 1)
        ),
        Charge("tenant", TENANT, tenant),
    )


def _ancestry(number: int) -> str:
    """Return what an ancestor is called: the first is the parent."""
    return "parent" if number == 1 else f"parent-{number}"


def _limits_of(own: Limits | None, usual: Limits) -> Limits:
    if own is None:
        return usual
    return Limits(
        usual.requests if own.requests is None else own.requests,
        usual.runs if own.runs is None else own.runs,
        usual.steps_per_day if own.steps_per_day is None else own.steps_per_day,
        usual.tokens_per_day if own.tokens_per_day is None else own.tokens_per_day,
    )
