from __future__ import annotations

import asyncio
import gc
import logging
import traceback
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx2
import pytest
from llmock.testing import LLMockServer
from outcomes import KEY, MODELS, PROBE, ask, open_client, outcome, request
from wire import EVENTS, HEAD, Wire, answer, completion, first_pieces, open_wire

from app.errors import LLMAuthError, LLMTimeoutError, LLMUnavailableError, ModelFailedError
from app.llm.interface import LLMRequest, LLMResponse, TextDelta, UserMessage
from app.llm.providers.access import Access, Timeouts
from app.llm.providers.client import PydanticAIClient
from app.llm.providers.http import open_http
from app.llm.providers.opening import open_model

CHAT = [name for name in MODELS if MODELS[name] == "openai" and not name.startswith("openai-responses")]


@pytest.fixture
async def wire() -> AsyncIterator[Wire]:
    async with open_wire() as wire:
        yield wire


def opened(name: str, wire: Wire, **options: Any) -> PydanticAIClient:
    return open_model(name, **{"api_key": KEY, "base_url": wire.url, "environ": {}, **options})


def begun(name: str) -> bytes:
    protocol = "responses" if name.startswith("openai-responses") else MODELS[name]
    return HEAD.format(status="200 OK", kind=EVENTS).encode() + b"\r\n" + first_pieces(protocol)


BODIES = {
    "nothing": b"",
    "half a body": answer('{"id": "c", "cho', more=100),
    "half a document": answer('{"id": '),
    "a page": answer("<html>hello</html>", kind="text/html"),
    "words": answer("hello", kind="text/plain"),
    "an empty object": answer("{}"),
    "an array": answer("[]"),
    "null": answer("null"),
    "no body": answer(""),
    "no choices": answer('{"id":"c","object":"chat.completion","created":1,"model":"m","choices":[]}'),
    "an error under 200": answer('{"error":{"message":"no","code":500}}'),
    "a redirection": b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n",
    "no content": b"HTTP/1.1 204 No Content\r\n\r\n",
    "another protocol": b"SSH-2.0-OpenSSH\r\n\r\n",
    "no events": answer("", kind=EVENTS),
    "events of words": answer("data: hello\n\n", kind=EVENTS),
    "events of nothing": answer("data: {}\n\ndata: []\n\n", kind=EVENTS),
    "a page under 500": answer("<html>" + "x" * 5000, status="500 Oops", kind="text/html"),
}


@pytest.mark.parametrize("name", MODELS)
async def test_what_is_none_of_the_protocol_is_a_typed_error(wire: Wire, name: str) -> None:
    client = opened(name, wire)
    for body, said in BODIES.items():
        wire.said = said
        for stream in (False, True):
            end = await outcome(client, request(), stream=stream)
            assert end.partition(",")[0] in {"llm_bad_response", "llm_unavailable"}, (body, stream, end)
    await client.aclose()


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])
@pytest.mark.parametrize("name", MODELS)
async def test_a_closed_port_is_an_outage_that_costs_nothing(wire: Wire, name: str, stream: bool) -> None:
    client = open_model(name, api_key=KEY, base_url="http://127.0.0.1:1/v1", environ={})
    with pytest.raises(LLMUnavailableError) as caught:
        await ask(client, request(), stream=stream)
    assert not caught.value.may_be_paid
    await client.aclose()


@pytest.mark.parametrize("name", MODELS)
async def test_closing_a_stream_closes_the_connection(wire: Wire, name: str) -> None:
    wire.said, wire.hangs = begun(name), True
    client = opened(name, wire)
    pieces = client.stream(request())
    assert await asyncio.wait_for(anext(pieces), 5) == TextDelta("Fo")
    await pieces.aclose()
    await asyncio.wait_for(wire.gone.wait(), 5)
    await client.aclose()


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])
@pytest.mark.parametrize("name", MODELS)
async def test_cancelling_a_call_closes_the_connection(wire: Wire, name: str, stream: bool) -> None:
    wire.said, wire.hangs = b"", True
    client = opened(name, wire)
    asking = asyncio.create_task(ask(client, request(), stream=stream))
    await asyncio.wait_for(wire.asked.wait(), 5)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    await asyncio.wait_for(wire.gone.wait(), 5)
    await client.aclose()


@pytest.mark.parametrize("name", MODELS)
async def test_a_time_out_closes_the_connection(wire: Wire, name: str) -> None:
    wire.said, wire.hangs = begun(name), True
    client = opened(name, wire, timeout_s=0.4)
    with pytest.raises(LLMTimeoutError):
        await asyncio.wait_for(ask(client, request(), stream=True), 5)
    await asyncio.wait_for(wire.gone.wait(), 5)
    await client.aclose()


FOREIGN = {
    "OPENAI_API_KEY": "sk-of-openai",
    "OPENAI_ORG_ID": "org-mine",
    "OPENAI_PROJECT_ID": "proj-mine",
    "OPENAI_BASE_URL": "http://127.0.0.1:1/v1",
    "OPENAI_CUSTOM_HEADERS": "X-Gateway: leaked-1\nAuthorization: Bearer leaked-2\nx-api-key: leaked-3",
    "ANTHROPIC_CUSTOM_HEADERS": "X-Gateway: leaked-4\nAuthorization: leaked-5\nx-goog-api-key: leaked-6",
    "ANTHROPIC_API_KEY": "sk-of-anthropic",
    "ANTHROPIC_AUTH_TOKEN": "token-of-anthropic",
    "ANTHROPIC_BASE_URL": "http://127.0.0.1:1",
    "GOOGLE_API_KEY": "key-of-google",
    "GOOGLE_GENAI_USE_VERTEXAI": "true",
    "GOOGLE_GEMINI_BASE_URL": "http://127.0.0.1:1",
}


@pytest.mark.parametrize("name", MODELS)
async def test_no_secret_of_another_and_nothing_of_this_machine_is_sent(
    wire: Wire, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable, value in FOREIGN.items():
        monkeypatch.setenv(variable, value)
    client = opened(name, wire, api_key=KEY)
    await outcome(client, request(), stream=False)
    await client.aclose()
    head = wire.heads[-1].lower()
    assert not [value for value in FOREIGN.values() if value.lower() in head]
    assert not [word for word in ("leaked", "openai-organization", "openai-project", "gl-python") if word in head]
    assert "x-stainless" not in head
    assert "http-referer" not in head
    assert "x-title" not in head
    assert KEY in wire.heads[-1]


@pytest.mark.parametrize(("host", "is_kept"), [("api.openai.com", True), ("api.openai.com.example", False)])
async def test_the_organisation_goes_to_openai_s_own_address_only(host: str, is_kept: bool) -> None:
    http = open_http(Timeouts(), Access("", KEY))
    names = ("openai-organization", "openai-project", "openai-beta", "x-stainless-os")
    sent = httpx2.Request("POST", f"https://{host}/v1", headers=dict.fromkeys(names, "mine"))
    for trim in http.event_hooks["request"]:
        await trim(sent)
    await http.aclose()
    assert [name for name in names if name in sent.headers] == (list(names[:2]) if is_kept else [])


async def test_a_server_at_home_gets_no_key(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-openai")
    for name in ("ollama:llama3.2", "openai-compatible:m"):
        client = opened(name, wire, api_key=None)
        assert (await client.complete(request())).content == "Four."
        await client.aclose()
        assert wire.header("Authorization") == "Bearer none"


@pytest.mark.parametrize("name", CHAT)
async def test_the_chat_protocol_asks_for_as_much_as_is_left(wire: Wire, name: str) -> None:
    client = opened(name, wire)
    asked = LLMRequest("Be kind.", [UserMessage("go")], (PROBE,), max_output_tokens=77)
    await client.complete(asked)
    await client.aclose()
    body = wire.bodies[-1]
    limit = "max_completion_tokens" if name.startswith("openai:") else "max_tokens"
    assert (body["model"], body[limit]) == (name.partition(":")[2], 77)
    assert [message["role"] for message in body["messages"]] == ["system", "user"]
    assert body["tools"][0]["function"]["name"] == "probe"


async def test_a_schema_goes_out_as_the_form_of_the_answer(wire: Wire) -> None:
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    client = opened("openai-compatible:m", wire)
    wire.said = answer(completion('{"n": 4}'))
    asked = LLMRequest("Be kind.", [UserMessage("go")], (), output_schema=schema)
    assert (await client.complete(asked)).content == '{"n": 4}'
    await client.aclose()
    asked_form = wire.bodies[-1]["response_format"]
    assert asked_form["type"] == "json_schema"
    assert asked_form["json_schema"]["schema"]["required"] == ["n"]


async def test_openai_is_told_not_to_keep_what_it_hears(wire: Wire) -> None:
    client = opened("openai-responses:gpt-5", wire)
    await outcome(client, request(), stream=False)
    await client.aclose()
    assert wire.bodies[-1]["store"] is False


async def test_thoughts_before_the_answer_are_no_answer(wire: Wire) -> None:
    wire.said = answer(completion("<think>Two and two.</think>\n\nFour.", reasoning_content="hmm"))
    client = opened("openai-compatible:m", wire)
    assert (await client.complete(request())).content.strip() == "Four."
    await client.aclose()


@pytest.mark.parametrize("name", MODELS)
async def test_the_key_is_in_no_repr_error_or_log(wire: Wire, name: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    wire.said = answer(f'{{"error": {{"message": "The key {KEY} is wrong."}}}}', status="401 Unauthorized")
    client = opened(name, wire)
    for stream in (False, True):
        with pytest.raises(LLMAuthError) as caught:
            await ask(client, request(), stream=stream)
        assert KEY not in str(caught.value)
        assert KEY not in "".join(traceback.format_exception(caught.value))
    assert KEY not in repr(client)
    assert KEY not in repr(vars(client))
    assert KEY not in caplog.text
    await client.aclose()


@pytest.mark.parametrize("name", MODELS)
def test_a_client_lives_in_one_event_loop_after_another(server: LLMockServer, name: str) -> None:
    client = open_client(server, name)
    first = asyncio.run(client.complete(request()))
    second = asyncio.run(ask(client, request(), stream=True))
    third = asyncio.run(client.complete(request()))
    assert first.content == second.content == third.content != ""
    del client
    gc.collect()  # a connection that nobody closed would say so now


async def test_one_client_serves_many_calls_at_a_time(wire: Wire) -> None:
    client = opened("openai-compatible:m", wire)
    responses = await asyncio.gather(*[client.complete(request()) for _ in range(50)])
    assert {response.content for response in responses} == {"Four."}
    await client.aclose()
    await client.aclose()
    assert (await client.complete(request())).content == "Four."
    await client.aclose()


async def test_what_the_server_counts_and_calls_itself_is_told(wire: Wire) -> None:
    client = opened("openai-compatible:m", wire)
    response = await client.complete(request())
    await client.aclose()
    assert response == LLMResponse("Four.", (), None, "m", "stop")


async def test_a_failure_is_one_of_ours(wire: Wire) -> None:
    wire.said = answer("{}", status="400 Bad Request")
    client = opened("openai-compatible:m", wire)
    with pytest.raises(ModelFailedError) as caught:
        await client.complete(request())
    await client.aclose()
    assert caught.value.__cause__ is None


def test_threads_with_a_loop_each_may_share_a_client(server: LLMockServer) -> None:
    client = open_client(server, "openai:gpt-5-mini")
    with ThreadPoolExecutor(4) as threads:
        answers = list(threads.map(lambda _: asyncio.run(client.complete(request())).content, range(12)))
    assert len(set(answers)) == 1
