"""Whatever a model says, nobody gets a 5xx for it: the run ends as an error, with a whole trace."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hostile_replies import HOSTILE_TEXTS, HostileModel, HostileStream, HostileText, MuteError, Raises, Speaks
from starlette.testclient import TestClient

import app.main as main
from app.bootstrap.services import build_services
from app.config import Settings
from app.errors import LLMRateLimitedError, LLMRefusedError, LLMUnavailableError, ModelResponseError
from app.llm.interface import LLMResponse, ModelCard, TextDelta, ToolCall, Usage

MATH = ToolCall("math", {"expression": "2+2"})

REPLIES: dict[str, Any] = {
    "nothing": None,
    "another type": {"content": "done"},
    "nothing in it": LLMResponse(),
    "declined loosely": LLMResponse("no", declined="yes"),  # type: ignore[arg-type]
    "usage that cannot be": LLMResponse("done", usage=Usage(-1, 10**400)),
    "usage of other types": LLMResponse("done", usage=Usage("5", None)),  # type: ignore[arg-type]
    "an unknown tool": LLMResponse(tool_calls=(ToolCall("wipe", {}),)),
    "bad arguments": LLMResponse(tool_calls=(ToolCall("math", {"expression": 10**400}),)),
    "an argument that cannot be stored": LLMResponse(tool_calls=(ToolCall("math", {"expression": "\ud800"}),)),
    "too many calls": LLMResponse(tool_calls=(MATH,) * 65),
    "calls for ever": LLMResponse(tool_calls=(MATH,) * 3),
    "calls of no type": LLMResponse(tool_calls="calls"),  # type: ignore[arg-type]
    "a model name that cannot be stored": LLMResponse("done", model="\0"),
    "it raises": Raises(ValueError("\ud800")),
    "it exits": Raises(SystemExit(1)),
    "it raises mutely": Raises(MuteError()),
    "it refuses in odd words": Raises(LLMRefusedError("\0\ud800")),
    "it is out for an odd time": Raises(LLMRateLimitedError("no", retry_after_s=float("nan"))),
    "it is out for long": Raises(LLMUnavailableError("no", retry_after_s=1e9)),
    "its answer cannot be read": Raises(ModelResponseError("\ud800" * 10_000)),
    "it speaks and breaks off": Speaks((TextDelta("It"), TextDelta("\0\ud800"), TextDelta(5))),  # type: ignore[arg-type]
    **{f"text {number}": LLMResponse(text) for number, text in enumerate(HOSTILE_TEXTS)},
}


@pytest.fixture
def client_of(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Any], TestClient]:
    """Make a client of an application with this model; enter it before use."""

    def make(model: Any) -> TestClient:
        monkeypatch.setattr(main, "build_services", partial(build_services, llm_client=model))
        settings = Settings(_env_file=None, data_dir=data_dir, llm_max_retries=0)
        return TestClient(main.create_app(settings), raise_server_exceptions=False)

    return make


class Switched(HostileStream):
    """A model whose reply is set from outside."""

    def __init__(self) -> None:
        super().__init__([None], ModelCard("m", max_output_tokens=1_000))

    def reply_with(self, reply: Any) -> None:
        self._replies = [reply]


def check(client: TestClient, name: str) -> None:
    body = {"goal": "go", "max_tokens": 50_000}
    answered = client.post("/api/v1/run-task", json=body)
    assert answered.status_code == 200, (name, answered.status_code, answered.text[:500])
    result = answered.json()
    assert result["status"] in ("success", "error"), name
    assert [step["step"] for step in result["trace"]] == list(range(1, len(result["trace"]) + 1)), name
    run = f"/api/v1/runs/{result['run_id']}"
    for path in (run, f"{run}/trace", f"{run}/events"):
        read = client.get(path)
        assert read.status_code == 200, (name, path, read.status_code, read.text[:500])


def test_no_reply_of_a_model_is_an_error_of_the_server(client_of: Callable[[Any], TestClient]) -> None:
    model = Switched()
    with client_of(model) as client:
        for name, reply in REPLIES.items():
            model.reply_with(reply)
            check(client, name)
        assert client.get("/api/v1/usage?by=model").status_code == 200


@pytest.mark.parametrize("kind", [HostileText, lambda said: HostileModel(said, None)])
def test_nor_is_one_of_a_client_that_a_user_wrote(client_of: Callable[[Any], TestClient], kind: Any) -> None:
    for name in ("nothing", "calls for ever", "it raises mutely", "text 2", "text 13", "text 4"):
        with client_of(kind([REPLIES[name]])) as client:
            check(client, name)
