"""Every node that works batch by batch, in one flow: whatever the batches and workers, it gives what DuckDB gives."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.agent.generated import environment
from tests.agent.projects import project, run_here
from tests.transforms.test_transforms_equal_duckdb import TYPES, plain, records, tables

NAMES = [name for name in TYPES if name not in ("kind", "nothing", "pair")]
"""What Parquet gives back as it was."""
ROW = "row_number AS id, *"
NODES: dict[str, tuple[str, dict[str, str]]] = {
    "mapped": (
        "{type: map, fields: {id: id, a: n * 2 + small, b: upper(text), c.d: price, c.e: place.zip}}",
        {
            "out": "SELECT row_number AS id, n * 2 + small AS a, upper(text) AS b, {'d': price, 'e': place.zip} AS c FROM t"
        },
    ),
    "cast": (
        "{type: map, fields: {id: id, a: 'digits::INTEGER'}}",
        {
            "out": "SELECT row_number AS id, try_cast(digits AS INTEGER) AS a FROM t WHERE a IS NOT NULL OR digits IS NULL"
        },
    ),
    "kept": ("{type: filter, where: n > 0 OR flag}", {"out": "SELECT {row} FROM t WHERE n > 0 OR flag"}),
    "routed": (
        "{type: decide, when: {yes: flag, many: len(tags) > 1}, otherwise: rest}",
        {
            "yes": "SELECT {row} FROM t WHERE flag",
            "many": "SELECT {row} FROM t WHERE flag IS NOT TRUE AND len(tags) > 1",
            "rest": "SELECT {row} FROM t WHERE flag IS NOT TRUE AND (len(tags) > 1) IS NOT TRUE",
        },
    ),
    "sound": (
        "{type: validate, expectations: [{expect_column_values_to_not_be_null: {column: text}}]}",
        {"out": "SELECT {row} FROM t WHERE text IS NOT NULL"},
    ),
    "found": (
        "{type: lookup, table: tables/words.csv, on: {digits: code}, take: [word]}",
        {"out": "SELECT {row}, CASE digits WHEN 'x' THEN 'ex' WHEN ' 7' THEN 'seven' END AS word FROM t"},
    ),
    "flat": (
        "{type: flatten, column: place}",
        {"out": "SELECT row_number AS id, * EXCLUDE (place), place.city AS place_city, place.zip AS place_zip FROM t"},
    ),
    "tall": (
        "{type: unpivot, on: [n, small], keep: [id]}",
        {
            "out": "SELECT id, name, value FROM (SELECT row_number AS id, 'n' AS name, n AS value, 0 AS o FROM t UNION ALL "
            "SELECT row_number, 'small', small, 1 FROM t) WHERE value IS NOT NULL ORDER BY id, o"
        },
    ),
    "apart": (
        "{type: split, each: lines, keep: [id], number: no}",
        {
            "out": "SELECT id, no, l.sku AS sku, l.tags AS tags FROM (SELECT row_number AS id, "
            "unnest(range(1, len(lines) + 1)) AS no, unnest(lines) AS l FROM t) ORDER BY id, no"
        },
    ),
    "sized": ("{type: split, rows: 2}", {"out": "SELECT {row} FROM t"}),
    "called": (
        "{type: python, keep: [id], columns: {twice: BIGINT}, trusted: true, "
        'code: \'def run(b): return {"twice": [None if n is None else 2 * n for n in b["n"].to_pylist()]}\'}',
        {"out": "SELECT row_number AS id, n * 2 AS twice FROM t"},
    ),
}
MERGED = (
    "SELECT row_number AS id, {'d': price, 'e': place.zip} AS c, NULL::INTEGER AS a FROM t UNION ALL BY NAME "
    "SELECT row_number AS id, NULL AS c, try_cast(digits AS INTEGER) AS a FROM t WHERE a IS NOT NULL OR digits IS NULL "
    "ORDER BY id, c NULLS LAST"
)


def flow(batch_rows: int) -> str:
    lines = ["flow: narrow", f"settings: {{batch_rows: {batch_rows}}}", "nodes:", "  start: {type: start}"]
    lines.append("  t: {type: file.get, from: start, path: t.parquet}")
    for name, (text, ports) in NODES.items():
        lines.append(f"  {name}: {text.replace('{type:', '{from: t, type:', 1)}")
        lines += [
            f"  {name}_{port}: {{type: file.post, from: {name}.{port}, path: {name}_{port}.parquet}}" for port in ports
        ]
    lines.append("  one: {type: map, from: t, fields: {id: id, c.d: price, c.e: place.zip}}")
    lines.append("  both: {type: merge, from: [one, cast]}")
    lines.append("  both_out: {type: file.post, from: both, path: both_out.parquet}")
    return "\n".join(lines) + "\n"


def sent(folder: Path, name: str) -> pa.Table:
    """What a target holds, by record id; what is of one record stays in its order."""
    table = pq.read_table(folder / f"{name}.parquet")
    return table.take(pa.array(sorted(range(table.num_rows), key=lambda row: table["id"][row].as_py()), pa.int64()))


@settings(max_examples=6, suppress_health_check=list(HealthCheck))
@given(
    table=tables(),
    batch_rows=st.integers(1, 8),
    group_rows=st.integers(1, 4),
    workers=st.integers(1, 4),
)
def test_what_leaves_each_node_is_what_duckdb_gives_of_the_whole(
    table: pa.Table, batch_rows: int, group_rows: int, workers: int
) -> None:
    table = table.select(NAMES)
    numbered = table.add_column(0, "id", pa.array(range(table.num_rows), pa.int64()))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = {"environments/local.yaml": environment(workers), "tables/words.csv": "code,word\nx,ex\n 7,seven\n"}
        made = project(folder, flow(batch_rows), files)
        pq.write_table(numbered, folder / "t.parquet", row_group_size=group_rows)

        report = run_here(made, "narrow")
        found = {path.stem: sent(folder, path.stem) for path in folder.glob("*.parquet") if path.stem != "t"}

    assert report["error"] is None
    assert report["balanced"]
    wanted: dict[str, Any] = {
        f"{node}_{port}": plain(query.replace("{row}", ROW), table)
        for node, (_, ports) in NODES.items()
        for port, query in ports.items()
    }
    for name, expected in {**wanted, "both_out": plain(MERGED, table)}.items():
        same = expected.drop(["row_number"]) if "row_number" in expected.schema.names else expected
        got = found[name].select(same.schema.names)
        if name == "both_out":
            got = got.take(pa.array(sorted(range(len(got)), key=lambda row: order(got, row)), pa.int64()))
        assert records(got) == records(same), name


def order(table: pa.Table, row: int) -> tuple[int, bool]:
    return table["id"][row].as_py(), table["c"][row].as_py() is None
