"""The principal: who asks, of which tenant, and within which bounds."""

from __future__ import annotations

import re
from typing import Final

from msgspec import Struct

from ..errors import InvalidPermissionsError
from ..permissions import Permissions
from ..tools.call import DEFAULT_TENANT

_TENANT: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", re.ASCII)


def parse_tenant(text: str) -> str:
    """Return the name of a tenant: 1 to 64 letters, digits, dots, dashes and underscores.

    Raises:
        InvalidPermissionsError: it is none.
    """
    if not _TENANT.fullmatch(text):
        raise InvalidPermissionsError(
            f"{text[:80]!r} names no tenant; it is 1 to 64 letters, digits, dots, dashes and underscores."
        )
    return text


class Limits(Struct, frozen=True, cache_hash=True):
    """How much a key or a tenant may have; None is any number.

    Args:
        requests: a rate as `limits` writes it, such as "600/minute".
        runs: unfinished runs at once.
        steps_per_day: tool calls a day (UTC).
        tokens_per_day: tokens of models a day (UTC), input and output.
    """

    requests: str | None = None
    runs: int | None = None
    steps_per_day: int | None = None
    tokens_per_day: int | None = None


UNLIMITED: Final = Limits()


class Account(Struct, frozen=True):
    """A key that others descend from: the name of its principal, and the limits of that one alone."""

    name: str
    limits: Limits | None = None


class Principal(Struct, frozen=True, cache_hash=True):
    """Who asks.

    Args:
        name: "key:ID", "token:SUBJECT" or "anonymous"; it is recorded with the runs that they start.
        tenant: whose runs, notes and keys they see; others do not exist for them.
        limits: of this one alone; None for what the settings say of everybody.
        expires_at: seconds since 1970 from when on they are nobody; None if that never happens.
        has_quotas: whether quotas hold for their runs; not for those that the operator has scheduled.
        ancestors: the keys that theirs descends from, its parent first. What they use counts for each of these
            too, so that no line of keys gets more than the one it began with.
    """

    name: str
    tenant: str = DEFAULT_TENANT
    permissions: Permissions = Permissions()
    limits: Limits | None = None
    expires_at: float | None = None
    has_quotas: bool = True
    ancestors: tuple[Account, ...] = ()


ANONYMOUS: Final = Principal("anonymous")
"""Whoever asks where nobody has to say who they are; they may do everything."""
