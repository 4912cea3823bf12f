"""How each family's model is built from the provider library. Only here is it known which classes those are."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

from .access import Access
from .http import NO_KEY
from .names import ModelName

if TYPE_CHECKING:
    import httpx2
    from openai import AsyncOpenAI
    from pydantic_ai.models import Model
    from pydantic_ai.profiles.openai import OpenAIModelProfile
    from pydantic_ai.providers import Provider

MakeModel: TypeAlias = "Callable[[httpx2.AsyncClient], Model]"


def backend(name: ModelName, access: Access) -> MakeModel:
    """Return what builds the model over an HTTP client. The libraries are loaded now, not in the first request.

    Raises:
        ImportError: one of them is not installed.
    """
    match name.family.prefix:
        case "anthropic":
            return _anthropic(name.model, access)
        case "google":
            return _google(name.model, access)
        case "openai-responses":
            return _responses(name.model, access)
        case _:
            return _chat(name, access)


def _chat(name: ModelName, access: Access) -> MakeModel:
    from pydantic_ai.models.openai import OpenAIChatModel

    provider_of = _chat_provider(name.family.prefix)
    profile = _chat_profile(is_openai=name.family.prefix == "openai")

    def make(http: httpx2.AsyncClient) -> Model:
        return OpenAIChatModel(name.model, provider=provider_of(_openai_client(access, http)), profile=profile)

    return make


def _chat_profile(*, is_openai: bool) -> OpenAIModelProfile:
    from pydantic_ai.profiles.openai import OpenAIModelProfile

    if is_openai:
        return OpenAIModelProfile(openai_chat_streaming_requires_finish_reason=True)
    return OpenAIModelProfile(
        openai_chat_streaming_requires_finish_reason=True,
        # `max_tokens` is what every server of this protocol knows; some know nothing else
        openai_chat_supports_max_completion_tokens=False,
        openai_supports_strict_tool_definition=False,
    )


def _chat_provider(prefix: str) -> Callable[[AsyncOpenAI], Provider[AsyncOpenAI]]:
    """Return the library's provider class over our own client: so it adds no headers and no address of its own."""
    from pydantic_ai.providers.ollama import OllamaProvider
    from pydantic_ai.providers.openai import OpenAIProvider
    from pydantic_ai.providers.openai_compatible import OpenAICompatibleProvider
    from pydantic_ai.providers.vercel import VercelProvider

    match prefix:
        case "openai":
            return lambda client: OpenAIProvider(openai_client=client)
        case "ollama":
            return lambda client: OllamaProvider(openai_client=client)
        case "vercel":
            return lambda client: VercelProvider(openai_client=client)
        case _:
            return lambda client: OpenAICompatibleProvider(prefix, openai_client=client)


def _openai_client(access: Access, http: httpx2.AsyncClient) -> AsyncOpenAI:
    from openai import AsyncOpenAI

    # a server at home wants no key, the SDK does; left out, it would take OPENAI_API_KEY and send that
    key = access.api_key or NO_KEY
    return AsyncOpenAI(api_key=key, base_url=access.base_url, http_client=http, max_retries=0)


def _responses(model: str, access: Access) -> MakeModel:
    from pydantic_ai.models.openai import OpenAIResponsesModel, OpenAIResponsesModelSettings
    from pydantic_ai.providers.openai import OpenAIProvider

    def make(http: httpx2.AsyncClient) -> Model:
        return OpenAIResponsesModel(
            model,
            provider=OpenAIProvider(openai_client=_openai_client(access, http)),
            settings=OpenAIResponsesModelSettings(openai_store=False),  # by default OpenAI keeps it for 30 days
        )

    return make


def _anthropic(model: str, access: Access) -> MakeModel:
    from anthropic import AsyncAnthropic
    from pydantic_ai.models.anthropic import AnthropicModel
    from pydantic_ai.providers.anthropic import AnthropicProvider

    def make(http: httpx2.AsyncClient) -> Model:
        client = AsyncAnthropic(api_key=access.api_key, base_url=access.base_url, http_client=http, max_retries=0)
        return AnthropicModel(model, provider=AnthropicProvider(anthropic_client=client))

    return make


def _google(model: str, access: Access) -> MakeModel:
    from pydantic_ai.models.google import GoogleModel
    from pydantic_ai.providers.google import GoogleProvider

    def make(http: httpx2.AsyncClient) -> Model:
        provider = GoogleProvider(api_key=access.api_key, base_url=access.base_url, http_client=http)
        return GoogleModel(model, provider=provider)

    return make


def max_output_tokens(name: ModelName) -> int | None:
    """Return how long an answer may be, where the library knows."""
    if name.family.prefix != "anthropic":
        return None
    from pydantic_ai.profiles.anthropic import anthropic_model_profile

    known: object = (anthropic_model_profile(name.model) or {}).get("anthropic_max_output_tokens")
    return known if isinstance(known, int) else None
