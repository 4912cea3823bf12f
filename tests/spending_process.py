"""A process that carries sixteen runs out against small budgets, and is killed: DATA_DIR METER_FILE.

Every call that its provider works for is a line of the meter file, "run tokens cost", written before the answer.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from fake_models import Meter, MeteredModel, Prices

from app.bootstrap import open_runs
from app.config import Settings
from app.llm.interface import LLMRequest, LLMResponse, ModelCard, Usage, UserMessage
from app.runs.models import RunRequest

RUNS = 16
MAX_TOKENS = 14_000
MAX_COST_USD = 0.00008


class WrittenMeter(MeteredModel):
    """A provider whose bill no kill can lose, and that takes its time."""

    def __init__(self, file: int) -> None:
        super().__init__(os.getpid(), Meter(), ModelCard("fake:m", "fake", None, 2_000, Prices()))
        self._file = file
        self._run = ""

    async def complete(self, request: LLMRequest) -> LLMResponse:
        asked = request.messages[0]
        assert isinstance(asked, UserMessage)
        await asyncio.sleep(self.random.random() * 0.01)
        self._run = asked.goal
        response = await super().complete(request)
        await asyncio.sleep(self.random.random() * 0.01)
        return response

    def _bill(self, usage: Usage) -> None:
        cost = Prices().cost(usage)
        os.write(self._file, f"{self._run} {usage.input_tokens + usage.output_tokens} {cost}\n".encode())


async def main(data_dir: Path, meter: Path) -> None:
    """Submit the runs if there are none yet, and return when all have ended."""
    file = os.open(meter, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    settings = Settings(_env_file=None, data_dir=data_dir, llm_max_retries=1)
    async with open_runs(settings, llm_client=WrittenMeter(file)) as runs:
        page = await runs.page(limit=100)
        for number in range(len(page.runs), RUNS):
            await runs.submit(
                RunRequest(f"run-{number}", tools=[], max_tokens=MAX_TOKENS, max_cost_usd=MAX_COST_USD)
            )
        page = await runs.page(limit=100)
        for run in page.runs:
            await runs.wait(run.run_id, 60)
        for run in page.runs:
            ended = await runs.get(run.run_id)
            print(ended.status, ended.reason, flush=True)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), Path(sys.argv[2])))
