"""HTTP's get and post are held to the suite that strangers import."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from adapters import http
from pipelines.conformance import GetConformance, PostConformance
from pipelines.conformance.examples import Records
from pipelines.conformance.nodes import NodeConformance
from pipelines.environment import Environment
from pipelines.node import Example
from pipelines.scope import Scope
from tests.parts.shop_api import Shop, made_order, serving


class OverHttp(NodeConformance):
    """Orders at an API of the tests' own."""

    @pytest.fixture(autouse=True)
    def _shops(self) -> Iterator[None]:
        self.opened = ExitStack()
        self.shops: dict[Path, Shop] = {}
        with self.opened:
            yield
            http.loop.run(http.client.close_all())

    def prepare(self, project: Path, example: Example) -> Scope:
        scope = NodeConformance.prepare(self, project, example)
        self.shops[project] = shop = self.opened.enter_context(serving(3))
        retry = http.connection.Retry(attempts=2, first_seconds=0.001)
        connection = http.Connection(adapter="http", url=shop.url, retry=retry)
        return replace(scope, environment=Environment(connections=dict.fromkeys(("shop", "erp"), connection)))


class TestHttpGet(OverHttp, GetConformance):
    node = http.Get

    def samples(self) -> Sequence[Example]:
        paged, changed, _each = self.node.examples
        wanted = {"id": "BIGINT", "total": "DECIMAL(9,2)", "updated_at": "TIMESTAMPTZ"}
        orders = [{name: order[name] for name in wanted} for order in map(made_order, (1, 2, 3))]
        paging = {**paged.config["paging"], "parameter": "page_no", "total": "meta.total"}
        return (
            Example(config={**paged.config, "columns": wanted, "paging": paging}, gives={"out": orders}),
            Example(config={**changed.config, "columns": wanted}, gives={"out": orders}),
        )

    def grow(self, scope: Scope, example: Example) -> Records | None:
        if "cursor" not in example.config:
            return None
        order = made_order(4)
        self.shops[scope.project].orders.append(order)
        return [{name: order[name] for name in example.config["columns"]}]


class TestHttpPost(OverHttp, PostConformance):
    node = http.Post

    def delivered(self, scope: Scope, example: Example) -> Records:
        return [
            {name: order[name] for name in ("order_no", "total")} for order in self.shops[scope.project].taken.values()
        ]
