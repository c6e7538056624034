"""Where records go into the nodes of a flow, and what is handed in where nobody uses it. No flow's text names these."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import pyarrow as pa
from pydantic import Field

from pipelines.align import align
from pipelines.node import Chunk, Get, Json, Outcome, Piece, Report, Schemas, SplitPlan, Step, Transform, Want
from pipelines.scope import Scope
from pipelines.sql.expressions import Evaluator, check_expressions, used_columns
from pipelines.sql.faults import rejects_of, rows_without
from pipelines.sql.sandbox import Sandbox, borrowed
from pipelines.typed import check_declared, declared_schema, unfit, with_declared

INSIDE = "inside"
"""The port by which records go into the nodes of a flow."""


class Entrance(Transform):
    """Where records go into the nodes of a flow."""

    flow: str = ""
    """Whose nodes they are."""
    columns: Mapping[str, str] = Field(default_factory=dict)
    """The columns that must come, with their DuckDB types; others go along."""
    made: Mapping[str, str] = Field(default_factory=dict)
    """Columns to expressions: they are made of what comes in."""
    is_of_loop: bool = False
    """Whether records come back to go through the nodes again."""

    def ports(self) -> tuple[str, ...]:
        return (INSIDE,)

    def check(self, inputs: Schemas, scope: Scope, report: Report) -> Schemas:
        schema = inputs.get("")
        if schema is None:
            return {INSIDE: None}
        if self.made:
            places: dict[str, tuple[str | int, ...]] = {name: ("inputs", name) for name in self.made}
            bound = check_expressions(self.made, schema, scope, report, places)
            if bound.problems:
                return {INSIDE: None}
            schema = self._with_made(schema, bound.schema)
        with borrowed(scope) as sandbox:
            declared = check_declared(self.columns, sandbox, _silent)
        if declared is None:  # told where it is declared
            return {INSIDE: None}
        wrong = list(unfit(declared, schema))
        for name, what, fix in wrong:
            at: tuple[str | int, ...] = ("inputs", name) if name in self.made else ("from",)
            make = f"{name}: CAST({name} AS {self.columns[name]})" if name in schema.names else f"{name}: …"
            wanted = fix if fix.startswith("did") else f"make it with `inputs: {{{make}}}`"
            report(at, f'{what} in flow "{self.flow}"', wanted)
        return {INSIDE: None if wrong else with_declared(schema, declared)}

    def open(self, schema: pa.Schema, scope: Scope, sandbox: Sandbox) -> Step:
        evaluator = Evaluator(self.made, schema, scope, sandbox) if self.made else None
        whole = schema if evaluator is None else self._with_made(schema, evaluator.schema)
        gives = with_declared(whole, declared_schema(self.columns, sandbox))

        def step(batch: pa.RecordBatch) -> Outcome:
            if evaluator is None:
                return Outcome({INSIDE: Piece(align(batch, gives))})
            evaluated = evaluator(batch)
            made = {name: evaluated.columns.column(name) for name in self.made}
            columns = [made[name] if name in made else batch.column(name) for name in whole.names]
            full = pa.RecordBatch.from_arrays(columns, schema=whole)
            rejects = rejects_of(evaluated.faults)
            if rejects is None:
                return Outcome({INSIDE: Piece(align(full, gives))})
            rows = rows_without(rejects, batch.num_rows)
            return Outcome({INSIDE: Piece(align(full.take(rows), gives), rows)}, rejects=rejects)

        return step

    def needs(self, wanted: frozenset[str] | None, schema: pa.Schema, sandbox: Sandbox) -> frozenset[str] | None:
        if wanted is None:
            return None
        outside = (wanted | set(self.columns)) - set(self.made)
        return outside | used_columns(self.made.values(), schema, sandbox) if self.made else outside

    def _with_made(self, schema: pa.Schema, made: pa.Schema) -> pa.Schema:
        """The columns that come, with those that are made in the place of those of the same name, or behind."""
        fresh = {field.name: field for field in made}
        kept = [fresh.pop(field.name, field) for field in schema]
        return pa.schema([*kept, *fresh.values()])


class Handed(Get):
    """The records that a flow whose start declares columns is given: by a test, or by nobody."""

    columns: dict[str, str]
    """The declared columns, with their DuckDB types."""

    def check(self, inputs: Schemas, scope: Scope, report: Report) -> Schemas:
        with borrowed(scope) as sandbox:
            return {"out": check_declared(self.columns, sandbox, report)}

    def plan(self, scope: Scope, position: Json, want: Want) -> SplitPlan:
        return SplitPlan(())

    def read(self, split: Json, schema: pa.Schema, scope: Scope, want: Want) -> Iterator[Chunk]:
        return iter(())


def _silent(at: tuple[str | int, ...], what: str, fix: str = "", *, warning: bool = False) -> None:
    """What is wrong with a declaration is told where it stands."""
