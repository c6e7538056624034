"""The adapter `postgres`: the contract of tables, against a real server."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import strategies as st

from adapters import postgres as adapter
from adapters.postgres import snapshots
from tests.adapters.postgres_room import Schemas
from tests.adapters.table_contract import TableContract
from tests.adapters.table_room import VALUES
from tests.parts.postgres import Server

_schemas: list[Schemas] = []


@pytest.fixture(scope="module", autouse=True)
def server(postgres: Server) -> Iterator[Server]:
    """The server that the contract's functions ask."""
    _schemas.append(Schemas(postgres))
    yield postgres
    _schemas.clear()
    snapshots.release_all()


def without_nul(value: Any) -> bool:
    """PostgreSQL keeps every character but one."""
    return not isinstance(value, str) or "\0" not in value


class TestPostgresTables(TableContract):
    adapter = adapter
    nested_as_text = True
    records = st.lists(
        st.tuples(*(st.none() | values.filter(without_nul) for _, values in VALUES.values())), max_size=12
    )
    words: ClassVar[dict[str, str]] = {
        "BIGINT": "bigint",
        "not null": 'null value in column "who" of relation "orders" violates not-null constraint',
        "check": 'new row for relation "orders" violates check constraint',
    }

    @staticmethod
    def settings(path: Path) -> dict[str, Any]:
        return _schemas[0].settings(path)

    @staticmethod
    def execute(path: Path, sql: str) -> list[tuple[Any, ...]]:
        return _schemas[0].execute(path, sql)

    @staticmethod
    def locked(path: Path) -> AbstractContextManager[None]:
        return _schemas[0].locked(path)
