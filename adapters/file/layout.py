"""Where the columns of a record of fixed width stand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, Literal

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import AfterValidator, Field

from pipelines.errors import Invalid, Problem
from pipelines.model import Model

MOST_WIDTH = 1 << 20


def _one_sign(text: str) -> str:
    if len(text) != 1 or text in "\r\n":
        raise ValueError(f"{text!r} is not one character")
    return text


class Place(Model):
    """Where a column stands in a record of fixed width."""

    width: int = Field(ge=1, le=MOST_WIDTH)
    """How many characters it takes."""
    at: int | None = Field(default=None, ge=1, le=MOST_WIDTH)
    """The place of its first character, from 1; without it right behind the column before."""
    align: Literal["left", "right"] | None = None
    """At which side its value stands; without it text left, anything else right, and what is filled with zeros too."""
    pad: Annotated[str, AfterValidator(_one_sign)] = " "
    """What fills the rest of its width."""


Layout = dict[str, Annotated[int, Field(ge=1, le=MOST_WIDTH)] | Place]
"""Columns to their width, or to where they stand and how."""


@dataclass(frozen=True)
class Span:
    """A column's characters, from `start` up to `stop`."""

    name: str
    start: int
    stop: int
    align: str | None
    pad: str

    @property
    def width(self) -> int:
        return self.stop - self.start

    def is_right(self, kind: pa.DataType) -> bool:
        """Whether values of this type stand at the right."""
        return self.align == "right" or (self.align is None and (self.pad == "0" or not pa.types.is_string(kind)))

    def cut(self, records: pa.StringArray) -> pa.StringArray:
        """The column's part of whole records."""
        return pc.utf8_slice_codeunits(records, self.start, self.stop)

    def taken(self, records: pa.StringArray, kind: pa.DataType) -> pa.StringArray:
        """The column's values in whole records, without what fills their width."""
        cut = self.cut(records)
        if pa.types.is_string(kind):
            trim = pc.utf8_ltrim if self.is_right(kind) else pc.utf8_rtrim
            return trim(cut, self.pad)
        # A zero in front of a number changes nothing, and of a number that is zero all would be taken.
        return pc.utf8_trim(cut, " " if self.pad in "0 " else f" {self.pad}")

    def guessed(self, cut: pa.StringArray) -> pa.StringArray:
        """Fields of which nobody has said the type, without what may fill their width."""
        if self.pad == "0":
            return pc.replace_substring_regex(pc.utf8_trim(cut, " "), "^(-?)0+([0-9])", r"\1\2")
        return pc.utf8_trim(cut, f" {self.pad}")

    def filled(self, values: pa.StringArray, kind: pa.DataType) -> pa.StringArray:
        """The values with what fills their width."""
        if not self.is_right(kind):
            return pc.utf8_rpad(values, self.width, self.pad)
        padded = pc.utf8_lpad(values, self.width, self.pad)
        if self.pad != "0" or pa.types.is_string(kind):
            return padded
        # The sign stands before the zeros.
        return pc.replace_substring_regex(padded, r"^(0+)-(.*)$", r"-\1\2")


def spans_of(layout: Mapping[str, int | Place] | None) -> list[Span]:
    """The columns of a layout, in its order.

    Raises:
        Invalid: there is none.
    """
    if not layout:
        fix = "give `layout: {order_id: 8, name: 20}`, each column with its width"
        raise Invalid(
            Problem("", 0, 0, "columns of fixed width are told by `layout`, which is missing", fix, ("layout",))
        )
    found: list[Span] = []
    behind = 0
    for name, each in layout.items():
        place = Place(width=each) if isinstance(each, int) else each
        start = behind if place.at is None else place.at - 1
        behind = start + place.width
        found.append(Span(name, start, behind, place.align, place.pad))
    return found


def overlapping(spans: list[Span]) -> tuple[Span, Span] | None:
    """Two columns that stand in each other's place; None where there are none."""
    ordered = sorted(spans, key=lambda span: span.start)
    return next(((one, other) for one, other in pairwise(ordered) if other.start < one.stop), None)
