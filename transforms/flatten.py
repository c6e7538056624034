"""The node type `flatten`: structs become columns."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from pipelines.node import Example, Outcome, Piece, Report, Schemas, Step, Transform
from pipelines.scope import Scope
from pipelines.sql.expressions import Evaluator, bind
from pipelines.sql.faults import Fault, rejects_of, rows_without
from pipelines.sql.sandbox import Sandbox, borrowed
from pipelines.tables.relation import Names, as_list, suggestion

ORDER = {
    "id": 7,
    "customer": {"name": "Ada", "address": {"city": "Bonn", "zip": "53111"}},
    "tags": ["new", "gift"],
}


@dataclass(frozen=True)
class Leaf:
    """A column that leaves: where in the input it lies, and what it was."""

    field: pa.Field
    source: str
    path: tuple[int, ...] = ()
    written: pa.DataType | None = None
    """The type that it has before it becomes JSON; None: it does not."""

    def of(self, batch: pa.RecordBatch) -> pa.Array:
        """Its values as they come in; null where a struct around it is null."""
        column = batch.column(self.source)
        return pc.struct_field(column, self.path) if self.path else column


class Flatten(Transform):
    """Makes columns of the fields of structs, in the place of the struct, named after it and its field.

    Where a struct is null, all its columns are. Lists stay as they are, unless `lists: json`; `split` makes records of
    them. Two columns of one name are a problem, told before anything runs.
    """

    column: Names | None = Field(default=None, examples=["address", ["customer", "address"]])
    """The structs to take apart. Without it every column that is a struct."""
    prefix: str | None = Field(default=None, examples=["", "ship_"])
    """What stands before the names of fields, in place of the column's name and the separator."""
    separator: str = "_"
    """What stands between the names of struct and field."""
    depth: int | None = Field(default=None, ge=1)
    """How many levels to take apart; without it all. What lies deeper stays a struct."""
    lists: Literal["keep", "json"] = "keep"
    """Whether lists and maps stay as they are or become text, written as JSON: those inside of the structs, and columns
    that are lists themselves where `column` names them or there is none."""

    category = "shape"
    examples = (
        Example(
            says="Every struct, as deep as it goes; the list stays.",
            config={},
            records=[ORDER],
            gives={
                "out": [
                    {
                        "id": 7,
                        "customer_name": "Ada",
                        "customer_address_city": "Bonn",
                        "customer_address_zip": "53111",
                        "tags": ["new", "gift"],
                    }
                ]
            },
        ),
        Example(
            says="One level of one column, its fields under their own names.",
            config={"column": "customer", "prefix": "", "depth": 1},
            records=[ORDER, {"id": 8, "customer": None, "tags": None}],
            gives={
                "out": [
                    {
                        "id": 7,
                        "name": "Ada",
                        "address": {"city": "Bonn", "zip": "53111"},
                        "tags": ["new", "gift"],
                    },
                    {"id": 8, "name": None, "address": None, "tags": None},
                ]
            },
        ),
        Example(
            says="For a target without lists.",
            config={"separator": ".", "lists": "json"},
            records=[{"id": 7, "ship": {"to": "Bonn"}, "lines": [{"sku": "A", "qty": 2}]}],
            gives={"out": [{"id": 7, "ship.to": "Bonn", "lines": '[{"sku":"A","qty":2}]'}]},
        ),
    )

    def check(self, inputs: Schemas, scope: Scope, report: Report) -> Schemas:
        schema = inputs.get("")
        if schema is None:
            return {"out": None}
        self._check_columns(schema, report)
        leaves = self._leaves(schema)
        for name, times in Counter(leaf.field.name for leaf in leaves).items():
            if times > 1:
                sources = ", ".join(dict.fromkeys(leaf.source for leaf in leaves if leaf.field.name == name))
                what = f"gives {times} columns called {name!r}, of {sources}"
                report(("column",) if self.column else (), what, "choose another `prefix` or `separator`")
        if not leaves:
            report((), "gives records without columns", "leave a column that is no empty struct")
        taken = _taken(leaves)
        with borrowed(scope) as sandbox:
            bound = bind(_written(taken), taken, scope.values, sandbox)
        for wrong in bound.problems:
            report(("lists",), f"column {_called(wrong.name, leaves)!r} cannot become JSON: it {wrong.what}", wrong.fix)
        return {"out": pa.schema([leaf.field for leaf in leaves])}

    def open(self, schema: pa.Schema, scope: Scope, sandbox: Sandbox) -> Step:
        leaves = self._leaves(schema)
        gives = pa.schema([leaf.field for leaf in leaves])
        taken = _taken(leaves)
        evaluator = Evaluator(_written(taken), taken, scope, sandbox)

        def step(batch: pa.RecordBatch) -> Outcome:
            arrays = [leaf.of(batch) for leaf in leaves]
            if not arrays:
                return Outcome({"out": Piece(batch.select([]))})
            if not len(taken):
                return Outcome({"out": Piece(pa.RecordBatch.from_arrays(arrays, schema=gives))})
            nested = [array for leaf, array in zip(leaves, arrays, strict=True) if leaf.written]
            evaluated = evaluator(pa.RecordBatch.from_arrays(nested, schema=taken))
            texts = iter(evaluated.columns.columns)
            columns = [next(texts) if leaf.written else array for leaf, array in zip(leaves, arrays, strict=True)]
            flat = pa.RecordBatch.from_arrays(columns, schema=gives)
            rejects = rejects_of(_renamed(fault, leaves) for fault in evaluated.faults)
            if rejects is None:
                return Outcome({"out": Piece(flat)})
            rows = rows_without(rejects, batch.num_rows)
            return Outcome({"out": Piece(flat.take(rows), rows)}, rejects=rejects)

        return step

    def needs(self, wanted: frozenset[str] | None, schema: pa.Schema, sandbox: Sandbox) -> frozenset[str] | None:
        if wanted is None:
            return None
        # what becomes JSON is needed in any case: that it cannot is the record's fault, wanted or not
        return frozenset(leaf.source for leaf in self._leaves(schema) if leaf.written or leaf.field.name in wanted)

    def _leaves(self, schema: pa.Schema) -> list[Leaf]:
        """The columns that leave. Those of a named column that does not come in are left out."""
        chosen = schema.names if self.column is None else as_list(self.column)
        found: list[Leaf] = []
        for field in schema:
            found += self._below(Leaf(field, field.name), 0) if field.name in chosen else [Leaf(field, field.name)]
        return found

    def _below(self, leaf: Leaf, level: int) -> Iterator[Leaf]:
        """The columns that come of a place in a struct, itself where it is none."""
        kind = leaf.field.type
        if pa.types.is_struct(kind) and (self.depth is None or level < self.depth):
            before = self.prefix if level == 0 and self.prefix is not None else leaf.field.name + self.separator
            for number, inner in enumerate(kind):
                field = pa.field(before + inner.name, inner.type, inner.nullable or leaf.field.nullable)
                yield from self._below(Leaf(field, leaf.source, (*leaf.path, number)), level + 1)
        elif self.lists == "json" and _is_list(kind):
            yield Leaf(pa.field(leaf.field.name, pa.string()), leaf.source, leaf.path, kind)
        else:
            yield leaf

    def _check_columns(self, schema: pa.Schema, report: Report) -> None:
        for number, name in enumerate(as_list(self.column)):
            at: tuple[str | int, ...] = ("column",) if isinstance(self.column, str) else ("column", number)
            if name not in schema.names:
                report(at, f"no column {name!r} comes in", suggestion(name, schema.names))
                continue
            kind = schema.field(name).type
            if _is_list(kind) and self.lists == "keep":
                report(at, f"column {name!r} is a list", "make records of it with `split`, or text with `lists: json`")
            elif not (pa.types.is_struct(kind) or _is_list(kind)):
                report(at, f"column {name!r} is {kind}, not a struct", "leave it out")


def _is_list(kind: pa.DataType) -> bool:
    return (
        pa.types.is_list(kind)
        or pa.types.is_large_list(kind)
        or pa.types.is_fixed_size_list(kind)
        or pa.types.is_list_view(kind)
        or pa.types.is_large_list_view(kind)
        or pa.types.is_map(kind)
    )


def _taken(leaves: list[Leaf]) -> pa.Schema:
    """What becomes JSON, under names that DuckDB cannot take for one another."""
    return pa.schema([pa.field(f"c{number}", leaf.written) for number, leaf in enumerate(leaves) if leaf.written])


def _written(taken: pa.Schema) -> dict[str, str]:
    return {name: f"CAST(to_json({name}) AS VARCHAR)" for name in taken.names}


def _called(name: str, leaves: list[Leaf]) -> str:
    """What a column that becomes JSON is called outside."""
    return str(leaves[int(name[1:])].field.name)


def _renamed(fault: Fault, leaves: list[Leaf]) -> Fault:
    return replace(fault, message=fault.message.replace(fault.name, _called(fault.name, leaves), 1))
