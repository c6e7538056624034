"""Expressions: what binding says of them, what they give, and which records they cannot be computed for."""

from __future__ import annotations

import pickle
from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from zoneinfo import ZoneInfo

import duckdb
import pyarrow as pa
import pytest

from pipelines import faults
from pipelines import sandbox as sandboxes
from pipelines.errors import Invalid
from pipelines.expressions import Bound, Evaluated, Evaluator, bind, check_expressions
from pipelines.literals import literal
from pipelines.sandbox import Sandbox, borrowed
from pipelines.scope import Scope

LINES = pa.list_(pa.struct([("sku", pa.string()), ("qty", pa.int64())]))
ORDERS = pa.schema(
    [
        ("order_id", pa.int64()),
        ("email", pa.string()),
        ("quantity", pa.string()),
        ("price", pa.decimal128(38, 4)),
        ("lines", LINES),
        ("ship to", pa.struct([("city", pa.string())])),
        ("updated", pa.timestamp("ns", tz="Europe/Berlin")),
    ]
)


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    opened = Sandbox()
    yield opened
    opened.close()


def scope(**values: object) -> Scope:
    return Scope(Path(), values=values, now=datetime(2026, 3, 29, 0, 30, 15, 123456, tzinfo=UTC))


def bound(text: str, sandbox: Sandbox, **values: object) -> Bound:
    return bind({"field": text}, ORDERS, values, sandbox)


def evaluated(text: str, batch: pa.RecordBatch, sandbox: Sandbox, **values: object) -> Evaluated:
    return Evaluator({"field": text}, batch.schema, scope(**values), sandbox)(batch)


def value(text: str, sandbox: Sandbox, row: Mapping[str, object] | None = None, **values: object) -> object:
    batch = pa.RecordBatch.from_pylist([dict(row or {"a": 1})])
    found = evaluated(text, batch, sandbox, **values)
    assert not found.faults
    return found.columns.column(0)[0].as_py()


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


def test_records_that_cannot_be_computed_are_named_with_duckdb_s_words(sandbox: Sandbox) -> None:
    batch = pa.RecordBatch.from_pylist([{"n": "1"}, {"n": "two"}, {"n": None}, {"n": "4"}, {"n": "5.5.5"}])
    evaluator = Evaluator({"x": "n::INTEGER", "y": "n || '!'", "z": "n::INTEGER * 2"}, batch.schema, scope(), sandbox)

    found = evaluator(batch)

    assert found.columns.column("x").to_pylist() == [1, None, None, 4, None]
    assert found.columns.column("y").to_pylist() == ["1!", "two!", None, "4!", "5.5.5!"]
    assert found.columns.column("z").to_pylist() == [2, None, None, 8, None]
    assert [(fault.row, fault.name) for fault in found.faults] == [(1, "x"), (1, "z"), (4, "x"), (4, "z")]
    assert found.faults[0].message == ("x: Could not convert string 'two' to INT32 when casting from source column n")


@pytest.mark.parametrize(
    ("text", "bad"),
    [
        ("a::TINYINT", [2]),
        ("9223372036854775807 + a", [0, 2]),
        ("CASE WHEN a > 5 THEN error('too large: ' || a) ELSE a END", [2]),
        ("list_transform([a], lambda x: x::TINYINT)", [2]),
        ("CASE WHEN a > 5 THEN coalesce(error('no'), 1) ELSE a END", [2]),
        ("coalesce(a, error('a is missing'))", [1]),
        ("[a::TINYINT, NULL]", [2]),
        ("{'x': a::TINYINT}", [2]),
        ("strptime(a::varchar, '%Y-%m')", [0, 2]),
        ("random() * 0 + a::TINYINT", [2]),
        ("'x'::INTEGER + a", [0, 1, 2]),
        ("NULL::INTEGER", []),
        ("CASE WHEN a > 5 THEN NULL ELSE a END", []),
    ],
)
def test_a_fault_is_told_from_a_null(text: str, bad: list[int], sandbox: Sandbox) -> None:
    batch = pa.record_batch({"a": pa.array([1, None, 1000], pa.int64())})

    found = evaluated(text, batch, sandbox)

    assert [fault.row for fault in found.faults] == bad
    assert found.columns.num_rows == 3


def test_the_users_own_error_is_the_message(sandbox: Sandbox) -> None:
    batch = pa.record_batch({"total": [1, -5, 3, -7]})

    found = evaluated("CASE WHEN total < 0 THEN error('negative: ' || total) ELSE total END", batch, sandbox)

    assert [fault.message for fault in found.faults] == ["field: negative: -5", "field: negative: -7"]
    assert found.columns.column(0).to_pylist() == [1, None, 3, None]


def test_beyond_so_many_faults_the_input_stands_for_duckdb_s_words(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(faults, "TOLD", 2)
    batch = pa.record_batch({"n": ["a", "b", "c" * 10_000]})

    messages = [fault.message for fault in evaluated("n::INTEGER", batch, sandbox).faults]

    assert "Could not convert string 'b'" in messages[1]
    assert messages[2].startswith("field: cannot be computed for n='cccc")
    assert len(messages[2]) < 300


def test_an_input_without_a_python_value_is_shown_too(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(faults, "TOLD", 0)
    batch = pa.record_batch(
        {"t": pa.array([1], pa.timestamp("ns")), "l": pa.array([[1]], pa.list_(pa.timestamp("ns")))}
    )

    message = evaluated("(t || l[1]::varchar)::INTEGER", batch, sandbox).faults[0].message

    assert "t=1970-01-01 00:00:00.000000001" in message or "Timestamp('1970-01-01 00:00:00.000000001')" in message


def test_a_message_stays_short_whatever_the_value(sandbox: Sandbox) -> None:
    batch = pa.record_batch({"n": ["x" * 1_000_000]})

    assert len(evaluated("n::INTEGER", batch, sandbox).faults[0].message) < 600


def test_where_memory_does_not_suffice_for_a_batch_it_is_computed_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandboxes, "LEAST_BYTES", 1 << 24)
    small = Sandbox(1 << 24)
    batch = pa.record_batch({"n": pa.array(range(64), pa.int64())})

    found = Evaluator({"x": "length(repeat('x', 1000000 + n))"}, batch.schema, scope(), small)(batch)
    small.close()

    assert not found.faults
    assert found.columns.column(0).to_pylist() == [1_000_000 + n for n in range(64)]


TYPED = {
    "i8": pa.array([1, None, 3], pa.int8()),
    "u64": pa.array([1, None, (1 << 64) - 1], pa.uint64()),
    "half": pa.array([1.5, None, 3.0], pa.float16()),
    "dec": pa.array([Decimal("1." + "0" * 9 + "1"), None, Decimal(-3)], pa.decimal128(38, 10)),
    "dec32": pa.array([Decimal("1.5"), None, Decimal(-3)], pa.decimal32(5, 2)),
    "text": pa.array(["a", None, "ü"], pa.string()),
    "large": pa.array(["a", None, "ü"], pa.large_string()),
    "view": pa.array(["a", None, "a longer text than fits"], pa.string_view()),
    "dict": pa.array(["a", None, "a"]).dictionary_encode(),
    "bytes": pa.array([b"\0", None, b"x"], pa.binary()),
    "fixed": pa.array([b"ab", None, b"cd"], pa.binary(2)),
    "sec": pa.array([1, None, 3], pa.timestamp("s")),
    "milli": pa.array([1, None, 3], pa.timestamp("ms")),
    "nano": pa.array([1, None, 3], pa.timestamp("ns")),
    "berlin": pa.array([1, None, 3], pa.timestamp("ns", tz="Europe/Berlin")),
    "offset": pa.array([1, None, 3], pa.timestamp("s", tz="+02:00")),
    "date": pa.array([1, None, 3], pa.date32()),
    "date64": pa.array([86_400_000, None, 0], pa.date64()),
    "clock": pa.array([1, None, 3], pa.time32("s")),
    "span": pa.array([1, None, 3], pa.duration("us")),
    "list": pa.array([[1, None], None, []], pa.list_(pa.int16())),
    "biglist": pa.array([[1, None], None, []], pa.large_list(pa.int16())),
    "pair": pa.array([[1, 2], None, [3, 4]], pa.list_(pa.int16(), 2)),
    "struct": pa.array([{"a": 1, "b": [None]}, None, {"a": None, "b": None}]),
    "map": pa.array([[("k", 1)], None, []], pa.map_(pa.string(), pa.int32())),
    "nulls": pa.nulls(3),
    "bool": pa.array([True, None, False]),
}


@pytest.mark.parametrize("name", TYPED)
def test_a_column_by_its_name_goes_through_as_it_is(name: str, sandbox: Sandbox) -> None:
    batch = pa.record_batch(TYPED)

    found = evaluated(f'"{name}"', batch, sandbox).columns

    assert found.schema.field(0).type.equals(TYPED[name].type)
    assert found.column(0).equals(TYPED[name])


@pytest.mark.parametrize("name", TYPED)
def test_a_column_of_any_type_can_be_computed_with_in_whole_and_in_slices(name: str, sandbox: Sandbox) -> None:
    batch = pa.record_batch(TYPED)
    evaluator = Evaluator(
        {"is": f'"{name}" IS NULL', "or": f'coalesce("{name}", "{name}")'}, batch.schema, scope(), sandbox
    )

    whole = evaluator(batch).columns
    parts = [evaluator(batch.slice(row, 1)).columns for row in range(3)]
    nothing = evaluator(batch.slice(3)).columns

    assert whole.column(0).to_pylist() == TYPED[name].is_null().to_pylist()
    assert pa.concat_batches(parts).equals(whole)
    assert whole.schema.equals(evaluator.schema)
    assert nothing.num_rows == 0
    assert nothing.schema.equals(evaluator.schema)


def test_boxes_give_the_types_that_were_announced(sandbox: Sandbox) -> None:
    batch = pa.record_batch({**TYPED, "bad": ["1", "x", "3"]})
    texts = {name: f'coalesce("{name}", "{name}")' for name in TYPED}
    evaluator = Evaluator({**texts, "fault": "bad::INTEGER"}, batch.schema, scope(), sandbox)

    found = evaluator(batch)

    assert [fault.row for fault in found.faults] == [1]
    assert found.columns.schema.equals(evaluator.schema)
    clean = Evaluator(texts, batch.schema, scope(), sandbox)(batch).columns
    for name in texts:
        assert found.columns.column(name).equals(clean.column(name))


def test_a_type_that_duckdb_does_not_take_is_a_problem_where_it_is_computed_with_only(sandbox: Sandbox) -> None:
    schema = pa.schema([("wide", pa.decimal256(60, 2)), ("n", pa.int64())])

    assert not bind({"f": "wide", "g": "n + 1"}, schema, {}, sandbox).problems
    problem = bind({"f": "wide + 1"}, schema, {}, sandbox).problems[0]

    assert "decimal256(60, 2)" in problem.what
    assert "keep" in problem.fix


def test_two_hundred_columns_are_computed_in_their_order(sandbox: Sandbox) -> None:
    batch = pa.record_batch({f"c{n}": pa.array([n, n + 1]) for n in range(200)})
    evaluator = Evaluator({f"f{n}": f"c{n} * 2" for n in range(200)}, batch.schema, scope(), sandbox)

    found = evaluator(batch).columns

    assert found.schema.names == [f"f{n}" for n in range(200)]
    assert found.to_pylist()[1] == {f"f{n}": (n + 1) * 2 for n in range(200)}


def test_rows_keep_their_order_in_batches_beyond_duckdb_s_own(sandbox: Sandbox) -> None:
    batch = pa.record_batch({"n": pa.array(range(300_000), pa.int64())})

    found = evaluated("n + 1", batch, sandbox).columns

    assert found.num_rows == 300_000
    assert found.column(0).equals(pa.array(range(1, 300_001), pa.int64()))


def test_expressions_without_columns_give_a_value_for_every_record(sandbox: Sandbox) -> None:
    batch = pa.record_batch({"n": [1, 2, 3]})

    assert evaluated("1 + 1", batch, sandbox).columns.column(0).to_pylist() == [2, 2, 2]


def test_names_with_quotes_dots_and_blanks_are_names(sandbox: Sandbox) -> None:
    batch = pa.record_batch({'a"b': [1], "c.d": [2], "e f": [3], "select": [4]})

    found = Evaluator({'x"y': '"a""b" + 1', "z": '"c.d" + "e f" + "select"'}, batch.schema, scope(), sandbox)(batch)

    assert found.columns.to_pylist() == [{'x"y': 2, "z": 9}]


def test_a_statement_that_was_put_away_is_planned_again_when_it_is_used(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sandboxes, "KEPT_STATEMENTS", 2)
    batch = pa.record_batch({"n": [1]})
    evaluators = [Evaluator({"x": f"n + {add}"}, batch.schema, scope(), sandbox) for add in range(5)]

    found = [evaluator(batch).columns.column(0)[0].as_py() for evaluator in evaluators]

    assert found == [1, 2, 3, 4, 5]


def test_a_sandbox_given_back_is_the_next_one_borrowed() -> None:
    with borrowed(scope()) as first:
        first.fetch("SELECT 1", [])
    with borrowed(scope()) as second, borrowed(scope()) as third:
        assert second is first
        assert third is not first


def test_a_sandbox_sent_elsewhere_opens_there_anew(sandbox: Sandbox) -> None:
    sandbox.fetch("SELECT 1", [])

    copy = pickle.loads(pickle.dumps(sandbox))

    assert copy.fetch("SELECT 2", []) == [(2,)]
    copy.close()


def test_an_expression_that_does_not_bind_is_refused_before_the_first_record(sandbox: Sandbox) -> None:
    with pytest.raises(Invalid, match='x no column "emial"'):
        Evaluator({"x": "emial"}, ORDERS, scope(), sandbox)


def test_zones_of_python_are_no_matter(sandbox: Sandbox) -> None:
    east = datetime(2026, 1, 1, 5, tzinfo=timezone(timedelta(hours=5)))

    assert value("$t", sandbox, t=east) == datetime(2026, 1, 1, tzinfo=UTC)
