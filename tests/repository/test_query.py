"""What a query may ask, what it sees, and what stops it."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.errors import Invalid
from pipelines.node import Receipts, Rejects
from pipelines.records import ROW_ID
from repository.guard import asked, listed
from repository.manifest import read
from repository.query import Limits, query, rows
from repository.views import Views


@pytest.fixture
def filled(lake: Any) -> Any:
    """A lake with one run of one flow."""
    batch = pa.record_batch(
        {"order_id": [1, 2], "total": pa.array(["10.50", None]).cast(pa.decimal128(9, 2)), ROW_ID: pa.array([10, 20])}
    )
    one = lake.tap()
    one.records("orders", "out", batch)
    one.records("large", "review", batch.slice(1))
    one.rejects("erp", batch.slice(0, 1), Rejects(None, ["refused"], ["no such plant"]), 1)
    one.deliveries("erp", pa.array([20]), Receipts(pa.array(["WEB-2"]), pa.array(["77"])), 1)
    one.transaction("erp", "call", status=201)
    lake.commit(one)
    return lake


@pytest.fixture
def connection() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as opened:
        yield opened


def text(lake: Any, sql: str, form: Any = "table", **limits: Any) -> str:
    out = io.BytesIO()
    query(lake.root, sql, Limits(**limits), form, out)
    return out.getvalue().decode()


def test_every_view_of_a_run_answers(filled: Any) -> None:
    sql = """
        SELECT r.status, n.node, o.order_id, o.total, l.total AS reviewed, j.payload ->> 'order_id' AS refused,
               d.id, t.details ->> 'status' AS answered, (SELECT count(*) FROM records) AS kept
        FROM runs r JOIN nodes n ON n.run = r.run AND n.node = 'erp'
        JOIN "web-orders".orders o ON o.run = r.run AND o.rid = 20
        JOIN "web-orders"."large.review" l ON l.rid = o.rid
        JOIN deliveries d ON d.rid = o.rid JOIN transactions t ON t.run = r.run, rejects j
    """

    assert rows(filled.root, sql) == [
        {"status": "done", "node": "erp", "order_id": 2, "total": None, "reviewed": None, "refused": "1", "id": "77",
         "answered": "201", "kept": 3}
    ]  # fmt: skip


def test_an_empty_lake_has_every_view_without_rows(lake: Any) -> None:
    counts = ", ".join(f"(SELECT count(*) FROM {view}) AS {view}" for view in
                       ("runs", "nodes", "records", "rejects", "deliveries", "transactions"))  # fmt: skip

    assert set(rows(lake.root, f"SELECT {counts}")[0].values()) == {0}


@pytest.mark.parametrize("form", ["csv", "json", "parquet", "arrow"])
def test_every_format_gives_the_same_rows(filled: Any, tmp_path: Path, form: Any) -> None:
    target = tmp_path / "answer"

    said = query(filled.root, 'SELECT order_id, total FROM "web-orders".orders ORDER BY 1', format=form, output=target)

    read_back = {
        "csv": lambda: [line.split(",") for line in target.read_text().splitlines()[1:]],
        "json": lambda: [[str(row["order_id"]), str(row["total"] or "")] for row in json.loads(target.read_text())],
        "parquet": lambda: [[str(a), str(b or "")] for a, b in _tuples(pq.read_table(target))],
        "arrow": lambda: [
            [str(a), str(b or "")] for a, b in _tuples(pa.ipc.open_stream(target.read_bytes()).read_all())
        ],
    }[form]()
    assert [[a, b.rstrip("0")] for a, b in read_back] == [["1", "10.5"], ["2", ""]]
    assert (said.rows, said.truncated) == (2, False)
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["answer"]


def _tuples(table: pa.Table) -> list[tuple[Any, ...]]:
    return [tuple(row.values()) for row in table.to_pylist()]


def test_a_table_lines_up_and_steers_no_terminal(filled: Any) -> None:
    shown = text(
        filled, "SELECT 1.5 AS n, '日本' AS s, NULL AS gone UNION ALL SELECT 200, 'a' || chr(27) || chr(10), 'b'"
    )

    assert shown.splitlines() == [
        "    n  s        gone",
        "─────  ───────  ────",
        "  1.5  日本     ∅",
        "200.0  a\\x1b\\n  b",
    ]


@pytest.mark.parametrize("form", ["table", "csv", "json", "parquet", "arrow"])
def test_more_rows_than_the_limit_are_cut_off_and_said(filled: Any, tmp_path: Path, form: Any) -> None:
    cut, whole = (
        query(filled.root, f"SELECT * FROM range({count})", Limits(rows=5000), form, tmp_path / "answer")
        for count in (5001, 5000)
    )

    assert (cut.rows, cut.truncated) == (5000, True)
    assert (whole.rows, whole.truncated) == (5000, False)


def test_numbers_that_json_lacks_are_null_and_wide_integers_stay_exact(filled: Any, tmp_path: Path) -> None:
    target = tmp_path / "answer.parquet"

    query(filled.root, "SELECT sum(9007199254740993::BIGINT) AS n", format="parquet", output=target)

    assert rows(filled.root, "SELECT 'nan'::DOUBLE AS a, '-inf'::FLOAT AS b") == [{"a": None, "b": None}]
    assert pq.read_table(target).to_pylist() == [{"n": 9007199254740993}]


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM read_text('/etc/hostname')",
        "SELECT * FROM '/etc/hostname'",
        'SELECT * FROM "/etc/passwd"',
        "SELECT * FROM read_csv('/etc/passwd')",
        "SELECT * FROM glob('/*')",
        "SELECT 1 WHERE EXISTS (SELECT 1 FROM read_blob('/etc/hostname'))",
        "WITH x AS (SELECT * FROM parquet_scan('*.parquet')) SELECT * FROM x",
        "SELECT * FROM query('SELECT * FROM read_text(''/etc/hostname'')')",
        "SELECT * FROM query_table('runs')",
        "SELECT * FROM arrow_scan(1, 2, 3)",
        "SELECT * FROM duckdb_settings()",
        "SELECT * FROM sniff_csv('/etc/passwd')",
        "SELECT * FROM json_execute_serialized_sql('{}')",
        "SELECT * FROM (VALUES (1)) t, LATERAL (SELECT * FROM read_text('/etc/hostname'))",
        "FROM (SUMMARIZE FROM read_csv('/etc/passwd'))",
        "SELECT getenv('HOME')",
        "SELECT * FROM 'https://example.com/x.parquet'",
        "WITH \"/etc/hostname\" AS (SELECT 1) SELECT * FROM (SELECT * FROM '/etc/passwd')",
        "SELECT * FROM information_schema.tables",
        "SELECT * FROM main.runs",
    ],
)
def test_a_query_reaches_nothing_but_the_lakes_views(filled: Any, sql: str) -> None:
    with pytest.raises(Invalid) as fault:
        text(filled, sql)

    assert "\n" not in str(fault.value)


@pytest.mark.parametrize(
    "sql",
    [
        "COPY (SELECT 1) TO 'stolen.csv'",
        "COPY runs TO '/dev/stdout'",
        "ATTACH 'other.db'",
        "INSTALL httpfs",
        "LOAD httpfs",
        "SET memory_limit = '100GB'",
        "PRAGMA database_list",
        "CREATE TABLE x AS SELECT 1",
        "DROP VIEW runs",
        "DELETE FROM runs",
        "CALL pragma_version()",
        "EXPORT DATABASE 'x'",
        "CHECKPOINT",
        "EXPLAIN SELECT 1",
        "SELECT 1; SELECT 2",
        "SELECT 1; COPY (SELECT 1) TO 'stolen.csv'",
        "PREPARE x AS SELECT 1",
        "PIVOT runs ON status USING count(*)",
        "",
        "-- nothing",
        "SELECT 1) TO 'stolen.csv'; --",
        "SELEC 1",
        "SHOW ALL TABLES; DROP VIEW runs",
    ],
)
def test_whatever_is_not_one_select_is_refused_in_plain_words(filled: Any, sql: str, connection: Any) -> None:
    with pytest.raises(Invalid) as fault:
        asked(connection, sql)

    assert "Traceback" not in str(fault.value)
    assert "\n" not in str(fault.value)


def test_even_an_allowed_statement_could_neither_read_nor_write(filled: Any, tmp_path: Path) -> None:
    """What the parser lets pass by mistake the locked database still refuses."""
    from repository.query_child import configure, lock

    hidden = tmp_path / "hidden.parquet"
    pq.write_table(pa.table({"a": [1]}), hidden)
    limits = {"memory_bytes": 1 << 28, "threads": 1, "spill_bytes": 1 << 20}
    with duckdb.connect() as connection:
        configure(connection, limits, tmp_path / "spill")
        views = Views(filled.root, read(filled.root))
        view = views.find(["web-orders", "orders"])
        assert view is not None
        views.make(connection, [view])
        lock(connection, list(view.files))

        assert connection.execute('SELECT count(*) FROM "web-orders".orders').fetchone() == (2,)
        for sql in (
            f"SELECT * FROM '{hidden}'",
            "SELECT * FROM read_text('/etc/hostname')",
            f"SELECT * FROM glob('{filled.root}/**')",
            f"COPY (SELECT 1) TO '{tmp_path / 'new.csv'}'",
            f"COPY (SELECT 1) TO '{view.files[0]}'",
            f"ATTACH '{tmp_path / 'new.db'}'",
            "SET enable_external_access = true",
            "SET allowed_paths = ['/etc/hostname']",
            "LOAD httpfs",
        ):
            with pytest.raises(duckdb.Error):
                connection.execute(sql)
        assert connection.execute('SELECT count(*) FROM "web-orders".orders').fetchone() == (2,)


def test_files_that_no_manifest_names_are_not_seen(filled: Any) -> None:
    stray = filled.root / "records/flow=web-orders/date=2026-11-23/r2.parquet"
    stray.write_bytes(b"half written")

    assert rows(filled.root, "SELECT count(*) AS n FROM records") == [{"n": 3}]


def test_only_the_views_that_a_query_names_are_made(lake: Any, connection: Any) -> None:
    one = lake.tap()
    for number in range(300):
        one.records(f"n{number}", "out", pa.record_batch({"a": [1], ROW_ID: pa.array([1])}))
    lake.commit(one)

    names = asked(connection, 'WITH runs AS (SELECT * FROM runs) SELECT * FROM runs, "web-orders".n7, (SELECT 1)')

    assert names.tables == (("web-orders", "n7"),)
    assert names.perhaps == (("runs",),)
    assert rows(lake.root, 'SELECT a, run FROM "web-orders".n7') == [{"a": 1, "run": "r1"}]


def test_unknown_names_are_answered_with_what_is_there(filled: Any) -> None:
    for sql, message in {
        "SELECT * FROM recods": "there is no table recods; did you mean records? there are: runs, nodes, records,",
        "SELECT * FROM orders": 'there is no table orders; did you mean "web-orders".orders? there are: runs,',
        'SELECT * FROM "web-order".orders': 'there is no table "web-order".orders; did you mean "web-orders".orders?',
        'SELECT totl FROM "web-orders".orders': (
            'there is no column "totl"; did you mean total? there are: order_id, rid, run, total'
        ),
        "SELECT r.flw FROM runs r": 'there is no column "flw"; did you mean flow?',
        "SELECT at FROM transactions": 'syntax error at or near "FROM"; as columns, write "at"',
        "SELECT\n +": 'line 2: syntax error at or near "+"',
        "SELECT nope(1)": 'Scalar Function with name nope does not exist; did you mean "now"?',
    }.items():
        with pytest.raises(Invalid) as fault:
            text(filled, sql)
        assert message in str(fault.value), str(fault.value)


def test_show_tables_and_describe_tell_what_is_there(filled: Any) -> None:
    shown = [row["table"] for row in rows(filled.root, "SHOW TABLES")]
    described = [row["column_name"] for row in rows(filled.root, 'DESCRIBE "web-orders".orders')]

    assert shown == [
        "runs", "nodes", "records", "rejects", "deliveries", "parents", "replays", "transactions",
        '"web-orders".orders', '"web-orders"."large.review"', '"web-orders"."erp.rejected"',
    ]  # fmt: skip
    assert described == ["order_id", "total", "run", "rid"]


def test_a_long_list_of_names_is_cut() -> None:
    assert listed("x", [f"name{number}" for number in range(30)]).endswith("name19 and 10 more")


def children() -> set[str]:
    """The processes that this one has started and that live."""
    return {pid for path in Path("/proc/self/task").glob("*/children") for pid in path.read_text().split()}


def test_a_query_that_takes_too_long_is_ended_with_its_process(filled: Any) -> None:
    before = children()

    with pytest.raises(Invalid, match=r"took longer than its 1 seconds"):
        text(filled, "SELECT sum(a.range * b.range) FROM range(1000000) a, range(1000000) b", seconds=1)

    assert children() <= before


def test_a_query_that_needs_too_much_memory_is_told_so(filled: Any) -> None:
    with pytest.raises(Invalid, match=r"needs more than its 64 MiB of memory"):
        text(
            filled,
            "SELECT list(r) FROM (SELECT range::VARCHAR || repeat('x', 100) AS r FROM range(10000000))",
            memory_bytes=64 << 20,
            spill_bytes=1 << 20,
        )


def test_a_deeply_nested_query_is_refused_not_crashed(filled: Any) -> None:
    with pytest.raises(Invalid):
        text(filled, "SELECT " + "(" * 3000 + "1" + ")" * 3000)
    assert text(filled, "SELECT " + " + ".join(["1"] * 400) + " AS n", "csv") == "n\n400\n"


@pytest.mark.parametrize("form", ["table", "csv", "json"])
def test_a_reader_that_has_seen_enough_is_no_fault(filled: Any, repository_root: Path, form: str) -> None:
    code = (
        "import sys; from pathlib import Path; from repository.query import query\n"
        "query(Path(sys.argv[1]), 'SELECT * FROM range(1000000)', format=sys.argv[2])"
    )

    asking = subprocess.Popen(
        [sys.executable, "-c", code, str(filled.root), form],
        cwd=repository_root,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert asking.stdout is not None
    first = asking.stdout.readline()
    asking.stdout.close()
    _, said = asking.communicate()

    assert first
    assert (asking.returncode, said) == (0, b"")


def test_a_failed_query_leaves_the_old_answer(filled: Any, tmp_path: Path) -> None:
    target = tmp_path / "answer.csv"
    target.write_text("old")

    with pytest.raises(Invalid):
        query(filled.root, "SELECT error('no') FROM runs", format="csv", output=target)

    assert target.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["answer.csv"]


def test_an_answer_into_a_folder_that_is_not_there_is_the_users_to_mend(filled: Any, tmp_path: Path) -> None:
    with pytest.raises(Invalid, match=r"name a file in a folder that exists"):
        query(filled.root, "SELECT 1", format="csv", output=tmp_path / "no" / "answer.csv")


def test_the_child_imports_neither_beam_nor_sqlalchemy_nor_pyarrow(repository_root: Path) -> None:
    code = "import sys, repository.query_child; print([m for m in sys.modules if m in {'apache_beam', 'sqlalchemy', 'pyarrow', 'numpy', 'pydantic'}])"

    told = subprocess.run([sys.executable, "-c", code], cwd=repository_root, capture_output=True, text=True, check=True)

    assert told.stdout.strip() == "[]"


def test_asking_imports_neither_duckdb_nor_beam(repository_root: Path) -> None:
    code = "import sys, repository.query; print([m for m in sys.modules if m in {'apache_beam', 'sqlalchemy', 'pyarrow', 'numpy', 'duckdb'}])"

    told = subprocess.run([sys.executable, "-c", code], cwd=repository_root, capture_output=True, text=True, check=True)

    assert told.stdout.strip() == "[]"


def test_no_progress_bar_is_written_into_an_answer(lake: Any) -> None:
    answer = rows(lake.root, "SELECT current_setting('enable_progress_bar') AS shown")

    assert answer == [{"shown": False}]
