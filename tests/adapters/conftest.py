"""What tests of adapters share: the servers that they talk to."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from adapters.postgres import snapshots
from tests.adapters.postgres_room import Schemas
from tests.adapters.table_room import Room
from tests.parts import postgres as parts


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[parts.Server]:
    """A PostgreSQL server."""
    with parts.shared(parts.place(tmp_path_factory.getbasetemp())) as server:
        yield server


@pytest.fixture
def postgres_room(postgres: parts.Server, tmp_path: Path) -> Iterator[Room]:
    """A schema of its own on that server."""
    yield Schemas(postgres).room(tmp_path)
    snapshots.release_all()
