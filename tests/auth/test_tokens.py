"""Tokens of an identity provider: whose they are, and that nothing else gets in by one."""

from __future__ import annotations

import asyncio
import json
import logging
import sys
import warnings
from typing import Any
from urllib.error import HTTPError
from urllib.parse import parse_qs, urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from identity import (
    AUDIENCE,
    ISSUER,
    NOW,
    RULES,
    Provider,
    claims,
    ec_key,
    jwk,
    part,
    rsa_key,
    signed,
    token,
)
from msgspec.structs import replace

from app.auth.credentials import REFUSED, Authenticator
from app.auth.jwks import FRESH_S, ProviderKeys
from app.auth.principal import Principal
from app.auth.tokens import TokenChecker, TokenRules
from app.errors import IdentityProviderError, MissingExtraError, UnauthenticatedError
from app.permissions import Permissions

RIGHT = {"alg": "RS256", "kid": "one"}


class NoKeys:
    async def check(self, credential: str) -> Principal:
        raise UnauthenticatedError(REFUSED)


def hmac_with(key: bytes, **header: object) -> str:
    """Sign by HMAC with what is public, as if it were a secret; PyJWT itself would refuse to."""
    import hashlib
    import hmac

    text = f"{part({'alg': 'HS256', 'kid': 'one', **header})}.{part(claims())}"
    return f"{text}.{part(hmac.digest(key, text.encode(), hashlib.sha256))}"


def public(encoding: Encoding) -> bytes:
    return rsa_key().public_key().public_bytes(encoding, PublicFormat.SubjectPublicKeyInfo)


def by_us(**header: object) -> str:
    """A token signed by a key of the attacker, with a header that says where to find it."""
    return signed({**RIGHT, **header}, claims(), rsa_key(1))


def payload(text: str) -> str:
    """A well signed token whose payload is this text, JSON or not."""
    return signed(RIGHT, text.encode("utf-8", "surrogatepass"))


def payload_with(member: str) -> str:
    return payload(json.dumps(claims())[:-1] + f", {member}}}")


def without(name: str) -> str:
    return token(**{name: None})


def unsigned(alg: object) -> str:
    return f"{part({'alg': alg})}.{part(claims())}."


HOSTILE: dict[str, str] = {
    "alg none": unsigned("none"),
    "alg None": unsigned("None"),
    "alg NONE": unsigned("NONE"),
    "alg nOnE": unsigned("nOnE"),
    "alg none and a kid": f"{part({'alg': 'none', 'kid': 'one'})}.{part(claims())}.",
    "alg none with somebody's signature": f"{part({'alg': 'none'})}.{part(claims())}.{token().split('.')[2]}",
    "alg empty": unsigned(""),
    "alg null": unsigned(None),
    "alg a list": unsigned(["RS256"]),
    "alg a number": unsigned(256),
    "no alg": f"{part({'kid': 'one'})}.{part(claims())}.{part(b'x')}",
    "alg in lower case": signed({**RIGHT, "alg": "rs256"}, claims()),
    "alg with a blank": signed({**RIGHT, "alg": "RS256 "}, claims()),
    "an algorithm that is not configured": signed({**RIGHT, "alg": "RS512"}, claims(), by="RS512"),
    "PSS of the same key": signed({**RIGHT, "alg": "PS256"}, claims(), by="PS256"),
    "HS256 with the public key as PEM": hmac_with(public(Encoding.PEM)),
    "HS256 with the public key as DER": hmac_with(public(Encoding.DER)),
    "HS256 that says RS256": hmac_with(public(Encoding.PEM), alg="RS256"),
    "HS256 with nothing": hmac_with(b""),
    "another's key": by_us(),
    "an embedded jwk": by_us(jwk=jwk(rsa_key(1), kid="one")),
    "an embedded jwk and no kid": signed({"alg": "RS256", "jwk": jwk(rsa_key(1))}, claims(), rsa_key(1)),
    "jku": by_us(jku="http://127.0.0.1:9/keys"),
    "x5u": by_us(x5u="http://127.0.0.1:9/chain"),
    "x5c": by_us(x5c=["MIIB"]),
    "a kid that is a path": by_us(kid="../../../../dev/null"),
    "a kid that is SQL": by_us(kid="one' UNION SELECT 'x"),
    "a kid with NUL": by_us(kid="one\0"),
    "a huge kid": by_us(kid="k" * 4000),
    "an empty kid": by_us(kid=""),
    "a kid that is a number": by_us(kid=1),
    "a kid that is a list": by_us(kid=["one"]),
    "a kid that is an object": by_us(kid={"one": 1}),
    "a kid of another key": signed({"alg": "RS256", "kid": "curve"}, claims()),
    "a kid of an RSA key under ES256": signed({"alg": "ES256", "kid": "one"}, claims(), ec_key(), "ES256"),
    "a kid of an EC key, signed by RSA": signed({"alg": "ES256", "kid": "curve"}, claims()),
    "another EC key": signed({"alg": "ES256", "kid": "curve"}, claims(), ec_key(1), "ES256"),
    "an EC signature of zeros": f"{part({'alg': 'ES256', 'kid': 'curve'})}.{part(claims())}.{part(bytes(64))}",
    "crit": signed({**RIGHT, "crit": ["x"], "x": 1}, claims()),
    "crit of b64": signed({**RIGHT, "crit": ["b64"], "b64": True}, claims()),
    "empty crit": signed({**RIGHT, "crit": []}, claims()),
    "crit null": signed({**RIGHT, "crit": None}, claims()),
    "b64 false": signed({**RIGHT, "b64": False}, claims()),
    "a token for another end": signed({**RIGHT, "typ": "logout+jwt"}, claims()),
    "a typ that is a number": signed({**RIGHT, "typ": 1}, claims()),
    "an encrypted one, it says": signed({**RIGHT, "enc": "A128GCM", "alg": "RSA-OAEP"}, claims()),
    "no iss": without("iss"),
    "another iss": token(iss="https://evil.example"),
    "iss and a slash": token(iss=ISSUER + "/"),
    "iss a list": token(iss=[ISSUER]),
    "no aud": without("aud"),
    "another aud": token(aud="somebody-else"),
    "aud empty": token(aud=[]),
    "aud a list of others": token(aud=["a", "b"]),
    "aud a list of mixed kinds": token(aud=[AUDIENCE, 1]),
    "aud an object": token(aud={AUDIENCE: 1}),
    "aud longer than ours": token(aud=AUDIENCE + "x"),
    "aud shorter than ours": token(aud=AUDIENCE[:-1]),
    "no exp": without("exp"),
    "exp null": payload_with('"exp": null'),
    "expired": token(iat=NOW - 900, exp=NOW - 31),
    "exp now, leeway over": token(iat=NOW - 900, exp=NOW - 30),
    "exp 1e308": payload_with('"exp": 1e308'),
    "exp 1e308 alone": payload(json.dumps(claims(exp=None))[:-1] + ', "exp": 1e308}'),
    "exp 1e400": payload(json.dumps(claims(exp=None))[:-1] + ', "exp": 1e400}'),
    "exp of 400 digits": token(exp=10**400),
    "exp of 5000 digits": payload(json.dumps(claims(exp=None))[:-1] + f', "exp": {"9" * 5000}}}'),
    "exp as text": token(exp=str(NOW + 600)),
    "exp NaN": token(exp=float("nan")),
    "exp Infinity": token(exp=float("inf")),
    "exp -Infinity": token(exp=float("-inf")),
    "exp negative": token(exp=-1),
    "exp true": token(exp=True),
    "exp a list": token(exp=[NOW + 600]),
    "no iat": without("iat"),
    "iat in the future": token(iat=NOW + 31, exp=NOW + 600),
    "iat after exp": token(iat=NOW + 20, exp=NOW + 10),
    "iat as text": token(iat=str(NOW)),
    "iat -1e400": payload(json.dumps(claims(iat=None))[:-1] + ', "iat": -1e400}'),
    "iat and exp 1e400": payload(json.dumps(claims(iat=None, exp=None))[:-1] + ', "iat": 1e400, "exp": 1e400}'),
    "nbf in the future": token(nbf=NOW + 31),
    "nbf as text": token(nbf="soon"),
    "nbf 1e308": token(nbf=1e308),
    "a lifetime that is too long": token(iat=NOW - 10, exp=NOW - 10 + 86_401),
    "no sub": without("sub"),
    "an empty sub": token(sub=""),
    "sub a number": token(sub=7),
    "sub with NUL": token(sub="ann\0"),
    "sub with a line break": token(sub="ann\nroot"),
    "sub that is turned round": token(sub="\u202enna"),
    "sub with a lone surrogate": token(sub="\ud800"),
    "a long sub": token(sub="a" * 256),
    "a JWT in a JWT": signed({**RIGHT, "cty": "JWT"}, token().encode()),
    "a JWT in a JWT as text": signed(RIGHT, token()),
    "oversized": token(more="x" * 8192),
    "oversized and hollow": "a" * 9000,
    "empty": "",
    "dots": "..",
    "three dots": "...",
    "one part": token().split(".")[0],
    "two parts": ".".join(token().split(".")[:2]),
    "four parts": token() + ".x",
    "five parts, as of JWE": f"{token()}.x.x",
    "no header": f".{token().split('.', 1)[1]}",
    "no payload": f"{token().split('.')[0]}..{token().split('.')[2]}",
    "no signature": f"{token().rsplit('.', 1)[0]}.",
    "a signature cut short": token()[:-4],
    "a signature with another last bit": token()[:-1] + ("A" if token()[-1] != "A" else "Q"),
    "a payload that was changed": f"{part(RIGHT)}.{part(claims(scope='*'))}.{token().split('.')[2]}",
    "bad base64": f"!!!.{token().split('.', 1)[1]}",
    "ordinary base64": f"{part(RIGHT)}.{part(claims())}.+/+/",
    "white space": f" {token()}",
    "a line break": f"{token()}\n",
    "two tokens": f"{token()},{token()}",
    "alg twice": signed(b'{"alg":"none","alg":"RS256","kid":"one"}', claims()),
    "kid twice": signed(b'{"alg":"RS256","kid":"x","kid":"one"}', claims()),
    "sub twice": payload_with('"sub": "root"'),
    "scope twice": payload_with('"scope": "*"'),
    "a member twice, deeper down": payload_with('"x": {"a": 1, "a": 2}'),
    "a header that is a list": signed([RIGHT], claims()),
    "a header that is text": signed("RS256", claims()),
    "a header that is null": signed(None, claims()),
    "a header that is no JSON": signed(b"RS256", claims()),
    "a header in UTF-16": signed(json.dumps(RIGHT).encode("utf-16"), claims()),
    "a header with a byte order mark": signed(b"\xef\xbb\xbf" + json.dumps(RIGHT).encode(), claims()),
    "a header nested beyond all": signed(
        b'{"alg":"RS256","kid":"one","x":' + b"[" * 2500 + b"]" * 2500 + b"}", {}
    ),
    "a payload that is a list": signed(RIGHT, [claims()]),
    "a payload that is text": signed(RIGHT, "ann"),
    "a payload that is null": payload("null"),
    "a payload that is no JSON": payload("{'sub': 'ann'}"),
    "a payload that is not UTF-8": signed(RIGHT, b'{"sub": "\xff"}'),
    "a payload with NaN somewhere": payload_with('"x": NaN'),
    "a payload nested beyond all": payload('{"x":' + "[" * 2500 + "]" * 2500 + "}"),
    "a payload with more behind": payload(json.dumps(claims()) + "{}"),
    "an empty payload": payload("{}"),
    "unicode": token() + "\u00e9",
    "full-width digits and letters": "\uff45yJ" + token()[3:],
    "a lone surrogate": token() + "\ud800",
    "scopes beyond number": token(scope=" ".join(f"tools:t{number}" for number in range(201))),
}


@pytest.mark.parametrize("name", HOSTILE)
async def test_a_hostile_token_is_refused_and_not_told_why(name: str, caplog: pytest.LogCaptureFixture) -> None:
    """Whoever sets the provider up is, in a line of the log that holds nothing of the token."""
    caplog.set_level(logging.DEBUG, "app.auth.tokens")
    provider = Provider()
    checker = provider.checker()
    assert (await checker.check(token())).name == "token:ann"
    with pytest.raises(UnauthenticatedError, match=f"^{REFUSED}$") as caught:
        await checker.check(HOSTILE[name])
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__
    assert provider.asked == 1, "nothing in a token makes us ask at once again"
    [said] = [record.getMessage() for record in caplog.records if record.name == "app.auth.tokens"]
    assert said.startswith("a token was refused: ")
    assert not any(part in said for part in HOSTILE[name].split(".") if len(part) > 3)


@pytest.mark.parametrize("name", HOSTILE)
async def test_nor_does_it_get_through_the_front_door(name: str) -> None:
    with pytest.raises(UnauthenticatedError):
        await Authenticator(NoKeys(), Provider().checker()).authenticate(HOSTILE[name])


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"iss": "https://other.example"}, "its iss is not OIDC_ISSUER"),
        ({"aud": "others"}, "its aud is not OIDC_AUDIENCE"),
        ({"exp": 1}, "it has expired"),
    ],
)
async def test_who_sets_the_provider_up_can_read_why_a_token_is_refused(
    changes: dict[str, Any], reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "app.auth.tokens")
    with pytest.raises(UnauthenticatedError):
        await Provider().checker().check(token(**changes))
    assert caplog.messages == [f"a token was refused: {reason}"]


async def test_a_token_says_who_asks_until_when_and_with_which_scopes() -> None:
    principal = await Provider().checker().check(token(scope="openid runs:read tools:math email notes:*"))
    assert principal == Principal(
        "token:ann", "default", Permissions(("runs:read", "tools:math")), None, float(NOW + 600)
    )


@pytest.mark.parametrize(
    ("changes", "scopes"),
    [
        ({"scope": ["runs:write", "runs:read", 7, None]}, ("runs:read", "runs:write")),
        ({"scope": None}, ()),
        ({"scope": ""}, ()),
        ({"scope": {"runs:read": True}}, ()),
        ({"scope": "RUNS:READ runs:read\tnotes:read"}, ()),
        ({"scope": "*"}, ("*",)),
    ],
)
async def test_scopes_are_text_with_spaces_or_a_list(changes: dict[str, Any], scopes: tuple[str, ...]) -> None:
    assert (await Provider().checker().check(token(**changes))).permissions == Permissions(scopes)


async def test_scopes_stand_where_the_setting_says() -> None:
    checker = Provider().checker(replace(RULES, scopes_claim="https://desk.example/scp"))
    changes = {"https://desk.example/scp": "notes:read", "scope": "*"}
    assert (await checker.check(token(**changes))).permissions.scopes == ("notes:read",)


async def test_a_token_says_its_tenant_where_one_is_wanted() -> None:
    checker = Provider().checker(replace(RULES, tenant_claim="org"))
    assert (await checker.check(token(org="desk-1"))).tenant == "desk-1"
    for wrong in (None, "", "a/b", "../x", 7, ["desk-1"], "x" * 65, "desk\n", "dé"):
        with pytest.raises(UnauthenticatedError, match=f"^{REFUSED}$"):
            await checker.check(token(org=wrong))
    assert (await Provider().checker().check(token(org="desk-1"))).tenant == "default"


@pytest.mark.parametrize(
    "right",
    [
        token(aud=["somebody-else", AUDIENCE]),
        token(exp=NOW - 29, iat=NOW - 900),
        token(iat=NOW + 30, exp=NOW + 600),
        token(nbf=NOW + 30),
        token(exp=NOW + 0.5),
        token(iat=NOW, exp=NOW + 86_400),
        token(sub="a" * 255),
        token(sub="Ärzte & Söhne"),
        signed({"alg": "ES256", "kid": "curve", "typ": "at+jwt"}, claims(), ec_key(), "ES256"),
        signed({"alg": "ES256"}, claims(), ec_key(), "ES256"),
        signed({**RIGHT, "jku": "http://127.0.0.1:9/", "x5u": "http://127.0.0.1:9/"}, claims()),
    ],
    ids=range(11),
)
async def test_what_is_at_the_very_edge_holds(right: str) -> None:
    provider = Provider()
    assert (await provider.checker().check(right)).name.startswith("token:")
    assert provider.asked == 1


async def test_without_an_id_there_has_to_be_one_key_only() -> None:
    provider = Provider(jwk(rsa_key(), kid="one"), jwk(rsa_key(1), kid="two"))
    with pytest.raises(UnauthenticatedError):
        await provider.checker().check(signed({"alg": "RS256"}, claims()))


@pytest.mark.parametrize(
    "members",
    [{"use": "enc"}, {"alg": "RS512"}, {"alg": "RSA-OAEP"}, {"key_ops": ["encrypt"]}, {"key_ops": []}],
    ids=str,
)
async def test_a_key_that_is_there_for_something_else_verifies_nothing(members: dict[str, object]) -> None:
    provider = Provider(jwk(rsa_key(), kid="one") | members, jwk(ec_key(), kid="curve"))
    with pytest.raises(UnauthenticatedError):
        await provider.checker().check(token())


async def test_an_rsa_key_has_2048_bits_at_least() -> None:
    provider = Provider(jwk(rsa_key(2, 1024), kid="one"), jwk(ec_key(), kid="curve"))
    with pytest.raises(UnauthenticatedError):
        await provider.checker().check(signed(RIGHT, claims(), rsa_key(2, 1024)))


async def test_a_secret_among_the_keys_is_none() -> None:
    provider = Provider({"kty": "oct", "kid": "one", "k": part(b"secret" * 8)}, jwk(ec_key(), kid="curve"))
    with pytest.raises(UnauthenticatedError):
        await provider.checker().check(hmac_with(b"secret" * 8))


async def test_when_the_provider_does_not_answer_that_is_nobodys_fault() -> None:
    provider = Provider()
    provider.answer = ConnectionRefusedError(111, "refused")
    with pytest.raises(IdentityProviderError):
        await provider.checker().check(token())
    for hostile in ("", "..", unsigned("none"), hmac_with(b"")):  # of which no key is wanted
        with pytest.raises(UnauthenticatedError):
            await provider.checker().check(hostile)


def test_without_its_packages_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jwt", None)
    with pytest.raises(MissingExtraError, match=r"^OIDC_ISSUER needs packages of its own: uv sync --extra oidc$"):
        Provider().checker()


class _Stay(HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        return None


def log_in(provider: str, subject: str) -> str:
    """Log in as a browser and a client would (OpenID Connect Core section 3.1); return the ID token."""
    address = "http://client.example/back"
    query = f"client_id={AUDIENCE}&redirect_uri={address}&response_type=code&scope=openid&state=s"
    opener = build_opener(_Stay)
    answer = Request(f"{provider}/oauth2/authorize?{query}", f"sub={subject}".encode())
    with pytest.raises(HTTPError) as moved:
        opener.open(answer, timeout=10)
    with moved.value as response:
        code = parse_qs(urlsplit(response.headers["Location"]).query)["code"][0]
    form = f"grant_type=authorization_code&code={code}&redirect_uri={address}&client_id={AUDIENCE}&client_secret=x"
    with opener.open(Request(f"{provider}/oauth2/token", form.encode()), timeout=10) as response:
        return str(json.load(response)["id_token"])


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # what the provider's own libraries say to it
async def test_a_real_provider_logs_somebody_in_and_may_change_its_keys() -> None:
    with warnings.catch_warnings(record=True):
        from oidc_provider_mock import User, run_server_in_thread

    ann = User(sub="ann", claims={"scope": "runs:read runs:write", "org": "desk-1"})
    with run_server_in_thread(user_claims=[ann]) as server:
        port = server.server_port
        url = f"http://localhost:{port}"
        rules = TokenRules(url, AUDIENCE, tenant_claim="org")
        now = [0.0]
        keys = ProviderKeys(f"{url}/jwks", rules.algorithms, clock=lambda: now[0])
        authenticator = Authenticator(NoKeys(), TokenChecker(rules, keys))
        first = await asyncio.to_thread(log_in, url, "ann")
        principal = await authenticator.authenticate(first)
        assert (principal.name, principal.tenant) == ("token:ann", "desk-1")
        assert principal.permissions.scopes == ("runs:read", "runs:write")
        with pytest.raises(UnauthenticatedError):
            await authenticator.authenticate(first[:-8] + "AAAAAAAA")
    with run_server_in_thread(port, user_claims=[ann]):  # with a key of its own
        second = await asyncio.to_thread(log_in, url, "ann")
        now[0] += FRESH_S + 1  # its tokens name no key, so that a new one is not missed before it is looked for
        with pytest.raises(UnauthenticatedError):
            await authenticator.authenticate(second)
        await asyncio.wait(asyncio.all_tasks() - {asyncio.current_task()}, timeout=5)
        assert (await authenticator.authenticate(second)).name == "token:ann"
        authenticator.forget()
        with pytest.raises(UnauthenticatedError):
            await authenticator.authenticate(first)
