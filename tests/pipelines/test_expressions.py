"""Expressions: what binding says of them, their parameters and clock, and the walls they stand in."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from zoneinfo import ZoneInfo

import duckdb
import pyarrow as pa
import pytest

from pipelines.errors import Invalid
from pipelines.scope import Scope
from pipelines.sql.expressions import Evaluator, bind, check_expressions
from pipelines.sql.literals import literal
from pipelines.sql.sandbox import Sandbox
from tests.pipelines.expressing import ORDERS, bound, evaluated, scope, value


@pytest.mark.parametrize(
    ("text", "what", "fix"),
    [
        ("emial", 'no column "emial"', 'did you mean "email"?'),
        ("lower(emial) || '@'", 'no column "emial"', 'did you mean "email"?'),
        ("DE", 'no column "DE"', "single quotes, 'DE'"),
        ("quantity + 1", "nothing computes +(VARCHAR, INTEGER)", "cast"),
        ("updated + interval 1 day", "nothing computes +(TIMESTAMPTZ_NS, INTERVAL)", "x::TIMESTAMPTZ"),
        ("foo(order_id)", 'no function "foo"', "did you mean"),
        ("order_id::foo", 'no type "foo"', "did you mean"),
        ("lines[1].size", 'no field "size" in the struct', "did you mean"),
        ("order_id.x", "Cannot extract field 'x'", ""),
        ("sum(order_id)", "uses an aggregate function", "aggregate"),
        ("sum(order_id) + order_id", "uses an aggregate function", "aggregate"),
        ("count(*)", "uses an aggregate function", "aggregate"),
        ("row_number() over ()", "uses a window function", "sql"),
        ("(select max(x) from y)", "is a query in itself", "sql"),
        ("order_id in (select 1)", "is a query in itself", "sql"),
        ("exists (from '/etc/passwd')", "is a query in itself", "sql"),
        ("unnest(lines)", "makes several records of one", "split"),
        ("*", "uses * or COLUMNS", "name the columns"),
        ("columns('.*')", "uses * or COLUMNS", "name the columns"),
        ("order_id; drop table x", "is a statement", "only what gives the value"),
        ("order_id; select 1", "is a statement", "only what gives the value"),
        ("1 from y", "is a statement", "only what gives the value"),
        ("1 union select 2", "is a statement", "only what gives the value"),
        ("1 limit 1", "is a statement", "only what gives the value"),
        ("distinct order_id", "is a statement", "only what gives the value"),
        ("order_id, email", "gives 2 values", "one expression"),
        ("order_id as x", "names its result 'x'", "leave that out"),
        ("1) , (2", "is no expression", ""),
        ("order_id +", "is no expression", ""),
        ("'abc", "is no expression", ""),
        ("order || 'x'", "is no expression", 'double quotes, such as "order"'),
        ("/* never closed", "is no expression", ""),
        ("#1", "refers to a column by number", "name the column"),
        ("", "is empty", "write an expression"),
        ("  \n ", "is empty", "write an expression"),
        ("$sinse", 'no parameter or variable "$sinse"', 'did you mean "$since"?'),
        ("$1", "uses a parameter by number", "$since"),
        ("?", "uses a parameter by number", "$since"),
        ("union_value(k := order_id)", "which no batch can hold", "cast it"),
    ],
)
def test_what_is_wrong_is_said_in_a_line_with_what_would_be_right(
    text: str, what: str, fix: str, sandbox: Sandbox
) -> None:
    found = bound(text, sandbox, since=1)

    assert len(found.schema) == 0
    assert len(found.problems) == 1
    assert what in found.problems[0].what
    assert fix in found.problems[0].fix
    assert "\n" not in found.problems[0].what + found.problems[0].fix
    assert len(found.problems[0].what) < 300


@pytest.mark.parametrize(
    ("text", "kind", "columns"),
    [
        ("order_id", pa.int64(), {"order_id"}),
        ("ORDER_ID", pa.int64(), {"order_id"}),
        ("order_id + 1", pa.int64(), {"order_id"}),
        ("price * 2", pa.decimal128(38, 4), {"price"}),
        ("price > 1 and email is not null", pa.bool_(), {"price", "email"}),
        ("updated", pa.timestamp("ns", tz="Europe/Berlin"), {"updated"}),
        ("updated::timestamptz + interval 1 day", pa.timestamp("us", tz="UTC"), {"updated"}),
        ("updated::date", pa.date32(), {"updated"}),
        ('"ship to".city', pa.string(), {"ship to"}),
        ("lines[1].qty", pa.int64(), {"lines"}),
        ("list_transform(lines, lambda line: line.qty * order_id)", pa.list_(pa.int64()), {"lines", "order_id"}),
        ("[line.sku for line in lines if line.qty > order_id]", pa.list_(pa.string()), {"lines", "order_id"}),
        ("lines.len()", pa.int64(), {"lines"}),
        (
            "{'id': order_id, 'who': email}",
            pa.struct([("id", pa.int64()), ("who", pa.string())]),
            {"order_id", "email"},
        ),
        ("current_timestamp", pa.timestamp("us", tz="UTC"), set()),
        ("today()", pa.date32(), set()),
        ("NULL", pa.null(), set()),
        ("$since", pa.int64(), set()),
        ("email -- the customer's", pa.string(), {"email"}),
        ("try_cast(quantity as integer)", pa.int32(), {"quantity"}),
        ("random() < 2", pa.bool_(), set()),
    ],
)
def test_binding_tells_the_exact_type_and_the_columns_used(
    text: str, kind: pa.DataType, columns: set[str], sandbox: Sandbox
) -> None:
    found = bound(text, sandbox, since=1)

    assert not found.problems
    assert found.schema.field("field").type.equals(kind)
    assert found.columns["field"] == columns


def test_one_wrong_expression_leaves_the_others_bound(sandbox: Sandbox) -> None:
    found = bind({"a": "order_id + 1", "b": "emial", "c": "email || '!'", "d": "sum(price)"}, ORDERS, {}, sandbox)

    assert found.schema.names == ["a", "c"]
    assert [wrong.name for wrong in found.problems] == ["b", "d"]
    assert found.used == {"order_id", "email"}


def test_columns_that_differ_only_in_case_are_told_apart_or_refused(sandbox: Sandbox) -> None:
    schema = pa.schema([("id", pa.int64()), ("ID", pa.string())])
    batch = pa.record_batch({"id": [1], "ID": ["x"]}, schema=schema)

    assert bind({"f": "id + 1", "g": "\"ID\" || ''"}, schema, {}, sandbox).problems
    assert evaluated("\"ID\" || '!'", batch, sandbox).columns.to_pylist() == [{"field": "x!"}]
    assert evaluated('"ID"', batch, sandbox).columns.to_pylist() == [{"field": "x"}]
    assert evaluated("id + 1", batch, sandbox).columns.to_pylist() == [{"field": 2}]


def test_problems_are_reported_at_their_field_and_conditions_must_be_true_or_false() -> None:
    told: list[tuple[tuple[str | int, ...], str]] = []

    def report(at: tuple[str | int, ...], what: str, fix: str = "", *, warning: bool = False) -> None:
        told.append((at, what))

    check_expressions(
        {"x": "emial", "y": "order_id", "z": "order_id > 1"},
        ORDERS,
        scope(),
        report,
        {"x": ("when", "x")},
        conditions=["x", "y", "z"],
    )

    assert [at for at, _what in told] == [("when", "x"), ("y",)]
    assert "gives int64, not true or false" in told[1][1]


@pytest.mark.parametrize(
    "given",
    [
        "it's",
        "x' OR 1=1 --",
        "a\0b",
        "",
        "ü€𝄞",
        True,
        0,
        -(1 << 63),
        (1 << 100),
        0.1,
        -2.5e300,
        Decimal("18000.00"),
        Decimal("-0.0001"),
        Decimal("1E+3"),
        Decimal("9" * 38),
        datetime(2026, 3, 29, 1, 30, tzinfo=UTC),
        datetime(2026, 3, 29, 1, 30, 0, 1),  # noqa: DTZ001 -- a time without a zone
        date(2026, 2, 28),
        time(23, 59, 59, 999999),
        timedelta(days=-1, microseconds=3),
        b"\x00\xff'",
        ["a", "b'"],
        [],
        {"a": 1, "b c": ["x"]},
        None,
    ],
)
def test_a_parameter_is_its_value_never_text(given: object, sandbox: Sandbox) -> None:
    found = value("$given", sandbox, given=given)

    if isinstance(given, timedelta):
        found = timedelta(microseconds=found.nanoseconds / 1000) if hasattr(found, "nanoseconds") else found
    assert found == given


def test_a_parameter_has_one_type_whatever_its_value(sandbox: Sandbox) -> None:
    kinds = {bound("$n", sandbox, n=n).schema.field(0).type for n in (1, 300, 70_000, 1 << 40)}

    assert kinds == {pa.int64()}


def test_a_parameter_in_another_zone_is_the_same_moment(sandbox: Sandbox) -> None:
    moment = datetime(2026, 7, 1, 2, 0, tzinfo=ZoneInfo("Europe/Berlin"))

    assert value("$at = timestamptz '2026-07-01 00:00:00+00'", sandbox, at=moment) is True


def test_a_value_that_is_no_value_is_refused(sandbox: Sandbox) -> None:
    with pytest.raises(Invalid, match="cannot stand in an expression"):
        literal(object())


def test_parameters_stand_where_the_parser_says_even_behind_wide_letters(sandbox: Sandbox) -> None:
    found = value("'ü𝄞' || $who || '$who' || $who -- $who", sandbox, who="x")

    assert found == "ü𝄞x$whox"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("now()", datetime(2026, 3, 29, 0, 30, 15, 123456, tzinfo=UTC)),
        ("NOW ( )", datetime(2026, 3, 29, 0, 30, 15, 123456, tzinfo=UTC)),
        ("current_timestamp", datetime(2026, 3, 29, 0, 30, 15, 123456, tzinfo=UTC)),
        ("get_current_timestamp()", datetime(2026, 3, 29, 0, 30, 15, 123456, tzinfo=UTC)),
        ("transaction_timestamp()", datetime(2026, 3, 29, 0, 30, 15, 123456, tzinfo=UTC)),
        ("localtimestamp", datetime(2026, 3, 29, 0, 30, 15, 123456)),  # noqa: DTZ001 -- the point of it
        ("today()", date(2026, 3, 29)),
        ("current_date", date(2026, 3, 29)),
        ("localtime", time(0, 30, 15, 123456)),
        ("date_diff('day', timestamp '2026-03-01', now()::timestamp)", 28),
        ("(now() at time zone 'Europe/Berlin')::varchar", "2026-03-29 01:30:15.123456"),
        ("age(timestamp '2026-03-28')::varchar", "1 day"),
        ("list_transform([1], lambda x: now())[1]", datetime(2026, 3, 29, 0, 30, 15, 123456, tzinfo=UTC)),
    ],
)
def test_the_clock_stands_at_the_run_s_start(text: str, expected: object, sandbox: Sandbox) -> None:
    assert value(text, sandbox) == expected


def test_a_column_called_like_the_clock_is_the_column(sandbox: Sandbox) -> None:
    assert value("current_date", sandbox, {"current_date": "mine"}) == "mine"
    assert value("current_date || '!'", sandbox, {"current_date": "mine"}) == "mine!"


def test_a_warm_sandbox_tells_the_next_run_s_time_and_parameters(sandbox: Sandbox) -> None:
    batch = pa.RecordBatch.from_pylist([{"a": 1}])
    later = Scope(Path(), values={"n": 20}, now=datetime(2027, 1, 1, tzinfo=UTC))
    expressions = {"t": "now()", "n": "a + $n"}

    first = Evaluator(expressions, batch.schema, scope(n=10), sandbox)(batch)
    second = Evaluator(expressions, batch.schema, later, sandbox)(batch)

    assert first.columns.to_pylist()[0]["n"] == 11
    assert second.columns.to_pylist() == [{"t": datetime(2027, 1, 1, tzinfo=UTC), "n": 21}]


@pytest.mark.parametrize(
    "query",
    [
        "SELECT * FROM read_csv('/etc/passwd')",
        "FROM '/etc/passwd'",
        "COPY (SELECT 1) TO 'out.csv'",
        "ATTACH 'x.db'",
        "INSTALL httpfs",
        "LOAD httpfs",
        "SELECT * FROM glob('/*')",
        "SET enable_external_access = true",
        "SET threads = 8",
        "SET disabled_optimizers = ''",
        "SELECT getenv('HOME')",
        "EXPORT DATABASE 'x'",
    ],
)
def test_the_sandbox_reaches_neither_files_nor_extensions_nor_settings(query: str, sandbox: Sandbox) -> None:
    for each in (sandbox, sandbox.careful):
        with pytest.raises(duckdb.Error):
            each.connection.execute(query)


def test_a_fault_whose_message_duckdb_cuts_within_a_character_is_a_reject_like_any_other() -> None:
    schema = pa.schema([("text", pa.string())])
    batch = pa.record_batch([pa.array(["é" * 23, '"}'])], schema=schema)
    evaluator = Evaluator({"json": '(\'{"a":"\' || text)::JSON'}, schema, scope(), Sandbox())

    found = evaluator(batch)

    assert [fault.row for fault in found.faults] == [0]
    assert found.columns.column(0).to_pylist()[1] == '{"a":""}'
