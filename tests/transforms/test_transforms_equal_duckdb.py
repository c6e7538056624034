"""Over generated tables a transform, batch by batch, gives what one DuckDB statement gives over the whole table."""

from __future__ import annotations

import atexit
from collections.abc import Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from pipelines.conformance.transforms import account
from pipelines.node import Transform
from pipelines.scope import Scope
from pipelines.sql.sandbox import Sandbox
from transforms.decide import Decide
from transforms.filter import Filter
from transforms.map import Map

FEW = settings(max_examples=20, phases=[Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink])
"""Tables of many types take long to draw."""
SCOPE = Scope(Path(), now=datetime(2026, 1, 15, tzinfo=UTC))
TYPES: dict[str, tuple[pa.DataType, st.SearchStrategy[Any]]] = {
    "n": (pa.int64(), st.integers(-(1 << 40), 1 << 40)),
    "small": (pa.int8(), st.integers(-128, 127)),
    "price": (pa.decimal128(18, 4), st.decimals(-10_000, 10_000, places=4)),
    "wide": (pa.decimal128(38, 10), st.decimals(-(10**20), 10**20, places=10)),
    "text": (pa.string(), st.text(max_size=12)),
    "digits": (pa.string(), st.one_of(st.integers(-200, 200).map(str), st.sampled_from(["x", "", " 7", "1e2", "1.5"]))),
    "flag": (pa.bool_(), st.booleans()),
    "moment": (pa.timestamp("us", tz="UTC"), st.integers(-(1 << 51), 1 << 51)),
    "milli": (pa.timestamp("ms"), st.integers(-(1 << 40), 1 << 40)),
    "day": (pa.date32(), st.dates(date(1900, 1, 1), date(2100, 1, 1))),
    "ratio": (pa.float64(), st.floats(-1e9, 1e9)),
    "tags": (pa.list_(pa.int32()), st.lists(st.one_of(st.none(), st.integers(-9, 9)), max_size=3)),
    "kind": (pa.dictionary(pa.int32(), pa.string()), st.sampled_from(["a", "b", "ü"])),
    "place": (
        pa.struct([("city", pa.string()), ("zip", pa.int32())]),
        st.fixed_dictionaries({"city": st.one_of(st.none(), st.text(max_size=4)), "zip": st.integers(0, 99_999)}),
    ),
    "bytes": (pa.binary(), st.binary(max_size=4)),
    "clock": (pa.time64("us"), st.integers(0, 86_399_999_999)),
    "huge": (pa.uint64(), st.integers(0, 2**64 - 1)),
    "real": (pa.float32(), st.floats(width=32)),
    "nano": (pa.timestamp("ns"), st.integers(-(1 << 61), 1 << 61)),
    "long_text": (pa.large_string(), st.text(max_size=4)),
    "nothing": (pa.null(), st.none()),
    "pair": (pa.list_(pa.int16(), 2), st.lists(st.none() | st.integers(-9, 9), min_size=2, max_size=2)),
    "entries": (
        pa.map_(pa.string(), pa.int64()),
        st.dictionaries(st.text(max_size=2), st.none() | st.integers(-9, 9), max_size=2).map(
            lambda items: list(items.items())
        ),
    ),
    "lines": (
        pa.list_(pa.struct([("sku", pa.string()), ("tags", pa.list_(pa.int8()))])),
        st.lists(
            st.none()
            | st.fixed_dictionaries(
                {"sku": st.none() | st.text(max_size=2), "tags": st.none() | st.lists(st.integers(0, 9), max_size=2)}
            ),
            max_size=2,
        ),
    ),
}
SAFE = [
    "n * 2 + small",
    "n // 7",
    "round(price * 1.19, 2)",
    "wide + price",
    "upper(text) || '-' || coalesce(kind, '?')",
    "CASE WHEN flag THEN price ELSE n END",
    "moment::date = day",
    "date_trunc('month', moment)",
    "date_diff('day', day, moment::date)",
    "milli + interval 1 day",
    "list_transform(tags, lambda t: t * n)",
    "list_sum(tags)",
    "len(text) > small",
    "place.city || place.zip",
    "{'a': n, 'b': tags, 'c': place}",
    "ratio * price",
    "try_cast(digits AS INTEGER)",
    "regexp_replace(text, '[a-z]', '#', 'g')",
    "NULL",
    "n IS DISTINCT FROM small",
    "text LIKE '%a%' OR kind IN ('a', 'b')",
    "octet_length(bytes)",
    "clock + interval 90 minutes",
    "huge::HUGEINT + n",
    "real * 2",
    "isnan(real)",
    "nano::DATE",
    "long_text || text",
    "nothing IS NULL",
    "coalesce(nothing, n)",
    "pair[1] + pair[2]",
    "entries['a']",
    "map_keys(entries)",
    "lines[1].sku",
    "list_transform(lines, lambda l: coalesce(len(l.tags), -1))",
    "list_filter(lines, lambda l: l.sku IS NOT NULL)",
]
FAULTY = {"digits::INTEGER": "TRY_CAST(digits AS INTEGER)", "n::TINYINT": "TRY_CAST(n AS TINYINT)"}
CONDITIONS = [
    "n > 0",
    "flag",
    "text <> ''",
    "price > small",
    "moment > timestamptz '2000-01-01 00:00:00+00'",
    "kind = 'a'",
    "real > 0",
    "huge > 9223372036854775807",
    "pair[1] IS NULL",
    "entries['a'] > 0",
    "len(lines) > 1 OR lines[1].sku = ''",
    "bytes = 'a'::BLOB",
    "nothing",
]


@st.composite
def tables(draw: st.DrawFn) -> pa.Table:
    """Typed columns with nulls, in no or several batches, some of them slices."""
    rows = draw(st.integers(0, 7))
    columns = {
        name: pa.array(draw(st.lists(st.none() | values, min_size=rows, max_size=rows)), kind)
        for name, (kind, values) in TYPES.items()
    }
    return pa.table(columns)


def batches(table: pa.Table, size: int) -> Iterator[pa.RecordBatch]:
    """Slices of one batch, which share its buffers."""
    whole = table.combine_chunks().to_batches() or [pa.RecordBatch.from_pylist([], schema=table.schema)]
    for start in range(0, max(table.num_rows, 1), size):
        yield whole[0].slice(start, size)


def ran(node: Transform, table: pa.Table, size: int) -> tuple[dict[str, pa.Table], list[int]]:
    """What leaves by each port, and the rows of the table that were rejected."""
    sandbox = Sandbox()
    step = node.open(table.schema, SCOPE, sandbox)
    found: dict[str, list[pa.RecordBatch]] = {}
    rejected: list[int] = []
    for number, batch in enumerate(batches(table, size)):
        outcome = step(batch)
        account(outcome, batch)
        for port, piece in outcome.out.items():
            found.setdefault(port, []).append(piece.batch)
        if outcome.rejects is not None:
            rejected += [number * size + row for row in outcome.rejects.rows.to_pylist()]
    sandbox.close()
    return {port: pa.Table.from_batches(pieces) for port, pieces in found.items()}, sorted(rejected)


@cache
def reference() -> duckdb.DuckDBPyConnection:
    """A DuckDB as anybody has it."""
    connection = duckdb.connect(config={"threads": 1})
    connection.execute("SET TimeZone = 'UTC'")
    atexit.register(connection.close)
    return connection


def plain(query: str, table: pa.Table) -> pa.Table:
    """What DuckDB says; the table is called `t` and has the column `row_number`."""
    connection = reference()
    connection.register("t", table.append_column("row_number", pa.array(range(table.num_rows), pa.int64())))
    return connection.sql(query).to_arrow_table()


def records(table: pa.Table) -> str:
    """The records, to be compared: a nan is like another, and Python's times have no nanoseconds."""
    plain_times = [
        column.cast(pa.int64()) if pa.types.is_timestamp(column.type) and column.type.unit == "ns" else column
        for column in table.columns
    ]
    return repr(pa.table(plain_times, names=table.schema.names).to_pylist())


@FEW
@given(table=tables(), size=st.integers(1, 8), chosen=st.lists(st.sampled_from(SAFE), min_size=1, max_size=4))
def test_a_map_gives_what_duckdb_gives(table: pa.Table, size: int, chosen: list[str]) -> None:
    node = Map(fields={f"f{number}": text for number, text in enumerate(chosen)})

    found, rejected = ran(node, table, size)

    expected = plain("SELECT " + ", ".join(f"{text} AS f{n}" for n, text in enumerate(chosen)) + " FROM t", table)
    assert rejected == []
    assert found["out"].schema.equals(expected.schema)
    assert records(found["out"]) == records(expected)


@FEW
@given(
    table=tables(),
    size=st.integers(1, 8),
    safe=st.lists(st.sampled_from(SAFE), max_size=2),
    faulty=st.lists(st.sampled_from(list(FAULTY)), min_size=1, max_size=2, unique=True),
)
def test_a_map_rejects_just_the_records_that_duckdb_cannot_cast(
    table: pa.Table, size: int, safe: list[str], faulty: list[str]
) -> None:
    texts = [*safe, *faulty]
    node = Map(fields={f"f{number}": text for number, text in enumerate(texts)})

    found, rejected = ran(node, table, size)

    bad = " OR ".join(f"({FAULTY[text]} IS NULL AND {text.partition('::')[0]} IS NOT NULL)" for text in faulty)
    items = ", ".join(f"{FAULTY.get(text, text)} AS f{number}" for number, text in enumerate(texts))
    assert rejected == plain(f"SELECT row_number FROM t WHERE {bad}", table)["row_number"].to_pylist()
    assert records(found["out"]) == records(plain(f"SELECT {items} FROM t WHERE NOT ({bad})", table))


@FEW
@given(
    table=tables(),
    size=st.integers(1, 8),
    keep=st.sets(st.sampled_from(list(TYPES)), min_size=1, max_size=len(TYPES) - 1),
)
def test_kept_and_dropped_columns_are_the_input_s_untouched(table: pa.Table, size: int, keep: set[str]) -> None:
    kept, _rejected = ran(Map(keep=sorted(keep)), table, size)
    dropped, _rejected = ran(Map(drop=[name for name in TYPES if name not in keep]), table, size)

    expected = table.select([name for name in TYPES if name in keep])
    assert records(kept["out"]) == records(expected)
    assert kept["out"].schema.equals(expected.schema)
    assert dropped["out"].schema.equals(expected.schema)


@FEW
@given(table=tables(), size=st.integers(1, 8), where=st.sampled_from([*CONDITIONS, "digits::INTEGER > 0"]))
def test_a_filter_keeps_what_duckdb_keeps(table: pa.Table, size: int, where: str) -> None:
    found, rejected = ran(Filter(where=where), table, size)

    safe = where.replace("digits::INTEGER", "TRY_CAST(digits AS INTEGER)")
    expected = plain(f"SELECT row_number FROM t WHERE {safe}", table)["row_number"].to_pylist()
    assert records(found["out"]) == records(table.take(pa.array(expected, pa.int64())))
    if where in CONDITIONS:
        assert rejected == []


@FEW
@given(
    table=tables(),
    size=st.integers(1, 8),
    conditions=st.lists(st.sampled_from([*CONDITIONS, "digits::INTEGER > 0"]), min_size=1, max_size=4, unique=True),
    has_otherwise=st.booleans(),
)
def test_a_decision_routes_as_a_case_does(
    table: pa.Table, size: int, conditions: list[str], has_otherwise: bool
) -> None:
    when = {f"p{number}": text for number, text in enumerate(conditions)}
    node = Decide(when=when, otherwise="rest" if has_otherwise else None)

    found, rejected = ran(node, table, size)

    branches = " ".join(
        "WHEN TRY_CAST(digits AS INTEGER) IS NULL AND digits IS NOT NULL THEN 'rejected' "
        f"WHEN TRY_CAST(digits AS INTEGER) > 0 THEN '{port}'"
        if "digits" in text
        else f"WHEN {text} THEN '{port}'"
        for port, text in when.items()
    )
    other = "rest" if has_otherwise else "rejected"
    ports = plain(f"SELECT CASE {branches} ELSE '{other}' END AS port FROM t", table)["port"].to_pylist()
    for port in node.ports():
        rows = pa.array([row for row, name in enumerate(ports) if name == port], pa.int64())
        assert records(found[port]) == records(table.take(rows))
    assert rejected == [row for row, name in enumerate(ports) if name == "rejected"]


@FEW
@given(
    table=tables(), size=st.integers(1, 8), conditions=st.lists(st.sampled_from(CONDITIONS), min_size=1, unique=True)
)
def test_a_decision_for_all_sends_a_copy_wherever_a_condition_holds(
    table: pa.Table, size: int, conditions: list[str]
) -> None:
    when = {f"p{number}": text for number, text in enumerate(conditions)}

    found, rejected = ran(Decide(when=when, otherwise="rest", all=True), table, size)

    assert rejected == []
    for port, text in {
        **when,
        "rest": f"NOT coalesce({' OR '.join(f'coalesce({c}, false)' for c in conditions)}, false)",
    }.items():
        rows = plain(f"SELECT row_number FROM t WHERE {text}", table)["row_number"]
        assert records(found[port]) == records(table.take(rows))


@settings(max_examples=25)
@given(
    lists=st.lists(
        st.one_of(
            st.none(),
            st.lists(
                st.one_of(
                    st.none(),
                    st.fixed_dictionaries({"q": st.one_of(st.none(), st.integers(0, 9)), "s": st.text(max_size=3)}),
                ),
                max_size=4,
            ),
        ),
        max_size=8,
    ),
    size=st.integers(1, 9),
)
def test_a_loop_over_a_list_gives_what_unnesting_and_gathering_gives(lists: list[Any], size: int) -> None:
    kind = pa.list_(pa.struct([("q", pa.int64()), ("s", pa.string())]))
    table = pa.table({"id": pa.array(range(len(lists)), pa.int64()), "items": pa.array(lists, kind)})
    loop = {"from": "items", "where": "item.q > 1", "fields": {"no": "item_number", "total": "item.q * id"}}

    found, _rejected = ran(Map.model_validate({"fields": {"id": "id", "lines[]": loop}}), table, size)

    expected = [  # row by row: an independent statement of what the loop means
        None
        if items is None
        else [
            {"no": number, "total": item["q"] * row}
            for number, item in enumerate(
                (item for item in items if item is not None and item["q"] is not None and item["q"] > 1), start=1
            )
        ]
        for row, items in enumerate(lists)
    ]
    assert found["out"]["lines"].to_pylist() == expected


@pytest.mark.parametrize("size", [1, 2, 3])
def test_decimals_of_38_digits_come_through_exact(size: int) -> None:
    table = pa.table({"d": pa.array([Decimal("9" * 38), None, Decimal(-1)], pa.decimal128(38, 0))})

    found, rejected = ran(Map(fields={"same": "d", "less": "d - 1"}), table, size)

    assert rejected == []
    assert found["out"]["same"].to_pylist() == [Decimal("9" * 38), None, Decimal(-1)]
    assert found["out"]["less"].to_pylist() == [Decimal("9" * 37 + "8"), None, Decimal(-2)]
