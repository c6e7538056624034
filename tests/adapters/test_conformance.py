"""The gets and posts of the house are held to the suite that strangers import."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
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
from pipelines.node import Example, Node
from pipelines.scope import Scope
from tests.adapters.file.post_room import read_back
from tests.adapters.kafka_room import Room as Topics
from tests.adapters.kafka_room import messages
from tests.parts import kafka as kafka_parts
from tests.parts import mariadb as mariadb_parts
from tests.parts.postgres import Server, schema_of
from tests.parts.shop_api import Shop, made_order, serving

ORDERS = "CREATE TABLE orders (order_no VARCHAR PRIMARY KEY, country VARCHAR, total DOUBLE, updated_at BIGINT)"
ROWS: list[dict[str, Any]] = [
    {"order_no": "WEB-1", "country": "DE", "total": 1.5, "updated_at": 1},
    {"order_no": "WEB-2", "country": None, "total": None, "updated_at": 2},
    {"order_no": "WEB-3", "country": "FR", "total": 7.25, "updated_at": 3},
]
NEW: dict[str, Any] = {"order_no": "WEB-4", "country": "DE", "total": 4.0, "updated_at": 4}


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
        if path.suffix == ".txt" and path.exists():
            return read_back(
                scope.project, **{name: example.config[name] for name in ("path", "format", "layout")}
            ).to_pylist()
        written = sorted(path.parent.rglob("*.parquet"))
        return [row for each in written for row in fetched(f"FROM read_parquet('{each}', hive_partitioning = true)")]


class OverHttp(NodeConformance):
    """Orders at an API of the tests' own."""

    @pytest.fixture(autouse=True)
    def _shops(self) -> Iterator[None]:
        self.opened = ExitStack()
        self.shops: dict[Path, Shop] = {}
        with self.opened:
            yield
            http.loop.run(http.client.close_all())

    def prepare(self, project: Path, example: Example) -> Scope:
        scope = NodeConformance.prepare(self, project, example)
        self.shops[project] = shop = self.opened.enter_context(serving(3))
        settings = {"retry": http.connection.Retry(attempts=2, first_seconds=0.001)}
        connection = http.Connection(adapter="http", url=shop.url, **settings)
        return replace(scope, environment=Environment(connections=dict.fromkeys(("shop", "erp"), connection)))


class TestHttpGet(OverHttp, GetConformance):
    node = http.Get

    def samples(self) -> Sequence[Example]:
        paged, changed, _each = self.node.examples
        wanted = {"id": "BIGINT", "total": "DECIMAL(9,2)", "updated_at": "TIMESTAMPTZ"}
        orders = [{name: order[name] for name in wanted} for order in map(made_order, (1, 2, 3))]
        paging = {**paged.config["paging"], "parameter": "page_no", "total": "meta.total"}
        return (
            Example(config={**paged.config, "columns": wanted, "paging": paging}, gives={"out": orders}),
            Example(config={**changed.config, "columns": wanted}, gives={"out": orders}),
        )

    def grow(self, scope: Scope, example: Example) -> Records | None:
        if "cursor" not in example.config:
            return None
        order = made_order(4)
        self.shops[scope.project].orders.append(order)
        return [{name: order[name] for name in example.config["columns"]}]


class TestHttpPost(OverHttp, PostConformance):
    node = http.Post

    def delivered(self, scope: Scope, example: Example) -> Records:
        return [
            {name: order[name] for name in ("order_no", "total")} for order in self.shops[scope.project].taken.values()
        ]


class InKafka(NodeConformance):
    """Orders in a topic of their own on a real broker."""

    kafka: kafka_parts.Broker
    partitions = 2

    @pytest.fixture(autouse=True)
    def _kafka(self, kafka: kafka_parts.Broker) -> None:
        self.kafka = kafka

    def room(self, scope: Scope) -> Topics:
        return Topics(self.kafka, scope.project)

    def topic(self, scope: Scope) -> str:
        return str((scope.project / "topic").read_text())

    def prepare(self, project: Path, example: Example) -> Scope:
        scope = NodeConformance.prepare(self, project, example)
        room = self.room(scope)
        (project / "topic").write_text(room.topic(self.partitions))
        return replace(scope, environment=room.scope.environment, flow=f"conformance-{self.topic(scope)}")

    def in_topic(self, node: Node, scope: Scope) -> Node:
        return node.model_copy(update={"topic": self.topic(scope)})

    def worlds(self, tmp_path: Path) -> list[tuple[Example, Node, Scope]]:
        return [(example, self.in_topic(node, scope), scope) for example, node, scope in super().worlds(tmp_path)]


class TestKafkaGet(InKafka, GetConformance):
    node = kafka.Get

    def samples(self) -> Sequence[Example]:
        config = {"connection": "events", "topic": "orders", "key": ["order_no"]}
        texts = [{"value": json.dumps(row)} for row in ROWS]
        placed = [{**row, "at": row["order_no"], "partition": 0, "offset": number} for number, row in enumerate(ROWS)]
        take = {"at": "key", "partition": "partition", "offset": "offset"}
        return (
            Example(config=config, gives={"out": ROWS}),
            Example(config={**config, "take": take}, gives={"out": placed}),
            Example(config={"connection": "events", "topic": "orders", "format": "text"}, gives={"out": texts}),
        )

    def prepare(self, project: Path, example: Example) -> Scope:
        scope = super().prepare(project, example)
        self.room(scope).send(self.topic(scope), [(row["order_no"], row, 0) for row in ROWS])
        return scope

    def grow(self, scope: Scope, example: Example) -> Records | None:
        self.room(scope).send(self.topic(scope), [(NEW["order_no"], NEW, 1)])
        if example.config.get("format") == "text":
            return [{"value": json.dumps(NEW)}]
        return [{**NEW, "at": "WEB-4", "partition": 1, "offset": 0} if "take" in example.config else NEW]


class TestKafkaPost(InKafka, PostConformance):
    node = kafka.Post
    partitions = 1

    def delivered(self, scope: Scope, example: Example) -> Records:
        found = messages(self.kafka, self.topic(scope))
        is_text = example.config.get("format") == "text"
        return [{"line": one.value} if is_text else json.loads(str(one.value)) for one in found]


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
