"""Columns that a flow's ends declare: whether what comes has them, and as their types."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import pyarrow as pa

from pipelines.align import unify
from pipelines.errors import Invalid
from pipelines.language.modelproblems import close
from pipelines.node import Report
from pipelines.quality.declared import arrow_type
from pipelines.sql.sandbox import Sandbox

Declared = Mapping[str, str]
"""Names to DuckDB types."""


def declared_schema(columns: Declared, sandbox: Sandbox) -> pa.Schema:
    """The declared columns.

    Raises:
        Invalid: a type is none.
    """
    return pa.schema([pa.field(name, arrow_type(kind, sandbox)) for name, kind in columns.items()])


def check_declared(columns: Declared, sandbox: Sandbox, report: Report) -> pa.Schema | None:
    """The declared columns; None where a type is none, which is reported."""
    found: list[pa.Field] = []
    for name, kind in columns.items():
        try:
            found.append(pa.field(name, arrow_type(kind, sandbox)))
        except Invalid as fault:
            report(("columns", name), f"column {name!r}: {fault}", "such as VARCHAR, BIGINT or DECIMAL(18, 2)")
    return pa.schema(found) if len(found) == len(columns) else None


def unfit(declared: pa.Schema, coming: pa.Schema) -> Iterator[tuple[str, str, str]]:
    """The declared columns that do not come, or whose values a declared type does not hold: name, what, what would be right."""
    for field in declared:
        if field.name not in coming.names:
            yield (
                field.name,
                f"no column {field.name!r} comes, which is to be {field.type}",
                close(field.name, coming.names),
            )
        elif not holds(field.type, coming.field(field.name).type):
            kind = coming.field(field.name).type
            yield (
                field.name,
                f"column {field.name!r} comes as {kind}, and is to be {field.type}",
                f"cast {field.name!r}",
            )


def holds(wide: pa.DataType, narrow: pa.DataType) -> bool:
    """Whether a type holds every value of another as it is."""
    one, other = _plain(wide), _plain(narrow)
    if pa.types.is_null(other) or one.equals(other):
        return True
    try:
        common = unify([pa.schema([pa.field("x", one)]), pa.schema([pa.field("x", other)])]).field(0).type
    except Invalid:
        return False
    return bool(common.equals(one))


def _plain(kind: pa.DataType) -> pa.DataType:
    """A type without how its values are laid out."""
    if pa.types.is_dictionary(kind) or pa.types.is_run_end_encoded(kind):
        kind = kind.value_type
    if pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return pa.string()
    if pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind):
        return pa.binary()
    return kind


def with_declared(schema: pa.Schema, declared: pa.Schema) -> pa.Schema:
    """The columns that come, those that are declared as their types."""
    kinds = {field.name: field.type for field in declared}
    return pa.schema([pa.field(f.name, kinds.get(f.name, f.type), f.nullable, f.metadata) for f in schema])
