"""Slots: how many unfinished runs whoever asks, and their tenant, may have at once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable
from functools import lru_cache
from typing import Final, Protocol

from msgspec.structs import replace

from ..agent.events import Event, RunFinished, RunStarted
from ..auth.charges import TENANT, charges
from ..auth.principal import ANONYMOUS, UNLIMITED, Limits, Principal
from ..errors import QuotaExceededError
from .models import Bound, NewRun, RunKey

RETRY_S: Final = 1
"""When to try again, since nobody knows when a run will end."""


class RunSlots(Protocol):
    """Counts the unfinished runs of those who asked for them; whoever is anonymous is not counted."""

    def take(self, new: NewRun, who: Principal) -> NewRun:
        """Make room for a run that is about to be created; return it as it is to be.

        Raises:
            QuotaExceededError: there are as many unfinished ones as there may be.
        """
        ...

    def free(self, key: RunKey) -> None:
        """Take note that the run has ended, or was not created after all; once or more often."""
        ...


class InMemorySlots:
    """The `RunSlots` of a process that has its runs to itself: exact. It frees them as a `RunObserver`.

    Args:
        key: the limits of each one who asks, where they have none of their own.
        tenant: the limits of each tenant.
    """

    watched: Collection[type[Event]] = (RunFinished,)

    def __init__(self, key: Limits = UNLIMITED, tenant: Limits = UNLIMITED) -> None:
        self._key = key
        self._tenant = tenant
        self._taken: dict[RunKey, tuple[str, ...]] = {}
        self._unfinished: Counter[tuple[str, str]] = Counter()

    def seed(self, unfinished: Iterable[tuple[RunKey, tuple[str, ...]]]) -> None:
        """Take note of runs that are there already, each with its subjects."""
        for key, subjects in unfinished:
            self._add(key, subjects)

    def take(self, new: NewRun, who: Principal) -> NewRun:
        for bound in bounds_of(who, self._key, self._tenant):
            check_bound(bound, self._unfinished[new.key.tenant, bound.subject])
        if new.subjects:
            self._add(new.key, new.subjects)
        return new

    def free(self, key: RunKey) -> None:
        for subject in self._taken.pop(key, ()):
            place = key.tenant, subject
            self._unfinished[place] -= 1
            if not self._unfinished[place]:
                del self._unfinished[place]

    def began(self, key: RunKey, opening: RunStarted) -> None:
        """Do nothing: a run is counted from before it is created."""

    def recorded(self, key: RunKey, _: Event) -> None:
        """Free the slot of a run that has ended."""
        self.free(key)

    def left(self, key: RunKey) -> None:
        """Do nothing: a run that waits, or was handed back, is unfinished."""

    def _add(self, key: RunKey, subjects: tuple[str, ...]) -> None:
        self._taken[key] = subjects = (*subjects, TENANT)
        for subject in subjects:
            self._unfinished[key.tenant, subject] += 1


class StoredSlots:
    """The `RunSlots` of processes that share a store, which counts where it writes the run, and so is exact.

    Args:
        key: the limits of each one who asks, where they have none of their own.
        tenant: the limits of each tenant.
    """

    def __init__(self, key: Limits = UNLIMITED, tenant: Limits = UNLIMITED) -> None:
        self._key = key
        self._tenant = tenant

    def take(self, new: NewRun, who: Principal) -> NewRun:
        return replace(new, bounds=bounds_of(who, self._key, self._tenant))

    def free(self, key: RunKey) -> None:
        """Do nothing: the store knows which runs have ended."""


def bounds_of(who: Principal, key: Limits, tenant: Limits) -> tuple[Bound, ...]:
    """Return how many unfinished runs there may be of whoever asks, their key's ancestors and their tenant."""
    return () if who is ANONYMOUS else _bounds_of(who, key, tenant)


@lru_cache(maxsize=1024)
def _bounds_of(who: Principal, key: Limits, tenant: Limits) -> tuple[Bound, ...]:
    return tuple(
        Bound(charge.whose, charge.subject, charge.limits.runs)
        for charge in charges(who, key, tenant)
        if charge.limits.runs is not None
    )


def check_bound(bound: Bound, unfinished: int) -> None:
    """Raise QuotaExceededError if there is no room for another run."""
    if unfinished >= bound.most:
        raise QuotaExceededError(
            f"This {bound.whose} has {bound.most} unfinished runs, and may not have more at once.", RETRY_S
        )
