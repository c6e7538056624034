"""Which records and columns `file.post` does not take, and what it says of them."""

from __future__ import annotations

from datetime import date, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pydantic import ValidationError

from pipelines.errors import Invalid
from pipelines.node import Outcome
from tests.adapters.file.post_room import batch, deliver, post, scope_in


def rejected(outcome: Outcome) -> list[tuple[int, str, str]]:
    """Row, code and message of each reject."""
    rejects = outcome.rejects
    assert rejects is not None
    return list(zip(rejects.rows.to_pylist(), rejects.codes, rejects.messages, strict=True))


def problems(schema: pa.Schema, folder: Path, **config: Any) -> list[str]:
    """What `check` reports, as `field: what; fix`."""
    found: list[str] = []

    def report(at: tuple[str | int, ...], what: str, fix: str = "", *, warning: bool = False) -> None:
        found.append(f"{at[0]}: {what}; {fix}")

    post(**config).check({"": schema}, scope_in(folder), report)
    return found


def test_json_takes_no_nan_and_no_infinity_at_any_depth(tmp_path: Path) -> None:
    records = batch(
        [
            {"f": 1.5, "l": [{"x": 1.0}]},
            {"f": float("nan"), "l": None},
            {"f": None, "l": [{"x": 2.0}, {"x": float("inf")}]},
        ]
    )

    (outcome,) = deliver(post(path="out.jsonl"), [records], tmp_path)

    assert [(row, code) for row, code, _ in rejected(outcome)] == [(1, "no_text"), (2, "no_text")]
    assert rejected(outcome)[0][2] == ("column 'f': nan has no number in JSON; make it null with a map")
    assert outcome.out["out"].rows.to_pylist() == [0]
    assert (tmp_path / "out.jsonl").read_text() == '{"f":1.5,"l":[{"x":1.0}]}\n'


def test_csv_takes_nan_and_infinity(tmp_path: Path) -> None:
    deliver(post(path="out.csv"), [batch([{"f": float("nan")}, {"f": float("-inf")}])], tmp_path)

    assert (tmp_path / "out.csv").read_text() == "f\nnan\n-inf\n"


@pytest.mark.parametrize("path", ["out.csv", "out.jsonl"])
def test_text_takes_no_time_outside_of_four_digit_years(path: str, tmp_path: Path) -> None:
    days = pa.array([0, 2_932_897, -719_163], pa.date32())
    moments = pa.array(
        [datetime.fromisoformat("9999-12-31T23:00:00"), datetime.fromisoformat("0001-01-01T00:00:00"), None],
        pa.timestamp("us"),
    )
    records = pa.record_batch([pa.array(range(3)), days, moments], names=["id", "day", "at"])

    (outcome,) = deliver(post(path=path), [records], tmp_path)

    assert [(row, code) for row, code, _ in rejected(outcome)] == [(1, "no_text"), (2, "no_text")]


def test_parquet_takes_every_time(tmp_path: Path) -> None:
    records = pa.record_batch(
        [pa.array([2_932_897, None], pa.date32()), pa.array([float("nan"), 1.0])], names=["d", "f"]
    )

    (outcome,) = deliver(post(path="out.parquet"), [records], tmp_path)

    assert outcome.rejects is None


def test_a_record_of_one_null_is_no_line_of_csv(tmp_path: Path) -> None:
    records = batch([{"v": "a"}, {"v": None}, {"v": ""}])

    (outcome,) = deliver(post(path="out.csv"), [records], tmp_path)

    assert [(row, code) for row, code, _ in rejected(outcome)] == [(1, "empty_line")]
    assert (tmp_path / "out.csv").read_text() == 'v\na\n""\n'


def test_a_record_of_one_null_is_a_line_where_null_has_a_text(tmp_path: Path) -> None:
    deliver(post(path="out.csv", null="NULL"), [batch([{"v": "NULL"}, {"v": None}])], tmp_path)

    assert (tmp_path / "out.csv").read_text() == 'v\n"NULL"\nNULL\n'


@pytest.mark.parametrize("mode", ["append", "upsert", "delete"])
def test_a_null_key_is_rejected_whatever_the_mode(mode: str, tmp_path: Path) -> None:
    node = post(path="out.jsonl", mode=mode, key=["a", "b"])

    (outcome,) = deliver(node, [batch([{"a": 1, "b": "x"}, {"a": None, "b": "y"}, {"a": 2, "b": None}])], tmp_path)

    assert [(row, code) for row, code, _ in rejected(outcome)] == [(1, "key_null"), (2, "key_null")]
    assert outcome.receipts is not None
    assert outcome.receipts.keys is not None
    assert outcome.receipts.keys.to_pylist() == ["1|x"]


def test_a_value_that_gives_no_path_is_rejected_and_any_other_stays_in_its_folder(tmp_path: Path) -> None:
    values = ["a/b", "..", ".", "", None, "x" * 100, "é=1", "%2F"]
    node = post(path="out/{v}.csv")

    (outcome,) = deliver(node, [batch([{"v": value, "n": 1} for value in values])], tmp_path)

    assert [(row, code) for row, code, _ in rejected(outcome)] == [
        (3, "path_empty"),
        (4, "path_null"),
        (5, "path_long"),
    ]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "%252F.csv",
        "%2E%2E.csv",
        "%2E.csv",
        "%C3%A9%3D1.csv",
        "a%2Fb.csv",
    ]


def test_the_first_reason_of_a_record_is_told(tmp_path: Path) -> None:
    records = batch([{"k": None, "f": float("nan")}, {"k": 1, "f": float("nan")}])

    (outcome,) = deliver(post(path="out.jsonl", key="k"), [records], tmp_path)

    assert [(row, code) for row, code, _ in rejected(outcome)] == [(0, "key_null"), (1, "no_text")]


SCHEMA = pa.schema([("id", pa.int64()), ("v", pa.string()), ("at", pa.timestamp("us", "UTC"))])


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({"path": "out.xyz"}, "path: path 'out.xyz' does not tell the format; end it with one of"),
        (
            {"path": "out.csv", "mode": "upsert"},
            "mode: mode upsert tells records apart by `key`, which is missing; set `key`",
        ),
        ({"path": "out.csv", "key": "idd"}, "key: key names column 'idd', which does not come in; did you mean 'id'?"),
        ({"path": "out/{country}/"}, "path: path names column 'country', which does not come in; there are: id, v, at"),
        (
            {"path": "out.jsonl", "delimiter": ";"},
            "delimiter: delimiter is for CSV, and this is jsonl; leave delimiter away",
        ),
        ({"path": "out.csv", "delimiter": "x"}, "delimiter: 'x' occurs in values"),
        ({"path": "out.csv", "null": "a,b"}, "null: null 'a,b' holds what CSV itself is made of"),
        ({"path": "out.csv.gz", "compression": "zstd"}, "path: the suffix names another compression"),
        ({"path": "out.csv", "compression": "snappy"}, "compression: snappy is no compression for csv"),
        ({"path": "o/v={v}/", "mode": "upsert", "key": "id"}, "key: with mode upsert a record must stay in its place"),
        ({"path": "o/id={id}/", "mode": "delete", "key": "id"}, "key: every key column is in the path"),
        ({"path": "o/id={id}/v={v}/at={at}/"}, "path: every column is in the path"),
    ],
    ids=lambda value: value["path"] if isinstance(value, dict) else "",
)
def test_check_says_what_cannot_work(config: dict[str, Any], says: str, tmp_path: Path) -> None:
    found = problems(SCHEMA, tmp_path, **config)

    assert [problem for problem in found if problem.startswith(says)] == found[:1]
    with pytest.raises(Invalid):
        deliver(post(**config), [pa.RecordBatch.from_pylist([], SCHEMA)], tmp_path)


@pytest.mark.parametrize(
    ("path", "kind", "says"),
    [
        ("out.csv", pa.binary(), "column 'b' is binary: binary has no text of its own; make it text with a map"),
        ("out.jsonl", pa.list_(pa.binary()), "binary has no text of its own"),
        ("out.csv", pa.duration("us"), "an interval has no text"),
        ("out.parquet", pa.month_day_nano_interval(), "Parquet has no type for month_day_nano_interval"),
        ("out.parquet", pa.struct([]), "Parquet has no type for struct<>"),
    ],
)
def test_check_names_a_column_whose_type_the_format_lacks(
    path: str, kind: pa.DataType, says: str, tmp_path: Path
) -> None:
    (found,) = problems(pa.schema([("id", pa.int64()), ("b", kind)]), tmp_path, path=path)

    assert says in found
    assert "column 'b'" in found


def test_check_compares_with_the_file_that_is_there(tmp_path: Path) -> None:
    deliver(post(path="out.parquet"), [batch([{"id": 1, "v": "a"}])], tmp_path)
    coming = pa.schema([("id", pa.string()), ("v", pa.string()), ("more", pa.int64())])

    found = problems(coming, tmp_path, path="out.parquet")

    assert found == [
        "path: column 'id' is string, but int64 in the file that is there; cast it with a map, or use mode `replace`",
        "path: column 'more' is not in the file that is there, which has: id, v; drop it with a map",
    ]
    assert problems(coming, tmp_path, path="out.parquet", mode="replace") == []


def test_check_compares_with_the_header_that_is_there(tmp_path: Path) -> None:
    (tmp_path / "out.csv").write_text("id,name\n")

    (found,) = problems(pa.schema([("id", pa.int64()), ("v", pa.string())]), tmp_path, path="out.csv")

    assert "column 'v' is not in the file that is there, which has: id, name" in found


def test_what_the_file_lacks_of_the_records_columns_is_null_and_what_it_holds_wider_is_widened(tmp_path: Path) -> None:
    deliver(post(path="out.parquet"), [batch([{"id": 1, "v": "a"}])], tmp_path, "run-1")
    narrow = pa.record_batch([pa.array([2], pa.int32())], names=["id"])

    deliver(post(path="out.parquet"), [narrow], tmp_path, "run-2")

    import pyarrow.parquet as pq

    table = pq.read_table(tmp_path / "out.parquet")
    assert table.to_pylist() == [{"id": 1, "v": "a"}, {"id": 2, "v": None}]
    assert table.schema.field("id").type == pa.int64()


@pytest.mark.parametrize(
    ("name", "content"),
    [("out.parquet", b"PAR1 no more of it"), ("out.jsonl", b"{no json}\n"), ("out.csv", b'id,v\n1,"\xff\xfe"\n2\n')],
)
def test_an_upsert_into_a_file_that_cannot_be_read_says_so_and_leaves_it(
    name: str, content: bytes, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(content)

    with pytest.raises(Invalid, match=name.replace(".", r"\.")):
        deliver(post(path=name, mode="upsert", key="id"), [batch([{"id": 1, "v": "a"}])], tmp_path)

    assert (tmp_path / name).read_bytes() == content


def test_an_unknown_mode_is_refused_by_the_model() -> None:
    with pytest.raises(ValidationError, match="mode"):
        post(path="out.csv", mode="merge")


def test_the_label_and_the_target_are_told(tmp_path: Path) -> None:
    node = post(path="out/../out/year={year}/")

    assert node.target(scope_in(tmp_path)) == f"{tmp_path}/out/year={{year}}/"
    assert node.delivery()[0] == "effectively once"
    assert post(path="x.csv").target(scope_in(tmp_path)) == f"{tmp_path}/x.csv"


def test_dates_are_told_in_the_path(tmp_path: Path) -> None:
    deliver(post(path="out/day={day}/", format="jsonl"), [batch([{"day": date(2026, 1, 2), "n": 1}])], tmp_path)

    assert [path.name for path in (tmp_path / "out").iterdir()] == ["day=2026-01-02"]
