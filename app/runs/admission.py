"""Admission: whether whoever asks may have another run now, and how much of it."""

from __future__ import annotations

from msgspec.structs import replace

from ..agent.events import RunStarted
from ..auth.principal import Principal
from ..auth.quotas import Allowance, Quotas
from .models import NewRun, RunKey
from .slots import RunSlots


class Admission:
    """Admits runs within the quotas of whoever asks for them, and of their tenant.

    Args:
        max_steps, max_tokens: what a run may use that does not say so itself; None is any number.
        is_free: whether the model that runs have as a rule takes no tokens: to count them would only cost time.
    """

    def __init__(
        self,
        quotas: Quotas,
        slots: RunSlots,
        max_steps: int,
        max_tokens: int | None = None,
        *,
        is_free: bool = False,
    ) -> None:
        self._quotas = quotas
        self._slots = slots
        self._max_steps = max_steps
        self._max_tokens = max_tokens
        self._is_free = is_free

    async def admit(self, new: NewRun, who: Principal, begun: RunStarted) -> tuple[NewRun, RunStarted]:
        """Take a slot for a run that is about to be created; return it and its opening, within what is left today.

        Raises:
            QuotaExceededError: there is no slot, or nothing left.
            StorageError: it cannot be told.
        """
        if not who.has_quotas:
            return new, begun
        takes_tokens = not self._is_free or begun.model is not None
        tokens = begun.max_tokens or self._max_tokens
        wanted = Allowance(begun.max_steps or self._max_steps, tokens if takes_tokens else 0)
        granted = await self._quotas.admit(who, wanted)
        new = self._slots.take(new, who)
        if granted.steps or granted.tokens:
            begun = replace(
                begun,
                max_steps=granted.steps or begun.max_steps,
                max_tokens=granted.tokens or begun.max_tokens,
            )
        return new, begun

    def withdraw(self, key: RunKey) -> None:
        """Take note that the run was not created after all."""
        self._slots.free(key)
