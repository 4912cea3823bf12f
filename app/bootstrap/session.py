"""Durable runs for scripts and job systems, without HTTP."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from ..config import Settings
from ..llm.interface import CompletionClient, LLMClient
from ..runs.service import RunService
from .services import build_services


@asynccontextmanager
async def open_runs(
    settings: Settings | None = None,
    *,
    llm_client: LLMClient | CompletionClient | None = None,
    executes: bool | None = None,
) -> AsyncGenerator[RunService, None]:
    """Open what the settings name, and yield the service that submits, waits for, reads and cancels runs.

        async with open_runs() as runs:
            run = await runs.submit(RunRequest("Calculate 2+2"))
            run = await runs.wait(run.run_id, 60)

    With a data directory, this process carries the runs out itself, those included that an earlier one left
    unfinished; no server may have the directory meanwhile. Over Postgres the workers do it, unless `executes`.
    `llm_client` takes the place of the model that the settings name, for the runs that are carried out here.

    Raises:
        SetupError: the settings are wrong, or the database cannot be had.
    """
    services = build_services(
        Settings() if settings is None else settings, llm_client=llm_client, executes=executes
    )
    await services.start()
    try:
        yield services.runs
    finally:
        await services.stop()
