"""Redaction: what is recognised as a secret in texts and JSON values, and the mask that takes its place."""

from __future__ import annotations

import json
import re
from base64 import b64decode
from collections.abc import Iterable
from functools import lru_cache
from typing import TYPE_CHECKING, Final, TypeAlias
from urllib.parse import quote, quote_plus

if TYPE_CHECKING:
    # as in `jsonvalue`, a sibling, which this module does not import
    JsonValue: TypeAlias = "bool | int | float | str | list[JsonValue] | dict[str, JsonValue] | None"

MASK: Final = "[redacted]"

MIN_SECRET_CHARS: Final = 8
"""Values shorter than this are not looked for: they stand in ordinary text by chance."""

MAX_NAME_CHARS: Final = 64

MAX_HELD_CHARS: Final = 4096

_ENDINGS: Final = (
    "password",
    "passwd",
    "passphrase",
    "secret",
    "apikey",
    "privatekey",
    "credential",
    "credentials",
)
_NAMES: Final = frozenset(
    {"token", "accesstoken", "refreshtoken", "idtoken", "authtoken", "apitoken", "bearertoken", "sessiontoken"}
    | {"authorization", "proxyauthorization", "cookie", "setcookie", "secretkey", "secretaccesskey"}
)

_OWN_KEY: Final = re.compile(r"(lac_[0-9a-f]{16}_)[0-9a-f]{16,}", re.IGNORECASE)
# each run of dots and Base64url characters is read once, whatever it holds; starting at every "eyJ" is quadratic
_DOTTED: Final = re.compile(r"(?<![\w.-])\.*+[\w-]++(?:\.[\w-]*+){2,}", re.ASCII)
_SCHEME: Final = re.compile(
    r"((?:authorization[^\w\n]{1,4})?(?:bearer|(basic))(?:\s|%20|\+)+)([a-z0-9._~+/=-]{8,})",
    re.IGNORECASE | re.ASCII,
)
_IN_A_ROW: Final = re.compile(r"[a-z0-9]{12,}", re.IGNORECASE | re.ASCII)
_URL: Final = re.compile(r"""(://)[^\s/?#@:"'<>]*:[^\s/?#"'<>]*@""")
_IN_PROGRESS: Final = re.compile(
    r"lac_[0-9a-f_]*\Z|eyJ[\w.-]*\Z|(?:bearer|basic)(?:\s|%20|\+)*[a-z0-9._~+/=%-]*\Z|://[^\s/?#\"'<>]*\Z",
    re.IGNORECASE | re.ASCII,
)
_BEGINNINGS: Final = ("lac_", "eyj", "bearer", "basic", "://")


class Redactor:
    """Masks secrets in texts and JSON values.

    Masked are: the values of `secrets` that have at least MIN_SECRET_CHARS characters, also as they stand inside
    JSON and percent-encoded; the secret part of our own API keys; JSON Web Tokens (RFC 7519); what follows
    `Bearer` or `Basic` (RFC 9110 section 11) and looks like a credential; names and passwords inside URLs; and
    texts, objects and arrays under names of secrets, such as `password` or `api-key`. What has been masked stays
    as it is when it is masked again.
    """

    __slots__ = ("_forms", "_stored_forms")

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        found = {form for secret in secrets if len(secret) >= MIN_SECRET_CHARS for form in _forms(secret)}
        self._forms = tuple(sorted(found, key=len, reverse=True))
        self._stored_forms = tuple(dict.fromkeys(_escaped(form) for form in self._forms))

    def __repr__(self) -> str:
        return f"Redactor({len(self._forms)} forms)"

    def suspects(self, stored: str) -> bool:
        """Say whether a JSON text may hold a secret that is recognised by what it is, not by its name."""
        # asked of every event: searches for rare single characters come first, since they cost a tenth
        for form in self._stored_forms:
            if form in stored:
                return True
        low = stored.lower()
        return (
            ("@" in stored and "://" in stored)
            or ("J" in stored and "eyJ" in stored)
            or "lac_" in low
            or "earer" in low
            or ("asic" in low and _SCHEME.search(low) is not None)
        )

    def text(self, text: str) -> str:
        """Return the text with masks, or the very same if there is nothing to mask."""
        whole = text
        for form in self._forms:
            if form in text:
                text = text.replace(form, MASK)
        if "_" in text:
            text = _OWN_KEY.sub(rf"\1{MASK}", text)
        if "eyJ" in text:
            text = _DOTTED.sub(_without_token, text)
        if "@" in text and "://" in text:
            text = _URL.sub(rf"\1{MASK}@", text)
        low = text.lower()
        if "bearer" in low or "basic" in low:
            text = _SCHEME.sub(_without_credential, text)
        return whole if text == whole else text

    def value(self, value: JsonValue, *, by_name: bool = True) -> JsonValue:
        """Return the value with masks, or the very same object if there is nothing to mask.

        `by_name` false leaves names aside: in a schema they stand for what a secret looks like.
        """
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, dict):
            return self.object(value, by_name=by_name)
        if isinstance(value, list):
            items = [self.value(item, by_name=by_name) for item in value]
            return items if any(new is not old for new, old in zip(items, value, strict=True)) else value
        return value

    def object(self, value: dict[str, JsonValue], *, by_name: bool = True) -> dict[str, JsonValue]:
        """Return the JSON object as `value` does."""
        masked: dict[str, JsonValue] = {}
        is_same = True
        for name, item in value.items():
            new_name = self.text(name)
            new = MASK if by_name and _is_secret(name, item) else self.value(item, by_name=by_name)
            is_same = is_same and new_name is name and (new is item or new == item == MASK)
            masked[new_name] = new
        return value if is_same else masked

    def settled(self, text: str) -> int:
        """Return how much of a text that goes on can be judged already: no secret begins there and goes on."""
        found = _IN_PROGRESS.search(text)
        at = len(text) if found is None else found.start()
        low = text[-8:].lower()
        for beginning in _BEGINNINGS:
            at = min(at, len(text) - _overlap(low, beginning))
        for form in self._forms:
            at = min(at, len(text) - _overlap(text, form))
        return self._before_secrets(text, at)

    def _before_secrets(self, text: str, at: int) -> int:
        """Return the last place up to `at` that cuts no known secret in two."""
        for form in self._forms:
            start = text.find(form, max(0, at - len(form) + 1), at + len(form) - 1)
            if 0 <= start < at:
                return self._before_secrets(text, start)
        return at


PLAIN_REDACTOR: Final = Redactor()
"""Knows what secrets look like, and none of this installation's."""


class RedactedStream:
    """A text that comes in pieces, of which only that is handed on which cannot be a part of a secret any more.

    As a rule that is all of it; the letters at the end with which a secret might begin are held back until it is
    known how they go on. One that goes on for more than MAX_HELD_CHARS ends what is handed on.
    """

    __slots__ = ("_held", "_redactor")

    def __init__(self, redactor: Redactor) -> None:
        self._redactor = redactor
        self._held: str | None = ""

    def take(self, piece: str) -> str:
        """Return what can be handed on now; it may be empty."""
        if self._held is None:
            return ""
        text = self._held + piece
        at = self._redactor.settled(text)
        self._held = text[at:] if len(text) - at <= MAX_HELD_CHARS else None
        return self._redactor.text(text[:at])


def names_a_secret(value: JsonValue) -> bool:
    """Say whether anything in the value stands under the name of a secret and is not masked yet."""
    if type(value) is dict:
        for name, item in value.items():
            kind = type(item)
            if kind is str:
                if _is_name_of_secret(name) and item != MASK:
                    return True
            elif (kind is dict or kind is list) and (_is_name_of_secret(name) or names_a_secret(item)):
                return True
    elif type(value) is list:
        for item in value:
            if (type(item) is dict or type(item) is list) and names_a_secret(item):
                return True
    return False


def _is_secret(name: str, value: JsonValue) -> bool:
    return isinstance(value, str | dict | list) and _is_name_of_secret(name)


def _is_name_of_secret(name: str) -> bool:
    return len(name) <= MAX_NAME_CHARS and _looks_secret(name)


@lru_cache(4096)
def _looks_secret(name: str) -> bool:
    plain = name.lower().replace("-", "").replace("_", "")
    return plain in _NAMES or plain.endswith(_ENDINGS)


def _forms(secret: str) -> Iterable[str]:
    """Return how a value stands in texts: as it is, inside JSON, and in addresses."""
    yield secret
    yield _escaped(secret)
    yield json.dumps(secret)[1:-1]
    for encoded in (quote(secret, safe=""), quote(secret), quote_plus(secret)):
        yield encoded
        yield re.sub("%[0-9A-F]{2}", lambda found: found[0].lower(), encoded)


def _escaped(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)[1:-1]


def _overlap(text: str, secret: str) -> int:
    """Return how many characters at the end of `text` are the beginning, but not the whole, of `secret`."""
    at = text.find(secret[0], max(0, len(text) - len(secret) + 1))
    while at >= 0:
        if secret.startswith(text[at:]):
            return len(text) - at
        at = text.find(secret[0], at + 1)
    return 0


def _without_token(found: re.Match[str]) -> str:
    run = found[0]
    at = run.find("eyJ")
    if at < 0 or run.count(".", at) < 2:
        return run
    return run[:at] + MASK + run[len(run.rstrip(".")) :]


def _without_credential(found: re.Match[str]) -> str:
    """Mask what follows a scheme, unless these are words: "basic income/expense report" is no credential."""
    said = found[3]
    is_header = found[1][:1] in "aA"
    is_credential = is_header or (_names_a_user(said) if found[2] else _is_opaque(said))
    return found[1] + MASK if is_credential else found[0]


def _is_opaque(said: str) -> bool:
    """Say whether this holds what a token does and no sentence: twelve letters and digits in a row, of both."""
    # told apart here: a regular expression that looks ahead for both takes quadratic time
    return any(not row.isalpha() and not row.isdigit() for row in _IN_A_ROW.findall(said))


def _names_a_user(said: str) -> bool:
    """Say whether this is the Base64 of a name, a colon and a password (RFC 7617 section 2)."""
    padded = said.rstrip("=") + "=" * (-len(said.rstrip("=")) % 4)
    try:
        return b":" in b64decode(padded, altchars=b"-_" if {"-", "_"} & {*said} else None, validate=True)
    except ValueError:
        return False
