"""Who may ask, and how often, wired: what checks keys and tokens, what changes keys, and what counts requests."""

from __future__ import annotations

import sys
from time import time
from typing import Final

from ..auth.credentials import Authenticator
from ..auth.jwks import ProviderKeys
from ..auth.key_checker import KeyChecker
from ..auth.key_service import KeyService
from ..auth.limits import RateLimiter
from ..auth.principal import ANONYMOUS, UNLIMITED, Principal
from ..auth.tokens import TokenChecker, TokenRules
from ..config import Environment, Settings
from ..storage.database import Database
from ..storage.keys import SqlKeyStore
from ..telemetry.lines import json_line
from .keys import tenant_limits, usual_limits
from .pepper import Peppers, check_pepper
from .production import needs_credentials

IN_MEMORY: Final = "memory"

FIRST_KEY: Final = """
Every request has to show a key, and there was none. This one may do everything. It is shown once:

    {}

Show it as "Authorization: Bearer KEY", and make others that may do less: llm-agent-core keys create
"""


class Access:
    """The keys and tokens that a service takes, and the rates that it allows.

    `authenticator` is None where none is looked at; `required` says whether every request has to show one; who
    shows none is `anonymous`.

    Raises:
        MissingExtraError: tokens are to be taken, or Redis to count, and the packages for it are not installed.
    """

    def __init__(self, settings: Settings, database: Database) -> None:
        self._store = SqlKeyStore(database)
        self._peppers = Peppers(settings)
        self._as_json = settings.environment is Environment.PRODUCTION
        self.required = needs_credentials(settings)
        tokens = _token_checker(settings)
        self._takes_tokens = tokens is not None
        checker = KeyChecker(self._store, self._peppers)
        self.authenticator = None if settings.authentication == "off" else Authenticator(checker, tokens)
        usual = usual_limits(settings)
        self.keys = KeyService(self._store, self._peppers, changed=self._forget, usual=usual)
        where = settings.rate_limit_storage.get_secret_value()
        of_tenant = tenant_limits(settings)
        self.limiter = RateLimiter(usual, of_tenant, None if where == IN_MEMORY else where)
        # one whom nobody takes for ANONYMOUS is counted like anybody else
        self.anonymous = ANONYMOUS if usual == of_tenant == UNLIMITED else Principal(ANONYMOUS.name)

    async def check(self) -> None:
        """Make sure that keys can be checked, if they are, and find out whether requests can be counted.

        Raises:
            ConfigurationError: they were made with another pepper, or the pepper cannot be had.
            StorageUnavailableError
        """
        if self.authenticator is not None:
            await check_pepper(self._peppers, self._store)
        await self.limiter.check()

    async def offer_first_key(self) -> None:
        """If a key is needed and nobody could have one, make it and show it.

        That is on standard error, to whoever started the service: in the form of the log, but no part of it,
        so that handlers which send the log elsewhere do not have it.

        Raises:
            ConfigurationError: the pepper cannot be had.
            StorageUnavailableError
        """
        if self.authenticator is not None and self.required and not self._takes_tokens:
            written = await self.keys.ensure_admin_key()
            if written is not None:
                print(self._first_key(written), file=sys.stderr, flush=True)  # noqa: T201

    def _first_key(self, written: str) -> str:
        if not self._as_json:
            return FIRST_KEY.format(written)
        said = "every request has to show a key, and there was none: this one may do everything and is shown once"
        return json_line(time(), "WARNING", __name__, said, {"key": written})

    async def aclose(self) -> None:
        """Let go of connections."""
        await self.limiter.aclose()

    def _forget(self) -> None:
        if self.authenticator is not None:
            self.authenticator.forget()


def _token_checker(settings: Settings) -> TokenChecker | None:
    issuer, audience, url = settings.oidc_issuer, settings.oidc_audience, settings.oidc_jwks_url
    if issuer is None or audience is None or url is None:
        return None
    rules = TokenRules(
        issuer,
        audience,
        settings.oidc_algorithms,
        settings.oidc_tenant_claim,
        settings.oidc_scopes_claim,
        settings.oidc_max_lifetime_s,
        settings.oidc_leeway_s,
    )
    return TokenChecker(rules, ProviderKeys(url, settings.oidc_algorithms))
