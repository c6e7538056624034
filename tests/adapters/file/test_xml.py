"""XML is read by a path in constant memory, with attributes, namespaces and lists; documents that would do harm are refused."""

from __future__ import annotations

import io
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from adapters.file import Get
from adapters.file.again import parse
from adapters.file.xml_records import Parser, Record, Steps
from pipelines.errors import Invalid
from pipelines.node import Want
from pipelines.scope import Scope
from tests.adapters.file.reading import Read, write

HOSTILE = Path(__file__).resolve().parents[2] / "hostile" / "xml"
ORDERS = """<?xml version="1.0" encoding="UTF-8"?>
<o:orders xmlns:o="urn:orders" at="2026-01-01">
  <o:head><order>no order</order></o:head>
  <o:order id="1"><when>2026-01-02</when><total currency="EUR">12.50</total>
    <line><sku>a</sku><n>1</n></line><line><sku>b</sku></line><paid>true</paid></o:order>
  <o:order id="2"><when>2026-01-03</when><total currency="USD">0.25</total><line><sku>c</sku><n>3</n></line></o:order>
</o:orders>
"""


def read(folder: Path, text: str | bytes, **fields: Any) -> Read:
    write(folder, text, "a.xml")
    return Read(folder, path="a.xml", **fields)


def test_elements_attributes_and_repeated_ones_are_columns_of_their_types(tmp_path: Path) -> None:
    found = read(tmp_path, ORDERS, records="orders/order")

    assert found.rows == [
        {
            "id": 1,
            "when": date(2026, 1, 2),
            "total": {"currency": "EUR", "text": 12.5},
            "line": [{"sku": "a", "n": 1}, {"sku": "b", "n": None}],
            "paid": True,
        },
        {
            "id": 2,
            "when": date(2026, 1, 3),
            "total": {"currency": "USD", "text": 0.25},
            "line": [{"sku": "c", "n": 3}],
            "paid": None,
        },
    ]


@pytest.mark.parametrize(
    ("records", "namespaces", "count"),
    [
        ("orders/order", {}, 2),
        ("*/order", {}, 2),
        ("x:orders/x:order", {"x": "urn:orders"}, 2),
        ("x:orders/x:order", {"x": "urn:other"}, 0),
        ("//order", {}, 3),
        ("order", {}, 0),
        (None, {}, 3),
    ],
)
def test_a_path_leads_to_the_records(
    records: str | None, namespaces: dict[str, str], count: int, tmp_path: Path
) -> None:
    found = read(tmp_path, ORDERS, records=records, namespaces=namespaces, columns={"id": "VARCHAR"})

    assert len(found.rows) == count


@pytest.mark.parametrize(
    ("records", "said"), [("x:a/b", "prefix 'x' is not among `namespaces`"), ("a//b", "a step is empty")]
)
def test_a_path_that_is_none_is_a_problem(records: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(Invalid, match=said):
        read(tmp_path, ORDERS, records=records)


def test_declared_types_are_exact_and_what_does_not_fit_is_set_aside(tmp_path: Path) -> None:
    text = "<r>\n<o><n> 12 </n><d>0.10</d></o>\n<o><n>x</n></o>\n<o><d>0.123</d></o>\n<o><n>1</n><n>2</n></o>\n<o><d><x/></d></o>\n</r>"

    found = read(tmp_path, text, columns={"n": "BIGINT", "d": "DECIMAL(9,2)"})

    assert found.rows == [{"n": 12, "d": Decimal("0.10")}]
    assert [(place, message) for place, _, _, message in found.malformed] == [
        (1, "a.xml line 3: column 'n': 'x' is no BIGINT"),
        (2, "a.xml line 4: column 'd': '0.123' is no DECIMAL(9,2)"),
        (3, "a.xml line 5: element 'n' is there 2 times; declare it under `columns` as BIGINT[]"),
        (4, "a.xml line 6: element 'd' has 'x' in it where there should be DECIMAL(9,2); declare it as STRUCT(…)"),
    ]
    assert found.malformed[0][2] == "<o><n>x</n></o>"
    assert [row["n"] for row in read(tmp_path, text, columns={"n": "BIGINT[]"}).rows[-2:]] == [[1, 2], None]


def test_what_was_set_aside_can_be_read_from_its_text_again(tmp_path: Path) -> None:
    write(tmp_path, ORDERS, "a.xml")
    get, scope = Get(path="a.xml", records="orders/order"), Scope(project=tmp_path)
    schema = get.check({}, scope, lambda *_, **__: None)["out"]
    assert schema is not None

    chunks = list(
        parse(
            get,
            ["<o:order id='7'/>", "<order id='x'/>", "<order id='9'"],
            schema.empty_table().select(["id"]).schema,
            scope,
            Want(),
        )
    )

    assert [row for chunk in chunks for row in chunk.batch.to_pylist()] == [{"id": 7}]
    assert [list(chunk.malformed.messages) for chunk in chunks if chunk.malformed] == [
        ["column 'id': 'x' is no BIGINT"],
        ["it reads as 0 records"],
    ]


def test_null_empty_and_blank_texts_are_told_apart(tmp_path: Path) -> None:
    nil = 'xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xsi:nil="true"'
    text = f"<r><o><s>a</s></o><o><s/></o><o><s> b </s></o><o/><o><s {nil}/></o><o><s><![CDATA[<&>]]>&lt;</s></o></r>"

    assert read(tmp_path, text).column("s") == ["a", "", " b ", None, None, "<&><"]


def test_an_attribute_and_an_element_of_one_name_need_a_prefix(tmp_path: Path) -> None:
    text = '<r><o id="1"/><o id="1"><id>2</id></o></r>'

    plain, told = read(tmp_path, text), read(tmp_path, text, attribute_prefix="@")

    assert (plain.rows, told.rows) == ([{"id": 1}], [{"@id": 1, "id": None}, {"@id": 1, "id": 2}])
    assert "has both an attribute and an element 'id'; set `attribute_prefix`" in plain.malformed[0][3]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "iso-8859-1", "cp1252"])
def test_the_document_says_its_encoding(encoding: str, tmp_path: Path) -> None:
    text = f'<?xml version="1.0" encoding="{encoding.removesuffix("-sig")}"?><r><o><s>Jürgen ß</s></o></r>'

    assert read(tmp_path, text.encode(encoding)).column("s") == ["Jürgen ß"]


def test_an_encoding_that_is_given_goes_before(tmp_path: Path) -> None:
    assert read(tmp_path, "<r><o><s>Jürgen €</s></o></r>".encode("cp1252"), encoding="cp1252").column("s") == [
        "Jürgen €"
    ]


def test_a_large_document_is_held_in_pieces(tmp_path: Path) -> None:
    body = b"<o><s>" + b"x" * 5_000 + b"</s></o>"
    document = Repeating(b"<r>", body, 4_000, b"</r>")
    held: list[int] = []
    parser = Parser("a.xml", Steps.of("*/*", {}), attribute_prefix="", encoding=None)

    count = 0
    for records in parser.records(document):
        count += len(records)
        held.append(len(parser._window))

    assert count == 4_000
    assert document.given > 20_000_000
    assert max(held) < 100_000


class Repeating(io.RawIOBase):
    """A document that is made as it is read."""

    def __init__(self, head: bytes, body: bytes, count: int, tail: bytes) -> None:
        self._parts = iter([head, *[body] * count, tail])
        self._rest = b""
        self.given = 0

    def readinto(self, room: Any) -> int:
        self._rest = self._rest or next(self._parts, b"")
        size = min(len(room), len(self._rest))
        room[:size], self._rest = self._rest[:size], self._rest[size:]
        self.given += size
        return size


def test_a_record_larger_than_any_should_be_is_set_aside_without_being_held(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("adapters.file.xml_records.RECORD_LIMIT_BYTES", 300_000)
    document = Repeating(b"<r><o><s>" + b"x" * 3_000_000, b"<t>y</t>" * 1_000, 100, b"</s></o><o><s>a</s></o></r>")
    parser = Parser("a.xml", Steps.of("*/*", {}), attribute_prefix="", encoding=None)
    held: list[int] = []
    found: list[Record] = []

    for records in parser.records(document):
        found += records
        held.append(len(parser._window))

    assert [(record.tree if not record.fault else None, bool(record.fault)) for record in found] == [
        (None, True),
        ({"s": "a"}, False),
    ]
    assert found[0].fault == "takes more than 0 MiB"
    assert found[0].raw.startswith(b"<o><s>xxx")
    assert max(held) < 500_000


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("billion_laughs.xml", "has a document type, which is refused"),
        ("external_entity.xml", "has a document type, which is refused"),
        ("quadratic_entity.xml", "has a document type, which is refused"),
        ("cut_short.xml", "line 3 column 12: ends before </orders>: it is cut short"),
        ("mismatched.xml", "line 2 column 14: is no well-formed XML: mismatched tag"),
        ("control_sign.xml", "is no well-formed XML: not well-formed (invalid token)"),
        ("two_roots.xml", "is no well-formed XML: junk after document element"),
        ("bad_utf8.xml", "is no well-formed XML: not well-formed (invalid token)"),
        ("unknown_encoding.xml", "unknown encoding"),
        ("undefined_entity.xml", "is no well-formed XML: undefined entity"),
        ("deep.xml", "is nested deeper than 200 elements"),
        ("page.xml", "is no XML; it seems to be a web page"),
        ("json.xml", "is no XML; it seems to be JSON"),
        ("unbound_prefix.xml", "is no well-formed XML: unbound prefix"),
    ],
)
def test_hostile_documents_are_refused_or_set_aside_and_said(name: str, said: str) -> None:
    try:
        found = Read(HOSTILE, path=name, columns={"s": "VARCHAR"})
        messages = [message for *_, message in found.malformed]
    except Invalid as fault:
        messages = [str(fault)]

    assert any(said in message for message in messages), messages
    assert all(name in message for message in messages)


def test_every_hostile_document_is_looked_at() -> None:
    asked = [mark.args[1] for mark in test_hostile_documents_are_refused_or_set_aside_and_said.pytestmark]  # type: ignore[attr-defined]

    assert sorted(path.name for path in HOSTILE.iterdir()) == sorted(name for name, _ in asked[0])
