"""Singer taps from a package registry, run against a real PostgreSQL and an API that nobody here wrote."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from adapters import singer
from pipelines.conformance import GetConformance
from pipelines.conformance.examples import Records
from pipelines.environment import Environment
from pipelines.node import Example
from pipelines.scope import Scope
from repository.catalogue import Catalogue
from repository.project import Project
from repository.query import rows as query
from tests.adapters.singer_taps import ODD_TAP, with_taps
from tests.agent.projects import COMMAND, leftovers, processflow, project, run_here
from tests.parts.apis import json_server
from tests.parts.postgres import PASSWORD, USER, Server, schema_of

DATABASE_TAP = "meltanolabs-tap-postgres==0.10.0"
API_TAP = ["tap-rest-api-msdk==1.4.2", "setuptools<81"]  # it leans on pkg_resources, which later ones have not
ORDERS = """flow: night
nodes:
  start: {type: start}
  orders: {type: singer.get, from: start, connection: legacy, stream: SCHEMA-orders, replication: incremental, cursor: changed_at, columns: {id: BIGINT, total: "DECIMAL(12,2)", changed_at: TIMESTAMPTZ, note: VARCHAR}}
  kept: {type: sqlite.post, from: orders, connection: shop, table: orders, mode: upsert, key: [id]}
"""


@pytest.fixture
def legacy(postgres: Server, taps: Path, tmp_path: Path) -> tuple[Project, str]:
    """A project whose flow reads a table by a tap, and the table's schema."""
    schema = schema_of(tmp_path / "legacy")
    with closing(postgres.connect()) as connection:
        connection.execute(f"CREATE SCHEMA {schema}")
        connection.execute(
            f"CREATE TABLE {schema}.orders (id bigint PRIMARY KEY, total numeric(12,2), changed_at timestamptz, note text)"
        )
        add(postgres, schema, 1, 3)
    config = {
        "host": "127.0.0.1", "port": postgres.port, "user": USER, "password": {"secret": "PGPASSWORD"},
        "database": "postgres", "filter_schemas": [schema],
    }  # fmt: skip
    connections = {
        "legacy": {"adapter": "singer", "tap": "tap-postgres", "packages": DATABASE_TAP, "config": config},
        "shop": {"adapter": "sqlite", "path": "shop.db"},
    }
    text = json.dumps({"environment": "local", "connections": connections})
    made = project(tmp_path, ORDERS.replace("SCHEMA", schema), {"environments/local.yaml": text})
    return with_taps(made, taps), schema


def add(server: Server, schema: str, first: int, last: int) -> None:
    with closing(server.connect()) as connection:
        connection.execute(
            f"INSERT INTO {schema}.orders SELECT n, n + 0.10, '2024-01-01 10:00:00+02'::timestamptz + n * interval '1 hour', "
            f"CASE WHEN n % 2 = 0 THEN 'é ' || n END FROM generate_series({first}, {last}) n"
        )


def test_a_tap_s_records_come_with_their_types_and_the_next_run_reads_what_is_new(
    legacy: tuple[Project, str], postgres: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, schema = legacy
    monkeypatch.setenv("PGPASSWORD", PASSWORD)

    first = run_here(made, "night")
    add(postgres, schema, 4, 5)
    second = run_here(made, "night")

    assert (first["status"], first["balanced"], first["nodes"]["orders"]["in"]) == ("done", True, 3)
    assert kept(made, first) == [
        (1, "1.10", "2024-01-01 09:00:00+00", None),
        (2, "2.10", "2024-01-01 10:00:00+00", "é 2"),
        (3, "3.10", "2024-01-01 11:00:00+00", None),
    ]
    # a tap reads from its bookmark on, that value included: the upsert makes of it nothing twice
    assert second["nodes"]["orders"]["in"] == 3
    assert [row[0] for row in kept(made, second)] == [3, 4, 5]


def kept(made: Project, run: dict[str, Any]) -> list[tuple[Any, ...]]:
    """What a run has read, as text."""
    sql = f"SELECT id, total::varchar AS t, changed_at::varchar AS at, note FROM night.orders WHERE run = '{run['run']}' ORDER BY id"
    return [(row["id"], row["t"], row["at"], row["note"]) for row in query(made.lake, sql)]


def test_its_streams_are_listed_with_columns_and_a_wrong_stream_is_told_at_its_line(
    legacy: tuple[Project, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    made, schema = legacy
    monkeypatch.setenv("PGPASSWORD", PASSWORD)

    tested = processflow(made.folder, "connections", "test", "legacy")
    listed = json.loads(processflow(made.folder, "connections", "discover", "legacy", "--json").stdout)
    flow = made.folder / "flows" / "night.yaml"
    flow.write_text(flow.read_text().replace("-orders,", "-order,"))
    checked = processflow(made.folder, "check")

    assert (tested.returncode, tested.stdout) == (0, f"legacy: tap-postgres has 1 stream: {schema}-orders\n")
    assert [found["name"] for found in listed] == [f"{schema}-orders"]
    assert (
        f"flows/night.yaml:4: node \"orders\": there is no stream '{schema}-order'; did you mean '{schema}-orders'?"
        in checked.stdout
    )


def test_what_a_tap_says_when_it_fails_is_told_without_its_secrets(
    legacy: tuple[Project, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    made, _ = legacy
    monkeypatch.setenv("PGPASSWORD", "canary-in-the-mine")

    tested = processflow(made.folder, "connections", "test", "legacy")

    assert tested.returncode == 3
    assert "password authentication failed" in tested.stderr
    assert "canary" not in tested.stdout + tested.stderr
    assert "Traceback" not in tested.stderr


def test_an_api_is_read_by_a_tap_of_other_authors(taps: Path, tmp_path: Path) -> None:
    data = {"orders": [{"id": n, "total": n + 0.25, "who": {"name": f"é{n}"}} for n in range(1, 31)]}
    flow = """flow: night
nodes:
  start: {type: start}
  orders: {type: singer.get, from: start, connection: api, stream: orders}
  kept: {type: file.post, from: orders, path: out.jsonl}
"""
    (tmp_path / "server").mkdir()
    with json_server(tmp_path / "server", data) as url:
        streams = [
            {
                "name": "orders",
                "path": "/orders",
                "records_path": "$[*]",
                "primary_keys": ["id"],
                "num_inference_records": 30,
            }
        ]
        connection = {
            "adapter": "singer",
            "tap": "tap-rest-api-msdk",
            "packages": API_TAP,
            "config": {"api_url": url, "streams": streams},
        }
        text = json.dumps({"environment": "local", "connections": {"api": connection}})
        made = with_taps(project(tmp_path / "made", flow, {"environments/local.yaml": text}), taps)
        done = run_here(made, "night")

    assert (done["status"], done["nodes"]["kept"]["delivered"]) == ("done", 30)
    found = [json.loads(line) for line in (made.folder / "out.jsonl").read_text().splitlines()]
    assert [(row["id"], row["total"]) for row in found] == [
        (str(n) if isinstance(found[0]["id"], str) else n, n + 0.25) for n in range(1, 31)
    ]


ODD = """flow: night
nodes:
  start: {type: start}
  orders: {type: singer.get, from: start, connection: odd, stream: orders}
  kept: {type: sqlite.post, from: orders, connection: shop, table: orders, mode: append}
"""
KINDS = {"id": {"type": "integer"}, "total": {"type": ["null", "number"], "multipleOf": 0.01}}
ROWS = [{"id": 1, "total": 1.5}, {"id": 2, "total": None}, '{"id": 3, "total": 12345678901234567890.12}']


def odd(folder: Path, taps: Path, **config: Any) -> Project:
    """A project that reads a tap of bad days."""
    connection = {
        "adapter": "singer", "tap": "tap-odd", "packages": str(ODD_TAP), "silent_seconds": 2,
        "config": {"schema": KINDS, "rows": ROWS, "token": {"secret": "ODD_TOKEN"}, **config},
    }  # fmt: skip
    text = json.dumps(
        {"environment": "local", "connections": {"odd": connection, "shop": {"adapter": "sqlite", "path": "shop.db"}}}
    )
    with closing(sqlite3.connect(folder / "shop.db")) as shop:
        shop.execute("CREATE TABLE orders (id INTEGER, total DECIMAL_TEXT)")
    return with_taps(project(folder, ODD, {"environments/local.yaml": text}), taps)


@pytest.fixture(autouse=True)
def token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ODD_TOKEN", "canary-in-the-mine")


def arrived(made: Project) -> list[int]:
    with closing(sqlite3.connect(made.folder / "shop.db")) as shop:
        return [number for (number,) in shop.execute("SELECT id FROM orders ORDER BY id")]


def test_a_record_that_does_not_fit_is_set_aside_and_decimals_keep_their_digits(tmp_path: Path, taps: Path) -> None:
    made = odd(tmp_path, taps, rows=[*ROWS, {"id": "four", "total": 1}, {"id": 5, "total": 0.125}])

    done = run_here(made, "night")

    assert (done["status"], done["balanced"], done["nodes"]["orders"]["rejected"]) == ("done_with_rejects", True, 2)
    found = query(made.lake, "SELECT total::varchar AS total FROM night.orders ORDER BY id")
    assert [row["total"] for row in found] == ["1.50", None, "12345678901234567890.12"]
    rejected = query(made.lake, "SELECT message, payload FROM rejects ORDER BY rid")
    assert rejected[0]["message"] == "record 4: column 'id': 'four' is no BIGINT"
    assert rejected[0]["payload"] == {"line": '{"id":"four","total":1}'}


@pytest.mark.parametrize(
    ("does", "status", "told"),
    [
        ("fails", "failed", "tap-odd ended with exit code 1: ValueError: the key is ***"),
        ("is silent", "failed", "tap-odd has said nothing for 2 seconds"),
        ("babbles", "failed", "the tap says 'Hello, world', which is no message of Singer's"),
        ("gives files", "failed", "BATCH messages"),
        ("ends without a line's end", "done", None),
    ],
)
def test_of_a_tap_with_a_bad_day_all_or_nothing_arrives(
    tmp_path: Path, taps: Path, does: str, status: str, told: str | None
) -> None:
    made = odd(tmp_path, taps, does=does)

    done = run_here(made, "night")

    assert done["status"] == status
    assert arrived(made) == ([1, 2, 3] if status == "done" else [])
    assert told is None or told in done["error"]
    assert leftovers(made) == []
    state = Catalogue(made.catalogue_url).positions("night", "local")
    assert state == ({"orders": {"number": 4, "state": {"read": 77}}} if status == "done" else {})


def test_what_a_failed_run_has_read_is_read_again(tmp_path: Path, taps: Path) -> None:
    made = odd(tmp_path, taps, rows=[*ROWS, {"id": "four"}])
    flow = tmp_path / "flows" / "night.yaml"
    flow.write_text(flow.read_text().replace("stream: orders}", "stream: orders, rejects: {fail_above: 0}}"))
    failed = run_here(made, "night")
    environment = tmp_path / "environments" / "local.yaml"
    environment.write_text(environment.read_text().replace(', {"id": "four"}', ""))

    done = run_here(made, "night")

    assert (failed["status"], done["status"]) == ("failed", "done")
    assert arrived(made) == [1, 2, 3]
    assert run_here(made, "night")["nodes"]["orders"]["in"] == 0


def test_a_run_whose_tap_is_silent_can_be_cancelled(tmp_path: Path, taps: Path) -> None:
    made = odd(tmp_path, taps, does="is silent")
    environment = made.folder / "environments" / "local.yaml"
    environment.write_text(environment.read_text().replace('"silent_seconds": 2', '"silent_seconds": 500'))
    running = subprocess.Popen(
        [COMMAND, "run", "night"], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    catalogue = Catalogue(made.catalogue_url)
    while not catalogue.runs(status="running"):
        assert running.poll() is None, running.communicate()
        time.sleep(0.1)

    cancelled = processflow(tmp_path, "runs", "cancel", "last")
    running.communicate(timeout=60)

    assert cancelled.returncode == 0
    assert catalogue.runs()[0]["status"] == "cancelled"
    assert arrived(made) == []
    assert not [path for path in Path("/proc").glob("[0-9]*/cmdline") if str(tmp_path).encode() in read(path)]


def read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:  # a process that has just ended
        return b""


def test_a_package_that_cannot_be_had_is_told(tmp_path: Path) -> None:
    made = odd(tmp_path, tmp_path, packages=None)
    environment = made.folder / "environments" / "local.yaml"
    environment.write_text(environment.read_text().replace(str(ODD_TAP), "./there-is-none"))

    told = processflow(made.folder, "connections", "test", "odd")

    assert told.returncode == 3
    assert "./there-is-none cannot be installed: " in told.stderr


class TestSingerGet(GetConformance):
    node = singer.Get

    @pytest.fixture(autouse=True)
    def _taps(self, taps: Path) -> None:
        self.taps = taps

    def prepare(self, project: Path, example: Example) -> Scope:
        with_taps(Project(project), self.taps)
        rows = [{"id": 1, "total": 9.5}, {"id": 2, "total": None}]
        kinds = {"id": {"type": "integer"}, "total": {"type": ["null", "number"]}}
        connection = singer.Connection(
            adapter="singer",
            tap="tap-odd",
            packages=str(ODD_TAP),
            config={"schema": kinds, "rows": rows, "key": ["id"]},
        )
        return Scope(project, Environment(environment="local", connections={"legacy": connection}))

    def grow(self, scope: Scope, example: Example) -> Records | None:
        connection = scope.environment.connections["legacy"]
        assert isinstance(connection, singer.Connection)
        connection.config["rows"].append({"id": 3, "total": 1.25})
        return [{"id": 3, "total": 1.25}]
