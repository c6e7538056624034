"""What tests of adapters share: the servers that they talk to."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.parts import postgres as parts


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[parts.Server]:
    """A PostgreSQL server."""
    with parts.shared(parts.place(tmp_path_factory.getbasetemp())) as server:
        yield server
