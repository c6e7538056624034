"""What tests of the HTTP adapter share: the shop's API and a project that knows it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from adapters.http import Connection, Get, Post, loop
from adapters.http.client import close_all
from pipelines.conformance.gets import records
from pipelines.conformance.nodes import NOW, Reported
from pipelines.environment import Environment
from pipelines.node import Chunk, Outcome, Want
from pipelines.scope import Scope
from pipelines.sql.sandbox import borrowed
from tests.parts.shop_api import Shop, made_order, serving


@pytest.fixture(autouse=True)
def _closes() -> Iterator[None]:
    yield
    loop.run(close_all())


@pytest.fixture(scope="module")
def _server() -> Iterator[Shop]:
    with serving() as shop:
        yield shop


@pytest.fixture
def shop(_server: Shop) -> Shop:
    """The API, with 25 orders and nothing taken."""
    fresh = Shop(_server.url, [made_order(number) for number in range(1, 26)])
    for name, value in vars(fresh).items():
        setattr(_server, name, value)
    return _server


class Desk:
    """Gets and posts of one connection, as the engine uses them."""

    def __init__(self, folder: Path, url: str, **settings: Any) -> None:
        given = {"adapter": "http", "url": url, "retry": {"attempts": 3, "first_seconds": 0.001}, **settings}
        connection = Connection.model_validate_json(json.dumps(given))
        environment = Environment(connections={"shop": connection})
        self.scope = Scope(folder, environment, now=NOW, flow="f", version="1", run="r1", staging=folder / "staging")

    def with_values(self, **values: object) -> Desk:
        self.scope = replace(self.scope, values=values)
        return self

    def get(self, **config: Any) -> Get:
        return Get.model_validate_json(json.dumps({"connection": "shop", **config}))

    def schema(self, get: Get) -> pa.Schema:
        report = Reported()
        found = get.check({}, self.scope, report)["out"]
        assert not report, report
        assert found is not None
        return found

    def chunks(self, get: Get, position: Any = None, want: Want | None = None) -> list[Chunk]:
        want = want or Want()
        schema = self.schema(get)
        return [
            chunk
            for split in get.plan(self.scope, position, want).splits
            for chunk in get.read(split.payload, schema, self.scope, want)
        ]

    def read(self, position: Any = None, **config: Any) -> list[dict[str, Any]]:
        return records(self.chunks(self.get(**config), position))

    def put(self, rows: list[dict[str, Any]] | pa.RecordBatch, **config: Any) -> Outcome:
        post = Post.model_validate_json(json.dumps({"connection": "shop", **config}))
        batch = rows if isinstance(rows, pa.RecordBatch) else pa.RecordBatch.from_pylist(rows)
        report = Reported()
        schema = post.check({"": batch.schema}, self.scope, report)["out"]
        assert not report, report
        with borrowed(self.scope) as sandbox:
            writer = post.open(batch.schema, self.scope, sandbox)
            outcome = writer.put(batch)
            writer.close()
        assert outcome.out["out"].batch.schema.equals(schema)
        return outcome


@pytest.fixture
def desk(shop: Shop, tmp_path: Path) -> Desk:
    return Desk(tmp_path, shop.url)
