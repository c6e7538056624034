"""SQLite: reads tables, views and queries, and delivers to a table in one transaction."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import ClassVar, Literal

import pyarrow as pa
from pydantic import Field

from adapters.sqlite import reading, values, writing
from pipelines import environment
from pipelines.node import Example
from pipelines.scope import Scope
from pipelines.tables.discovering import discovered
from pipelines.tables.get import TableGet
from pipelines.tables.post import TablePost, Work
from pipelines.tables.relation import Column, Table


class Connection(environment.Connection):
    """An SQLite database file."""

    adapter: Literal["sqlite"]
    """`sqlite`."""
    path: str = Field(min_length=1, examples=["shop.sqlite"])
    """The database file, from the project folder. A post makes it where it is missing."""
    lock_seconds: float = Field(default=5.0, ge=0)
    """How long to wait for a lock that another program holds, before the attempt counts as failed."""

    def test(self, scope: Scope) -> str:
        """Opens the database and counts its tables."""
        with reading.reader(scope.path(self.path), self.lock_seconds) as reader:
            count = len(reader.tables())
        return f"SQLite database {self.path} with {count} {'table or view' if count == 1 else 'tables and views'}"

    def discover(self, scope: Scope) -> Sequence[environment.Found]:
        """Its tables and views."""
        with reading.reader(scope.path(self.path), self.lock_seconds) as reader:
            return discovered(
                reader, lambda name: Get(connection="", table=name), lambda name: reader.kind(name) == "view"
            )


class Get(TableGet):
    """Reads a table, view or query of an SQLite database.

    Each declared column type has one type here: INTEGER, REAL, TEXT, BLOB, BOOLEAN (0 or 1), DATE, TIME, TIMESTAMP,
    TIMESTAMPTZ (without a zone it is UTC) from ISO 8601 text or seconds since 1970, DECIMAL(p,s) exact. A value that
    does not fit its column's declared type is a malformed record with the code `type`, never changed in silence.
    Declare types with `columns` where a table declares none, or others.
    """

    examples: ClassVar[tuple[Example, ...]] = (
        Example(
            config={"connection": "shop", "table": "orders", "key": ["order_id"], "cursor": "updated_at"},
            says="Reads what has changed in `orders` since the last run.",
        ),
        Example(
            config={"connection": "shop", "query": "SELECT country, count(*) AS orders FROM orders GROUP BY country"},
            says="Reads what a query gives.",
        ),
    )

    def reader(self, scope: Scope) -> AbstractContextManager[reading.SqliteReader]:
        connection = scope.connection(self.connection, Connection)
        return reading.reader(scope.path(connection.path), connection.lock_seconds)


class Post(TablePost):
    """Delivers records to a table of an SQLite database, all in one transaction.

    A record that the table refuses is rejected with SQLite's own message; the others are delivered. Decimals of up to
    15 digits become DECIMAL(p,s) columns, longer ones DECIMAL_TEXT(p,s), whose text keeps every digit; times are ISO
    8601 text, with a zone in UTC; nested values are JSON text. What SQLite would change is rejected with the code
    `type`: NaN, integers beyond 64 bits, digits that the column would drop.
    """

    needs_unique: ClassVar[bool] = True
    examples: ClassVar[tuple[Example, ...]] = (
        Example(
            config={"connection": "shop", "table": "orders", "mode": "upsert", "key": "order_no"},
            records=[{"order_no": "WEB-1", "total": 18.5}, {"order_no": "WEB-2", "total": 7.0}],
            gives={"out": [{"order_no": "WEB-1", "total": 18.5}, {"order_no": "WEB-2", "total": 7.0}]},
            says="Updates the orders that are there and inserts the others.",
        ),
    )

    def address(self, scope: Scope) -> str:
        return f"sqlite:{self._path(scope)}"

    def session(self, scope: Scope, work: Work) -> writing.SqliteSession:
        connection = scope.connection(self.connection, Connection)
        return writing.SqliteSession(self._path(scope), connection.lock_seconds, work)

    def described(self, scope: Scope) -> tuple[Table | None, list[str]]:
        connection = scope.connection(self.connection, Connection)
        path = self._path(scope)
        if not path.exists() and path.parent.is_dir() and self.create:
            return None, []
        with reading.reader(path, connection.lock_seconds) as reader:
            return reading.described(reader, self.table), reader.tables()

    def is_published(self, scope: Scope, token: str) -> bool:
        path = self._path(scope)
        if not path.is_file():
            return False
        with reading.reader(path, scope.connection(self.connection, Connection).lock_seconds) as reader:
            return reader.published(token)

    def unfit(self, kind: pa.DataType, column: Column | None) -> str:
        return values.unfit(kind, column)

    def _path(self, scope: Scope) -> Path:
        return scope.path(scope.connection(self.connection, Connection).path).resolve()


def tables(connection: Connection, scope: Scope) -> list[tuple[str, pa.Schema]]:
    """The tables and views of a database with their columns, as a get would read them."""
    with reading.reader(scope.path(connection.path), connection.lock_seconds) as reader:
        gets = [Get(connection="", table=name) for name in reader.tables()]
        return [(str(get.table), pa.schema([column.field() for column in reader.columns(get, {})])) for get in gets]
