"""The adapter `mysql`: the contract of tables, against a real MariaDB."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import strategies as st

from adapters import mysql as adapter
from adapters.mysql import snapshots
from tests.adapters.mysql_room import Databases
from tests.adapters.table_contract import TableContract
from tests.adapters.table_room import VALUES
from tests.parts.mariadb import Server

_databases: list[Databases] = []


@pytest.fixture(scope="module", autouse=True)
def server(mariadb: Server) -> Iterator[Server]:
    """The server that the contract's functions ask."""
    _databases.append(Databases(mariadb))
    yield mariadb
    _databases.clear()
    snapshots.release_all()


def is_kept(value: Any) -> bool:
    """MySQL has no infinite numbers."""
    return not isinstance(value, float) or math.isfinite(value)


class TestMysqlTables(TableContract):
    adapter = adapter
    nested_as_text = True
    records = st.lists(st.tuples(*(st.none() | values.filter(is_kept) for _, values in VALUES.values())), max_size=12)
    words: ClassVar[dict[str, str]] = {
        "BIGINT": "bigint(20)",
        "not null": "Column 'who' cannot be null",
        "check": "CONSTRAINT `orders.total` failed",
        "row": "INTEGER PRIMARY KEY",
    }

    @staticmethod
    def settings(path: Path) -> dict[str, Any]:
        return _databases[0].settings(path)

    @staticmethod
    def execute(path: Path, sql: str) -> list[tuple[Any, ...]]:
        return _databases[0].execute(path, sql)

    @staticmethod
    def locked(path: Path) -> AbstractContextManager[None]:
        return _databases[0].locked(path)
