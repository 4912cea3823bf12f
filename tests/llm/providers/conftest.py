from __future__ import annotations

from collections.abc import Iterator

import pytest
from llmock.testing import LLMockServer


@pytest.fixture(scope="session")
def one_server() -> Iterator[LLMockServer]:
    """The one llmock of this test run."""
    with LLMockServer() as server:
        yield server


@pytest.fixture
def server(one_server: LLMockServer) -> LLMockServer:
    """A server that has heard nothing yet."""
    one_server.state.reset()
    return one_server
