"""The keys of a provider: when they are fetched, for how long they hold, and what is no set of keys."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from identity import Provider, ec_key, jwk, jwks, rsa_key

from app.auth.jwks import FRESH_S, HOLD_S, MAX_BYTES, MAX_KEYS, PAUSE_S, fetch_jwks, read_jwks
from app.errors import IdentityProviderError

BOTH = ("RS256", "ES256")


async def settle() -> None:
    """Let what goes on in the background end."""
    others = asyncio.all_tasks() - {asyncio.current_task()}
    if others:
        await asyncio.wait(others, timeout=5)


async def test_keys_are_fetched_once_for_all_who_wait() -> None:
    provider = Provider()
    keys = provider.known()
    found = await asyncio.gather(*(keys.find("one", "RS256") for _ in range(50)))
    assert all(key is found[0] for key in found)
    assert provider.asked == 1


async def test_an_unknown_id_is_looked_for_once_in_a_while() -> None:
    provider = Provider()
    keys = provider.known()
    for number in range(200):
        assert await keys.find(f"made-up-{number}", "RS256") is None
    assert provider.asked == 1
    provider.now += PAUSE_S
    await asyncio.gather(*(keys.find(f"made-up-{number}", "RS256") for number in range(200)))
    assert provider.asked == 2


async def test_a_new_key_is_found_and_an_old_one_is_gone() -> None:
    provider = Provider()
    keys = provider.known()
    assert await keys.find("one", "RS256") is not None
    provider.keys, provider.now = (jwk(rsa_key(1), kid="new"),), PAUSE_S
    assert await keys.find("new", "RS256") is not None
    assert await keys.find("one", "RS256") is None


async def test_old_keys_are_fetched_again_in_the_background() -> None:
    provider = Provider()
    keys = provider.known()
    await keys.find("one", "RS256")
    provider.keys, provider.now = (jwk(rsa_key(1), kid="new"),), FRESH_S + 1
    assert await keys.find("one", "RS256") is not None, "nobody waits for it"
    await settle()
    assert provider.asked == 2
    assert await keys.find("one", "RS256") is None


async def test_keys_hold_for_an_hour_without_the_provider_and_no_longer() -> None:
    provider = Provider()
    keys = provider.known()
    await keys.find("one", "RS256")
    provider.answer, provider.now = OSError("no route"), HOLD_S
    assert await keys.find("one", "RS256") is not None
    await settle()
    assert provider.asked == 2
    provider.now += PAUSE_S
    with pytest.raises(IdentityProviderError):
        await keys.find("one", "RS256")
    provider.answer, provider.now = None, provider.now + PAUSE_S
    assert await keys.find("one", "RS256") is not None


async def test_an_outage_is_no_storm() -> None:
    provider = Provider()
    provider.answer = OSError("no route")
    keys = provider.known()
    for _ in range(50):
        with pytest.raises(IdentityProviderError):
            await keys.find("one", "RS256")
    assert provider.asked == 1


async def test_who_stops_waiting_stops_it_for_nobody_else() -> None:
    provider = Provider()
    gate = threading.Event()
    answered = provider.fetch

    def slowly(url: str) -> bytes:
        gate.wait(5)
        return answered(url)

    keys = provider.known()
    keys._fetch = slowly
    impatient, patient = (asyncio.create_task(keys.find("one", "RS256")) for _ in range(2))
    await asyncio.sleep(0)
    impatient.cancel()
    await asyncio.wait([impatient])
    gate.set()
    assert await patient is not None


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"<html>",
        b"[]",
        b"{}",
        b'{"keys": {}}',
        b'{"keys": []}',
        b'{"keys": [1, null, "x", {}, {"kty": "RSA"}, {"kty": "RSA", "n": "!", "e": "AQAB"}]}',
        b'{"keys": [{"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA"}]}',
        b'{"keys": ' + b"[" * 100_000,
        jwks(*(jwk(ec_key(), kid=str(number)) for number in range(MAX_KEYS + 1))),
        jwks(jwk(rsa_key(2, 1024), kid="one")),
    ],
    ids=range(11),
)
async def test_what_is_no_set_of_keys_takes_none_away(answer: bytes) -> None:
    provider = Provider()
    keys = provider.known()
    await keys.find("one", "RS256")
    provider.answer, provider.now = answer, PAUSE_S
    assert await keys.find("other", "RS256") is None
    assert provider.asked == 2
    assert await keys.find("one", "RS256") is not None


def test_only_what_is_public_is_read() -> None:
    from jwt.algorithms import ECAlgorithm

    private = {**ECAlgorithm.to_jwk(ec_key(), as_dict=True), "kid": "curve"}
    assert "d" in private
    (key,) = read_jwks(jwks(private, {"kty": "new kind"}), BOTH).values()
    assert not hasattr(key.key, "sign")


class _Site(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        status, headers, body = self.server.pages[self.path]  # type: ignore[attr-defined]
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def site() -> Iterator[str]:
    """The address of a server with a few pages."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Site) as server:
        server.pages = {  # type: ignore[attr-defined]
            "/keys": (200, {}, jwks(jwk(ec_key()))),
            "/moved": (302, {"Location": "/keys"}, b""),
            "/large": (200, {}, b" " * (MAX_BYTES + 1)),
            "/error": (500, {}, b"{}"),
        }
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join(5)


def test_keys_come_over_http(site: str) -> None:
    assert json.loads(fetch_jwks(f"{site}/keys"))["keys"]


@pytest.mark.parametrize("page", ["/moved", "/large", "/error"])
def test_what_is_moved_too_large_or_no_success_is_not_taken(site: str, page: str) -> None:
    with pytest.raises((OSError, ValueError)):
        fetch_jwks(f"{site}{page}")


def test_where_nobody_listens_that_is_an_os_error() -> None:
    with pytest.raises(OSError, match="refused"):
        fetch_jwks("http://127.0.0.1:9/keys")
