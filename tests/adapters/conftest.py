"""What tests of adapters share: rooms on the servers that they talk to."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from adapters.postgres import snapshots
from tests.adapters.postgres_room import Schemas
from tests.adapters.table_room import Room
from tests.parts.postgres import Server


@pytest.fixture
def postgres_room(postgres: Server, tmp_path: Path) -> Iterator[Room]:
    """A schema of its own on that server."""
    yield Schemas(postgres).room(tmp_path)
    snapshots.release_all()
