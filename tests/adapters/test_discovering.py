"""`connections discover`: tables, files and endpoints with the columns that a get reads of them."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import duckdb
import pytest

from tests.adapters.http.openapi_documents import saved, shop_document
from tests.adapters.table_room import Room
from tests.agent.projects import processflow, project
from tests.parts.shop_api import answer, serving

FLOW = "flow: none\nnodes:\n  start: {type: start}\n"
TABLE = "CREATE TABLE orders (id BIGINT, total DECIMAL(10,2), note VARCHAR(20))"
VIEW = "CREATE VIEW large AS SELECT id FROM orders WHERE total > 100"
FOUND = [
    {"name": "large", "kind": "view", "columns": {"id": "BIGINT"}, "note": ""},
    {
        "name": "orders",
        "kind": "table",
        "columns": {"id": "BIGINT", "total": "DECIMAL(10,2)", "note": "VARCHAR"},
        "note": "",
    },
]


def discovered(folder: Path, settings: dict[str, Any], name: str = "shop") -> list[dict[str, Any]]:
    environment = {"environment": "local", "connections": {"shop": settings} if settings else {}}
    project(folder, FLOW, {"environments/local.yaml": json.dumps(environment)})
    done = processflow(folder, "connections", "discover", name, "--json")
    assert (done.returncode, done.stderr) == (0, "")
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("kind", ["postgres", "mysql"])
def test_a_server_tells_its_tables_and_views_with_their_types(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    room: Room = request.getfixturevalue(f"{kind}_room")
    room.sql(TABLE, VIEW)
    assert room.settings is not None

    found = discovered(tmp_path, room.settings(room.path))

    assert found == FOUND


def test_a_database_in_a_file_tells_its_tables_and_views_with_their_types(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "shop.db")) as connection:
        connection.executescript(f"{TABLE}; {VIEW}")
    with closing(duckdb.connect(str(tmp_path / "shop.duckdb"))) as warehouse:
        warehouse.execute(TABLE)
        warehouse.execute(VIEW)

    one = discovered(tmp_path, {"adapter": "sqlite", "path": "shop.db"})
    other = discovered(tmp_path, {"adapter": "duckdb", "path": "shop.duckdb"})

    assert one == FOUND
    assert other == FOUND


def test_an_api_tells_its_endpoints_from_its_document(tmp_path: Path) -> None:
    saved(tmp_path, shop_document())

    found = discovered(tmp_path, {"adapter": "http", "url": "http://shop.example", "openapi": "openapi.json"})

    by_name = {each["name"]: each for each in found}
    assert by_name["GET /orders"]["columns"]["updated_at"] == "TIMESTAMPTZ"
    assert by_name["POST /orders"]["columns"] == {"order_no": "VARCHAR", "total": "DOUBLE", "note": "VARCHAR"}
    assert by_name["GET /nexts"]["columns"] is None
    assert len(found) == len(by_name)


@pytest.mark.parametrize(
    ("path", "note"),
    [("/plain", ""), ("/orders", "records: items"), ("/cursors", "records: data"), ("/orders/3", "records: @")],
)
def test_an_api_without_a_document_is_asked_for_a_sample(path: str, note: str, tmp_path: Path) -> None:
    with serving() as shop:
        (found,) = discovered(tmp_path, {"adapter": "http", "url": shop.url, "test_path": path})

    assert (found["name"], found["note"]) == (f"GET {path}", note)
    assert found["columns"]["id"] == "BIGINT"
    assert found["columns"]["paid"] == "BOOLEAN"


def test_what_an_api_without_records_answers_is_told_with_what_to_do(tmp_path: Path) -> None:
    with serving() as shop:
        shop.script("/plain", answer(200, "<a/>", content_type="text/xml"))
        (found,) = discovered(tmp_path, {"adapter": "http", "url": shop.url, "test_path": "/plain"})
        settings = {"adapter": "http", "url": shop.url, "test_path": "/nowhere"}
        project(
            tmp_path,
            FLOW,
            {"environments/local.yaml": json.dumps({"environment": "local", "connections": {"shop": settings}})},
        )
        done = processflow(tmp_path, "connections", "discover", "shop")

    assert found["note"] == "answers no JSON (text/xml): give `format` and `columns`"
    assert done.returncode == 2
    assert "set `test_path` to a path that answers with records" in done.stderr


def test_files_of_the_project_are_told_by_their_path(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in/a.csv").write_text("id,total\n1,9.5\n", "utf-8")
    (tmp_path / "in/b.jsonl").write_text('{"id": 1, "lines": [{"no": 1}]}\n', "utf-8")
    (tmp_path / "in/c.parquet").write_text("no parquet", "utf-8")

    found = discovered(tmp_path, {}, "in/")

    assert [(each["name"], each["columns"]) for each in found] == [
        ("in/a.csv", {"id": "BIGINT", "total": "DOUBLE"}),
        ("in/b.jsonl", {"id": "BIGINT", "lines": 'STRUCT("no" BIGINT)[]'}),
        ("in/c.parquet", None),
    ]
    assert found[2]["note"].startswith("cannot be read: ")


def test_a_person_sees_columns_or_the_reason_why_there_are_none(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("id\n1\n", "utf-8")
    project(tmp_path, FLOW)

    done = processflow(tmp_path, "connections", "discover", "./a.csv")
    unknown = processflow(tmp_path, "connections", "discover", "shop")

    assert done.stdout.splitlines()[1].split() == ["a.csv", "file", "id", "BIGINT"]
    assert "no connection is called 'shop'" in unknown.stderr


@pytest.mark.parametrize(
    ("settings", "code", "message"),
    [
        ({"adapter": "sqlite", "path": "no.db"}, 2, "there is no such file; give the path of an SQLite database"),
        ({"adapter": "duckdb", "path": "no.db"}, 2, "there is no such file; give the path of a DuckDB database"),
        (
            {"adapter": "mysql", "host": "127.0.0.1", "port": 1, "user": "u", "database": "d"},
            3,
            "check `host` and `port`",
        ),
        (
            {"adapter": "postgres", "host": "127.0.0.1", "port": 1, "user": "u", "database": "d"},
            3,
            "Is the server running",
        ),
        ({"adapter": "http", "url": "http://127.0.0.1:1", "retry": {"attempts": 1}}, 3, "check the connection's `url`"),
    ],
)
def test_a_test_that_fails_says_what_to_do(settings: dict[str, Any], code: int, message: str, tmp_path: Path) -> None:
    environment = {"environment": "local", "connections": {"shop": settings}}
    project(tmp_path, FLOW, {"environments/local.yaml": json.dumps(environment)})

    done = processflow(tmp_path, "connections", "test", "shop")

    assert done.returncode == code
    assert message in done.stderr
