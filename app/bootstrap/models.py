"""The models that the settings name: their clients, each behind a circuit, or what stands for them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from ..config import Settings
from ..errors import ConfigurationError, LLMUnavailableError, MissingExtraError
from ..llm.decisions import DecisionClient
from ..llm.interface import CompletionClient, LLMClient, LLMRequest, LLMResponse, ModelCard
from ..llm.mock_client import MockLLMClient
from ..llm.providers.circuit import Circuits
from ..llm.providers.names import FAMILIES, MOCK, Family, ModelName, parse_model_name
from ..llm.providers.opening import open_model

if TYPE_CHECKING:
    from ..llm.providers.client import PydanticAIClient

log = logging.getLogger(__name__)

CLOSING_S: Final = 2.0

KEY_VARIABLES: Final = tuple(dict.fromkeys(key for family in FAMILIES.values() for key in family.keys))
"""The providers' own variables; each is a setting, so that it can stand in `.env` too."""


class Models:
    """The models of a process, each opened once, and what a run may ask for by name.

    `llm_client` takes the place of the model that the settings name. A process that does not execute runs needs no
    keys and no addresses: it only says which names there are and what they cost.

    Raises:
        ConfigurationError: a key or an address is missing, or no good.
        MissingExtraError: a model needs packages that are not installed.
    """

    def __init__(
        self, settings: Settings, *, llm_client: LLMClient | CompletionClient | None, executes: bool
    ) -> None:
        self._settings = settings
        self._executes = executes
        self._circuits = Circuits()
        self._opened: list[PydanticAIClient] = []
        self._clients: dict[str, LLMClient | CompletionClient] = {}
        own = settings.llm_model
        self.client = self._client("LLM_MODEL", own) if llm_client is None else llm_client
        self.fallbacks = tuple(
            self._client("LLM_FALLBACKS", name) for name in settings.llm_fallbacks if name != own
        )
        self.names = tuple(dict.fromkeys((own, *settings.llm_models)))
        self.by_name: Mapping[str, LLMClient | CompletionClient] = {
            **({own: self.client} if llm_client is None else {}),
            **{name: self._client("LLM_MODELS", name) for name in settings.llm_models},
        }

    async def aclose(self) -> None:
        """Close the connections of the running event loop."""
        for client in self._opened:
            try:
                async with asyncio.timeout(CLOSING_S):
                    await client.aclose()
            except Exception as error:  # what it was connected to may be gone
                log.warning("the connections to %s were not closed: %s", client.card.name, type(error).__name__)

    def _client(self, variable: str, name: str) -> LLMClient | CompletionClient:
        if name not in self._clients:
            try:
                self._clients[name] = self._new_client(parse_model_name(name))
            except (ConfigurationError, MissingExtraError) as error:
                raise type(error)(f"{variable}: {error}") from error
        return self._clients[name]

    def _new_client(self, name: ModelName) -> LLMClient | CompletionClient:
        if name.family is MOCK:
            return MockLLMClient()
        if not self._executes:
            return NamedModel(_card(name))
        settings = self._settings
        is_own = name.family is parse_model_name(settings.llm_model).family
        key = settings.llm_api_key if is_own else None
        environ = _keys(settings)
        if not is_own:
            _check_without_own(name, environ)
        client = open_model(
            name,
            base_url=settings.llm_base_url if is_own else None,
            api_key=None if key is None else key.get_secret_value(),
            timeout_s=settings.llm_timeout_s,
            connect_timeout_s=settings.llm_connect_timeout_s,
            first_token_timeout_s=settings.llm_first_token_timeout_s,
            environ=environ,
        )
        self._opened.append(client)
        guarded = self._circuits.guard(client)
        return DecisionClient(guarded) if is_own and settings.llm_tool_calling == "json" else guarded


class NamedModel:
    """A model by name and price, in a process that never asks it."""

    def __init__(self, card: ModelCard) -> None:
        self.card = card

    async def complete(self, request: LLMRequest) -> LLMResponse:  # noqa: ARG002
        raise LLMUnavailableError("This process carries out no runs, so it asks no model.", may_be_paid=False)


def _card(name: ModelName) -> ModelCard:
    """Return what is known without a provider's library.

    Raises:
        MissingExtraError: the data of prices is not installed, which comes with each of the extras.
    """
    from ..llm.providers.prices import pricing

    try:
        return ModelCard(str(name), name.family.provider, pricing=pricing(name))
    except ImportError as error:
        raise MissingExtraError(
            f"{name} needs packages of its own: uv sync --extra {name.family.extra}"
        ) from error


def _keys(settings: Settings) -> dict[str, str]:
    found = {variable: getattr(settings, variable.lower()) for variable in KEY_VARIABLES}
    return {variable: key.get_secret_value() for variable, key in found.items() if key is not None}


def _check_without_own(name: ModelName, environ: Mapping[str, str]) -> None:
    """Say what is missing for a model of another family than LLM_MODEL's, which LLM_* are not for."""
    family: Family = name.family
    if family.needs_key and not any(environ.get(variable) for variable in family.keys):
        variables = " or ".join(family.keys)
        raise ConfigurationError(f"{name} needs a key: set {variables} (LLM_API_KEY is for LLM_MODEL's family)")
    if family.base_url is None:
        raise ConfigurationError(
            f"{name} needs the server's address, and LLM_BASE_URL is for LLM_MODEL's family; "
            f"make an {family.prefix} model LLM_MODEL"
        )
