"""What an OpenAPI document gives: columns, records, pages, who asks; and what cannot be read of it."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.http.openapi.auth import asking
from adapters.http.openapi.document import Document
from adapters.http.openapi.importing import imported, written
from pipelines.errors import Invalid
from pipelines.language import yamltext
from tests.adapters.http.openapi_documents import (
    ADDRESS,
    answering,
    described,
    document,
    left_out_of,
    nodes_of,
    query,
    shop_document,
)

ORDERS = {"type": "array", "items": {"$ref": "#/components/schemas/Order"}}
COLUMNS = {
    "id": "BIGINT",
    "number": "INTEGER",
    "placed": "TIMESTAMPTZ",
    "due": "DATE",
    "total": "DOUBLE",
    "paid": "BOOLEAN",
    "tags": "VARCHAR[]",
    "address": 'STRUCT("city" VARCHAR, "post code" VARCHAR)',
}


def test_columns_have_the_types_that_the_document_says_nested_ones_too() -> None:
    found = nodes_of(described({"/orders": answering(ORDERS)}))

    assert found["get-orders"].config["columns"] == COLUMNS
    assert found["get-orders"].config["key"] == ["id"]


def test_all_of_is_taken_together_and_null_among_any_of_is_no_type() -> None:
    both = {"allOf": [{"$ref": "#/components/schemas/Address"}, {"properties": {"city": {"type": "integer"}}}]}
    maybe = {"anyOf": [{"type": "integer"}, {"type": "null"}]}
    either = {"oneOf": [{"type": "integer"}, {"type": "number"}]}
    mixed = {"oneOf": [{"type": "integer"}, {"type": "string"}]}
    row = {"allOf": [both, {"properties": {"a": maybe, "b": either, "c": mixed}}]}

    found = nodes_of(described({"/x": answering({"type": "array", "items": row})}))

    assert found["get-x"].config["columns"] == {
        "city": "VARCHAR", "post code": "VARCHAR", "a": "BIGINT", "b": "DOUBLE", "c": "VARCHAR",
    }  # fmt: skip


def test_what_holds_itself_ends_as_text_and_not_in_a_circle() -> None:
    node = {"type": "object", "properties": {"name": {"type": "string"}, "parts": {"type": "array", "items": {"anyOf": [
        {"$ref": "#/components/schemas/Node"}, {"type": "null"}]}}, "of": {"$ref": "#/components/schemas/Node"}}}  # fmt: skip
    tree = described({"/x": answering({"type": "array", "items": {"$ref": "#/components/schemas/Node"}})})
    tree["components"]["schemas"]["Node"] = node

    columns = nodes_of(tree)["get-x"].config["columns"]

    assert columns["name"] == "VARCHAR"
    assert columns["of"].startswith('STRUCT("name" VARCHAR')
    assert len(str(columns)) < 500


@pytest.mark.parametrize(
    ("properties", "records"),
    [
        ({"items": ORDERS, "meta": {"type": "object"}}, "items"),
        ({"orders": ORDERS, "count": {"type": "integer"}}, "orders"),
        ({"the orders": ORDERS}, '"the orders"'),
        ({"id": {"type": "integer"}, "lines": ORDERS}, "@"),
        ({"id": {"type": "integer"}, "city": {"type": "string"}}, "@"),
    ],
)
def test_the_records_are_where_the_answer_has_its_list(properties: dict[str, Any], records: str) -> None:
    found = nodes_of(described({"/x": answering({"type": "object", "properties": properties})}))

    assert found["get-x"].config["records"] == records


LIST = {"type": "object", "properties": {"items": ORDERS}}


def beside(**fields: Any) -> dict[str, Any]:
    return {"type": "object", "properties": {"items": ORDERS, **fields}}


@pytest.mark.parametrize(
    ("schema", "parameters", "paging"),
    [
        (LIST, [], None),
        (LIST, [query("limit", default=20)], None),
        (LIST, [query("page", "string")], None),
        (LIST, [query("page")], {"by": "page", "parameter": "page"}),
        (LIST, [query("page", default=0)], {"by": "page", "parameter": "page", "first": 0}),
        (
            beside(total={"type": "integer"}),
            [query("offset"), query("limit", default=20, maximum=500)],
            {"by": "offset", "parameter": "offset", "size_parameter": "limit", "size": 500, "total": "total"},
        ),
        (beside(next={"type": "string"}), [], None),
        (beside(next={"type": "string", "format": "uri"}), [], {"by": "next", "from": "next"}),
        (
            beside(paging={"type": "object", "properties": {"next_cursor": {"type": "string"}}}),
            [query("cursor", "string")],
            {"by": "cursor", "parameter": "cursor", "from": "paging.next_cursor"},
        ),
        (beside(next_cursor={"type": "string"}), [], None),
    ],
)
def test_paging_is_what_the_document_says_and_nothing_where_it_says_nothing(
    schema: Any, parameters: list[Any], paging: Any
) -> None:
    found = nodes_of(described({"/x": answering(schema, parameters)}))

    assert found["get-x"].config.get("paging") == paging


def test_a_link_header_is_paging_by_link() -> None:
    path = answering(ORDERS, headers={"Link": {"schema": {"type": "string"}}})

    assert nodes_of(described({"/x": path}))["get-x"].config["paging"] == {"by": "link"}


def test_what_must_be_asked_is_a_parameter_of_the_flow_unless_it_has_one_value() -> None:
    asked = [query("api-version", "string", required=True, enum=["3"]), query("shopId", required=True), query("q")]

    found = nodes_of(described({"/x": answering(ORDERS, asked)}))["get-x"]

    assert found.config["query"] == {"api-version": "3", "shopId": "$shopId"}
    assert found.parameters == {"shopId": {"type": "bigint"}}
    assert found.notes == ["may be asked with: q (BIGINT)"]


def test_a_post_sends_what_the_api_takes_and_gives_on_what_it_adds() -> None:
    body = {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/Order"}}}}
    made = {"201": {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/Order"}}}}}
    path = {"put": {"parameters": [{"name": "order-no", "in": "path", "required": True, "schema": {"type": "string"}}],
                    "operationId": "putOrder", "requestBody": body, "responses": made}}  # fmt: skip

    found = nodes_of(described({"/orders/{order-no}": path}))

    assert list(found) == ["put-order-checked", "put-order"]
    sent = found["put-order"].config
    assert (sent["path"], sent["mode"], sent["key"]) == ("/orders/{order_no}", "upsert", ["order_no"])
    assert sent["columns"] == [name for name in COLUMNS if name != "id"]
    assert sent["response"] == {"id": "id"}
    columns = found["put-order-checked"].config["columns"]
    assert columns["order_no"] == {"type": "VARCHAR", "required": True}
    assert columns["placed"] == {"type": "TIMESTAMPTZ", "required": True}
    assert columns["due"] == "DATE"


def test_what_is_no_json_is_left_out_with_its_reason() -> None:
    upload = {"post": {"requestBody": {"content": {"multipart/form-data": {}}}, "responses": {}}}
    picture = {"get": {"responses": {"200": {"content": {"image/png": {}}}}}}

    found = left_out_of(described({"/files": upload, "/picture": picture}))

    assert [f"{each.operation}: {each.why}" for each in found] == [
        "POST /files: it takes multipart/form-data; a node sends JSON",
        "GET /picture: it answers with image/png, which has no records",
    ]


@pytest.mark.parametrize(
    ("scheme", "auth"),
    [
        (
            {"type": "http", "scheme": "basic"},
            {"basic": {"user": "USER", "password": {"secret": "WEB_SHOP_PASSWORD"}}},
        ),
        ({"type": "http", "scheme": "Bearer"}, {"bearer": {"secret": "WEB_SHOP_TOKEN"}}),
        (
            {"type": "apiKey", "in": "header", "name": "X-Key"},
            {"api_key": {"header": "X-Key", "value": {"secret": "WEB_SHOP_KEY"}}},
        ),
        (
            {"type": "apiKey", "in": "query", "name": "key"},
            {"api_key": {"query": "key", "value": {"secret": "WEB_SHOP_KEY"}}},
        ),
        (
            {"type": "oauth2", "flows": {"clientCredentials": {"tokenUrl": "https://id.example.org/token"}}},
            {
                "oauth2": {
                    "token_url": "https://id.example.org/token",
                    "client_id": "CLIENT_ID",
                    "client_secret": {"secret": "WEB_SHOP_CLIENT_SECRET"},
                    "scope": "read write",
                }
            },
        ),
        ({"type": "openIdConnect"}, None),
        ({"type": "apiKey", "in": "cookie", "name": "session"}, None),
    ],
)
def test_security_schemes_become_auth_or_are_told(scheme: Any, auth: Any) -> None:
    tree = described(
        {"/x": answering(ORDERS)},
        components={"securitySchemes": {"it": scheme}},
        security=[{"it": ["read", "write"] if scheme["type"] == "oauth2" else []}],
    )

    found = asking(document(tree), "web-shop")

    assert found.auth == auth
    assert found.open or auth is not None


def test_a_second_key_stands_in_a_header_of_the_connection() -> None:
    schemes = {"one": {"type": "http", "scheme": "bearer"}, "two": {"type": "apiKey", "in": "header", "name": "X-Shop"}}
    tree = described(
        {"/x": answering(ORDERS)}, components={"securitySchemes": schemes}, security=[{"one": [], "two": []}]
    )

    found = imported(document(tree), "shop").connection

    assert found["url"] == "https://shop.example.org/v2"
    assert found["auth"] == {"bearer": {"secret": "SHOP_TOKEN"}}
    assert found["headers"] == {"X-Shop": {"secret": "SHOP_KEY"}}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is no JSON"),
        ("[1]", "is no OpenAPI document"),
        ("a: [", "openapi.yaml:1"),
        ('swagger: "2.0"', "Swagger 2.0"),
        ('openapi: "4.0.0"', "`openapi` is '4.0.0'"),
        ("openapi: 3.0.3\npaths: {}", "names no server"),
        ("openapi: 3.0.3\nservers: [{url: https://x.org}]", "has no `paths`"),
        (
            "openapi: 3.0.3\nservers: [{url: https://x.org}]\npaths: {/x: {$ref: 'other.yaml#/x'}}",
            "'other.yaml#/x' points to another document",
        ),
        (
            "openapi: 3.0.3\nservers: [{url: https://x.org}]\npaths: {/x: {$ref: '#/paths/~1x'}}",
            "'#/paths/~1x' points to itself",
        ),
        (
            "openapi: 3.0.3\nservers: [{url: https://x.org}]\npaths: {/x: {$ref: '#/nowhere/y'}}",
            "points to nothing: there is no 'nowhere'",
        ),
    ],
)
def test_what_cannot_be_read_says_what_to_do(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "openapi.yaml"
    path.write_text(text, encoding="utf-8")

    with pytest.raises(Invalid) as fault:
        imported(Document.load(path), "shop")

    assert message in str(fault.value)


def test_json_and_yaml_give_the_same(tmp_path: Path) -> None:
    tree = described({"/orders": answering(ORDERS)})
    (tmp_path / "a.json").write_text(json.dumps(tree), encoding="utf-8")
    (tmp_path / "a.yaml").write_text(
        "openapi: 3.1.0\ninfo: {title: Shop, version: '2'}\n" + "servers:\n- url: https://shop.example.org/v2\n"
        "paths:\n  /orders:\n    get:\n      parameters: []\n      responses:\n        200:\n          content:\n"
        "            application/json:\n              schema: {type: array, items: {$ref: '#/components/schemas/Order'}}\n"
        f"components: {json.dumps(tree['components'])}\n",
        encoding="utf-8",
    )

    one, other = (imported(Document.load(tmp_path / name), "shop") for name in ("a.json", "a.yaml"))

    assert one == other


def _places(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [at, *(found for name, each in inner for found in _places(each, (*at, name)))]


TREE = {
    **shop_document(),
    "paths": {
        **shop_document()["paths"],
        "/x": answering(beside(a=ADDRESS), [query("page"), query("q", required=True)]),
    },
}
PLACES = _places(TREE)


@given(
    places=st.lists(st.sampled_from(PLACES[1:]), min_size=1, max_size=4),
    junk=st.sampled_from(
        [None, 1, "x", "\n# {", [], [1], [None], {}, {"type": "array"}, {"$ref": "#/paths"}, {"x": None}]
    ),
)
def test_a_document_with_anything_in_the_wrong_place_is_read_or_refused_in_words(
    places: list[tuple[Any, ...]], junk: Any
) -> None:
    tree = copy.deepcopy(TREE)
    for place in places:
        holder = tree
        for step in place[:-1]:
            holder = holder[step] if _has(holder, step) else {}
        if isinstance(holder, dict) or _has(holder, place[-1]):
            holder[place[-1]] = junk

    try:
        made = document(tree)
        found = imported(made, "shop", "https://x.org")
    except Invalid:
        return

    text = written(made, "shop", found)
    assert yamltext.parse(text).value["nodes"] == {each.name: each.config for each in found.nodes}


def _has(holder: Any, step: Any) -> bool:
    if isinstance(holder, list):
        return isinstance(step, int) and step < len(holder)
    return isinstance(holder, dict) and step in holder
