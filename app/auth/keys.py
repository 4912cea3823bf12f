"""API keys: what is known of one, how it is written, and what it is compared with."""

from __future__ import annotations

import hmac
import re
import secrets
from datetime import datetime
from typing import Final, Literal, Protocol, TypeAlias

from msgspec import Struct

from ..errors import InvalidPermissionsError
from ..jsonvalue import BLANK
from ..permissions import Permissions
from ..redaction import PLAIN_REDACTOR
from .credentials import KEY_PREFIX
from .principal import Account, Limits, Principal

NAME_CHARS: Final = 100

_CONTROL: Final = r"\u0000-\u001f\u007f-\u009f\u2028\u2029"
NAME_PATTERN: Final = rf"^[^{_CONTROL}]*[^{_CONTROL}{BLANK}][^{_CONTROL}]*$"

_NAME: Final = re.compile(NAME_PATTERN)
_SURROGATE: Final = re.compile("[\ud800-\udfff]")
_ID: Final = re.compile(r"[0-9a-f]{16}", re.ASCII)
_WRITTEN: Final = re.compile(KEY_PREFIX + r"([0-9a-f]{16})_[0-9a-f]{64}", re.ASCII)

_FINGERPRINT_OF: Final = b"llm-agent-core: fingerprint of a pepper"


State: TypeAlias = Literal["holds", "expired", "revoked"]


class ApiKey(Struct, frozen=True):
    """What is known of a key, which is everything but its secret.

    Args:
        id: 16 lower-case hex digits; it stands in the key, and is no secret.
        limits: of this key alone, each None for what the settings say of everybody; None for all of that.
        parent: the id of the key that it was made from, with which it falls.
        rotated_at: when it last got a new secret.
        revoked_at: when it, or a key that it descends from, was revoked.
    """

    id: str
    tenant: str
    name: str
    permissions: Permissions
    limits: Limits | None
    parent: str | None
    created_at: datetime
    expires_at: datetime | None
    rotated_at: datetime | None
    revoked_at: datetime | None

    def state_at(self, now: float) -> State:
        """Return how it stands; `now` is in seconds since 1970."""
        if self.revoked_at is not None:
            return "revoked"
        return "holds" if self.expires_at is None or now < self.expires_at.timestamp() else "expired"


class Proof(Struct, frozen=True):
    """What a key is compared with: the HMAC of how it is written and, until a moment, of how it was before."""

    digest: bytes
    former: bytes | None = None
    former_until: datetime | None = None


NO_PROOF: Final = Proof(bytes(32))
"""What stands for a key that is not there: no key has that HMAC."""


class KeptKey(Struct, frozen=True):
    """A key with those that it descends from, its parent first."""

    key: ApiKey
    ancestors: tuple[ApiKey, ...]

    def holds_at(self, now: float) -> bool:
        """Say whether neither it nor any that it descends from is revoked or expired."""
        return all(key.state_at(now) == "holds" for key in (self.key, *self.ancestors))

    def descends_from(self, key_id: str | None) -> bool:
        """Say whether this is that key, or was made from it, or from one that was, and so on."""
        return any(key.id == key_id for key in (self.key, *self.ancestors))


class Pepper:
    """What keys are hashed with, so that the database alone does not tell whether one is right."""

    __slots__ = ("_secret",)

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    def digest(self, written: str) -> bytes:
        """Return the HMAC-SHA256 of a key as it is written."""
        return hmac.digest(self._secret, written.encode(), "sha256")

    @property
    def fingerprint(self) -> bytes:
        """What tells this pepper from others, and does not tell what it is."""
        return hmac.digest(self._secret, _FINGERPRINT_OF, "sha256")


class PepperSource(Protocol):
    """Knows the pepper, and makes one if there is none; it may read a file the first time."""

    def pepper(self) -> Pepper:
        """Return it, always the same.

        Raises:
            ConfigurationError: it cannot be had.
        """
        ...


def new_id() -> str:
    """Return an id that no key has."""
    return secrets.token_hex(8)


def write_key(key_id: str) -> str:
    """Return a key of that id with a secret of 256 bits that nobody has seen."""
    return f"{KEY_PREFIX}{key_id}_{secrets.token_hex(32)}"


def id_in(written: str) -> str | None:
    """Return the id in a key; None if it is not written like one."""
    found = _WRITTEN.fullmatch(written)
    return None if found is None else found[1]


def is_id(text: str) -> bool:
    """Say whether a key could have that id."""
    return _ID.fullmatch(text) is not None


def name_of(key_id: str) -> str:
    """Return the name of the principal that shows the key."""
    return f"key:{key_id}"


def id_of(principal: Principal) -> str | None:
    """Return the id of the key that a principal has shown; None if they have shown none."""
    kind, _, rest = principal.name.partition(":")
    return rest if kind == "key" else None


def principal_of(kept: KeptKey, until: datetime | None = None) -> Principal:
    """Return who shows the key; `until` is when it ends to be one, if that is sooner than it expires."""
    key = kept.key
    ends = [moment.timestamp() for moment in (key.expires_at, until) if moment is not None]
    return Principal(
        name_of(key.id),
        key.tenant,
        key.permissions,
        key.limits,
        min(ends, default=None),
        ancestors=tuple(Account(name_of(ancestor.id), ancestor.limits) for ancestor in kept.ancestors),
    )


def parse_name(text: str) -> str:
    """Return the name of a key: 1 to 100 characters, none of them a control character, and not only blanks.

    Raises:
        InvalidPermissionsError: it is none.
    """
    if len(text) > NAME_CHARS or not _NAME.fullmatch(text) or _SURROGATE.search(text):
        raise InvalidPermissionsError(
            f"The name of a key has 1 to {NAME_CHARS} characters, not only blanks and no control characters."
        )
    if PLAIN_REDACTOR.text(text) != text:
        raise InvalidPermissionsError("The name of a key holds what looks like a secret, and many may read it.")
    return text
