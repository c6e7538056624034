"""The node type `join`: records of two inputs that belong together, side by side."""

from collections.abc import Mapping
from typing import ClassVar, Literal

import pyarrow as pa
from pydantic import Field

from pipelines.descent import MADE
from pipelines.errors import Invalid
from pipelines.node import Example, Report, Schemas, Wide
from pipelines.placing import Pairing
from pipelines.records import ROW_ID
from pipelines.scope import Scope
from pipelines.sql.sandbox import Sandbox
from pipelines.sql.selects import columns_there
from pipelines.wide import column

KINDS = {"inner": "JOIN", "left": "LEFT JOIN", "right": "RIGHT JOIN", "full": "FULL JOIN"}


class Join(Wide):
    """Puts records of `left` and `right` together whose keys are equal. A null key equals nothing.

    `inner` gives pairs; `left`, `right` and `full` also what found nobody, with nulls; `semi` the left records that
    found somebody, `anti` those that did not. Out of core: neither side has to fit into memory. Where the right one (of a
    `right` join the left one) is small, the other passes by it without waiting for anything: put the small one there.
    """

    inputs: ClassVar[tuple[str, ...]] = ("left", "right")
    on: str | list[str] | dict[str, str] = Field(examples=["customer_id", ["shop", "id"], {"customer": "id"}])
    """The key: a column that both have, columns, or left columns to right ones."""
    how: Literal["inner", "left", "right", "full", "semi", "anti"] = "inner"
    """What becomes of records that find nobody."""
    take: list[str] | dict[str, str] | None = Field(default=None, examples=[["name"], {"customer_name": "name"}])
    """Columns of the right that are added: names, or new names to names; without it all but its key."""

    limit: int | None = Field(default=None, ge=1, examples=[50_000_000])
    """How many records it may make. A key that is there many times on both sides makes as many as one count times the other:
    beyond the limit the run fails before they are made, and says which key it is. Without it, the environment's
    `runner: {made_records: …}` holds, which is a thousand millions by default."""

    category = "combine"
    examples = (
        Example(
            says="Orders with the names of their customers.",
            config={"on": {"customer": "id"}, "how": "left", "take": ["name"]},
            records={
                "left": [{"order_no": 1, "customer": 7}, {"order_no": 2, "customer": 9}],
                "right": [{"id": 7, "name": "Ann"}],
            },
            gives={
                "out": [
                    {"order_no": 1, "customer": 7, "name": "Ann"},
                    {"order_no": 2, "customer": 9, "name": None},
                ]
            },
        ),
    )

    def check(self, inputs: Schemas, scope: Scope, report: Report) -> Schemas:
        left, right = inputs.get("left"), inputs.get("right")
        if left is None or right is None:
            return {"out": None}
        keys = self._keys()
        there = columns_there(keys, left, ("on",), report) and columns_there(keys.values(), right, ("on",), report)
        if not there or not columns_there(self._taken(right).values(), right, ("take",), report):
            return {"out": None}
        for mine, theirs in keys.items():
            one, other = left.field(mine).type, right.field(theirs).type
            if not _comparable(one, other):
                report(("on",), f"{mine!r} is {one}, {theirs!r} is {other}", "make them one type with a map before")
                return {"out": None}
        clash = [name for name in self._taken(right) if name in left.names]
        if clash and self.how not in ("semi", "anti"):
            report(("take",), f"both inputs have a column {clash[0]!r}", "give it a new name under `take`")
            return {"out": None}
        return {"out": self._schema(left, right)}

    def partition_by(self, name: str, schemas: Mapping[str, pa.Schema]) -> tuple[str, ...] | None:
        keys = self._keys()
        return tuple(
            f"CAST({column(mine if name == 'left' else theirs)} AS {_kind(schemas['left'], mine, schemas['right'], theirs)})"
            for mine, theirs in keys.items()
        )

    def pairing(self, schemas: Mapping[str, pa.Schema]) -> Pairing | None:
        if self.how in ("semi", "anti"):
            return None
        taken, keeps_right = self._taken(schemas["right"]), self.how in ("right", "full")
        return Pairing(self._keys(), taken, self.how in ("left", "full"), keeps_right, self.limit)

    def lent_input(self) -> str | None:
        return {"right": "left", "full": None}.get(self.how, "right")

    def query(self, schemas: Mapping[str, pa.Schema], scope: Scope, sandbox: Sandbox) -> str:
        keys = self._keys()
        on = " AND ".join(f"l.{column(mine)} = r.{column(theirs)}" for mine, theirs in keys.items())
        if self.how in ("semi", "anti"):
            return f'SELECT l.* FROM "left" l {self.how.upper()} JOIN "right" r ON {on}'
        left = [
            f"coalesce(l.{column(name)}, r.{column(keys[name])}) AS {column(name)}"
            if name in keys and self.how in ("right", "full")
            else f"l.{column(name)}"
            for name in schemas["left"].names
        ]
        right = [f"r.{column(name)} AS {column(new)}" for new, name in self._taken(schemas["right"]).items()]
        row_id = f"coalesce(l.{ROW_ID}, r.{ROW_ID}) AS {ROW_ID}"
        return f'SELECT {", ".join([*left, *right, row_id])} FROM "left" l {KINDS[self.how]} "right" r ON {on}'

    def parents(self, schemas: Mapping[str, pa.Schema]) -> str | None:
        if self.how in ("semi", "anti"):
            return None
        on = " AND ".join(f"l.{column(mine)} = r.{column(theirs)}" for mine, theirs in self._keys().items())
        mine = f'SELECT l.* FROM "left" l SEMI JOIN {MADE} m ON l.{ROW_ID} = m.rid'
        return (
            f"WITH mine AS MATERIALIZED ({mine}) SELECT l.{ROW_ID} AS rid, l.{ROW_ID} AS parent FROM mine l UNION ALL "
            f'SELECT l.{ROW_ID}, r.{ROW_ID} FROM mine l JOIN "right" r ON {on}'
        )

    def needs(
        self, wanted: frozenset[str] | None, schemas: Mapping[str, pa.Schema], sandbox: Sandbox
    ) -> Mapping[str, frozenset[str] | None]:
        keys, right = self._keys(), frozenset(schemas["right"].names)
        taken = self._taken(schemas["right"])
        if self.take is None and wanted is not None:
            taken = {new: name for new, name in taken.items() if new in wanted}
        left = None if wanted is None else frozenset(keys) | (wanted & frozenset(schemas["left"].names))
        theirs = frozenset(keys.values()) | (frozenset(taken.values()) & right)
        return {"left": left, "right": theirs}

    def _keys(self) -> dict[str, str]:
        if isinstance(self.on, dict):
            return dict(self.on)
        names = [self.on] if isinstance(self.on, str) else self.on
        return dict(zip(names, names, strict=True))

    def _taken(self, right: pa.Schema) -> dict[str, str]:
        if isinstance(self.take, dict):
            return dict(self.take)
        keys = set(self._keys().values())
        names = [name for name in right.names if name not in keys] if self.take is None else self.take
        return dict(zip(names, names, strict=True))

    def _schema(self, left: pa.Schema, right: pa.Schema) -> pa.Schema:
        if self.how in ("semi", "anti"):
            return left
        mine = [field.with_nullable(field.nullable or self.how in ("right", "full")) for field in left]
        taken = self._taken(right).items()
        theirs = [right.field(name).with_name(new).with_nullable(True) for new, name in taken]
        return pa.schema([*mine, *theirs])


def _comparable(one: pa.DataType, other: pa.DataType) -> bool:
    whole = pa.types.is_integer(one) and pa.types.is_integer(other)
    texts = (pa.types.is_string, pa.types.is_large_string)
    return one.equals(other) or whole or all(any(is_text(kind) for is_text in texts) for kind in (one, other))


def _kind(left: pa.Schema, mine: str, right: pa.Schema, theirs: str) -> str:
    """A DuckDB type that both keys have in common, so that equal keys lie in one partition."""
    one, other = left.field(mine).type, right.field(theirs).type
    if not _comparable(one, other):
        raise Invalid(f"on: {mine!r} is {one}, {theirs!r} is {other}; make them one type with a map before")
    return "HUGEINT" if pa.types.is_integer(one) else "VARCHAR"
