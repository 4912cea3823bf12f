"""How a model is reached: where it is, what opens it, how long it may take."""

from __future__ import annotations

from msgspec import Struct


class Access(Struct, frozen=True):
    """An address, and a key that may be empty. It shows neither."""

    base_url: str
    api_key: str

    def __repr__(self) -> str:
        return "Access()"


class Timeouts(Struct, frozen=True):
    """Seconds: for a whole call, until a connection stands, and until a stream's first piece."""

    timeout_s: float = 120.0
    connect_timeout_s: float = 5.0
    first_token_timeout_s: float = 60.0
