"""The node type `map`: the mapper."""

from collections.abc import Iterator
from typing import Literal

import pyarrow as pa
from pydantic import Field

from pipelines.node import Example, Outcome, Piece, Report, Schemas, Step, Transform
from pipelines.scope import Scope
from pipelines.sql.expressions import NO_CONDITION, Evaluator, bind, check_expressions, shortened, used_columns
from pipelines.sql.faults import rejects_of, rows_without
from pipelines.sql.fields import Computed, Misplaced, Part, Tree, Value, assembled, grown, leaves, type_of
from pipelines.sql.parsed import parse
from pipelines.sql.sandbox import Sandbox, borrowed

WEB_ORDER = {
    "order_id": 7,
    "name": "Ada",
    "city": "Bonn",
    "rate": 2,
    "items": [{"sku": "A", "qty": 2, "price": 5}, {"sku": "B", "qty": 0, "price": 9}],
}


class Map(Transform):
    """Makes a new record of each record: fields computed from its columns.

    A field sees the columns that come in, not the other fields. A record for which a field cannot be computed is
    rejected with the code `expression` and a message that names the field.
    """

    fields: dict[str, Value] = Field(
        default_factory=dict, examples=[{"order_no": "'WEB-' || order_id", "total": "round(quantity * unit_price, 2)"}]
    )
    """Targets and what they get. A target is a column, with dots a place in a struct (`address.city`), with `[]` at its
    end a list (`lines[]`). It gets an expression (DuckDB SQL; a text constant stands in single quotes), a number, `true`,
    `false` or nothing for null; a choice, `{when: {condition: value, ...}, otherwise: value}`; a group,
    `{fields: {...}, where: condition}`; or, for a list, a loop, `{from: list, each: name, where: condition, fields: {...}}`,
    with `value` in place of `fields` for elements that are no structs."""
    keep: Literal["all", "none"] | list[str] | None = None
    """The input's columns that stay, before the fields and in their old order: `all`, `none` or their names. Without it
    none stays, or, where `drop` is given, all the others. A field takes the place of a kept column of its name."""
    drop: list[str] = Field(default_factory=list)
    """The input's columns that do not stay."""

    category = "shape"
    examples = (
        Example(
            says="Two fields; nothing else stays.",
            config={"fields": {"order_no": "'WEB-' || order_id", "total": "round(quantity * unit_price, 2)"}},
            records=[{"order_id": 1, "quantity": 2, "unit_price": "9000.00"}],
            columns={"order_id": "BIGINT", "quantity": "INTEGER", "unit_price": "DECIMAL(12, 2)"},
            gives={"out": [{"order_no": "WEB-1", "total": 18000.00}]},
        ),
        Example(
            says="A column more, one less, the others as they are.",
            config={"fields": {"country": "'DE'"}, "drop": ["note"]},
            records=[{"id": 1, "country": None, "note": "x"}],
            columns={"id": "BIGINT", "country": "VARCHAR", "note": "VARCHAR"},
            gives={"out": [{"id": 1, "country": "DE"}]},
        ),
        Example(
            says="Nested targets, and a list made of a list: `item` is its element, `rate` the record's column.",
            config={
                "fields": {
                    "customer.name": "name",
                    "customer.address.city": "upper(city)",
                    "lines[]": {
                        "from": "items",
                        "where": "item.qty > 0",
                        "fields": {"no": "item_number", "sku": "item.sku", "total": "item.qty * item.price * rate"},
                    },
                }
            },
            records=[WEB_ORDER],
            gives={
                "out": [
                    {
                        "customer": {"name": "Ada", "address": {"city": "BONN"}},
                        "lines": [{"no": 1, "sku": "A", "total": 20}],
                    }
                ]
            },
        ),
        Example(
            says="A choice, and a group that is there only where it makes sense.",
            config={
                "fields": {
                    "size": {"when": {"qty > 100": "'bulk'", "qty > 10": "'some'"}, "otherwise": "'few'"},
                    "ship": {"where": "city is not null", "fields": {"city": "city", "express": False}},
                }
            },
            records=[{"qty": 500, "city": "Bonn"}, {"qty": 1, "city": None}],
            gives={
                "out": [{"size": "bulk", "ship": {"city": "Bonn", "express": False}}, {"size": "few", "ship": None}]
            },
        ),
    )

    def check(self, inputs: Schemas, scope: Scope, report: Report) -> Schemas:
        schema = inputs.get("")
        try:
            tree = self._tree()
        except Misplaced as fault:
            report(fault.at, fault.what, fault.fix)
            return {"out": None}
        if schema is None:
            return {"out": None}
        self._check_kept(schema, report)
        found = _checked(tree, schema, scope, report)
        types = {name: type_of(name, branch, found) for name, branch in tree.items()}
        if any(kind is None for kind in types.values()):
            return {"out": None}
        return {"out": self._laid_out(schema, {name: pa.field(name, kind) for name, kind in types.items()})}

    def open(self, schema: pa.Schema, scope: Scope, sandbox: Sandbox) -> Step:
        tree = self._tree()
        evaluator = Evaluator({name: leaf.sql for name, leaf in leaves(tree)}, schema, scope, sandbox)
        kinds = {name: type_of(name, branch, evaluator.schema) for name, branch in tree.items()}
        gives = self._laid_out(schema, {name: pa.field(name, kind) for name, kind in kinds.items()})

        def step(batch: pa.RecordBatch) -> Outcome:
            evaluated = evaluator(batch)
            made = {name: assembled(name, branch, evaluated.columns) for name, branch in tree.items()}
            columns = [made[name] if name in made else batch.column(name) for name in gives.names]
            rejects = rejects_of(evaluated.faults)
            mapped = _batch(columns, gives, batch.num_rows)
            if rejects is None:
                return Outcome({"out": Piece(mapped)})
            rows = rows_without(rejects, batch.num_rows)
            return Outcome({"out": Piece(mapped.take(rows), rows)}, rejects=rejects)

        return step

    def needs(self, wanted: frozenset[str] | None, schema: pa.Schema, sandbox: Sandbox) -> frozenset[str] | None:
        kept = frozenset(self._kept(schema))
        if wanted is None and kept == set(schema.names):
            return None
        # a field that nobody wants is computed all the same: its faults are the record's
        used = used_columns([leaf.sql for _target, leaf in leaves(self._tree())], schema, sandbox)
        return used | (kept if wanted is None else kept & wanted)

    def _tree(self) -> dict[str, Tree]:
        return grown(self.fields, ("fields",))

    def _kept(self, schema: pa.Schema) -> list[str]:
        keep = self.keep if self.keep is not None else "all" if self.drop else "none"
        if keep == "none":
            return []
        return [name for name in schema.names if (keep == "all" or name in keep) and name not in self.drop]

    def _laid_out(self, schema: pa.Schema, fields: dict[str, pa.Field]) -> pa.Schema:
        kept = [fields.get(name, schema.field(name)) for name in self._kept(schema)]
        return pa.schema(
            [*kept, *(field for name, field in fields.items() if name not in {each.name for each in kept})]
        )

    def _check_kept(self, schema: pa.Schema, report: Report) -> None:
        there = ", ".join(schema.names) or "none"
        named = {"keep": self.keep if isinstance(self.keep, list) else [], "drop": self.drop}
        missing = [
            (field, number, name)
            for field, names in named.items()
            for number, name in enumerate(names)
            if name not in schema.names
        ]
        for field, number, name in missing:
            report((field, number), f"no column {name!r} comes in", f"there are: {there}")
        kept = {name.lower(): name for name in self._kept(schema)}
        for target in self.fields:
            column = target.partition(".")[0].removesuffix("[]")
            twin = kept.get(column.lower(), column)
            if twin != column and column not in kept.values():
                fix = f"call it {twin!r} to replace that, or leave that out with `drop`"
                report(("fields", target), f"{column!r} differs from the kept column {twin!r} only in case", fix)
        if not self.fields and not self._kept(schema) and not missing:
            report((), "gives records without columns", "name `fields`, or columns to `keep`")


def _batch(columns: list[pa.Array], schema: pa.Schema, rows: int) -> pa.RecordBatch:
    if columns:
        return pa.RecordBatch.from_arrays(columns, schema=schema)
    return pa.RecordBatch.from_struct_array(pa.array([{}] * rows, pa.struct([])))


def _checked(tree: dict[str, Tree], schema: pa.Schema, scope: Scope, report: Report) -> pa.Schema:
    """Reports what is wrong at the very expression that is; gives the types of the leaves in which nothing is."""
    simple = {name: leaf for name, leaf in leaves(tree) if len(leaf.parts) == 1 and leaf.parts[0].text == leaf.sql}
    places = {name: leaf.parts[0].at for name, leaf in simple.items()}
    bound = check_expressions({name: leaf.sql for name, leaf in simple.items()}, schema, scope, report, places)
    types = {column.name: column.type for column in bound.schema}
    for name, leaf in leaves(tree):
        if name not in simple:
            types |= _check_composed(name, leaf, schema, scope, report)
    return pa.schema([pa.field(name, types[name]) for name, _leaf in leaves(tree) if name in types])


def _check_composed(
    name: str, leaf: Computed, schema: pa.Schema, scope: Scope, report: Report
) -> dict[str, pa.DataType]:
    """A value made of several expressions: each by itself is looked at before the whole."""
    sound = True
    with borrowed(scope) as sandbox:
        for part in leaf.parts:
            wrong = list(_wrong_with(part, schema, scope, sandbox))
            for what, fix in wrong:
                report(part.at, f"{shortened(part.text)}: {what}", fix)
            sound = sound and not wrong
            if wrong and part.gives == "list":
                break  # what is wrong inside its loop follows from it
        if not sound:
            return {}
        bound = bind({name: leaf.sql}, schema, scope.values, sandbox, scope.now)
    at = leaf.parts[0].at if leaf.parts else ("fields", name)
    for fault in bound.problems:
        report(at[:2], f"the value of {name!r} {fault.what}", fault.fix)
    return {column.name: column.type for column in bound.schema}


def _wrong_with(part: Part, schema: pa.Schema, scope: Scope, sandbox: Sandbox) -> Iterator[tuple[str, str]]:
    """What is wrong with one of the expressions that make a value, and what would be right."""
    parsed = parse([part.text], sandbox)[0]
    if parsed.what:
        yield parsed.what, parsed.fix
        return
    bound = bind({"value": part.alone}, schema, scope.values, sandbox, scope.now)
    for fault in bound.problems:
        yield fault.what, fault.fix
    if bound.problems or part.gives == "value":
        return
    kind = bound.schema.field(0).type
    for _loop in part.loops:
        kind = kind.value_type
    if part.gives == "list" and not (is_list(kind) or pa.types.is_null(kind)):
        yield f"gives {kind}, no list", "a loop goes through a list; of one value make [value]"
    if part.gives == "condition" and not (pa.types.is_boolean(kind) or pa.types.is_null(kind)):
        yield NO_CONDITION[0].format(kind), NO_CONDITION[1]


def is_list(kind: pa.DataType) -> bool:
    """Whether DuckDB sees a list in it."""
    return any(
        test(kind)
        for test in (
            pa.types.is_list,
            pa.types.is_large_list,
            pa.types.is_fixed_size_list,
            pa.types.is_list_view,
            pa.types.is_large_list_view,
        )
    )
