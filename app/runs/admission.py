"""Admission: whether whoever asks may have another run now, and how much of it."""

from __future__ import annotations

from msgspec.structs import replace

from ..agent.events import RunStarted
from ..auth.principal import Principal
from ..auth.quotas import Quotas
from .models import NewRun, RunKey
from .slots import RunSlots


class Admission:
    """Admits runs within the quotas of whoever asks for them, and of their tenant.

    Args:
        max_steps: how many tool calls a run may make that does not say so itself.
        is_free: whether the model that runs have as a rule takes no tokens: to count them would only cost time.
    """

    def __init__(self, quotas: Quotas, slots: RunSlots, max_steps: int, *, is_free: bool = False) -> None:
        self._quotas = quotas
        self._slots = slots
        self._max_steps = max_steps
        self._is_free = is_free

    async def admit(self, new: NewRun, who: Principal, begun: RunStarted) -> tuple[NewRun, RunStarted]:
        """Take a slot for a run that is about to be created; return it and its opening, within what is left today.

        Raises:
            QuotaExceededError: there is no slot, or nothing left.
            StorageError: it cannot be told.
        """
        if not who.has_quotas:
            return new, begun
        left = await self._quotas.admit(who)
        new = self._slots.take(new, who)
        if left.steps is not None:
            begun = replace(begun, max_steps=min(begun.max_steps or self._max_steps, left.steps))
        if left.tokens is not None and not (self._is_free and begun.model is None):
            begun = replace(begun, max_tokens=min(begun.max_tokens or left.tokens, left.tokens))
        return new, begun

    def withdraw(self, key: RunKey) -> None:
        """Take note that the run was not created after all."""
        self._slots.free(key)
