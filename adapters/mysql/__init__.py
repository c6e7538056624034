"""MySQL and MariaDB: reads tables, views and queries in one state in parallel, and delivers in one transaction."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import ClassVar, Literal, Self
from urllib.parse import unquote, urlsplit

import pyarrow as pa
from pydantic import Field, model_validator

from adapters.mysql import reading, snapshots, types, writing
from adapters.mysql.opening import PORT, Server, Tls
from pipelines import environment
from pipelines.errors import Invalid, Unavailable
from pipelines.node import Chunk, Example, Json, SplitPlan, Want
from pipelines.scope import Scope
from pipelines.secrets import Secret, address_of
from pipelines.tables.discovering import discovered
from pipelines.tables.get import TableGet
from pipelines.tables.post import TablePost, Work
from pipelines.tables.relation import Column, Table

CONNECTIONS_MOST = 8


class Connection(environment.Connection):
    """A MySQL or MariaDB database: where it is, and who asks."""

    adapter: Literal["mysql"]
    """`mysql`."""
    url: str | None = Field(default=None, examples=["mysql://reader@db.example.org:3306/shop"])
    """Host, port, database and user in one; without a password, which `password` gives."""
    host: str | None = None
    """The server's name or address, or the path of its socket."""
    port: int | None = Field(default=None, ge=1, le=65535)
    """The server's port; without it 3306."""
    database: str | None = None
    """The database in which names without one are looked up."""
    user: str | None = None
    """Who asks."""
    password: Secret | None = None
    """The password, by the name of a secret."""
    tls: Tls = "prefer"
    """Whether the connection is encrypted: `disable`, `prefer` (where the server can), `require`, `verify-ca` (its
    certificate is checked), `verify-full` (and its name)."""
    tls_root: str | None = None
    """A file of certificates, from the project folder, that the server's is checked against; without it the machine's."""
    lock_seconds: float = Field(default=5.0, gt=0)
    """How long to wait for a lock that another session holds, in whole seconds, before the attempt counts as failed."""

    @model_validator(mode="after")
    def _names_a_server(self) -> Self:
        if self.url is not None and any((self.host, self.port, self.database, self.user)):
            raise ValueError("a connection has `url`, or `host`, `port`, `database` and `user`")
        if self.url is None and (self.host is None or self.database is None or self.user is None):
            raise ValueError("a connection needs `url`, or `host`, `database` and `user`")
        if self.url is not None:
            found = address_of("url", self.url, "`password`", takes_user=True)
            if found.scheme not in ("mysql", "mariadb") or not (found.hostname and found.username) or found.query:
                raise ValueError("`url` is of the form mysql://user@host:3306/database")
            if not found.path.strip("/"):
                raise ValueError("`url` names no database; it is of the form mysql://user@host:3306/database")
        return self

    def server(self, scope: Scope) -> Server:
        """Where the database is, with the password."""
        found = urlsplit(self.url or "")
        return Server(
            self.host or found.hostname or "",
            self.port or found.port or PORT,
            self.database or unquote(found.path.strip("/")),
            self.user or unquote(found.username or ""),
            self.tls,
            scope.path(self.tls_root) if self.tls_root else None,
            self.lock_seconds,
            f"processflow {scope.flow}".strip(),
            self.password.reveal(scope.project) if self.password else None,
        )

    def test(self, scope: Scope) -> str:
        """Connects, and counts the tables that can be seen."""
        server = self.server(scope)
        try:
            with reading.reader(server) as reader:
                count = len(reader.tables())
                version = reader.version()
                cipher = reader.rows("SHOW SESSION STATUS LIKE 'Ssl_cipher'", {})
        except Unavailable as fault:
            raise Unavailable(f"{fault}; check `host` and `port`, and that the server runs") from fault
        product = "MariaDB" if "MariaDB" in version else "MySQL"
        tls = ", encrypted" if cipher and cipher[0][1] else ""
        tables = "table or view" if count == 1 else "tables and views"
        return f"{product} {version.partition('-')[0]}{tls}, {server.address} with {count} {tables}"

    def discover(self, scope: Scope) -> Sequence[environment.Found]:
        """Its tables and views."""
        with reading.reader(self.server(scope)) as reader:
            return discovered(
                reader, lambda name: Get(connection="", table=name), lambda name: reader.kind(name)[0] == "VIEW"
            )


class Get(TableGet):
    """Reads a table, view or query of a MySQL or MariaDB database.

    A table whose primary key begins with a whole number is read by several connections at once, one for each of the
    environment's workers. All records of a run are of one state of the database, that in which the run found it, as far
    as tables are of InnoDB: the connections begin in the same moment, and where the server cannot show that nothing was
    committed in between, one connection reads everything. On a cluster each split is of the state in which its worker
    finds it.

    SQL of yours is read with standard quoting: "names" and 'texts', a backslash being only that. Times are in UTC.
    `tinyint(1)` and `bit(1)` are read as booleans, `timestamp` with a zone, `datetime` without one; decimals of more than
    38 digits, `json`, enums and sets as text, exactly. A value that its type has no room for (a zero date, a `time` of
    more than a day, a `tinyint(1)` of 5) or that cannot be read as a type declared in `columns` is a malformed record
    with the code `type`.
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
    )

    def reader(self, scope: Scope) -> AbstractContextManager[reading.MyReader]:
        return reading.reader(self._server(scope))

    def plan(self, scope: Scope, position: Json, want: Want) -> SplitPlan:
        if want.rows is not None:  # a look at some records keeps no transaction
            return super().plan(scope, position, want)
        count = min(scope.environment.runner.workers, CONNECTIONS_MOST)
        with reading.planner(self._server(scope), scope.run, repr(self), count) as reader:
            plan = self.planned(reader, scope, position, want)
            held = reader.held
        if len(plan.splits) > 1 and count > 1 and held is not None and held.count == 1:
            words = "others write to the server without a pause: read by one connection, so that all is of one state"
            return replace(plan, note="; ".join(filter(None, [plan.note, words])))
        return plan

    def read(self, split: Json, schema: pa.Schema, scope: Scope, want: Want) -> Iterator[Chunk]:
        with reading.taker(self._server(scope), split["held"]) as reader:
            yield from reader.read(self, split, schema, scope, want)

    def release(self, scope: Scope) -> None:
        snapshots.release(scope.run)

    def _server(self, scope: Scope) -> Server:
        return scope.connection(self.connection, Connection).server(scope)


class Post(TablePost):
    """Delivers records to a table of a MySQL or MariaDB database, all in one transaction.

    A record that the table refuses is rejected with the server's message; the others are delivered. `append` and
    `replace` load a file through the connection where the server takes one (`local_infile`), else they insert many
    records a statement. `replace` deletes in the transaction: readers see the old records or the new. A value that the
    column's type would change (a decimal place dropped, a blank cut off, a number taken for a member of an enum) is
    rejected with the code `type`.

    A table that is made keeps texts apart that differ in case or blanks; a time with a zone becomes `datetime(6)` in UTC,
    since `timestamp` ends in 2038. MySQL ends a transaction when a table is made: one that is made for a run that then
    fails stays, empty.
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
        return f"mysql://{self._server(scope).address}"

    def session(self, scope: Scope, work: Work) -> writing.MySession:
        return writing.MySession(self._server(scope), work)

    def described(self, scope: Scope) -> tuple[Table | None, list[str]]:
        with reading.reader(self._server(scope)) as reader:
            engine = reader.kind(self.table)[1]
            if engine not in writing.ENGINES:
                raise Invalid(writing.without_transactions(self.table, engine))
            return reader.table(self.table), reader.tables()

    def is_published(self, scope: Scope, token: str) -> bool:
        with reading.reader(self._server(scope)) as reader:
            return reader.published(token)

    def unfit(self, kind: pa.DataType, column: Column | None) -> str:
        return types.unfit(kind, column)

    def _server(self, scope: Scope) -> Server:
        return scope.connection(self.connection, Connection).server(scope)


def tables(connection: Connection, scope: Scope) -> list[tuple[str, pa.Schema]]:
    """The tables and views of a database with their columns, as a get would read them."""
    with reading.reader(connection.server(scope)) as reader:
        gets = [Get(connection="", table=name) for name in reader.tables()]
        return [(str(get.table), pa.schema([column.field() for column in reader.columns(get, {})])) for get in gets]
