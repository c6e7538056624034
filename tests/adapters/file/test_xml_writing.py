"""XML is written well-formed, by a template or an element for each column, and reads back the same."""

from __future__ import annotations

import tempfile
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any
from xml.dom import minidom

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.errors import Invalid
from tests.adapters.file.post_room import batch, deliver, post, read_back
from tests.adapters.file.reading import Read, write
from tests.adapters.file.test_post_round_trip import TEXTS, TYPES, batches_of

TEMPLATE = """<?xml version="1.0" encoding="UTF-8"?>
<o:orders xmlns:o="urn:orders" made="{{by hand}}">
  <o:order no="{order_id}" note="{note}">
    <o:customer><o:city>{address.city}</o:city></o:customer>
    <o:total currency="EUR">{total}</o:total>
    <o:line each="{lines}" sku="{sku}"><o:of>{order_id}</o:of><o:n>{n}</o:n></o:line>
    <o:tag each="{tags}">{tags}</o:tag>
  </o:order>
</o:orders>
"""
ORDERS = pa.RecordBatch.from_pylist(
    [
        {
            "order_id": 1,
            "note": 'a "b" <c>\n& d',
            "address": {"city": "Köln"},
            "total": Decimal("9.50"),
            "lines": [{"sku": "x", "n": 2}, {"sku": None, "n": None}],
            "tags": ["new", None, ""],
        },
        {"order_id": 2, "note": None, "address": None, "total": None, "lines": [], "tags": None},
    ],
    schema=pa.schema(
        [
            ("order_id", pa.int64()),
            ("note", pa.string()),
            ("address", pa.struct([("city", pa.string())])),
            ("total", pa.decimal128(9, 2)),
            ("lines", pa.list_(pa.struct([("sku", pa.string()), ("n", pa.int64())]))),
            ("tags", pa.list_(pa.string())),
        ]
    ),
)


def templated(**fields: Any) -> dict[str, Any]:
    return {"path": "out.xml", "template": TEMPLATE, "records": "orders/order"} | fields


@pytest.mark.parametrize("writers", [1, 2])
def test_a_template_says_what_is_written_once_and_for_each_record_and_item(writers: int, tmp_path: Path) -> None:
    deliver(post(**templated()), [ORDERS.slice(0, 1), ORDERS.slice(1)], tmp_path, writers=writers)

    text = (tmp_path / "out.xml").read_text(encoding="utf-8")
    document = minidom.parseString(text)
    assert document.documentElement.getAttribute("made") == "{by hand}"
    first, second = document.getElementsByTagName("o:order")
    assert (first.getAttribute("no"), first.getAttribute("note")) == ("1", 'a "b" <c>\n& d')
    assert [each.toxml() for each in first.getElementsByTagName("o:line")] == [
        '<o:line sku="x"><o:of>1</o:of><o:n>2</o:n></o:line>',
        "<o:line><o:of>1</o:of></o:line>",
    ]
    assert [each.toxml() for each in first.getElementsByTagName("o:tag")] == ["<o:tag>new</o:tag>", "<o:tag/>"]
    assert first.getElementsByTagName("o:total")[0].toxml() == '<o:total currency="EUR">9.50</o:total>'
    assert (second.getAttribute("no"), second.hasAttribute("note")) == ("2", False)
    assert [each.tagName for each in second.childNodes if each.nodeType == each.ELEMENT_NODE] == ["o:customer"]


def test_a_document_grows_with_every_run_and_a_foreign_one_is_left_alone(tmp_path: Path) -> None:
    for run in ("r1", "r2"):
        deliver(post(**templated()), [ORDERS], tmp_path, run)
    grown = (tmp_path / "out.xml").read_text(encoding="utf-8")
    write(tmp_path, "<orders/>", "other.xml")

    with pytest.raises(Invalid, match="begins or ends otherwise than what would be written"):
        deliver(post(**templated(path="other.xml")), [ORDERS], tmp_path, "r3")

    assert len(minidom.parseString(grown).getElementsByTagName("o:order")) == 4
    assert (tmp_path / "other.xml").read_text() == "<orders/>"


@pytest.mark.parametrize("path", ["out.xml", "out.xml.gz", "out.xml.zst"])
def test_without_a_template_records_are_changed_by_key(path: str, tmp_path: Path) -> None:
    fields: dict[str, Any] = {"path": path, "records": "shop/orders/order"}
    rows = [{"n": 1, "s": " a "}, {"n": 2, "s": "b"}]

    deliver(post(**fields), [batch(rows)], tmp_path)
    deliver(post(**fields, mode="upsert", key="n"), [batch([{"n": 2, "s": "B"}, {"n": 3, "s": "c"}])], tmp_path, "r2")
    deliver(post(**fields, mode="delete", key="n"), [batch([{"n": 3}])], tmp_path, "r3")
    deliver(post(**fields), [batch([{"n": 4, "s": ""}])], tmp_path, "r4")

    found = Read(tmp_path, path=path, records="shop/orders/order", columns={"n": "BIGINT", "s": "VARCHAR"})
    assert found.rows == [{"n": 1, "s": " a "}, {"n": 2, "s": "B"}, {"n": 4, "s": ""}]


def test_attributes_are_written_and_read_by_their_prefix(tmp_path: Path) -> None:
    kind = pa.struct([("@currency", pa.string()), ("text", pa.decimal128(9, 2))])
    schema = pa.schema([("@id", pa.int64()), ("total", kind)])
    rows = [{"@id": 1, "total": {"@currency": "EUR", "text": Decimal("1.50")}}, {"@id": None, "total": None}]

    deliver(post(path="a.xml", attribute_prefix="@"), [batch(rows, schema)], tmp_path)

    assert '<record id="1"><total currency="EUR">1.50</total></record>' in (tmp_path / "a.xml").read_text()
    columns = {"@id": "BIGINT", "total": 'STRUCT("@currency" VARCHAR, "text" DECIMAL(9,2))'}
    assert Read(tmp_path, path="a.xml", attribute_prefix="@", columns=columns).rows == rows


WORDS = TEXTS.filter(
    lambda text: not any((ord(sign) < 32 and sign not in "\t\n\r") or sign in "\ufffe\uffff" for sign in text)
)
COLUMNS: dict[str, tuple[pa.DataType, Any, str]] = {
    **{
        name.lower().split("(")[0].replace(" ", "_"): (kind, WORDS if name == "VARCHAR" else values, name)
        for name, (kind, values) in TYPES.items()
    },
    "lists": (pa.list_(pa.string()), st.lists(st.none() | WORDS, min_size=1, max_size=3), "VARCHAR[]"),
    "object": (
        pa.struct([("a", pa.string()), ("b", pa.list_(pa.struct([("c", pa.int64())])))]),
        st.fixed_dictionaries(
            {
                "a": st.none() | WORDS,
                "b": st.none()
                | st.lists(st.none() | st.fixed_dictionaries({"c": st.integers(0, 9)}), min_size=1, max_size=2),
            }
        ),
        "STRUCT(a VARCHAR, b STRUCT(c BIGINT)[])",
    ),
}


@settings(max_examples=40, deadline=None)
@given(data=st.data(), rows=st.integers(0, 8), writers=st.integers(1, 2))
def test_it_reads_back_the_same(data: st.DataObject, rows: int, writers: int) -> None:
    table = pa.table(
        {
            "row": pa.array(range(rows), pa.int64()),
            **{
                name: pa.array(data.draw(st.lists(st.none() | values, min_size=rows, max_size=rows)), kind)
                for name, (kind, values, _) in COLUMNS.items()
            },
        }
    )

    with tempfile.TemporaryDirectory() as folder:
        outcomes = deliver(post(path="out.xml"), batches_of(table, 3), Path(folder), writers=writers)
        minidom.parse(f"{folder}/out.xml")
        columns = {"row": "BIGINT", **{name: told for name, (_, _, told) in COLUMNS.items()}}
        found = read_back(Path(folder), path="out.xml", columns=columns)

    assert [outcome.rejects for outcome in outcomes if outcome.rejects] == []
    assert found.sort_by("row").equals(table)


def test_what_xml_cannot_hold_is_rejected_wherever_it_stands(tmp_path: Path) -> None:
    schema = pa.schema([("n", pa.int64()), ("s", pa.string()), ("l", pa.list_(pa.struct([("t", pa.string())])))])
    rows = [
        {"n": 1, "s": "a\0b", "l": None},
        {"n": 2, "s": "ok\r\n\t", "l": [{"t": "ok"}]},
        {"n": 3, "s": None, "l": [{"t": "ok"}, {"t": "\x1b[0m"}]},
        {"n": 4, "s": "", "l": []},
    ]

    (outcome,) = deliver(post(path="a.xml"), [batch(rows, schema)], tmp_path)

    assert outcome.rejects is not None
    assert (outcome.rejects.rows.to_pylist(), outcome.rejects.codes) == (
        [0, 2, 3],
        ["no_text", "no_text", "empty_list"],
    )
    assert Read(tmp_path, path="a.xml", columns={"n": "BIGINT", "s": "VARCHAR"}).rows == [{"n": 2, "s": "ok\r\n\t"}]


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"template": "<a><b></a>", "records": "a/b"}, "template: line 1 is no well-formed XML: mismatched tag"),
        ({"template": "<a><b/></a>", "records": "a/c"}, "template: it has no element at `records`"),
        ({"template": "<a x='{n}'><b/></a>", "records": "a/b"}, "template: {n} stands outside of the record's element"),
        ({"template": "<a><b>{m}</b></a>", "records": "a/b"}, "template: there is no column 'm'; there are: n, o"),
        ({"template": "<a><b>{o}</b></a>", "records": "a/b"}, "template: 'o' is struct<x: int64>, which is no text"),
        ({"template": "<a><b>{o.y}</b></a>", "records": "a/b"}, "template: there is no column 'o.y'"),
        ({"template": "<a><b each='{n}'>1</b></a>", "records": "a/b"}, "template: 'n' is int64, which has no items"),
        (
            {"template": "<a><b>{n}</b></a>", "records": "a/b", "mode": "upsert", "key": "n"},
            "mode: mode upsert reads what is",
        ),
        ({"records": "a//b"}, "records: 'a//b' is no path of names"),
        ({"records": "a b/c"}, "records: 'a b/c' is no path of names"),
    ],
)
def test_what_is_wrong_is_told_before_anything_is_written(fields: dict[str, Any], said: str, tmp_path: Path) -> None:
    from tests.adapters.file.post_room import scope_in

    told: list[str] = []
    schema = pa.schema([("n", pa.int64()), ("o", pa.struct([("x", pa.int64())]))])

    post(path="a.xml", **fields).check(
        {"": schema},
        scope_in(tmp_path),
        lambda at, what, fix="", **_: told.append(f"{'.'.join(map(str, at))}: {what}; {fix}"),
    )

    assert any(each.startswith(said) for each in told), told


@pytest.mark.parametrize("name", ["order no", "1st", "a:b", "xmlns"])
def test_a_name_that_no_element_can_have_is_told(name: str, tmp_path: Path) -> None:
    with pytest.raises(Invalid, match=r"can be no name in XML"):
        deliver(post(path="a.xml"), [batch([{name: date(2026, 1, 1)}])], tmp_path)
