"""What the tests of crashes share: the ledger, the zygote and the databases."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from crash.systems import Ground
from postgres import PostgresServer


@pytest.fixture(scope="session")
def ground(postgres: PostgresServer) -> Iterator[Ground]:
    shared = Ground(postgres=postgres)
    yield shared
    shared.stop()
