"""A provider's keys and tokens as tests make them: right in everything, until somebody changes something."""

from __future__ import annotations

import json
from base64 import urlsafe_b64encode
from functools import cache
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from jwt.algorithms import ECAlgorithm, RSAAlgorithm, get_default_algorithms

from app.auth.jwks import ProviderKeys
from app.auth.tokens import TokenChecker, TokenRules

ISSUER = "https://identity.example"
AUDIENCE = "agent-core"
NOW = 1_800_000_000
RULES = TokenRules(ISSUER, AUDIENCE)


@cache
def rsa_key(number: int = 0, bits: int = 2048) -> RSAPrivateKey:
    """Return one of the RSA keys of this test run."""
    assert number >= 0
    return rsa.generate_private_key(65537, bits)


@cache
def ec_key(number: int = 0) -> EllipticCurvePrivateKey:
    """Return one of the P-256 keys of this test run."""
    assert number >= 0
    return ec.generate_private_key(ec.SECP256R1())


def jwk(key: RSAPrivateKey | EllipticCurvePrivateKey, **members: object) -> dict[str, Any]:
    """Return the public half as a JWK."""
    public = key.public_key()
    if isinstance(public, rsa.RSAPublicKey):
        return {**RSAAlgorithm.to_jwk(public, as_dict=True), **members}
    return {**ECAlgorithm.to_jwk(public, as_dict=True), **members}


def jwks(*keys: dict[str, Any]) -> bytes:
    return json.dumps({"keys": keys}).encode()


def claims(**changes: object) -> dict[str, Any]:
    """Return claims that hold at NOW; a change to None leaves one out."""
    right = {"iss": ISSUER, "aud": AUDIENCE, "sub": "ann", "iat": NOW - 10, "exp": NOW + 600, "scope": "runs:read"}
    return {name: value for name, value in {**right, **changes}.items() if value is not None}


def part(content: object) -> str:
    """Return a part of a token: of bytes as they are, of all else as JSON."""
    raw = content if isinstance(content, bytes) else json.dumps(content).encode()
    return urlsafe_b64encode(raw).rstrip(b"=").decode()


def signed(header: object, payload: object, key: Any = None, by: str = "RS256") -> str:
    """Return a token with just this header and payload, whatever they are, and a signature that is right."""
    text = f"{part(header)}.{part(payload)}"
    algorithm = get_default_algorithms()[by]
    signature = algorithm.sign(text.encode(), algorithm.prepare_key(rsa_key() if key is None else key))
    return f"{text}.{part(signature)}"


def token(**changes: object) -> str:
    return signed({"alg": "RS256", "kid": "one", "typ": "JWT"}, claims(**changes))


class Provider:
    """A provider that need not be asked over a network: what it answers, and how often it was asked."""

    def __init__(self, *keys: dict[str, Any]) -> None:
        self.keys = keys or (jwk(rsa_key(), kid="one"), jwk(ec_key(), kid="curve"))
        self.answer: bytes | Exception | None = None
        self.asked = 0
        self.now = 0.0

    def fetch(self, _: str) -> bytes:
        self.asked += 1
        if isinstance(self.answer, Exception):
            raise self.answer
        return jwks(*self.keys) if self.answer is None else self.answer

    def known(self, *algorithms: str) -> ProviderKeys:
        """Return its keys as we know them; their clock is ours to turn."""
        wanted = algorithms or RULES.algorithms
        return ProviderKeys("https://identity.example/keys", wanted, fetch=self.fetch, clock=lambda: self.now)

    def checker(self, rules: TokenRules = RULES) -> TokenChecker:
        return TokenChecker(rules, self.known(*rules.algorithms), clock=lambda: NOW)
