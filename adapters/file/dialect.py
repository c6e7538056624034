"""How CSV text is read: the marks of a node's fields, and Arrow's parser set to them.

Every value is read by this one parser with these settings, alone or among others, so that what becomes of a value
does not depend on its neighbours: integers are digits with an optional minus, decimals must fit without rounding, times
are ISO 8601, true and false are `true`, `false`, `1`, `0`. An empty field is null; in quotes it is an empty text.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv

from adapters.file.quotes import Quoting

ONLY_ASCII = bytes(byte if byte < 128 else ord("?") for byte in range(256))
"""Translates text so that the parser can hand on records with bytes that are no UTF-8."""


class InvalidRow(Protocol):
    """A record with a wrong number of fields; `number` counts records from 1, blank lines left out."""

    number: int
    expected_columns: int
    actual_columns: int


@dataclass(frozen=True)
class Dialect:
    """The marks and words of CSV text."""

    delimiter: str = ","
    quote: str = '"'
    escape: str = ""
    null_values: tuple[str, ...] = ("",)
    decimal_separator: str = "."
    quoting: Quoting = field(init=False)

    def __post_init__(self) -> None:
        quote = ord(self.quote) if self.quote else None
        escape = ord(self.escape) if self.escape and self.escape != self.quote else None
        object.__setattr__(self, "quoting", Quoting(ord(self.delimiter), quote, escape))

    def rows(
        self,
        data: bytes | memoryview | pa.Buffer,
        names: Sequence[str] | None,
        types: Mapping[str, pa.DataType],
        *,
        wanted: Sequence[str] | None = None,
        quoted_nulls: bool = False,
        on_invalid: Callable[[InvalidRow], str] | None = None,
    ) -> pa.Table:
        """The records of some text. `names` None: they are named f0, f1, ….

        Raises:
            pa.ArrowInvalid: where a value does not fit its column's type.
        """
        return csv.read_csv(
            pa.BufferReader(data),
            read_options=csv.ReadOptions(
                use_threads=False,
                block_size=len(data) + 1,
                column_names=None if names is None else list(names),
                autogenerate_column_names=names is None,
            ),
            parse_options=csv.ParseOptions(
                delimiter=self.delimiter,
                quote_char=self.quote or False,
                double_quote=bool(self.quote),
                escape_char=self.escape if self.quoting.escape is not None else False,
                newlines_in_values=True,
                invalid_row_handler=on_invalid,
            ),
            convert_options=self._conversion(types, wanted, quoted_nulls),
        )

    def _conversion(
        self, types: Mapping[str, pa.DataType], wanted: Sequence[str] | None, quoted_nulls: bool
    ) -> csv.ConvertOptions:
        return csv.ConvertOptions(
            column_types=dict(types),
            include_columns=None if wanted is None else list(wanted),
            null_values=list(self.null_values),
            strings_can_be_null=True,
            quoted_strings_can_be_null=quoted_nulls,
            decimal_point=self.decimal_separator,
        )

    def values(self, texts: pa.BinaryArray, kind: pa.DataType) -> pa.Array:
        """Texts, each as the one field of a record, as `kind`; null stays null.

        Raises:
            pa.ArrowInvalid: where a text does not fit.
        """
        if not len(texts):
            return pa.nulls(0, kind)
        column = _column_of(texts)
        found = csv.read_csv(
            pa.BufferReader(column),
            read_options=csv.ReadOptions(use_threads=False, block_size=len(column) + 1, column_names=["value"]),
            parse_options=csv.ParseOptions(newlines_in_values=True, ignore_empty_lines=False),
            convert_options=csv.ConvertOptions(
                column_types={"value": kind},
                null_values=[""],
                quoted_strings_can_be_null=False,
                strings_can_be_null=True,
                decimal_point=self.decimal_separator,
            ),
        )
        return found.column(0).combine_chunks()


def _column_of(texts: pa.BinaryArray) -> pa.Buffer:
    """CSV text of one column: every value in quotes, nulls empty."""
    if len(texts) == 1 and texts[0].is_valid:  # the quick way for one
        return pa.py_buffer(b'"' + texts[0].as_py().replace(b'"', b'""') + b'"\n')
    if pc.any(pc.match_substring(texts, '"')).as_py():
        texts = pc.replace_substring(texts, '"', '""')
    quoted = pc.binary_join_element_wise(b'"', texts, b'"', b"").fill_null(b"")
    ends = pa.array([0, len(quoted)], pa.int32())
    joined = pc.binary_join(pa.ListArray.from_arrays(ends, quoted), b"\n")
    return pa.py_buffer(joined[0].as_py() + b"\n")
