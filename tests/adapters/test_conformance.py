"""The gets and posts of the house are held to the suite that strangers import."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import duckdb
import pytest

from adapters import duckdb as warehouse
from adapters import file, http, kafka, mysql, postgres, sqlite
from adapters.mysql import snapshots as mysql_snapshots
from adapters.postgres import snapshots
from pipelines.conformance import GetConformance, PostConformance
from pipelines.conformance.examples import Records
from pipelines.conformance.nodes import NodeConformance
from pipelines.environment import Connection, Environment
from pipelines.node import Example
from pipelines.scope import Scope
from tests.adapters.file.post_room import read_back
from tests.adapters.orders import NEW, ORDERS, ROWS
from tests.parts import mariadb as mariadb_parts
from tests.parts.postgres import Server, schema_of


def executed(path: Path, statement: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
    """A statement on a database, which is SQLite where its name says so."""
    connection = sqlite3.connect(path) if path.suffix == ".sqlite" else duckdb.connect(str(path))
    found = connection.execute(statement, list(values)).fetchall()
    connection.commit()
    connection.close()
    return found


def filled(scope: Scope, name: str, rows: Records) -> Scope:
    """A scope whose connection `db` is a database with orders in it."""
    path = scope.project / name
    executed(path, ORDERS)
    for row in rows:
        executed(path, "INSERT INTO orders VALUES (?, ?, ?, ?)", list(row.values()))
    connection: Connection = (
        sqlite.Connection(adapter="sqlite", path=name)
        if path.suffix == ".sqlite"
        else warehouse.Connection(adapter="duckdb", path=name)
    )
    return replace(scope, environment=Environment(environment="local", connections={"db": connection}))


class TableGet(GetConformance):
    database = ""

    def samples(self) -> Sequence[Example]:
        return (
            Example(config={"connection": "db", "table": "orders", "key": ["order_no"]}, gives={"out": ROWS}),
            Example(
                config={"connection": "db", "table": "orders", "key": ["order_no"], "cursor": "updated_at"},
                gives={"out": ROWS},
            ),
            Example(config={"connection": "db", "table": "orders", "where": "country = 'FR'"}, gives={"out": ROWS[2:]}),
        )

    def prepare(self, project: Path, example: Example) -> Scope:
        return filled(super().prepare(project, example), self.database, ROWS)

    def grow(self, scope: Scope, example: Example) -> Records | None:
        if "cursor" not in example.config:
            return None
        executed(scope.project / self.database, "INSERT INTO orders VALUES (?, ?, ?, ?)", list(NEW.values()))
        return [NEW]


class TablePost(PostConformance):
    database = ""

    def samples(self) -> Sequence[Example]:
        upserted = [{**ROWS[0], "total": 99.0}, NEW]
        return (
            Example(config={"connection": "db", "table": "orders"}, records=[NEW], gives={"out": [*ROWS, NEW]}),
            Example(
                config={"connection": "db", "table": "orders", "mode": "upsert", "key": "order_no"},
                records=upserted,
                gives={"out": [upserted[0], *ROWS[1:], NEW]},
            ),
            Example(
                config={"connection": "db", "table": "orders", "mode": "delete", "key": "order_no"},
                records=[{"order_no": "WEB-2"}],
                gives={"out": [ROWS[0], ROWS[2]]},
            ),
            Example(
                config={"connection": "db", "table": "orders", "mode": "replace"}, records=[NEW], gives={"out": [NEW]}
            ),
        )

    def prepare(self, project: Path, example: Example) -> Scope:
        return filled(super().prepare(project, example), self.database, ROWS)

    def delivered(self, scope: Scope, example: Example) -> Records:
        found = executed(scope.project / self.database, "SELECT * FROM orders ORDER BY order_no")
        return [dict(zip(NEW, row, strict=True)) for row in found]


class TestSqliteGet(TableGet):
    node = sqlite.Get
    database = "shop.sqlite"


class TestSqlitePost(TablePost):
    node = sqlite.Post
    database = "shop.sqlite"


class TestDuckdbGet(TableGet):
    node = warehouse.Get
    database = "shop.duckdb"


class TestDuckdbPost(TablePost):
    node = warehouse.Post
    database = "shop.duckdb"


class InPostgres(NodeConformance):
    """Orders in a schema of their own on a real server."""

    server: Server

    @pytest.fixture(autouse=True)
    def _server(self, postgres: Server) -> Iterator[None]:
        self.server = postgres
        yield
        snapshots.release_all()

    def executed(self, scope: Scope, statement: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        schema = schema_of(scope.project / "db")
        with self.server.connect(options=f"-c search_path={schema}") as connection:
            connection.execute(f"CREATE SCHEMA IF NOT EXISTS {schema}")
            found = connection.execute(statement.replace("?", "%s"), list(values))
            return found.fetchall() if found.description else []

    def prepare(self, project: Path, example: Example) -> Scope:
        scope = NodeConformance.prepare(self, project, example)
        self.executed(scope, ORDERS.replace("DOUBLE", "DOUBLE PRECISION"))
        for row in ROWS:
            self.executed(scope, "INSERT INTO orders VALUES (?, ?, ?, ?)", list(row.values()))
        settings = self.server.settings(schema_of(scope.project / "db"))
        return replace(scope, environment=Environment(connections={"db": postgres.Connection(**settings)}))


class TestPostgresGet(InPostgres, TableGet):
    node = postgres.Get

    def grow(self, scope: Scope, example: Example) -> Records | None:
        if "cursor" not in example.config:
            return None
        self.executed(scope, "INSERT INTO orders VALUES (?, ?, ?, ?)", list(NEW.values()))
        return [NEW]


class TestPostgresPost(InPostgres, TablePost):
    node = postgres.Post

    def delivered(self, scope: Scope, example: Example) -> Records:
        found = self.executed(scope, "SELECT * FROM orders ORDER BY order_no")
        return [dict(zip(NEW, row, strict=True)) for row in found]


class InMysql(NodeConformance):
    """Orders in a database of their own on a real MariaDB."""

    mariadb: mariadb_parts.Server

    @pytest.fixture(autouse=True)
    def _mariadb(self, mariadb: mariadb_parts.Server) -> Iterator[None]:
        self.mariadb = mariadb
        yield
        mysql_snapshots.release_all()

    def executed(self, scope: Scope, statement: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        with closing(self.mariadb.connect()) as connection, connection.cursor() as cursor:
            connection.select_db(mariadb_parts.database_of(scope.project / "db"))
            cursor.execute(statement.replace("?", "%s"), list(values))
            return list(cursor.fetchall())

    def prepare(self, project: Path, example: Example) -> Scope:
        scope = NodeConformance.prepare(self, project, example)
        database = mariadb_parts.database_of(scope.project / "db")
        with closing(self.mariadb.connect()) as connection:
            connection.query(f"CREATE DATABASE {database}")
        self.executed(scope, ORDERS.replace("VARCHAR", "VARCHAR(20)"))
        for row in ROWS:
            self.executed(scope, "INSERT INTO orders VALUES (?, ?, ?, ?)", list(row.values()))
        settings = self.mariadb.settings(database)
        return replace(scope, environment=Environment(connections={"db": mysql.Connection(**settings)}))


class TestMysqlGet(InMysql, TableGet):
    node = mysql.Get

    def grow(self, scope: Scope, example: Example) -> Records | None:
        if "cursor" not in example.config:
            return None
        self.executed(scope, "INSERT INTO orders VALUES (?, ?, ?, ?)", list(NEW.values()))
        return [NEW]


class TestMysqlPost(InMysql, TablePost):
    node = mysql.Post

    def delivered(self, scope: Scope, example: Example) -> Records:
        found = self.executed(scope, "SELECT * FROM orders ORDER BY order_no")
        return [dict(zip(NEW, row, strict=True)) for row in found]


class TestFileGet(GetConformance):
    node = file.Get

    def grow(self, scope: Scope, example: Example) -> Records | None:
        if not str(example.config["path"]).startswith("in/"):
            return None
        (scope.project / "in" / "later.jsonl").write_text('{"id": 7, "total": 1.00}\n')
        return [{"id": 7, "total": "1.00"}]


class TestFilePost(PostConformance):
    node = file.Post

    def delivered(self, scope: Scope, example: Example) -> Records:
        path = scope.project / str(example.config["path"]).partition("{")[0]
        if path.suffix == ".csv" and path.exists():
            return fetched(f"SELECT * FROM read_csv('{path}')")
        if path.suffix == ".jsonl" and path.exists():
            return [json.loads(line) for line in path.read_text().splitlines()]
        if path.suffix == ".xml" and path.exists():
            columns = {"no": "BIGINT", "total": "DOUBLE"}
            read = read_back(scope.project, path=example.config["path"], columns=columns).to_pylist()
            return [{"order_id": row["no"], "total": row["total"]} for row in read]
        if path.suffix == ".txt" and path.exists():
            return read_back(
                scope.project, **{name: example.config[name] for name in ("path", "format", "layout")}
            ).to_pylist()
        written = sorted(path.parent.rglob("*.parquet"))
        return [row for each in written for row in fetched(f"FROM read_parquet('{each}', hive_partitioning = true)")]


def fetched(query: str) -> list[dict[str, Any]]:
    connection = duckdb.connect()
    found = connection.execute(query)
    names = [column[0] for column in found.description or ()]
    rows = [dict(zip(names, row, strict=True)) for row in found.fetchall()]
    connection.close()
    return rows


@pytest.mark.parametrize("adapter", [file, sqlite, warehouse, postgres, http, mysql, kafka])
def test_what_an_adapter_gives_is_documented_by_examples(adapter: ModuleType) -> None:
    assert adapter.Get.examples
    assert adapter.Post.examples
