"""Lookups: keys of every type, tables of every format as they are, what is missing or there twice, and new versions."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipelines.environment import Environment, Runner
from pipelines.errors import Invalid
from pipelines.node import Outcome
from pipelines.scope import Scope
from pipelines.sql.sandbox import Sandbox
from tests.transforms.test_transforms_equal_duckdb import TYPES, batches, plain
from transforms.lookup import Lookup

SCHEMA = pa.schema([("id", pa.int64()), ("code", pa.string())])
NUMBERED = pa.schema([("code", pa.int32())])
KEYS = ["n", "small", "price", "text", "flag", "moment", "day", "ratio", "kind", "place", "tags"]


def wrote(project: Path, name: str, text: str) -> None:
    path = project / "tables" / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(text, encoding="utf-8")


def ran(project: Path, records: list[dict[str, Any]], schema: pa.Schema = SCHEMA, **config: Any) -> Outcome:
    sandbox = Sandbox()
    try:
        step = Lookup(**config).open(schema, Scope(project), sandbox)
        return step(pa.RecordBatch.from_pylist(records, schema=schema))
    finally:
        sandbox.close()


def given_by(outcome: Outcome) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = outcome.out["out"].batch.to_pylist()
    return found


def problems(project: Path, schema: pa.Schema | None = SCHEMA, **config: Any) -> list[tuple[Any, str, str]]:
    told: list[tuple[Any, str, str]] = []

    def report(at: tuple[str | int, ...], what: str, fix: str = "", *, warning: bool = False) -> None:
        told.append((at, what, fix))

    Lookup(**config).check({"": schema}, Scope(project), report)
    return told


def test_the_values_of_a_csv_stay_what_they_are(tmp_path: Path) -> None:
    text = 'code,zip,big,share,since,open,note\nA,01234,12345678901234567890,0.5,2026-01-31,true,""\nB,99999,1,,,,\n'
    wrote(tmp_path, "t.csv", text)

    outcome = ran(tmp_path, [{"code": "A"}, {"code": "B"}], table="tables/t.csv", on="code")

    first, second = given_by(outcome)
    assert first == {
        "id": None,
        "code": "A",
        "zip": "01234",
        "big": Decimal(12345678901234567890),
        "share": 0.5,
        "since": date(2026, 1, 31),
        "open": True,
        "note": "",
    }
    assert [second[name] for name in ("zip", "big", "share", "since", "open", "note")] == ["99999", 1, *[None] * 4]


def test_a_key_in_a_csv_is_read_as_the_input_s_type(tmp_path: Path) -> None:
    wrote(tmp_path, "t.csv", "code,name\n01,one\n2,two\n,none\n")

    texts = ran(tmp_path, [{"code": "01"}, {"code": "1"}, {"code": "2"}], table="tables/t.csv", on="code")
    numbers = ran(tmp_path, [{"code": 1}, {"code": 2}, {"code": None}], NUMBERED, table="tables/t.csv", on="code")

    assert [record["name"] for record in given_by(texts)] == ["one", None, "two"]
    assert [record["name"] for record in given_by(numbers)] == ["one", "two", None]


def test_a_key_that_is_none_of_the_input_s_type_is_a_problem(tmp_path: Path) -> None:
    wrote(tmp_path, "t.csv", "code,name\n1,one\n1.5,more\n")

    told = problems(tmp_path, NUMBERED, table="tables/t.csv", on="code")

    what = "tables/t.csv: column 'code' holds '1.5' in record 2, which is no INTEGER, as the input's column is"
    assert told == [(("on",), what, "mend the table, or cast the input's column")]


def test_text_in_json_stays_text_even_where_it_looks_like_a_date(tmp_path: Path) -> None:
    wrote(tmp_path, "t.jsonl", '{"code": "2026-01-31", "at": "2026-01-31T10:00:00Z", "n": {"d": 1}}\n{"code": "x"}\n')

    outcome = ran(tmp_path, [{"code": "2026-01-31"}], table="tables/t.jsonl", on="code")

    assert given_by(outcome) == [{"id": None, "code": "2026-01-31", "at": "2026-01-31T10:00:00Z", "n": {"d": 1}}]


def test_declared_types_hold_and_values_that_are_none_are_told(tmp_path: Path) -> None:
    wrote(tmp_path, "t.csv", "code,price\nA,9.50\nB,1.234\n")

    sound = ran(tmp_path, [{"code": "B"}], table="tables/t.csv", on="code", columns={"price": "DECIMAL(9, 3)"})
    told = problems(tmp_path, table="tables/t.csv", on="code", columns={"price": "DECIMAL(9, 2)"})
    unknown = problems(tmp_path, table="tables/t.csv", on="code", columns={"prize": "DATE"})

    assert given_by(sound)[0]["price"] == Decimal("1.234")
    assert told[0][1] == "tables/t.csv: column 'price' holds '1.234' in record 2, which is no DECIMAL(9, 2)"
    assert unknown == [(("columns", "prize"), "tables/t.csv has no column 'prize'", "did you mean 'price'?")]


def test_a_name_with_a_pattern_s_signs_is_that_file_s(tmp_path: Path) -> None:
    wrote(tmp_path, "a[1].csv", "code,name\nA,right\n")
    wrote(tmp_path, "a1.csv", "code,name\nA,wrong\n")

    outcome = ran(tmp_path, [{"code": "A"}], table="tables/a[1].csv", on="code")

    assert given_by(outcome)[0]["name"] == "right"


def test_a_key_that_is_there_twice_is_refused_unless_the_first_counts(tmp_path: Path) -> None:
    wrote(tmp_path, "t.csv", "code,name\nA,first\nB,b\nA,second\n,x\n,y\n")

    told = problems(tmp_path, table="tables/t.csv", on="code")
    outcome = ran(tmp_path, [{"code": "A"}, {}], table="tables/t.csv", on="code", duplicates="first")

    assert told[0][:2] == (("on",), "tables/t.csv has code = A more than once, again in record 3")
    assert [record["name"] for record in given_by(outcome)] == ["first", None]


def test_records_without_a_counterpart_are_rejected_with_their_whole_key(tmp_path: Path) -> None:
    wrote(tmp_path, "t.csv", "a,b,name\n1,x,one\n")
    schema = pa.schema([("n", pa.int64()), ("it's", pa.string())])
    records = [{"n": 1, "it's": "y"}, {"n": 1, "it's": "x"}, {"n": None, "it's": "x"}]

    outcome = ran(tmp_path, records, schema, table="tables/t.csv", on={"n": "a", "it's": "b"}, missing="reject")

    assert [record["name"] for record in given_by(outcome)] == ["one"]
    assert outcome.out["out"].rows is not None
    assert outcome.out["out"].rows.to_pylist() == [1]
    assert outcome.rejects is not None
    assert outcome.rejects.rows.to_pylist() == [0, 2]
    assert outcome.rejects.messages == [
        "tables/t.csv has no record with n = 1, it's = y",
        "tables/t.csv has no record with n = null, it's = x",
    ]


def test_a_new_version_of_the_file_is_read_anew_an_open_node_keeps_its_own(tmp_path: Path) -> None:
    wrote(tmp_path, "t.csv", "code,name\nA,old\n")
    sandbox = Sandbox()
    batch = pa.RecordBatch.from_pylist([{"code": "A"}], schema=SCHEMA)
    node = Lookup(table="tables/t.csv", on="code")
    before = node.open(SCHEMA, Scope(tmp_path), sandbox)

    wrote(tmp_path, "t.csv", "code,name\nB,x\nA,new\n")
    after = node.open(SCHEMA, Scope(tmp_path), sandbox)

    assert given_by(before(batch))[0]["name"] == "old"
    assert given_by(after(batch))[0]["name"] == "new"
    sandbox.close()


def test_threads_share_one_table(tmp_path: Path) -> None:
    pq.write_table(pa.table({"code": ["A", "B"], "name": ["a", "b"]}), tmp_path / "t.parquet")

    def buffers(_number: int) -> int:
        sandbox = Sandbox()
        found = Lookup(table="t.parquet", on="code")._found(SCHEMA, Scope(tmp_path), sandbox)
        sandbox.close()
        return int(found.table.column("name").buffers()[2].address)

    with ThreadPoolExecutor(4) as pool:
        assert len(set(pool.map(buffers, range(8)))) == 1


@pytest.mark.parametrize(
    ("config", "at", "what"),
    [
        ({"table": "tables/t.cvs", "on": "code"}, ("table",), "tables/t.cvs: of which format it is cannot be told"),
        ({"table": "tables/tt.csv", "on": "code"}, ("table",), "there is no file tables/tt.csv; did you mean 't.csv'?"),
        ({"table": "tables/bad.csv", "on": "code"}, ("table",), "tables/bad.csv: cannot be read: "),
        ({"table": "tables/bad.parquet", "on": "code"}, ("table",), "tables/bad.parquet: cannot be read: "),
        ({"table": "tables/bad.jsonl", "on": "code"}, ("table",), "tables/bad.jsonl: cannot be read: "),
        ({"table": "tables/t.csv", "on": "cod"}, ("on",), "no column 'cod' comes in"),
        ({"table": "tables/t.csv", "on": ["code", "id"]}, ("on", 1), "tables/t.csv has no column 'id'"),
        ({"table": "tables/t.csv", "on": {"code": "kode"}}, ("on", "code"), "tables/t.csv has no column 'kode'"),
        ({"table": "tables/t.csv", "on": "code", "take": ["nam"]}, ("take", 0), "tables/t.csv has no column 'nam'"),
        (
            {"table": "tables/t.csv", "on": "code", "take": {"id": "name"}},
            ("take", "id"),
            "column 'id' is there already",
        ),
        (
            {"table": "tables/n.jsonl", "on": "code"},
            ("on",),
            "column 'code' is string, 'code' of tables/n.jsonl is int64",
        ),
    ],
)
def test_what_is_wrong_is_told_at_its_field(tmp_path: Path, config: dict[str, Any], at: Any, what: str) -> None:
    wrote(tmp_path, "t.csv", "code,name\nA,a\n")
    wrote(tmp_path, "t.cvs", "code,name\nA,a\n")
    wrote(tmp_path, "bad.csv", 'code,name\nA,a,b,c\n"\n')
    wrote(tmp_path, "bad.parquet", "PAR1")
    wrote(tmp_path, "bad.jsonl", '{"code": ')
    wrote(tmp_path, "n.jsonl", '{"code": 1}\n')

    told = problems(tmp_path, **config)

    assert [place for place, _what, _fix in told][:1] == [at]
    assert told[0][1].startswith(what) or f"{told[0][1]}; {told[0][2]}".startswith(what)


def test_a_missing_table_is_told_without_knowing_what_comes_in(tmp_path: Path) -> None:
    assert [at for at, _what, _fix in problems(tmp_path, None, table="tables/t.csv", on="x")] == [("table",)]


def test_a_table_that_is_too_large_for_the_environment_is_refused(tmp_path: Path) -> None:
    wrote(tmp_path, "t.csv", "code,name\nA,a\n")
    os.truncate(tmp_path / "tables" / "t.csv", 1 << 26)
    scope = Scope(tmp_path, Environment(runner=Runner(memory_bytes=1 << 26)))
    sandbox = Sandbox()

    with pytest.raises(Invalid, match="larger than 32 MiB"):
        Lookup(table="tables/t.csv", on="code").open(SCHEMA, scope, sandbox)
    sandbox.close()


def test_only_the_key_and_what_is_wanted_of_the_input_is_needed() -> None:
    sandbox = Sandbox()
    node = Lookup(table="tables/t.csv", on={"code": "c"})

    assert node.needs(frozenset({"name"}), SCHEMA, sandbox) == {"code"}
    assert node.needs(frozenset({"name", "id"}), SCHEMA, sandbox) == {"code", "id"}
    assert node.needs(None, SCHEMA, sandbox) is None
    sandbox.close()


@st.composite
def worlds(draw: st.DrawFn) -> tuple[pa.Table, pa.Table, list[str]]:
    """Records, a table whose keys are partly theirs, and the names of the key."""
    names = draw(st.lists(st.sampled_from(KEYS), min_size=1, max_size=2, unique=True))
    pool = {name: draw(st.lists(st.none() | TYPES[name][1], min_size=1, max_size=4)) for name in names}
    tables = []
    for most in (9, 5):
        rows = draw(st.integers(0, most))
        columns = {
            name: pa.array(draw(st.lists(st.sampled_from(pool[name]), min_size=rows, max_size=rows)), TYPES[name][0])
            for name in names
        }
        tables.append(pa.table({**columns, f"v{most}": pa.array(range(rows), pa.int64())}))
    return tables[0], tables[1], names


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(world=worlds(), size=st.integers(1, 10))
def test_a_lookup_gives_what_a_left_join_to_each_key_s_first_record_gives(
    world: tuple[pa.Table, pa.Table, list[str]], size: int, tmp_path: Path
) -> None:
    table, small, names = world
    pq.write_table(small, tmp_path / "t.parquet")
    sandbox = Sandbox()
    node = Lookup(table="t.parquet", on=names, take={"found": "v5"}, duplicates="first")
    step = node.open(table.schema, Scope(tmp_path), sandbox)

    found = pa.Table.from_batches([step(batch).out["out"].batch for batch in batches(table, size)])

    sandbox.close()
    keys = " AND ".join(f"t.{name} = s.{name}" for name in names)
    read = f"read_parquet('{tmp_path}/t.parquet')"
    query = f"SELECT v9, (SELECT min(s.v5) FROM {read} AS s WHERE {keys}) AS found FROM t ORDER BY v9"
    assert found.select(["v9", "found"]).to_pylist() == plain(query, table).to_pylist()
    assert found.select(table.schema.names).to_pylist() == table.to_pylist()
