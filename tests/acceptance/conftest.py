"""Real servers for all acceptance tests: one that is open, and one at which every request shows a key."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from servers import ADDRESS, Guarded, said, serving


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a server that is open to everybody."""
    with serving(tmp_path_factory.mktemp("server")) as process:
        yield said(process, ADDRESS)


@pytest.fixture(scope="session")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    """A server at which every request has to show a key."""
    with serving(tmp_path_factory.mktemp("guarded"), AUTHENTICATION="required") as process:
        yield Guarded(said(process, ADDRESS), said(process, r"lac_\S+"))
