"""What http.get makes of answers: every digit, every format, and a reason for each record that does not fit."""

from __future__ import annotations

import json
from typing import Any

import pytest

from adapters.http.answers import kind_of, text_of
from adapters.http.paging import linked
from adapters.http.since import sent
from adapters.http.xml import parsed
from pipelines.conformance.gets import records
from pipelines.errors import Invalid
from tests.adapters.http.conftest import Desk
from tests.parts.shop_api import Shop, answer

ORDERS = {"path": "/answer"}


def test_decimals_keep_every_digit_whether_written_plainly_or_as_text(desk: Desk, shop: Shop) -> None:
    digits = "1234567890123456789012345678.0123456789"
    body = f'{{"items": [{{"x": {digits}}}, {{"x": "{digits}"}}, {{"x": 0.1}}, {{"x": 1e-10}}, {{"x": null}}, {{}}]}}'
    shop.script("/answer", answer(200, body))

    found = desk.read(**ORDERS, records="items", columns={"x": "DECIMAL(38,10)"})

    assert [record["x"] and format(record["x"], "f") for record in found] == [
        digits, digits, "0.1000000000", "0.0000000001", None, None,
    ]  # fmt: skip


@pytest.mark.parametrize("records", ["items", "items[]", "items[?id > `0`]"])
def test_a_path_that_is_more_than_names_gives_the_same_records(records: str, desk: Desk, shop: Shop) -> None:
    body = '{"items": [{"id": 9007199254740993, "x": 18.10, "y": 0.30000000000000004, "t": "é😀\\u0000"}]}'
    shop.script("/answer", answer(200, body))
    columns = {"id": "BIGINT", "x": "DECIMAL(9,2)", "y": "DOUBLE", "t": "VARCHAR"}

    found = desk.read(**ORDERS, records=records, columns=columns)

    assert [(row["id"], str(row["x"]), row["y"], row["t"]) for row in found] == [
        (9007199254740993, "18.10", 0.30000000000000004, "é😀\0")
    ]


def test_types_are_inferred_and_hold_for_all_pages(desk: Desk, shop: Shop) -> None:
    paging = {"by": "next", "from": "next"}
    first: dict[str, Any] = {
        "items": [{"id": 1, "at": "2026-01-01T08:00:00Z", "day": "2026-01-01", "x": 1.5, "ok": True, "n": None,
                   "lines": [{"sku": "A", "n": 1}]}],
        "next": "/more",
    }  # fmt: skip
    first["items"] *= 100  # as many as are looked at
    more = {"items": [{"id": "two"}, {"id": 3, "at": None, "x": 2, "lines": []}], "next": None}
    for path, body in (("/answer", first), ("/more", more)):
        shop.script(path, *[answer(200, json.dumps(body))] * 2)

    chunks = desk.chunks(desk.get(**ORDERS, records="items", paging=paging))

    kinds = {field.name: str(field.type) for field in chunks[0].batch.schema}
    assert kinds == {
        "id": "int64", "at": "timestamp[us, tz=UTC]", "day": "date32[day]", "x": "double", "ok": "bool", "n": "string",
        "lines": "list<item: struct<sku: string, n: int64>>",
    }  # fmt: skip
    assert [row["id"] for row in records(chunks)] == [1] * 100 + [3]
    malformed = [chunk.malformed for chunk in chunks if chunk.malformed is not None]
    assert [(each.codes, each.ordinals) for each in malformed] == [(["type"], [100])]
    assert malformed[0].messages[0] == f"{shop.url}/more record 1: column 'id': 'two' is no BIGINT"


def test_a_record_that_is_no_object_or_no_text_is_set_aside_and_the_others_come(desk: Desk, shop: Shop) -> None:
    shop.script("/answer", answer(200, b'[{"id": 1, "t": "a"}, 7, null, {"id": 2, "t": "\xff"}, {"id": 3, "t": "b"}]'))

    chunks = desk.chunks(desk.get(**ORDERS, columns={"id": "BIGINT", "t": "VARCHAR"}))

    assert records(chunks) == [{"id": 1, "t": "a"}, {"id": 3, "t": "b"}]
    assert [chunk.malformed.codes for chunk in chunks if chunk.malformed] == [["json", "json", "encoding"]]


@pytest.mark.parametrize(
    ("body", "kind", "encoding"),
    [
        ("é".encode("latin-1"), "application/json; charset=ISO-8859-1", None),
        ("é".encode("cp1252"), "application/json", "cp1252"),
        ("é".encode("utf-8-sig"), "application/json", None),
        ("é".encode("utf-16"), "application/json", None),
    ],
)
def test_characters_are_read_as_they_are_written(
    body: bytes, kind: str, encoding: str | None, desk: Desk, shop: Shop
) -> None:
    name = encoding or (
        "latin-1" if "charset" in kind else "utf-16" if body[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    )
    shop.script("/answer", answer(200, '[{"t": "é"}]'.encode(name), content_type=kind))

    assert desk.read(**ORDERS, columns={"t": "VARCHAR"}, encoding=encoding) == [{"t": "é"}]


def test_json_lines_are_read_by_their_content_type(desk: Desk, shop: Shop) -> None:
    lines = '{"id": 1, "x": 1.10}\n\n{"id": "b"}\n{"id": 3}\n'
    shop.script("/answer", answer(200, lines, content_type="application/x-ndjson"))

    chunks = desk.chunks(desk.get(**ORDERS, columns={"id": "BIGINT", "x": "DECIMAL(9,2)"}))

    assert [(row["id"], row["x"] and str(row["x"])) for row in records(chunks)] == [(1, "1.10"), (3, None)]
    assert [chunk.malformed.codes for chunk in chunks if chunk.malformed] == [["type"]]


def test_csv_is_read_as_a_file_of_it_is(desk: Desk, shop: Shop) -> None:
    text = 'id;name;total\n1;"a;b";1.50\nx;c;2\n3;"new\nline";3.25\n'
    shop.script("/answer", *[answer(200, text, content_type="text/csv")] * 2)

    chunks = desk.chunks(
        desk.get(**ORDERS, delimiter=";", columns={"id": "BIGINT", "name": "VARCHAR", "total": "DECIMAL(9,2)"})
    )

    assert [(row["id"], row["name"], str(row["total"])) for row in records(chunks)] == [
        (1, "a;b", "1.50"), (3, "new\nline", "3.25"),
    ]  # fmt: skip
    assert [chunk.malformed.messages for chunk in chunks if chunk.malformed] == [
        [f"{shop.url}/answer line 3: column 'id': 'x' is no BIGINT"]
    ]


def test_csv_of_several_pages_has_one_schema(desk: Desk, shop: Shop) -> None:
    pages = ["id,t\n1,a\n2,b\n", "id,t\n3,c\n", "id,t\n"]
    shop.script("/answer", *[answer(200, page, content_type="text/csv") for page in (*pages, *pages)])

    found = desk.read(**ORDERS, paging={"by": "page", "parameter": "p"})

    assert found == [{"id": 1, "t": "a"}, {"id": 2, "t": "b"}, {"id": 3, "t": "c"}]


def test_xml_is_read_by_its_elements(desk: Desk, shop: Shop) -> None:
    text = """<?xml version="1.0"?><s:orders xmlns:s="urn:s" page="1"><s:order id="1"><total>1.50</total><line>a</line>
        <line>b</line></s:order><s:order id="2"><total>2.5</total><line>c</line></s:order></s:orders>"""
    shop.script("/answer", answer(200, text, content_type="application/xml"))
    columns = {"id": "BIGINT", "total": "DECIMAL(9,2)"}

    found = desk.read(**ORDERS, records="orders.order", columns=columns)

    assert [(row["id"], str(row["total"])) for row in found] == [(1, "1.50"), (2, "2.50")]


@pytest.mark.parametrize(
    "text",
    ['<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>', "<!DOCTYPE a SYSTEM 'file:///etc/hostname'><a/>", "<a" + "><a" * 300],
)
def test_xml_that_may_grow_or_read_files_is_refused(text: str) -> None:
    with pytest.raises(Invalid, match=r"document type|nested deeper"):
        parsed(text, "here")


def test_where_the_records_are_not_the_answer_s_keys_are_told(desk: Desk, shop: Shop) -> None:
    shop.script("/answer", *[answer(200, '{"data": [], "meta": {}}')] * 2)

    with pytest.raises(Invalid, match="nothing stands at `records`: 'items'; the answer has data, meta"):
        desk.read(**ORDERS, records="items", columns={"id": "BIGINT"})
    with pytest.raises(Invalid, match="is an object with data, meta; name the list's place by `records`"):
        desk.read(**ORDERS, columns={"id": "BIGINT"})


def test_an_empty_answer_has_no_records(desk: Desk, shop: Shop) -> None:
    shop.script("/answer", answer(204), answer(200, '{"items": null}'))

    assert desk.read(**ORDERS, records="items", columns={"id": "BIGINT"}) == []
    assert desk.read(**ORDERS, records="items", columns={"id": "BIGINT"}) == []


def test_a_value_of_a_parameter_stands_in_the_query_whatever_signs_it_has(desk: Desk, shop: Shop) -> None:
    shop.script("/a%2Fb/x", answer(200, "[]"))
    desk.with_values(name="a/b", what="x&y=z é", none=None, many=["p", "q"])

    desk.read(
        path="/{name}/x", query={"q": "$what", "n": "$none", "m": "$many", "t": "is {name}", "f": True}, columns={"id": "BIGINT"}
    )  # fmt: skip

    assert shop.seen[0].path == "/a%2Fb/x"
    assert shop.seen[0].query == "q=x%26y%3Dz%20%C3%A9&m=p&m=q&t=is%20a%2Fb&f=true"


@pytest.mark.parametrize(
    ("header", "found"),
    [
        ('<https://a/b?c=1,2>; rel="next"', "https://a/b?c=1,2"),
        ('</x>; rel="prev", </y>; rel=next', "/y"),
        ('</x>; title="rel=next"; rel="last"', None),
        ('</x>; rel="last next"', "/x"),
        ("", None),
    ],
)
def test_the_next_page_is_found_in_a_link_header(header: str, found: str | None) -> None:
    assert linked(header) == found


@pytest.mark.parametrize(
    ("value", "how", "found"),
    [
        ("2026-01-31 08:00:00.250000Z", "plain", "2026-01-31T08:00:00.25Z"),
        ("2026-01-31 08:00:00", "plain", "2026-01-31T08:00:00"),
        ("2026-01-31 08:00:00Z", "date", "2026-01-31"),
        ("2026-01-31 08:00:00.25Z", "milliseconds", 1769846400250),
        ("2026-01-31 08:00:00Z", "seconds", 1769846400),
        (17, "plain", 17),
    ],
)
def test_the_last_value_is_sent_as_the_api_wants_it(value: Any, how: Any, found: Any) -> None:
    assert sent(value, how) == found


def test_a_content_type_tells_format_and_charset() -> None:
    assert kind_of("application/vnd.api+json; charset=utf-8") == ("json", "utf-8")
    assert kind_of("text/plain") == (None, None)
    assert text_of("é".encode(), "no-such-charset") == "é"
