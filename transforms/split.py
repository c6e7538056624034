"""The node type `split`: the elements of a list become records, or records go on in batches of a size."""

from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from pipelines.node import Example, Outcome, Piece, Report, Schemas, Step, Transform
from pipelines.scope import Scope
from pipelines.sql.expressions import Evaluator, Expression, check_expressions, shortened, used_columns
from pipelines.sql.faults import rejects_of, rows_without
from pipelines.sql.parsed import parse
from pipelines.sql.sandbox import Sandbox, borrowed
from pipelines.tables.relation import suggestion

ORDERS = [
    {"order_id": 7, "lines": [{"sku": "A", "qty": 2}, {"sku": "B", "qty": 1}]},
    {"order_id": 8, "lines": []},
]


class Split(Transform):
    """Makes a record of each element of a list, or lets records go on in batches of a size.

    With `each`, the element's columns stand beside those of the record that the list was in. Elements that are structs give a column for each of their fields, others one column. Elements come in the list's
    order, one record after the other; an element that is null is an element. Where the list has none, or is null, the
    record is counted as filtered, unless `empty: keep`.

    With `rows`, records stay as they are and go on so many at a time: a `python` function is called with at most so
    many, and a post that sends what comes at once sends no more. Only at the end of what a source gives at a time (some
    65,000 records) are there fewer. A node that needs records together, such as a join, forms batches of its own.
    """

    each: Expression | None = Field(default=None, examples=["lines", "customer.addresses", "string_split(tags, ',')"])
    """The list: a column, or an expression that gives one (DuckDB SQL)."""
    rows: int | None = Field(default=None, ge=1, examples=[500])
    """How many records go on at a time, in place of `each`."""
    name: str | None = Field(default=None, alias="as", examples=["line"])
    """The column that gets the element as a whole. Without it a struct's fields become columns, and another element
    gets the column that is called like the list."""
    keep: Literal["all", "none"] | list[str] = "all"
    """The input's columns that stay, before those of the element: `all` but the list, `none` or their names."""
    number: str | None = Field(default=None, examples=["line_no"])
    """A column that gets the element's number in its list, from 1."""
    empty: Literal["drop", "keep"] = "drop"
    """Whether a record without elements leaves no record, or one whose element and number are null."""

    category = "shape"
    examples = (
        Example(
            says="A record for each line of an order; an order without lines is counted as filtered.",
            config={"each": "lines", "number": "line_no"},
            records=ORDERS,
            gives={
                "out": [
                    {"order_id": 7, "line_no": 1, "sku": "A", "qty": 2},
                    {"order_id": 7, "line_no": 2, "sku": "B", "qty": 1},
                ]
            },
        ),
        Example(
            says="The line as one column; an order without lines stays.",
            config={"each": "lines", "as": "line", "empty": "keep"},
            records=ORDERS,
            gives={
                "out": [
                    {"order_id": 7, "line": {"sku": "A", "qty": 2}},
                    {"order_id": 7, "line": {"sku": "B", "qty": 1}},
                    {"order_id": 8, "line": None},
                ]
            },
        ),
        Example(
            says="A list that is computed.",
            config={"each": "string_split(tags, ',')", "as": "tag", "keep": ["id"]},
            records=[{"id": 1, "tags": "new,gift"}, {"id": 2, "tags": None}],
            gives={"out": [{"id": 1, "tag": "new"}, {"id": 1, "tag": "gift"}]},
        ),
        Example(
            says="Two records at a time, for an interface that takes no more.",
            config={"rows": 2},
            records=[{"id": 1}, {"id": 2}, {"id": 3}],
            gives={"out": [{"id": 1}, {"id": 2}, {"id": 3}]},
        ),
    )

    def check(self, inputs: Schemas, scope: Scope, report: Report) -> Schemas:
        schema = inputs.get("")
        if self.each is None or self.rows is not None:
            self._check_rows(report)
            return {"out": schema if self.each is None else None}
        if schema is None:
            return {"out": None}
        with borrowed(scope) as sandbox:
            column = self._column(self.each, schema, sandbox)
        self._check_kept(schema, report)
        bound = check_expressions({"each": self.each}, schema, scope, report)
        if bound.problems:
            return {"out": None}
        kind = bound.schema.field(0).type
        if element_of(kind) is None:
            fix = "take structs apart with `flatten`" if pa.types.is_struct(kind) else "name a column that is a list"
            report(("each",), f"{shortened(self.each)}: gives {kind}, not a list", fix)
            return {"out": None}
        kept, made = self._kept(schema, column), self._made(kind, column)
        if made is None:
            report(("as",), "the element has no name", "name its column with `as`")
            return {"out": None}
        self._check_clashes(kept, made, report)
        return {"out": pa.schema([*(schema.field(name) for name in kept), *made])}

    def open(self, schema: pa.Schema, scope: Scope, sandbox: Sandbox) -> Step:
        if self.each is None:
            return lambda batch: Outcome({"out": Piece(batch, together=self.rows)})
        column = self._column(self.each, schema, sandbox)
        evaluator = Evaluator({"each": self.each}, schema, scope, sandbox)
        kept = self._kept(schema, column)
        made = self._made(evaluator.schema.field(0).type, column) or []
        gives = pa.schema([*(schema.field(name) for name in kept), *made])

        def step(batch: pa.RecordBatch) -> Outcome:
            evaluated = evaluator(batch)
            lists = evaluated.columns.column(0)
            rejects = rejects_of(evaluated.faults)
            if rejects is None:
                elements, rows, numbers, filtered = self._taken_apart(lists)
            else:
                sound = rows_without(rejects, batch.num_rows)
                elements, places, numbers, filtered = self._taken_apart(lists.take(sound))
                rows = sound.take(places)
            arrays = [batch.column(name).take(rows) for name in kept]
            arrays += [] if self.number is None else [numbers]
            arrays += elements.flatten() if self._is_spread(elements.type) else [elements]
            return Outcome({"out": Piece(_batch(arrays, gives, len(rows)), rows)}, filtered, rejects)

        return step

    def needs(self, wanted: frozenset[str] | None, schema: pa.Schema, sandbox: Sandbox) -> frozenset[str] | None:
        if self.each is None:
            return wanted
        kept = frozenset(self._kept(schema, self._column(self.each, schema, sandbox)))
        used = used_columns([self.each], schema, sandbox)
        if wanted is None:
            return None if kept | used == set(schema.names) else kept | used
        return used | (kept & wanted)

    def _check_rows(self, report: Report) -> None:
        """Nothing about elements is said where there are none."""
        if (self.each is None) == (self.rows is None):
            what = "says neither what to split nor how" if self.each is None else "has both `each` and `rows`"
            report((), what, "give it either `each`, a list, or `rows`, a number")
            return
        for name, field in type(self).model_fields.items():
            if name not in ("each", "rows") and getattr(self, name) != field.default:
                at = field.alias or name
                report((at,), f"`{at}` is about elements of a list; `rows` has none", "leave it out")

    def _column(self, each: str, schema: pa.Schema, sandbox: Sandbox) -> str | None:
        """The column that the list is, where it is no expression."""
        return parse([each], sandbox)[0].column(schema)

    def _kept(self, schema: pa.Schema, column: str | None) -> list[str]:
        """The input's columns that stay, as far as they come in."""
        if self.keep == "none":
            return []
        if self.keep == "all":
            return [name for name in schema.names if name != column]
        return [name for name in dict.fromkeys(self.keep) if name in schema.names]

    def _made(self, kind: pa.DataType, column: str | None) -> list[pa.Field] | None:
        """The columns that an element of such a list gives, its number first; None where one has no name."""
        element = element_of(kind)
        numbers = [] if self.number is None else [pa.field(self.number, pa.int64())]
        if element is not None and self._is_spread(element):
            return [*numbers, *(field.with_nullable(True) for field in element)]
        name = self.name or column
        return None if name is None else [*numbers, pa.field(name, element)]

    def _is_spread(self, element: pa.DataType) -> bool:
        return self.name is None and pa.types.is_struct(element)

    def _taken_apart(self, lists: pa.Array) -> tuple[pa.Array, pa.Array, pa.Array, int]:
        """The elements, the row and the number of each, and how many rows are left out."""
        if pa.types.is_map(lists.type) or pa.types.is_fixed_size_list(lists.type):
            lists = lists.cast(pa.large_list(element_of(lists.type)))
        lengths = pc.fill_null(pc.list_value_length(lists), 0).to_numpy()
        elements, none = lists.flatten(), lengths == 0
        ends = np.cumsum(lengths)
        numbers = np.arange(len(elements)) - np.repeat(ends - lengths, lengths) + 1
        if self.empty == "drop" or not none.any():
            rows = np.repeat(np.arange(len(lists)), lengths)
            filtered = int(none.sum()) if self.empty == "drop" else 0
            return elements, pa.array(rows), pa.array(numbers), filtered
        given = np.maximum(lengths, 1)
        rows = np.repeat(np.arange(len(lists)), given)
        is_none = np.repeat(none, given)
        places = np.cumsum(~is_none) - 1
        spread = pa.array(places, mask=is_none)
        return elements.take(spread), pa.array(rows), pa.array(numbers).take(spread), 0

    def _check_kept(self, schema: pa.Schema, report: Report) -> None:
        for number, name in enumerate(self.keep if isinstance(self.keep, list) else []):
            if name not in schema.names:
                report(("keep", number), f"no column {name!r} comes in", suggestion(name, schema.names))

    def _check_clashes(self, kept: list[str], made: list[pa.Field], report: Report) -> None:
        taken = set(kept)
        for field in made:
            if field.name in taken:
                at = "number" if field.name == self.number else "as"
                fix = "choose another name" if at == "number" or self.name else "name the element with `as`"
                report((at,), f"column {field.name!r} is there already", f"{fix}, or leave that out with `keep`")
            taken.add(field.name)


def element_of(kind: pa.DataType) -> pa.DataType | None:
    """The type of a list's elements; those of a map are its pairs. None where it is no list."""
    if pa.types.is_map(kind):
        return pa.struct([kind.key_field, kind.item_field])
    is_list = (
        pa.types.is_list(kind)
        or pa.types.is_large_list(kind)
        or pa.types.is_fixed_size_list(kind)
        or pa.types.is_list_view(kind)
        or pa.types.is_large_list_view(kind)
    )
    return kind.value_type if is_list else None


def _batch(arrays: list[pa.Array], schema: pa.Schema, rows: int) -> pa.RecordBatch:
    if arrays:
        return pa.RecordBatch.from_arrays(arrays, schema=schema)
    return pa.RecordBatch.from_struct_array(pa.array([{}] * rows, pa.struct([])))
