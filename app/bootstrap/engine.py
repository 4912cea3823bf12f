"""The engine: all that keeps runs and carries them out, put together over one database."""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from uuid import uuid4

from ..agent.core import Agent
from ..config import Settings
from ..redaction import Redactor
from ..runs.executor import Executor
from ..runs.feed import EventFeed
from ..runs.ports import RunObserver
from ..runs.voices import Voices
from ..storage.database import Database
from ..storage.notifications import Notifier
from ..storage.relay import Relay
from ..storage.runs import SqlRunStore
from ..storage.writer import GroupWriter, OnCommit
from ..telemetry.logs import Log
from .queue import queue_of

NEWS_POLL_S = 1.0
"""How often a run that somebody waits for is looked at, in case the news of it got lost between processes."""


class Engine:
    """The store of runs, their queue, the writer of journals, and the executor, with what they tell each other.

    `notifier` and `relay` carry news, and what runs say, between processes; they are None if there is but one.

    Args:
        owner: the name of this process.
        log: is told of each run that ends.
        observers: are told of what happens in runs that this process carries out.
        on_commit: is told of each group that is written to the journal.
    """

    def __init__(
        self,
        settings: Settings,
        database: Database,
        agent: Agent,
        *,
        owner: str,
        log: Log,
        redactor: Redactor,
        observers: Sequence[RunObserver],
        on_commit: OnCommit | None,
    ) -> None:
        self.queue = queue_of(database)
        self.store = SqlRunStore(database, self.queue)
        voices = Voices(redactor)
        self.feed = EventFeed(self.store, poll_s=None if database.is_sqlite else NEWS_POLL_S, voices=voices)
        self.notifier = None if database.is_sqlite else Notifier(database)
        self.relay = None if database.is_sqlite else Relay(database, voices, self.feed)
        notify = None if self.notifier is None else self.notifier.notify
        self.writer = GroupWriter(database, self.feed, notify, on_commit=on_commit)
        self.executor = Executor(
            agent,
            self.store,
            self.writer,
            owner,
            concurrency=settings.run_concurrency,
            tenant_limit=settings.tenant_concurrency,
            on_finished=log.run_finished,
            voices=voices,
            observers=observers,
            redactor=redactor,
        )


def process_name() -> str:
    """Return a name that no other process has, in at most 63 characters: Postgres shows its sessions under it."""
    return f"{socket.gethostname()[:32]}:{os.getpid()}:{uuid4().hex[:8]}"
