"""Arrow columns as the fields of a loaded file or of a statement, and the values that a column's type would change."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from adapters.mysql.types import MyColumn, is_bytes, is_text
from pipelines.values import finer, outside, shown

Faults = dict[int, tuple[str, str]]
"""Per row a code and a message."""
YEARS = (1901, 2155)
"""Those of the type `year`."""
LARGE = {sign: pa.scalar(sign, pa.large_string()) for sign in ("\t", ",", "(", ")", "")}
_ESCAPED = (("\\", "\\\\"), ("\t", "\\t"), ("\n", "\\n"), ("\0", "\\0"))


@dataclass(frozen=True)
class Field:
    """A column's values as texts of the server's."""

    texts: pa.Array
    sort: str
    """`bare` (a number), `quoted`, or `hex` (bytes by their digits)."""
    is_counted: bool = False
    """Whether the column takes a number for another value than the number's text: bits and years."""


def fields(batch: pa.RecordBatch, columns: Sequence[MyColumn], names: Sequence[str]) -> tuple[list[Field], Faults]:
    """The named columns of a batch as the table's columns take them, and what those would change."""
    faults: Faults = {}
    found = []
    for name, column in zip(names, columns, strict=True):
        array = plain(batch.column(name))
        mask = changed(array, column)
        if mask is not None:
            for row in pc.indices_nonzero(mask.fill_null(False)).to_pylist():
                words = f"column {name!r}: {shown(array, row)} does not fit {column.declared}"
                faults.setdefault(row, ("type", words))
        found.append(rendered(array, column))
    return found, faults


def lines(found: Sequence[Field], is_file: bool) -> pa.LargeStringArray:
    """Each row as a line of a file to load, or as a row of VALUES."""
    texts = [(_in_file(field) if is_file else _in_statement(field)).cast(pa.large_string()) for field in found]
    if is_file:
        return pc.binary_join_element_wise(*texts, LARGE["\t"])
    whole = pc.binary_join_element_wise(*texts, LARGE[","])
    return pc.binary_join_element_wise(LARGE["("], whole, LARGE[")"], LARGE[""])


def _in_file(field: Field) -> pa.Array:
    texts = field.texts
    if field.sort == "quoted":
        for sign, escaped in _ESCAPED:
            texts = pc.replace_substring(texts, sign, escaped)
    return texts.fill_null("\\N")


def _in_statement(field: Field) -> pa.Array:
    texts = field.texts
    if field.sort == "quoted":
        texts = pc.binary_join_element_wise("'", pc.replace_substring(texts, "'", "''"), "'", "")
    elif field.sort == "hex":
        texts = pc.binary_join_element_wise("x'", texts, "'", "")
    return texts.fill_null("NULL")


def plain(column: pa.Array) -> pa.Array:
    """The column without dictionaries and extensions."""
    if isinstance(column.type, pa.ExtensionType):
        return plain(column.storage)
    return plain(column.dictionary_decode()) if pa.types.is_dictionary(column.type) else column


def rendered(array: pa.Array, column: MyColumn) -> Field:
    """A column's values as texts."""
    kind, is_counted = array.type, column.sort in ("bit", "year")
    if is_text(kind) or pa.types.is_null(kind):
        return Field(array.cast(pa.string()), "quoted")
    if is_bytes(kind):
        return Field(_computed(array, "hex(item)"), "hex")
    if pa.types.is_nested(kind):
        return Field(_computed(array, "CAST(to_json(item) AS VARCHAR)"), "quoted")
    if pa.types.is_boolean(kind):
        return Field(array.cast(pa.int8()).cast(pa.string()), "bare", is_counted)
    if pa.types.is_floating(kind):
        return Field(array.cast(pa.float64()).cast(pa.string()), "quoted")
    if pa.types.is_temporal(kind):
        return Field(_moments(array), "quoted")
    return Field(array.cast(pa.string()), "bare", is_counted)


def _moments(array: pa.Array) -> pa.Array:
    kind = array.type
    if pa.types.is_date64(kind):
        array = array.cast(pa.date32())
    elif pa.types.is_timestamp(kind):
        array = array.cast(pa.timestamp(kind.unit, "UTC") if kind.tz else kind).cast(pa.timestamp(kind.unit))
        if kind.unit == "ns":
            array = array.cast(pa.timestamp("us"), safe=False)
    elif kind == pa.time64("ns"):
        array = array.cast(pa.time64("us"), safe=False)
    return array.cast(pa.string())


def _computed(array: pa.Array, expression: str) -> pa.StringArray:
    import duckdb

    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        connection.register("given", pa.table({"item": array}))
        sql = f"SELECT CASE WHEN item IS NOT NULL THEN {expression} END AS item FROM given"
        found = connection.sql(sql).to_arrow_table()["item"]
    return pa.concat_arrays(found.chunks) if found.num_chunks else pa.array([], pa.string())


def changed(array: pa.Array, column: MyColumn) -> pa.Array | None:
    """Which values the server would round, cut, pad or take for others without an error, or has no words for; None: none."""
    unworded, other = outside(array, first_year=0), _changed(array, column)
    if unworded is None or other is None:
        return other if unworded is None else unworded
    return pc.or_kleene(unworded, other)


def _changed(array: pa.Array, column: MyColumn) -> pa.Array | None:
    kind, sort = array.type, column.sort
    if pa.types.is_floating(kind):
        return pc.invert(pc.is_finite(array.cast(pa.float64())))
    if sort == "double" and kind in (pa.int64(), pa.uint64()):
        return pc.not_equal(array.cast(pa.float64(), safe=False).cast(kind, safe=False), array)
    if sort == "decimal" and pa.types.is_decimal(kind) and kind.scale > column.scale:
        return pc.not_equal(pc.round(array, ndigits=column.scale), array)
    if sort in ("time", "datetime", "timestamp") and (pa.types.is_timestamp(kind) or pa.types.is_time(kind)):
        return finer(array, column.scale)
    if sort == "year":
        years = array.cast(pa.int64(), safe=False)
        outside = pc.or_(pc.less(years, YEARS[0]), pc.greater(years, YEARS[1]))
        return pc.and_(outside, pc.not_equal(years, 0))
    if sort == "bool":
        return None
    if sort in ("enum", "set") and is_text(kind):
        return _no_members(array, column)
    return _cut(array, column) if column.length else None


def _cut(array: pa.Array, column: MyColumn) -> pa.Array | None:
    """Blanks that char takes away and varchar cuts; zeros that binary adds."""
    if is_bytes(array.type):
        return pc.less(pc.binary_length(array), column.length) if column.is_padded else None
    if not is_text(array.type):
        return None
    ends = pc.ends_with(array, " ")
    return ends if column.is_padded else pc.and_(ends, pc.greater(pc.utf8_length(array), column.length))


def _no_members(array: pa.Array, column: MyColumn) -> pa.Array:
    """What is no member as it is written: a server takes a number for a member's place, and any case."""
    if column.sort == "enum":
        return pc.invert(pc.is_in(array, pa.array(column.members, array.type)))
    places = {member: place for place, member in enumerate(column.members)}

    def is_kept(text: str) -> bool:
        found = [places.get(word, -1) for word in text.split(",")] if text else []
        return -1 not in found and found == sorted(set(found))

    kept = [text for text in pc.unique(array).to_pylist() if text is not None and is_kept(text)]
    return pc.invert(pc.is_in(array, pa.array(kept, array.type)))


def missing_keys(batch: pa.RecordBatch, key: Sequence[str]) -> Faults:
    """The records that lack a part of their key."""
    faults: Faults = {}
    for name in key:
        missing = pc.indices_nonzero(pc.is_null(batch.column(name))).to_pylist()
        faults.update(dict.fromkeys(missing, ("key_null", f"key column {name!r} is null")))
    return faults


def chunks(texts: pa.LargeStringArray, most_bytes: int) -> list[tuple[int, int]]:
    """Cuts lines into ranges of at most so many bytes, of one line at least."""
    if not len(texts):
        return []
    ends = np.cumsum(pc.binary_length(texts).to_numpy() + 1)
    found, first = [], 0
    while first < len(texts):
        used = ends[first - 1] if first else 0
        end = max(int(np.searchsorted(ends, used + most_bytes, "right")), first + 1)
        found.append((first, end))
        first = end
    return found
