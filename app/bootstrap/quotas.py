"""The quotas that the settings set, wired: what admits runs, and what it has to know before any is carried out."""

from __future__ import annotations

from ..auth.quotas import Quotas
from ..config import Settings
from ..llm.providers.names import MOCK
from ..runs.admission import Admission
from ..runs.ports import RunObserver
from ..runs.slots import InMemorySlots, RunSlots, StoredSlots
from ..storage.daily_usage import SqlDailyUsage
from ..storage.database import Database
from ..storage.slots import read_unfinished
from .keys import tenant_limits, usual_limits


class RunQuotas:
    """What admits runs, and the observers by which it learns of their ends.

    `has_own_model` says that another model has taken the place of the one that the settings name.
    """

    def __init__(self, settings: Settings, database: Database, *, has_own_model: bool) -> None:
        self._database = database
        key, tenant = usual_limits(settings), tenant_limits(settings)
        self._own = InMemorySlots(key, tenant) if database.is_sqlite else None
        slots: RunSlots = StoredSlots(key, tenant) if self._own is None else self._own
        self.admission = Admission(
            Quotas(SqlDailyUsage(database), key, tenant),
            slots,
            settings.max_steps,
            settings.max_tokens,
            is_free=settings.llm_model == MOCK.prefix and not settings.llm_fallbacks and not has_own_model,
        )
        self.observers: list[RunObserver] = [] if self._own is None else [self._own]

    async def begin(self) -> None:
        """Take note of the unfinished runs that the database has, before any of them is carried on.

        Raises:
            StorageUnavailableError
        """
        if self._own is not None:
            self._own.seed(await read_unfinished(self._database))
