"""PostgreSQL: reads tables, views and queries of one snapshot in parallel, and delivers in one transaction."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import ClassVar, Literal, Self

import pyarrow as pa
from pydantic import Field, model_validator

from adapters.postgres import reading, snapshots, types, writing
from adapters.postgres.forwarding import PostgresPassage
from adapters.postgres.opening import KEEPALIVES, Server, address_of, has_password
from adapters.postgres.rights import Rights
from adapters.postgres.tls import SYSTEM
from pipelines import environment, node
from pipelines.errors import Invalid
from pipelines.node import Example, Json, SplitPlan, Want
from pipelines.passage import Passage
from pipelines.scope import Scope
from pipelines.secrets import Secret
from pipelines.tables.discovering import discovered
from pipelines.tables.get import Reader, TableGet
from pipelines.tables.post import TablePost, Work
from pipelines.tables.relation import Column, Table, as_list

Tls = Literal["disable", "allow", "prefer", "require", "verify-ca", "verify-full"]
CHECKED = ("require", "verify-ca", "verify-full")
"""With these a connection is encrypted or not made."""


class Connection(environment.Connection):
    """A PostgreSQL database: where it is, and who asks."""

    adapter: Literal["postgres"]
    """`postgres`."""
    url: str | None = Field(default=None, examples=["postgresql://reader@db.example.org:5432/shop"])
    """All in one, as libpq takes it; without a password, which `password` gives."""
    service: str | None = None
    """A service of `pg_service.conf`, instead of the fields below or under them."""
    host: str | None = None
    """The server's name or address, or the folder of its socket."""
    port: int | None = Field(default=None, ge=1, le=65535)
    """The server's port; without it 5432."""
    database: str | None = None
    """The database; without it that of the user's name."""
    user: str | None = None
    """Who asks."""
    password: Secret | None = None
    """The password, by the name of a secret. Without it, libpq looks into its password file."""
    tls: Tls | None = None
    """Whether the connection is encrypted, and how far the server's certificate is checked: libpq's `sslmode`."""
    tls_root: str | None = None
    """A file of certificates, from the project folder, that the server's is checked against; `system`: those that this
    machine trusts, with `verify-full`."""
    search_path: str | None = None
    """The schemas in which names without one are looked up, in order; tables are made in the first."""
    lock_seconds: float = Field(default=5.0, gt=0)
    """How long to wait for a lock that another session holds, before the attempt counts as failed."""
    connect_seconds: int = Field(default=10, ge=2)
    """How long to wait for the server to answer, before the attempt to connect counts as failed."""
    keepalive_seconds: int = Field(default=60, ge=1)
    """After how much silence to ask whether the other end of the line is still there; a line with three such questions
    unanswered is lost."""

    @model_validator(mode="after")
    def _names_a_server(self) -> Self:
        if self.url is not None and any((self.service, self.host, self.port, self.database, self.user)):
            raise ValueError("a connection has `url`, or `service`, `host`, `port`, `database` and `user`")
        if self.url is None and self.service is None and self.host is None:
            raise ValueError("a connection needs `url`, `service` or `host`")
        if self.tls_root is not None and self.tls not in CHECKED:
            raise ValueError(f"`tls_root` needs `tls: verify-full`, `verify-ca` or `require`, not {self.tls or 'none'}")
        if self.tls_root == SYSTEM and self.tls != "verify-full":
            raise ValueError("`tls_root: system` needs `tls: verify-full`")
        if self.url is not None and has_password(self.url):
            raise ValueError("`url` holds a password; name a secret in `password` instead")
        return self

    def server(self, scope: Scope) -> Server:
        """Where the database is, with the password."""
        from psycopg import conninfo

        root = None if self.tls_root in (None, SYSTEM) else scope.path(str(self.tls_root))
        if root is not None and not root.is_file():
            raise Invalid(f"`tls_root`: there is no file {root}; give the certificate of who signed the server's")
        words = {
            "service": self.service,
            "host": self.host,
            "port": self.port,
            "dbname": self.database,
            "user": self.user,
            "sslmode": self.tls,
            "sslrootcert": str(root or self.tls_root or "") or None,
            "application_name": f"processflow {scope.flow}".strip(),
        }
        waits = {
            "connect_timeout": self.connect_seconds,
            "keepalives_idle": self.keepalive_seconds,
            "keepalives_interval": self.keepalive_seconds,
            "keepalives_count": KEEPALIVES,
        }
        stated = conninfo.conninfo_to_dict(self.url or "")
        given = {name: value for name, value in words.items() if value is not None}
        text = conninfo.make_conninfo(self.url or "", **{**waits, **stated, **given})
        secret = self.password.reveal(scope.project) if self.password else None
        return Server(text, address_of(text), self.lock_seconds, self.search_path or "", secret)

    def test(self, scope: Scope) -> str:
        """Connects, and counts the tables that can be seen."""
        server = self.server(scope)
        with reading.reader(server) as reader:
            count = len(reader.tables())
            version = reader.rows("SHOW server_version", {})[0][0]
            tls = ", encrypted" if reader.connection.pgconn.ssl_in_use else ""
        tables = "table or view" if count == 1 else "tables and views"
        return f"PostgreSQL {version}{tls}, {server.address} with {count} {tables}"

    def discover(self, scope: Scope) -> Sequence[environment.Found]:
        """Its tables and views."""
        with reading.reader(self.server(scope)) as reader:
            return discovered(
                reader, lambda name: Get(connection="", table=name), lambda name: reader.kind(name) in ("v", "m")
            )


class Get(TableGet):
    """Reads a table, view or query of a PostgreSQL database.

    A table is read by several connections at once, all of one snapshot: the state in which the run found the database.
    `numeric` without precision, `interval`, `json`, enums, ranges and all other types that Arrow has no like of are read
    as text, exactly; arrays as lists. A value that its type has no room for (`NaN` in a numeric, `infinity` in a date, an
    array of arrays) or that cannot be read as a type declared in `columns` is a malformed record with the code `type`.

    The database does what is asked of it in its own SQL: `where`, and in a `query` joins and sums. Of a table only the
    columns that the flow needs are read. What nodes behind it do is done here, as it is for every other source.
    """

    examples: ClassVar[tuple[Example, ...]] = (
        Example(
            config={"connection": "shop", "table": "orders", "key": ["order_id"], "cursor": "updated_at"},
            says="Reads what has changed in `orders` since the last run.",
        ),
        Example(
            config={"connection": "shop", "table": "orders", "where": "updated_at > $since"},
            says="Reads what is newer than the parameter `since`.",
        ),
        Example(
            config={
                "connection": "shop",
                "query": "SELECT country, sum(total) AS total FROM orders WHERE updated_at > $since GROUP BY country",
                "columns": {"country": "varchar", "total": "decimal(18,2)"},
            },
            says="Has the database add up: one record a country leaves it.",
        ),
    )

    reads_one_moment: ClassVar[bool] = True

    def server(self, scope: Scope) -> Server:
        """Where it reads."""
        return scope.connection(self.connection, Connection).server(scope)

    def reader(self, scope: Scope) -> AbstractContextManager[reading.PostgresReader]:
        return reading.reader(self.server(scope), scope.run, repr(self))

    def barriers(
        self, reader: Reader, there: Sequence[Column], values: Mapping[str, object]
    ) -> Iterable[tuple[str, str]]:
        assert isinstance(reader, reading.PostgresReader)
        if self.table is not None:
            asked = {*as_list(self.columns), *as_list(self.key), *as_list(self.cursor)} if self.columns else None
            names = [column.name for column in there if asked is None or column.name in asked]
            return list(Rights(reader).reading(self.table, names))
        try:  # the server looks at rights when a statement runs, not when it is prepared
            reader.rows(f"SELECT 1 FROM {self.relation().sql} LIMIT 0", values)
        except Invalid as fault:
            return [(str(fault), "")]
        return []

    def plan(self, scope: Scope, position: Json, want: Want) -> SplitPlan:
        return snapshots.planned(self.table, super().plan(scope, position, want), want)

    def repeats(self, split: Json) -> bool:
        is_ordered = split["first"] is not None or (self.query is not None and bool(self.key))
        return split["snapshot"] is not None and is_ordered

    def holds(self, split: Json, scope: Scope) -> bool:
        server = scope.connection(self.connection, Connection).server(scope)
        return split["snapshot"] is None or snapshots.is_there(server, split["snapshot"])

    def release(self, scope: Scope) -> None:
        snapshots.release(scope.run)


class Post(TablePost):
    """Delivers records to a table of a PostgreSQL database, all in one transaction.

    A record that the table refuses is rejected with the server's message; the others are delivered. `append` and
    `replace` copy straight into the table; `upsert` and `delete` copy into a temporary table and end in one statement.
    `replace` deletes and loads in one transaction: readers never wait and see the old records or the new, never an empty
    table, while grants, indexes, views and references stay as they are. It refuses a table on which others hang that a
    deletion would change (`on delete cascade`, `set null`). A value that the column's type would change (a decimal place
    dropped, a time rounded) is rejected with the code `type`.

    What comes straight from a table that a `postgres.get` reads is forwarded as the server sends it, without being looked
    at, several times quicker: in the modes `append` and `replace`, without `key`, where the
    columns are of the same types and the table has no triggers or references. Both servers count the records, and each
    has a receipt. Values that Arrow has no room for arrive too. Where a record is refused, all are read after all, and it
    is found; where there are few (10,000), or a `snapshot: all` asks for them, they are read from the start.
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
        connection = scope.connection(self.connection, Connection)
        path = f"?search_path={connection.search_path}" if connection.search_path else ""
        return f"postgresql://{connection.server(scope).address}{path}"

    def session(self, scope: Scope, work: Work) -> writing.PostgresSession:
        return writing.PostgresSession(self._server(scope), work)

    def described(self, scope: Scope) -> tuple[Table | None, list[str]]:
        with reading.reader(self._server(scope)) as reader:
            return reader.table(self.table), reader.tables()

    def barriers(self, schema: pa.Schema, scope: Scope) -> Sequence[tuple[str, str]]:
        with reading.reader(self._server(scope)) as reader:
            return list(Rights(reader).writing(self.work(schema)))

    def is_published(self, scope: Scope, token: str) -> bool:
        return writing.is_published(self._server(scope), token)

    def unfit(self, kind: pa.DataType, column: Column | None) -> str:
        return types.unfit(kind, column)

    def forwards(self, source: node.Get, scope: Scope) -> bool:
        if not isinstance(source, Get) or source.table is None or isinstance(source.columns, dict):
            return False
        return not self.key and self.mode in ("append", "replace")

    def passage(self, source: node.Get, schema: pa.Schema, scope: Scope, token: str) -> Passage:
        assert isinstance(source, Get)
        session = writing.PostgresSession(self._server(scope), self.work(schema))
        return PostgresPassage(source, source.server(scope), session, scope, token)

    def _server(self, scope: Scope) -> Server:
        return scope.connection(self.connection, Connection).server(scope)


def tables(connection: Connection, scope: Scope) -> list[tuple[str, pa.Schema]]:
    """The tables and views of a database with their columns, as a get would read them."""
    with reading.reader(connection.server(scope)) as reader:
        gets = [Get(connection="", table=name) for name in reader.tables()]
        return [(str(get.table), pa.schema([column.field() for column in reader.columns(get, {})])) for get in gets]
