"""DuckDB: reads tables, views and queries, and delivers to a table in one transaction."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import ClassVar, Literal

import pyarrow as pa
from pydantic import Field

from adapters.duckdb import reading, writing
from pipelines import environment
from pipelines.node import Example
from pipelines.scope import Scope
from pipelines.tables.discovering import discovered
from pipelines.tables.get import TableGet
from pipelines.tables.post import TablePost, Work
from pipelines.tables.relation import Column, Table


def memory(scope: Scope) -> int:
    """What one database may hold in memory: a part of what the run may, as its caches are not the run's only need."""
    return max(scope.environment.runner.memory_bytes // 2, 1 << 27)


class Connection(environment.Connection):
    """A DuckDB database file."""

    adapter: Literal["duckdb"]
    """`duckdb`."""
    path: str = Field(min_length=1, examples=["warehouse.duckdb"])
    """The database file, from the project folder. A post makes it where it is missing. Either one process writes it,
    or several read it: a run waits and tries again while another program holds it."""

    def test(self, scope: Scope) -> str:
        """Opens the database and counts its tables."""
        with reading.reader(scope.path(self.path), memory(scope)) as reader:
            count = len(reader.tables())
        return f"DuckDB database {self.path} with {count} {'table or view' if count == 1 else 'tables and views'}"

    def discover(self, scope: Scope) -> Sequence[environment.Found]:
        """Its tables and views."""
        with reading.reader(scope.path(self.path), memory(scope)) as reader:
            return discovered(
                reader, lambda name: Get(connection="", table=name), lambda name: not reader.is_table(name)
            )


class Get(TableGet):
    """Reads a table, view or query of a DuckDB database.

    Types are DuckDB's own; HUGEINT is read as DECIMAL(38,0), and what Arrow has no type for (ENUM, INTERVAL, UNION,
    BIT, TIME WITH TIME ZONE) as text. A value that cannot be read as a type declared in `columns` without being changed
    is a malformed record with the code `type`.
    """

    examples: ClassVar[tuple[Example, ...]] = (
        Example(
            config={"connection": "warehouse", "table": "orders", "where": "country = 'DE'"},
            says="Reads the German orders.",
        ),
    )

    def reader(self, scope: Scope) -> AbstractContextManager[reading.DuckdbReader]:
        return reading.reader(scope.path(scope.connection(self.connection, Connection).path), memory(scope))


class Post(TablePost):
    """Delivers records to a table of a DuckDB database, all in one transaction.

    A record that the table refuses is rejected with the constraint's words; the others are delivered. A value that
    the column's type would change (a decimal place dropped, an integer too large) is rejected with the code `type`.
    An upsert needs no unique index.
    """

    examples: ClassVar[tuple[Example, ...]] = (
        Example(
            config={"connection": "warehouse", "table": "orders", "mode": "upsert", "key": "order_no"},
            records=[{"order_no": "WEB-1", "total": 18.5}, {"order_no": "WEB-2", "total": 7.0}],
            gives={"out": [{"order_no": "WEB-1", "total": 18.5}, {"order_no": "WEB-2", "total": 7.0}]},
            says="Updates the orders that are there and inserts the others.",
        ),
    )

    def address(self, scope: Scope) -> str:
        return f"duckdb:{self._path(scope)}"

    def session(self, scope: Scope, work: Work) -> writing.DuckdbSession:
        return writing.DuckdbSession(self._path(scope), work, memory(scope))

    def described(self, scope: Scope) -> tuple[Table | None, list[str]]:
        path = self._path(scope)
        if not path.exists() and path.parent.is_dir() and self.create:
            return None, []
        with reading.reader(path, memory(scope)) as reader:
            return reader.table(self.table), reader.tables()

    def is_published(self, scope: Scope, token: str) -> bool:
        path = self._path(scope)
        if not path.is_file():
            return False
        with reading.reader(path, memory(scope)) as reader:
            return reader.published(token)

    def unfit(self, kind: pa.DataType, column: Column | None) -> str:
        return writing.unfit(kind, column)

    def _path(self, scope: Scope) -> Path:
        return scope.path(scope.connection(self.connection, Connection).path).resolve()


def tables(connection: Connection, scope: Scope) -> list[tuple[str, pa.Schema]]:
    """The tables and views of a database with their columns, as a get would read them."""
    with reading.reader(scope.path(connection.path), memory(scope)) as reader:
        gets = [Get(connection="", table=name) for name in reader.tables()]
        return [(str(get.table), pa.schema([column.field() for column in reader.columns(get, {})])) for get in gets]
