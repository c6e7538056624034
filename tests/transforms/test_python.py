"""Users' Python: records that it fails for, deaths, limits, promises it breaks, and what its process may not see."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.errors import Invalid
from pipelines.scope import Scope
from pipelines.sql.sandbox import Sandbox
from tests.transforms.functions import BOTH, EACH, SCHEMA, rejected, values, worked
from tests.transforms.test_transforms_equal_duckdb import TYPES, plain, ran, records, tables
from transforms.python import Python


def problems(project: Path = Path(), schema: pa.Schema | None = SCHEMA, **config: Any) -> list[tuple[Any, str]]:
    told: list[tuple[Any, str]] = []

    def report(at: tuple[str | int, ...], what: str, fix: str = "", *, warning: bool = False) -> None:
        told.append((at, what))

    Python.model_validate({"columns": {"x": "BIGINT"}, **config}).check({"": schema}, Scope(project), report)
    return told


@BOTH
def test_just_the_records_it_raises_for_are_rejected_with_what_it_raised(trusted: bool) -> None:
    code = EACH + "def one(n):\n    if n % 17 == 3:\n        raise KeyError(n)\n    return n * 2\n"

    outcome = worked(code, trusted=trusted)

    assert rejected(outcome) == {n: f"KeyError: {n} (line 5 of the code)" for n in (3, 20, 37)}
    assert values(outcome) == [n * 2 for n in range(40) if n not in {3, 20, 37}]


@BOTH
def test_a_value_that_is_not_of_its_column_s_type_is_its_record_s_fault(trusted: bool) -> None:
    code = EACH + "def one(n):\n    return {1: 'text', 2: 1.5, 3: 2**70, 4: None}.get(n, n)\n"

    outcome = worked(code, 6, trusted=trusted)

    assert sorted(rejected(outcome)) == [1, 2, 3]
    assert all("column 'x'" in words for words in rejected(outcome).values())
    assert values(outcome) == [0, None, 5]


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("DATE", "datetime(2026, 1, 31, 12)"),
        ("INTEGER[]", "[1.5]"),
        ("STRUCT(a INTEGER)", "{'a': 1.5}"),
        ("DECIMAL(9, 2)", "Decimal('1.234')"),
        ("TIMESTAMP_S", "datetime(2026, 1, 31, 12, 0, 0, 5)"),
        ("DOUBLE", "2 ** 53 + 1"),
        ("TINYINT", "128"),
        ("VARCHAR", "b'\\xff'"),
    ],
)
def test_no_value_is_changed_to_fit(kind: str, value: str) -> None:
    code = EACH + f"from datetime import datetime\nfrom decimal import Decimal\ndef one(n):\n    return {value}\n"

    assert list(rejected(worked(code, 1, columns={"x": kind}, trusted=True))) == [0]


@pytest.mark.parametrize(
    ("kind", "value", "found"),
    [
        ("DATE", "datetime(2026, 1, 31)", date(2026, 1, 31)),
        ("DECIMAL(9, 2)", "[Decimal('1.5'), 2][n]", Decimal("1.50")),
        ("STRUCT(a INTEGER, b INTEGER)", "{'b': 1}", {"a": None, "b": 1}),
        ("MAP(VARCHAR, INTEGER)", "{'k': 1}", [("k", 1)]),
        ("TIMESTAMPTZ", "'2026-01-31T12:00:00+02:00'", datetime(2026, 1, 31, 10, tzinfo=UTC)),
        ("DOUBLE", "1", 1.0),
    ],
)
def test_a_value_may_be_said_in_several_ways(kind: str, value: str, found: Any) -> None:
    code = EACH + f"from datetime import datetime\nfrom decimal import Decimal\ndef one(n):\n    return {value}\n"

    assert values(worked(code, 2, columns={"x": kind}, trusted=True))[0] == found


@BOTH
def test_leaving_by_exit_is_a_fault_like_another(trusted: bool) -> None:
    code = EACH + "import sys\ndef one(n):\n    return sys.exit('no more') if n == 7 else n\n"

    assert rejected(worked(code, trusted=trusted)) == {7: "SystemExit: no more (line 5 of the code)"}


@BOTH
@pytest.mark.parametrize(
    ("gives", "words"),
    [
        ("{'x': [1]}", "gives 1 values of 'x' for 3 records"),
        ("{'y': [1, 2, 3]}", "gives no column 'x'; it gives: y"),
        ("[1, 2, 3]", "gives list; a function gives"),
        ("None", "gives NoneType; a function gives"),
        ("{'x': 7}", "gives int as column 'x'"),
        ("{'x': 'abc'}", "gives str as column 'x'"),
        ("{'x': [1, 2], 'row': [0]}", "gives 2 values of 'x' beside 1 of 'row' records"),
        ("{'x': [1], 'row': [3]}", "gives a 'row' that is none of 0 to 2"),
        ("{'x': [1], 'row': [-1]}", "gives a 'row' that is none of 0 to 2"),
        ("{'x': [1], 'row': [None]}", "gives null as 'row'"),
    ],
)
def test_a_function_that_breaks_its_promise_ends_the_run(gives: str, words: str, trusted: bool) -> None:
    with pytest.raises(Invalid) as caught:
        worked(f"def run(batch):\n    return {gives}\n", 3, trusted=trusted)

    assert str(caught.value).startswith(f"function 'run' {words}")


@BOTH
@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("import no_such_module\n", "cannot be loaded: ModuleNotFoundError: No module named 'no_such_module'"),
        ("run = 3\n", "cannot be loaded: there is no function 'run'"),
        ("1 / 0\n", "cannot be loaded: ZeroDivisionError: division by zero (line 1 of the code)"),
    ],
)
def test_a_function_that_cannot_be_loaded_ends_the_run(code: str, words: str, trusted: bool) -> None:
    with pytest.raises(Invalid) as caught:
        worked(code, trusted=trusted)

    assert str(caught.value).startswith(f"function 'run' {words}")


@BOTH
def test_rows_say_where_records_came_from_whatever_their_order(trusted: bool) -> None:
    code = "def run(batch):\n    return {'x': [1, 2, 3], 'row': [2, 0, 2], 'unasked': [0, 0, 0]}\n"

    outcome = worked(code, 4, trusted=trusted, keep="all")

    assert outcome.out["out"].batch.to_pylist() == [{"n": 2, "x": 1}, {"n": 0, "x": 2}, {"n": 2, "x": 3}]
    assert outcome.out["out"].rows is not None
    assert outcome.out["out"].rows.to_pylist() == [2, 0, 2]
    assert outcome.filtered == 2


@BOTH
@pytest.mark.parametrize(
    "gives",
    [
        "batch.rename_columns(['x'])",
        "pa.table({'x': batch['n']})",
        "{'x': pa.chunked_array([batch['n']])}",
        "{'x': batch['n'].to_numpy()}",
        "{'x': batch['n'].cast('string')}",
        "pa.RecordBatchReader.from_batches(pa.schema([('x', pa.int64())]), [batch.rename_columns(['x'])])",
    ],
)
def test_columns_can_be_given_in_many_shapes(gives: str, trusted: bool) -> None:
    assert values(worked(f"import pyarrow as pa\ndef run(batch):\n    return {gives}\n", 3, trusted=trusted)) == [
        0,
        1,
        2,
    ]


@BOTH
def test_modules_of_a_project_find_each_other_and_never_those_of_another(tmp_path: Path, trusted: bool) -> None:
    for name, factor in (("one", 2), ("two", 3)):
        shop = tmp_path / name / "shop"
        shop.mkdir(parents=True)
        (shop / "__init__.py").write_text(f"FACTOR = {factor}\n", encoding="utf-8")
        code = f"from dataclasses import dataclass\n@dataclass\nclass A:\n    by: 'int' = {factor}\n"
        run = "def price(batch):\n    return {'x': [n * A().by for n in batch['n'].to_pylist()]}\n"
        (shop / "prices.py").write_text(code + run, encoding="utf-8")

    found = [
        values(worked("", 3, tmp_path / name, function="shop.prices:price", trusted=trusted)) for name in ("one", "two")
    ]

    assert found == [[0, 2, 4], [0, 3, 6]]


def test_a_function_gets_only_the_columns_it_uses() -> None:
    sandbox = Sandbox()
    schema = pa.schema([("a", pa.int64()), ("b", pa.int64()), ("c", pa.int64())])
    node = Python(code="", columns={"x": "BIGINT"}, uses=["b"], keep=["a", "c"])

    assert node.needs(frozenset({"x", "c"}), schema, sandbox) == {"b", "c"}
    assert node.needs(None, schema, sandbox) == {"a", "b", "c"}
    assert Python(code="", columns={"x": "BIGINT"}).needs(frozenset({"x"}), schema, sandbox) is None
    sandbox.close()


@pytest.mark.parametrize(
    ("config", "at", "what"),
    [
        ({}, (), "names no function"),
        ({"function": "a:b", "code": ""}, (), "has both `function` and `code`"),
        ({"function": "price"}, ("function",), "'price' names no function"),
        ({"function": "shop:prize"}, ("function",), "shop.py defines no function 'prize'"),
        ({"function": "torn:price"}, ("function",), "torn.py, line 1: '(' was never closed"),
        ({"function": "nowhere.at_all:f"}, ("function",), "there is neither a file nowhere/at_all.py nor an installed"),
        ({"code": "def ran(batch): ..."}, ("code",), "the code defines no function 'run'"),
        ({"code": "def run(batch):"}, ("code",), "the code, line 1: expected an indented block"),
        ({"code": "run = len", "columns": {"x": "BIGINTEGER"}}, ("columns", "x"), "'BIGINTEGER' is no DuckDB type"),
        ({"code": "run = len", "uses": ["n", "m"]}, ("uses", 1), "no column 'm' comes in"),
        ({"code": "run = len", "keep": ["m"]}, ("keep", 0), "no column 'm' comes in"),
    ],
)
def test_what_is_wrong_is_told_before_anything_runs(tmp_path: Path, config: dict[str, Any], at: Any, what: str) -> None:
    (tmp_path / "shop.py").write_text("import os\nos._exit(1)\ndef price(batch): ...\n", encoding="utf-8")
    (tmp_path / "torn.py").write_text("def price(batch\n", encoding="utf-8")

    told = problems(tmp_path, **config)

    assert [place for place, _what in told] == [at]
    assert told[0][1].startswith(what)
    assert problems(tmp_path, function="shop:price") == []
    assert problems(tmp_path, function="math:sqrt") == []


@settings(max_examples=12)
@given(table=tables(), size=st.integers(1, 8), trusted=st.booleans())
def test_columns_of_every_type_go_there_and_back_unchanged(table: pa.Table, size: int, trusted: bool) -> None:
    kinds = {"n": "BIGINT", "price": "DECIMAL(18, 4)", "wide": "DECIMAL(38, 10)", "text": "VARCHAR", "flag": "BOOLEAN"}
    kinds |= {"moment": "TIMESTAMPTZ", "day": "DATE", "ratio": "DOUBLE", "tags": "INTEGER[]"}
    kinds |= {"place": "STRUCT(city VARCHAR, zip INTEGER)", "small": "TINYINT"}
    kinds |= {"bytes": "BLOB", "clock": "TIME", "huge": "UBIGINT", "real": "FLOAT", "nano": "TIMESTAMP_NS"}
    kinds |= {
        "pair": "SMALLINT[2]",
        "lines": "STRUCT(sku VARCHAR, tags TINYINT[])[]",
        "entries": "MAP(VARCHAR, BIGINT)",
    }
    names = "', '".join(kinds)
    node = Python(
        code=f"def run(batch):\n    return batch.select(['{names}'])\n", columns=kinds, keep=["digits"], trusted=trusted
    )

    found, faulty = ran(node, table, size)

    assert faulty == []
    assert records(found["out"]) == records(plain(f"SELECT digits, {', '.join(kinds)} FROM t", table))
    assert [found["out"].schema.field(name).type for name in kinds] == [TYPES[name][0] for name in kinds]
