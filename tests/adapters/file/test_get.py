"""`file.get` whatever the format: which files are read, which of their records, and where the next run goes on."""

from __future__ import annotations

import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from adapters.file import Get
from pipelines.errors import Invalid, Unavailable
from pipelines.node import Want
from pipelines.scope import Scope
from tests.adapters.file.reading import Read, checked, write


def test_a_folder_gives_all_its_files_but_hidden_ones_and_marks(tmp_path: Path) -> None:
    for name in ("in/b.csv", "in/2024/a.csv", "in/.c.csv", "in/_SUCCESS", "in/_tmp/d.csv", "other.csv"):
        write(tmp_path, f"name\n{name}\n", name)

    assert Read(tmp_path, path="in/").column("name") == ["in/2024/a.csv", "in/b.csv"]


def test_a_pattern_gives_the_files_it_matches_in_order(tmp_path: Path) -> None:
    for name in ("b-1.csv", "a-1.csv", "a-2.txt", "deep/er/a-3.csv"):
        write(tmp_path, f"name\n{name}\n", name)

    assert Read(tmp_path, path="*.csv").column("name") == ["a-1.csv", "b-1.csv"]
    assert Read(tmp_path, path="**/a-*.csv").column("name") == ["a-1.csv", "deep/er/a-3.csv"]


def test_a_file_whose_name_looks_like_a_pattern_is_that_file(tmp_path: Path) -> None:
    write(tmp_path, "n\n1\n", "a[1].csv")
    write(tmp_path, "n\n2\n", "a1.csv")

    assert Read(tmp_path, path="a[1].csv").column("n") == [1]


def test_parameters_are_not_pasted_into_a_path(tmp_path: Path) -> None:
    write(tmp_path, "n\n1\n", "$country.csv")

    assert Read(tmp_path, path="$country.csv").column("n") == [1]


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("oders.csv", r"oders\.csv: there is no such file; did you mean 'orders\.csv'\?"),
        ("in/x.csv", r"in/x\.csv: there is no such file; in the project folder there are: notes\.md, orders\.csv"),
        ("in/*.csv", r"in/\*\.csv: there is no folder in;"),
        ("x*.csv", r"x\*\.csv: there is no file, so its columns are not known; give `columns` with their types"),
        ("notes.md", r"notes\.md: its suffix tells no format; set `format` to one of csv, jsonl,"),
        ("*s.*", r"notes\.md: its suffix tells no format"),
    ],
)
def test_what_cannot_be_found_is_said_with_what_is_there(tmp_path: Path, path: str, said: str) -> None:
    write(tmp_path, "n\n1\n", "orders.csv")
    write(tmp_path, "words", "notes.md")

    with pytest.raises(Invalid, match=said):
        Read(tmp_path, path=path)


def test_files_of_several_formats_are_refused_together(tmp_path: Path) -> None:
    write(tmp_path, "n\n1\n", "in/a.csv")
    write(tmp_path, '{"n": 1}\n', "in/b.jsonl")

    with pytest.raises(Invalid, match=r"in/a\.csv and in/b\.jsonl are of different formats; read them by a pattern"):
        Read(tmp_path, path="in/")


def test_a_pattern_without_files_gives_no_records_where_columns_are_declared(tmp_path: Path) -> None:
    read = Read(tmp_path, path="*.csv", columns={"id": "BIGINT"}, once=True)

    assert read.rows == []
    assert read.schema == pa.schema([("id", pa.int64())])


def test_columns_of_several_files_are_united_by_name_and_type(tmp_path: Path) -> None:
    write(tmp_path, "id,price\n1,2\n", "a.csv")
    write(tmp_path, "note,price,id\nx,2.5,2\n", "b.csv")

    assert Read(tmp_path, path="*.csv").rows == [
        {"id": 1, "price": 2.0, "note": None},
        {"id": 2, "price": 2.5, "note": "x"},
    ]


def test_columns_are_given_in_the_order_that_is_asked_for(tmp_path: Path) -> None:
    write(tmp_path, "a,b,c\n1,2,3\n")

    assert Read(tmp_path, path="data.csv", columns=["c", "a"]).schema.names == ["c", "a"]
    with pytest.raises(Invalid, match="columns: there is no column 'd'; there are: a, b, c"):
        Read(tmp_path, path="data.csv", columns=["a", "d"])
    with pytest.raises(Invalid, match=r"columns\.a: column 'a': 'BIGIN' is no DuckDB type"):
        Read(tmp_path, path="data.csv", columns={"a": "BIGIN"})


def test_only_what_where_keeps_is_read_and_ordinals_stay_those_of_the_file(tmp_path: Path) -> None:
    write(tmp_path, "id,status\n1,new\n2,paid\n3,\n4,paid\n")

    read = Read(tmp_path, path="data.csv", where="status = 'paid'", columns=["id"])

    assert read.rows == [{"id": 2}, {"id": 4}]
    assert read.ordinals == [1, 3]
    assert read.malformed == []


def test_records_for_which_where_cannot_be_computed_are_set_aside(tmp_path: Path) -> None:
    write(tmp_path, "id,code\n1,7\n2,x\n3,1\n4\n")

    read = Read(tmp_path, path="data.csv", where="code::INT > 5", columns={"id": "BIGINT", "code": "VARCHAR"})

    assert read.rows == [{"id": 1, "code": "7"}]
    assert [(bad[0], bad[1], bad[2]) for bad in read.malformed] == [
        (1, "expression", '{"id": 2, "code": "x"}'),
        (3, "columns", "4"),
    ]


def test_a_condition_that_does_not_bind_is_a_problem_of_its_field(tmp_path: Path) -> None:
    write(tmp_path, "id\n1\n")

    with pytest.raises(Invalid, match=r"where: expression 'idd = 1'.*idd"):
        Read(tmp_path, path="data.csv", where="idd = 1")
    with pytest.raises(Invalid, match="cursor: there is no column 'at'"):
        Read(tmp_path, path="data.csv", cursor="at")
    with pytest.raises(Invalid, match="key: there is no column 'ids'; did you mean 'id'"):
        Read(tmp_path, path="data.csv", key="ids")


def test_the_name_of_each_records_file_is_a_column(tmp_path: Path) -> None:
    write(tmp_path, "id\n1\n", "in/a.csv")
    write(tmp_path, "id\n2\n", "in/b.csv")

    read = Read(tmp_path, path="in/", filename="file")

    assert read.rows == [{"id": 1, "file": "in/a.csv"}, {"id": 2, "file": "in/b.csv"}]
    with pytest.raises(Invalid, match="filename: the files have a column 'id' of their own"):
        Read(tmp_path, path="in/", filename="id")


def test_a_file_is_read_once_unless_it_has_changed(tmp_path: Path) -> None:
    write(tmp_path, "id\n1\n", "in/a.csv")
    first = Read(tmp_path, path="in/", once=True)
    write(tmp_path, "id\n2\n", "in/b.csv")
    second = Read(tmp_path, first.position, path="in/", once=True)
    third = Read(tmp_path, second.position, path="in/", once=True)
    write(tmp_path, "id\n1\n3\n", "in/a.csv")
    fourth = Read(tmp_path, third.position, path="in/", once=True)

    assert [read.column("id") for read in (first, second, third, fourth)] == [[1], [2], [], [1, 3]]
    assert second.plan.note == "1 new file, 1 read before"
    assert third.position == second.position


def test_by_hash_a_file_is_read_again_only_where_its_content_differs(tmp_path: Path) -> None:
    write(tmp_path, "id\n1\n", "in/a.csv")
    first = Read(tmp_path, path="in/", once="hash")
    os.utime(tmp_path / "in" / "a.csv", ns=(1, 1))
    second = Read(tmp_path, first.position, path="in/", once="hash")
    write(tmp_path, "id\n1\n", "in/b.csv")
    third = Read(tmp_path, second.position, path="in/", once="hash")
    write(tmp_path, "id\n7\n", "in/a.csv")
    fourth = Read(tmp_path, third.position, path="in/", once="hash")
    fifth = Read(tmp_path, fourth.position, path="in/", once=True)

    assert [read.column("id") for read in (first, second, third, fourth, fifth)] == [[1], [], [1], [7], []]
    assert second.plan.note == "0 new files, 1 read before"


def test_without_once_files_are_read_in_every_run(tmp_path: Path) -> None:
    write(tmp_path, "id\n1\n")
    first = Read(tmp_path, path="data.csv")

    assert Read(tmp_path, first.position, path="data.csv").rows == first.rows


@pytest.mark.parametrize(
    ("kind", "values", "more"),
    [
        ("BIGINT", ["2", "10", "1"], ["9", "11"]),
        ("DECIMAL(30,2)", ["2.50", "10.00", "1.00"], ["9.99", "10.01"]),
        ("DOUBLE", ["2.5", "10", "1"], ["9.99", "10.01"]),
        ("VARCHAR", ["b", "c", "a"], ["bb", "ca"]),
        ("DATE", ["2024-01-02", "2024-02-01", "2024-01-01"], ["2024-01-31", "2024-02-02"]),
        (
            "TIMESTAMP",
            ["2024-01-02 00:00:00.5", "2024-01-03", "2024-01-01"],
            ["2024-01-02 23:59:59", "2024-01-03 00:01"],
        ),
        (
            "TIMESTAMP_NS",
            ["2024-01-02 00:00:00.000001000", "2024-01-01 00:00:00"],
            ["2024-01-02", "2024-01-02 00:00:01"],
        ),
        ("TIMESTAMPTZ", ["2024-01-02T00:00:00Z", "2024-01-03T01:00+02:00"], ["2024-01-02T22:59Z", "2024-01-02T23:01Z"]),
    ],
)
def test_a_cursor_gives_only_what_is_above_the_last_position(
    tmp_path: Path, kind: str, values: list[str], more: list[str]
) -> None:
    write(tmp_path, "c,n\n" + "".join(f"{value},1\n" for value in values) + ",1\n")
    fields = {"path": "data.csv", "columns": {"c": kind, "n": "BIGINT"}, "cursor": "c", "split_bytes": 8}
    first = Read(tmp_path, **fields)
    write(tmp_path, "c,n\n" + "".join(f"{value},2\n" for value in more))
    second = Read(tmp_path, first.position, **fields)
    third = Read(tmp_path, second.position, **fields)

    assert first.plan.position is None
    assert len(first.ordinals) == len(values)
    assert second.column("n") == [2]
    assert third.rows == []
    assert third.position == second.position


def test_with_a_key_records_that_come_later_with_the_same_cursor_are_read_once(tmp_path: Path) -> None:
    fields = {"path": "data.csv", "cursor": "at", "key": ["id"], "columns": ["id"]}
    write(tmp_path, "id,at\n1,5\n2,7\n3,7\n")
    first = Read(tmp_path, **fields)
    write(tmp_path, "id,at\n1,5\n2,7\n3,7\n4,7\n5,6\n")
    second = Read(tmp_path, first.position, **fields)
    third = Read(tmp_path, second.position, **fields)

    assert [read.column("id") for read in (first, second, third)] == [[1, 2, 3], [4], []]


def test_positions_join_the_same_in_any_order(tmp_path: Path) -> None:
    get = Get(path="data.csv", cursor="at", once=True)
    one = {"files": ["a", "c"], "cursor": {"at": 5, "number": True}}
    other = {"files": ["b"], "cursor": {"at": 12, "number": True}}

    assert get.later(one, other) == get.later(other, one)
    assert get.later(one, None) == get.later(None, one) == one
    assert get.later(one, other) == {"files": ["a", "b", "c"], "cursor": {"at": 12, "number": True}}


def test_where_cursor_and_filename_hold_for_parquet_too(tmp_path: Path) -> None:
    pq.write_table(pa.table({"id": [1, 2, 3], "at": [1, 5, 9]}), tmp_path / "data.parquet")

    read = Read(
        tmp_path,
        {"cursor": {"at": 1, "number": True}},
        path="data.parquet",
        where="id < 3",
        cursor="at",
        filename="file",
        columns=["id"],
    )

    assert read.rows == [{"id": 2, "file": "data.parquet"}]
    assert read.position == {"cursor": {"at": 5, "number": True}}


@pytest.mark.parametrize("change", ["longer", "touched", "replaced", "gone"])
def test_a_file_that_changes_under_the_reader_stops_the_run(tmp_path: Path, change: str) -> None:
    path = write(tmp_path, "id\n" + "1\n" * 100)
    get, scope = Get(path="data.csv"), Scope(project=tmp_path)
    schema = checked(get, scope)
    split = get.plan(scope, None, Want()).splits[0].payload
    chunks = get.read(split, schema, scope, Want(batch_rows=10))
    next(chunks)

    if change == "longer":
        with path.open("a") as file:
            file.write("2\n")
    elif change == "touched":
        os.utime(path, ns=(1, 1))
    elif change == "replaced":
        write(tmp_path, "id\n" + "2\n" * 100, "other.csv").replace(path)
    else:
        path.unlink()

    with pytest.raises(Unavailable, match=r"data\.csv: (has 205 bytes where it had 203|was|is gone)"):
        list(chunks)
    with pytest.raises(Unavailable, match=r"data\.csv: "):
        list(get.read(split, schema, scope, Want()))


def test_marks_of_more_than_one_character_and_unknown_encodings_are_refused() -> None:
    with pytest.raises(ValueError, match="'::' is more than one ASCII character"):
        Get(path="a.csv", delimiter="::")
    with pytest.raises(ValueError, match="'utf-9' is no encoding of text"):
        Get(path="a.csv", encoding="utf-9")
    with pytest.raises(ValueError, match="'hex' is no encoding of text"):
        Get(path="a.csv", encoding="hex")


def test_a_header_of_numbers_is_reported_as_likely_data(tmp_path: Path) -> None:
    write(tmp_path, "1,a\n2,b\n")
    said: list[tuple[tuple[str | int, ...], str, bool]] = []

    def report(at: tuple[str | int, ...], what: str, fix: str = "", *, warning: bool = False) -> None:
        said.append((at, fix, warning))

    Get(path="data.csv").check({}, Scope(project=tmp_path), report)

    assert said == [(("header",), "set `header: false` where the first record is data", True)]


@pytest.mark.parametrize("example", Get.examples, ids=lambda example: example.says)
def test_the_examples_give_what_they_say(tmp_path: Path, example: object) -> None:
    for name, text in example.files.items():
        write(tmp_path, text, name)

    read = Read(tmp_path, **example.config)

    wanted = [{name: str(value) for name, value in row.items()} for row in example.gives["out"]]
    assert [{name: str(value) for name, value in row.items()} for row in read.rows] == wanted
