"""`file.get` for CSV: every record arrives once, exactly as it was written, or is set aside with its reason."""

from __future__ import annotations

import bz2
import gzip
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from adapters.file import Get
from pipelines.errors import Invalid
from pipelines.node import Want
from pipelines.scope import Scope
from tests.adapters.file.reading import Read, checked, write

HOSTILE = Path(__file__).parents[2] / "hostile" / "csv"


def test_records_with_a_wrong_number_of_fields_are_set_aside_with_text_line_and_reason() -> None:
    read = Read(HOSTILE, path="wrong_columns.csv")

    assert read.column("id") == [1, 4]
    assert read.ordinals == [0, 3]
    assert read.malformed == [
        (1, "columns", "2,b", "wrong_columns.csv line 3: 2 fields where there are 3 columns"),
        (2, "columns", "3,c,3.5,extra", "wrong_columns.csv line 4: 4 fields where there are 3 columns"),
        (4, "columns", "5", "wrong_columns.csv line 7: 1 field where there are 3 columns"),
    ]


def test_a_quote_that_is_never_closed_takes_its_line_and_no_other() -> None:
    read = Read(HOSTILE, path="quote_never_closed.csv")

    assert read.column("id") == [1, 3, 4]
    assert [bad[1:] for bad in read.malformed] == [
        ("quote", '2,"b', "quote_never_closed.csv line 3: a quote opens here that is never closed")
    ]


def test_stray_quotes_are_plain_characters_and_need_no_declaring() -> None:
    read = Read(HOSTILE, path="stray_quotes.csv", split_bytes=10)

    assert read.column("size") == ['5" pipe', '3" pipe', 'a "quoted" word']


def test_a_field_that_goes_on_behind_its_closing_quote_sets_its_record_aside() -> None:
    read = Read(HOSTILE, path="stray_quotes.csv")

    assert read.column("id") == [1, 2, 3]
    assert [bad[1:] for bad in read.malformed] == [
        ("quote", '4,"x"y', "stray_quotes.csv line 5: a field goes on behind its closing quote")
    ]


def test_a_quote_left_open_does_not_swallow_the_records_up_to_the_next_quote() -> None:
    read = Read(HOSTILE, path="quote_left_open.csv")

    assert read.column("id") == [1, 3, 4, 5, 7]
    assert read.rows[-1]["name"] == "g\nh"
    assert [bad[1:] for bad in read.malformed] == [
        (
            "quote",
            '2,"b',
            "quote_left_open.csv line 3: a quote opens here that is left open: the next one stands within a field",
        ),
        (
            "quote",
            '6,"f',
            "quote_left_open.csv line 7: a quote opens here that is left open: the next one stands within a field",
        ),
    ]


def test_without_a_quote_character_quotes_are_plain_characters(tmp_path: Path) -> None:
    write(tmp_path, 'id,name\n1,"a\n2,b"\n')

    read = Read(tmp_path, path="data.csv", quote="")

    assert read.column("name") == ['"a', 'b"']


@pytest.mark.parametrize(
    ("name", "encoding", "names"),
    [
        ("byte_order_mark.csv", "utf-8", ["a"]),
        ("byte_order_mark.csv", "utf-8-sig", ["a"]),
        ("utf16.csv", "utf-16", ["Renée", "a\nb"]),
        ("latin1.csv", "latin-1", ["Renée", "über"]),
        ("nul_bytes.csv", "utf-8", ["a\0b", "c", "d"]),
        ("carriage_returns.csv", "utf-8", ["a", "b\rc"]),
        ("mixed_line_ends.csv", "utf-8", ["a", "b", "c\r\nd", "e"]),
        ("no_final_newline.csv", "utf-8", ["a", "b"]),
        ("header_only.csv", "utf-8", []),
    ],
)
def test_what_is_unusual_but_sound_is_read_as_it_is(name: str, encoding: str, names: list[str]) -> None:
    read = Read(HOSTILE, path=name, encoding=encoding)

    assert read.column("name") == names
    assert read.malformed == []


def test_bytes_that_are_no_text_set_their_record_aside_and_no_other() -> None:
    read = Read(HOSTILE, path="bad_utf8.csv")

    assert read.column("id") == [2, 5]
    assert [bad[1] for bad in read.malformed] == ["encoding", "encoding", "columns"]
    assert read.malformed[0][3] == r"bad_utf8.csv line 2: column 'name': 'Ren\xe9e' is no text in utf-8"


def test_bytes_that_an_encoding_does_not_know_set_their_record_aside() -> None:
    read = Read(HOSTILE, path="cp1252.csv", encoding="cp1252")

    assert read.column("name") == ["€ 5", "ok"]
    assert [bad[1] for bad in read.malformed] == ["encoding"]


def test_utf16_read_as_utf8_is_refused_with_the_encoding_to_set() -> None:
    with pytest.raises(Invalid, match=r"utf16\.csv: is UTF-16.*set `encoding: utf-16`"):
        Read(HOSTILE, path="utf16.csv")


def test_values_that_do_not_fit_their_column_set_their_record_aside_and_no_other() -> None:
    columns = {"id": "BIGINT", "total": "DECIMAL(9,2)", "day": "DATE", "done": "BOOLEAN", "at": "TIMESTAMP"}

    read = Read(HOSTILE, path="unfitting_values.csv", columns=columns)

    assert read.rows[0] == {
        "id": 1,
        "total": Decimal("1.50"),
        "day": date(2024, 1, 31),
        "done": True,
        "at": datetime(2024, 1, 31, 10),  # noqa: DTZ001 (the file has none)
    }
    assert read.column("id") == [1, 7]
    assert [bad[3] for bad in read.malformed] == [
        "unfitting_values.csv line 3: column 'id': 'x' is no BIGINT",
        "unfitting_values.csv line 4: column 'total': '1,5' is no DECIMAL(9,2)",
        "unfitting_values.csv line 5: column 'total': '4.555' is no DECIMAL(9,2)",
        "unfitting_values.csv line 6: column 'day': '2024-02-30' is no DATE",
        "unfitting_values.csv line 7: column 'id': '99999999999999999999' is no BIGINT",
    ]


def test_an_empty_field_is_null_and_one_in_quotes_an_empty_text() -> None:
    read = Read(HOSTILE, path="nulls.csv", null_values=["", "NA"])

    assert [tuple(row.values()) for row in read.rows] == [
        (1, None, None),
        (2, "", None),
        (3, None, None),
        (4, "NA", 4),
    ]


def test_headers_that_name_a_column_twice_are_refused_and_empty_ones_get_a_name() -> None:
    with pytest.raises(Invalid, match=r"'Id', 'id' more than once; read it with `header: false`, `skip_rows: 1`"):
        Read(HOSTILE, path="duplicate_header.csv")

    named = Read(HOSTILE, path="duplicate_header.csv", header=False, skip_rows=1, columns=["id", "name", "other"])
    empty = Read(HOSTILE, path="empty_header.csv")

    assert named.rows == [{"id": 1, "name": "a", "other": 2}]
    assert empty.schema.names == ["column_1", "name", "column_3"]


def test_an_empty_file_needs_declared_columns() -> None:
    with pytest.raises(Invalid, match=r"empty\.csv: the files are empty.*give `columns` with their types"):
        Read(HOSTILE, path="empty.csv")

    assert Read(HOSTILE, path="empty.csv", columns={"id": "BIGINT"}).rows == []


def test_a_file_without_header_has_numbered_columns_or_those_that_are_named(tmp_path: Path) -> None:
    write(tmp_path, "1,a\n2,b\n")

    assert Read(tmp_path, path="data.csv", header=False).rows[0] == {"column_1": 1, "column_2": "a"}
    assert Read(tmp_path, path="data.csv", header=False, columns={"k": "VARCHAR", "v": "VARCHAR"}).rows[1] == {
        "k": "2",
        "v": "b",
    }
    with pytest.raises(Invalid, match=r"3 columns are named where the first record of data\.csv has 2 fields"):
        Read(tmp_path, path="data.csv", header=False, columns=["a", "b", "c"])


def test_a_field_of_ten_megabytes_is_read_and_its_neighbours_too(tmp_path: Path) -> None:
    big = "x,\n" * 3_500_000
    write(tmp_path, f'id,text\n1,a\n2,"{big}"\n3,c\n')

    read = Read(tmp_path, path="data.csv", split_bytes=1 << 20)

    assert read.column("id") == [1, 2, 3]
    assert read.rows[1]["text"] == big


def test_types_are_inferred_without_losing_a_digit(tmp_path: Path) -> None:
    write(
        tmp_path,
        "n,zip,big,f,day,at,zoned,flag,mixed,hex,nothing\n"
        "1,00123,123456789012345678901,0.5,2024-01-31,2024-01-31 10:00:00,2024-01-31T10:00:00Z,true,1,0x1F,\n"
        "-2,04567,2,1e3,2024-02-01,2024-01-31T10:00:00.5,2024-01-31T10:00:00+02:00,false,x,10,\n",
    )

    schema = checked(Get(path="data.csv"), Scope(project=tmp_path))

    assert {field.name: str(field.type) for field in schema} == {
        "n": "int64",
        "zip": "string",
        "big": "decimal128(38, 0)",
        "f": "double",
        "day": "date32[day]",
        "at": "timestamp[us]",
        "zoned": "timestamp[us, tz=UTC]",
        "flag": "bool",
        "mixed": "string",
        "hex": "string",
        "nothing": "string",
    }


def test_marks_of_other_countries_are_read(tmp_path: Path) -> None:
    write(tmp_path, "# exported\n# by hand\nid;price;note\n1;1,50;'a;b'\n2;-0,25;n/a\n")

    read = Read(
        tmp_path,
        path="data.csv",
        delimiter=";",
        decimal_separator=",",
        quote="'",
        skip_rows=2,
        null_values=["n/a"],
        columns={"id": "BIGINT", "price": "DECIMAL(9,2)", "note": "VARCHAR"},
    )

    assert [tuple(row.values()) for row in read.rows] == [(1, Decimal("1.50"), "a;b"), (2, Decimal("-0.25"), None)]


def test_tab_separated_files_are_known_by_their_suffix(tmp_path: Path) -> None:
    write(tmp_path, "id\tname\n1\ta,b\n", "data.tsv")

    assert Read(tmp_path, path="data.tsv").rows == [{"id": 1, "name": "a,b"}]


@pytest.mark.parametrize(("suffix", "pack"), [(".gz", gzip.compress), (".bz2", bz2.compress), (".zst", None)])
def test_compressed_files_are_read_with_the_lines_of_their_text(tmp_path: Path, suffix: str, pack: Any) -> None:
    text = b"id,name\n" + b"".join(b"%d,n\n" % number for number in range(30_000)) + b"x,n\n"
    packed = pack(text) if pack else pa.Codec("zstd").compress(text, asbytes=True)
    write(tmp_path, packed, f"data.csv{suffix}")

    columns = {"id": "BIGINT", "name": "VARCHAR"}
    read = Read(tmp_path, path=f"data.csv{suffix}", columns=columns, want=Want(batch_rows=1_000))

    assert read.column("id") == list(range(30_000))
    assert [bad[3] for bad in read.malformed] == [f"data.csv{suffix} line 30002: column 'id': 'x' is no BIGINT"]
    assert len(read.plan.splits) == 1


def test_a_compressed_file_that_is_cut_short_is_refused_by_name(tmp_path: Path) -> None:
    lines = "".join(f"{number},{number * 7919}\n" for number in range(400_000))
    packed = gzip.compress(f"id,name\n{lines}".encode())
    write(tmp_path, packed[: len(packed) // 2], "data.csv.gz")

    with pytest.raises(Invalid, match=r"data\.csv\.gz: cannot be decompressed.*cut short"):
        Read(tmp_path, path="data.csv.gz")


def test_only_wanted_columns_are_read_and_records_counted_without_any(tmp_path: Path) -> None:
    write(tmp_path, "id,name\n1,a\nx,b\n")
    get, scope = Get(path="data.csv", columns={"id": "BIGINT", "name": "VARCHAR"}), Scope(project=tmp_path)
    schema = checked(get, scope)
    split = get.plan(scope, None, Want()).splits[0].payload

    names = list(get.read(split, schema, scope, Want(frozenset({"name"}))))
    nothing = list(get.read(split, schema, scope, Want(frozenset())))

    assert [chunk.batch.to_pydict() for chunk in names] == [{"name": ["a", "b"]}]
    assert sum(chunk.batch.num_rows for chunk in nothing) == 2


def test_a_preview_reads_no_more_than_the_head(tmp_path: Path) -> None:
    write(tmp_path, "id\n" + "".join(f"{number}\n" for number in range(500_000)))

    get, scope = Get(path="data.csv"), Scope(project=tmp_path)
    want = Want(rows=20)
    chunks = list(get.read(get.plan(scope, None, want).splits[0].payload, checked(get, scope), scope, want))

    assert len(chunks) == 1
    assert 20 <= chunks[0].batch.num_rows < 50_000
