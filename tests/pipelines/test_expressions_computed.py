"""Expressions: what they give, and which records they cannot be computed for."""

from __future__ import annotations

import pickle
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal

import pyarrow as pa
import pytest

from pipelines.errors import Invalid
from pipelines.sql import faults
from pipelines.sql import sandbox as sandboxes
from pipelines.sql.expressions import Evaluator, bind
from pipelines.sql.sandbox import Sandbox, borrowed
from tests.pipelines.expressing import ORDERS, evaluated, scope, value


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


@pytest.mark.parametrize("lists", [[[], []], [["a"], None]])
def test_lists_over_a_dictionary_are_read_even_where_all_are_empty(lists: list[object], sandbox: Sandbox) -> None:
    labels = pa.dictionary(pa.int32(), pa.string())
    inside = [{"l": each} for each in lists]
    columns = {
        "a": pa.array(lists, pa.list_(labels)),
        "b": pa.array(inside, pa.struct([("l", pa.large_list(labels))])),
    }

    found = evaluated("[len(a), len(b.l)]", pa.record_batch(columns), sandbox)

    lengths = [None if each is None else len(each) for each in lists]  # type: ignore[arg-type]
    assert found.faults == ()
    assert found.columns.column(0).to_pylist() == [[length, length] for length in lengths]


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
