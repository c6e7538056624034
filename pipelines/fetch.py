"""A get that another node's records lead to, as the engine sees it: a transform that fetches for each of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa
from pydantic import SerializeAsAny

from pipelines.node import Get, Report, Schemas, Step, Transform
from pipelines.scope import Scope

if TYPE_CHECKING:
    from pipelines.sql.sandbox import Sandbox


class Fetch(Transform):
    """A get that another node's records lead to, as the engine sees it. No flow's text names it."""

    get: SerializeAsAny[Get]
    """The get."""

    @property
    def most_rows(self) -> int | None:
        return self.get.most_rows

    def check(self, inputs: Schemas, scope: Scope, report: Report) -> Schemas:
        schema = next(iter(inputs.values()), None)
        return {"out": None if schema is None else self.get.check_each(schema, scope, report)}

    def open(self, schema: pa.Schema, scope: Scope, sandbox: Sandbox) -> Step:
        return self.get.open_each(schema, scope, sandbox)
