"""The node type `unpivot`: columns become rows."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from pydantic import Field

from pipelines.align import unify
from pipelines.errors import Invalid
from pipelines.node import Example, Outcome, Piece, Report, Schemas, Step, Transform
from pipelines.scope import Scope
from pipelines.sql.sandbox import Sandbox
from pipelines.tables.relation import Names, as_list, suggestion

YEARS = [{"shop": "Bonn", "q1": 10, "q2": 12}, {"shop": "Köln", "q1": 7, "q2": None}]


class Unpivot(Transform):
    """Makes a record of each of several columns: one column says which it was, one holds its value.

    Records come in the order of the columns, one input record after the other. A value that is null gives no record,
    unless `keep_nulls`; an input record whose values all are null is counted as filtered. The columns need a type that
    holds all their values exactly.
    """

    on: Names | None = Field(default=None, examples=[["q1", "q2", "q3", "q4"]])
    """The columns that become records. Without it all but those of `keep`."""
    keep: Names | None = Field(default=None, examples=["shop", ["shop", "year"]])
    """The columns that every record keeps. Without it all but those of `on`."""
    name: str = Field(default="name", examples=["quarter"])
    """The column that gets the name of the column that the value was in."""
    value: str = Field(default="value", examples=["revenue"])
    """The column that gets the value."""
    keep_nulls: bool = False
    """Whether values that are null give records too."""

    category = "shape"
    examples = (
        Example(
            says="A column for each quarter becomes a record for each quarter; where there is no value, none.",
            config={"on": ["q1", "q2"], "name": "quarter", "value": "revenue"},
            records=YEARS,
            gives={
                "out": [
                    {"shop": "Bonn", "quarter": "q1", "revenue": 10},
                    {"shop": "Bonn", "quarter": "q2", "revenue": 12},
                    {"shop": "Köln", "quarter": "q1", "revenue": 7},
                ]
            },
        ),
        Example(
            says="All columns but one, whatever they are called, nulls too.",
            config={"keep": "shop", "keep_nulls": True},
            records=YEARS[1:],
            gives={
                "out": [
                    {"shop": "Köln", "name": "q1", "value": 7},
                    {"shop": "Köln", "name": "q2", "value": None},
                ]
            },
        ),
    )

    def check(self, inputs: Schemas, scope: Scope, report: Report) -> Schemas:
        schema = inputs.get("")
        if self.on is None and self.keep is None:
            report((), "which columns become records is not said", "name them with `on`, or the others with `keep`")
        if self.name == self.value:
            report(("value",), f"name and value both go to column {self.value!r}", "choose another name")
        if schema is None:
            return {"out": None}
        self._check_names(schema, report)
        on, kept = self._on(schema), self._kept(schema)
        for field in ("name", "value"):
            if (column := getattr(self, field)) in kept:
                report(
                    (field,), f"column {column!r} is there already", "choose another name, or leave it out of `keep`"
                )
        if not on:
            report(("keep",), "no column is left to become records", "keep fewer")
            return {"out": None}
        try:
            return {"out": self._laid_out(schema, _common([schema.field(name) for name in on]))}
        except Odd as fault:
            report(self._places().get(fault.column, ("on",)), str(fault), "make them one type with a map before")
            return {"out": None}

    def open(self, schema: pa.Schema, scope: Scope, sandbox: Sandbox) -> Step:
        on, kept = self._on(schema), self._kept(schema)
        kind = _common([schema.field(name) for name in on])
        gives = self._laid_out(schema, kind)
        names = pa.array(on, pa.string())

        def step(batch: pa.RecordBatch) -> Outcome:
            values = pa.concat_arrays([_as(batch.column(name), kind) for name in on])
            places = np.arange(len(values)).reshape(len(on), batch.num_rows).T.ravel()
            if not self.keep_nulls:
                places = places[values.is_valid().to_numpy(zero_copy_only=False)[places]]
            column, row = np.divmod(places, max(batch.num_rows, 1))
            rows = pa.array(row, pa.int64())
            arrays = [batch.column(name).take(rows) for name in kept]
            made = pa.RecordBatch.from_arrays(
                [*arrays, names.take(pa.array(column)), values.take(places)], schema=gives
            )
            return Outcome({"out": Piece(made, rows)}, filtered=batch.num_rows - _different(row))

        return step

    def needs(self, wanted: frozenset[str] | None, schema: pa.Schema, sandbox: Sandbox) -> frozenset[str] | None:
        kept = self._kept(schema)
        if wanted is None and len(kept) + len(self._on(schema)) == len(schema):
            return None
        return frozenset(self._on(schema)) | (frozenset(kept) if wanted is None else frozenset(kept) & wanted)

    def _on(self, schema: pa.Schema) -> list[str]:
        """The columns that become records, as far as they come in."""
        if self.on is not None:
            return [name for name in dict.fromkeys(as_list(self.on)) if name in schema.names]
        return [name for name in schema.names if name not in as_list(self.keep)]

    def _kept(self, schema: pa.Schema) -> list[str]:
        """The columns that stay, as far as they come in."""
        if self.keep is not None:
            return [name for name in dict.fromkeys(as_list(self.keep)) if name in schema.names]
        return [name for name in schema.names if name not in as_list(self.on)]

    def _laid_out(self, schema: pa.Schema, kind: pa.DataType) -> pa.Schema:
        kept = [schema.field(name) for name in self._kept(schema)]
        return pa.schema([*kept, pa.field(self.name, pa.string()), pa.field(self.value, kind)])

    def _places(self) -> dict[str, tuple[str | int, ...]]:
        """Where each column of `on` stands in the node's text."""
        if not isinstance(self.on, list):
            return {}
        return {name: ("on", number) for number, name in enumerate(self.on)}

    def _check_names(self, schema: pa.Schema, report: Report) -> None:
        for field, names in (("on", self.on), ("keep", self.keep)):
            for number, name in enumerate(as_list(names)):
                at: tuple[str | int, ...] = (field, number) if isinstance(names, list) else (field,)
                if name not in schema.names:
                    report(at, f"no column {name!r} comes in", suggestion(name, schema.names))
                elif field == "on" and as_list(names).index(name) < number:
                    report(at, f"column {name!r} is named twice", "name it once")


class Odd(Invalid):
    """A column whose values fit no type together with those of the columns before it."""

    def __init__(self, column: pa.Field, before: pa.DataType) -> None:
        super().__init__(
            f"column {column.name!r} is {column.type}, those before it are {before}: no type holds both exactly"
        )
        self.column: str = column.name


def _common(columns: Sequence[pa.Field]) -> pa.DataType:
    """The type that holds the values of all columns exactly.

    Raises:
        Odd: at the first column that no type fits.
    """
    kind = _plain(columns[0].type)
    for column in columns[1:]:
        try:
            kind = unify([pa.schema([("value", one)]) for one in (kind, _plain(column.type))]).field(0).type
        except Invalid as fault:
            raise Odd(column, kind) from fault
    return kind


def _plain(kind: pa.DataType) -> pa.DataType:
    """What a dictionary's values are; several columns have no dictionary in common."""
    return kind.value_type if pa.types.is_dictionary(kind) else kind


def _as(column: pa.Array, kind: pa.DataType) -> pa.Array:
    return column if column.type.equals(kind) else column.cast(kind)


def _different(rows: np.ndarray) -> int:
    """How many different numbers an ascending array has."""
    return int(np.count_nonzero(np.diff(rows))) + 1 if len(rows) else 0
