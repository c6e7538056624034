"""What tests of adapters share: rooms on the servers that they talk to."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from adapters.mysql import snapshots as mysql_snapshots
from adapters.postgres import snapshots
from tests.adapters.mysql_room import Databases
from tests.adapters.postgres_room import Schemas
from tests.adapters.table_room import Room
from tests.parts import mariadb as mariadb_parts
from tests.parts.postgres import Server


@pytest.fixture
def postgres_room(postgres: Server, tmp_path: Path) -> Iterator[Room]:
    """A schema of its own on that server."""
    yield Schemas(postgres).room(tmp_path)
    snapshots.release_all()


@pytest.fixture
def mysql_room(mariadb: mariadb_parts.Server, tmp_path: Path) -> Iterator[Room]:
    """A database of its own on a MariaDB."""
    yield Databases(mariadb).room(tmp_path)
    mysql_snapshots.release_all()


@pytest.fixture(scope="session")
def taps(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where all processes of the session install taps."""
    folder = tmp_path_factory.getbasetemp()
    folder = (folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder) / "taps"
    folder.mkdir(exist_ok=True)
    return folder
