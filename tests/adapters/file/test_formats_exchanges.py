"""The list of values at the edge in each format: what `file.post` writes `file.get` gives back as it was."""

from __future__ import annotations

from typing import Any, ClassVar

import pyarrow as pa
import pytest

from pipelines.conformance import exchanges
from pipelines.conformance.edges import edges
from tests.adapters.rigs import FINE, FLOATS, NO_TEXT, NO_TIME, InFile, declared


class WithPlainNames(InFile):
    """In formats whose names are letters, digits and _."""

    @pytest.fixture(autouse=True)
    def _plain_names(self, monkeypatch: pytest.MonkeyPatch) -> None:
        named = {name.replace(" ", "_"): edge for name, edge in edges().items()}
        monkeypatch.setattr(exchanges, "edges", lambda: named)


def plainly(told: dict[str, Any]) -> dict[str, Any]:
    return {name.replace(" ", "_"): what for name, what in told.items()}


class TestAvro(WithPlainNames):
    path = "out.avro"
    lacks: ClassVar[dict[str, str]] = {
        "fine_time": "Avro's times have microseconds",
        "duration": "Avro's durations are unlike it",
    }
    rejects: ClassVar[dict[str, frozenset[str]]] = {"no_time": NO_TIME["no time"]}

    def columns(self, schema: pa.Schema) -> dict[str, str] | None:
        return None


class TestFixedWidth(InFile):
    lacks: ClassVar[dict[str, str]] = dict.fromkeys(
        [*NO_TEXT, "list", "struct", "texts"], "`layout` has no place for it"
    )
    rejects: ClassVar[dict[str, frozenset[str]]] = NO_TIME | {
        "text": frozenset({"empty", "a blank", "blanks around", "line ends", "control signs", "long"}),
        "large text": frozenset({"empty"}),
        "word": frozenset({"empty"}),
        "fine moment": frozenset({"first"}),
    }

    path = "out.txt"
    too_large = "column 'text': "

    @pytest.fixture(autouse=True)
    def _layout(self, request: pytest.FixtureRequest) -> None:
        """The columns of the records that the test sends: a layout names all of them and no others."""
        name = request.node.name
        kept = [name for name in edges() if name not in self.lacks]
        self.names = ["text"] if "megabytes" in name else ["n", "text"] if "mistake" in name else kept

    def fields(self) -> dict[str, Any]:
        right = {"width": 80, "align": "right"}
        layout = {"k": 10, **{name: right if name == "wide decimal" else 80 for name in self.names}}
        return {"path": self.path, "format": "fixed", "layout": layout}


class TestExcel(InFile):
    path = "out.xlsx"
    too_large = "longer than the 32,767 characters of a cell"
    modes: ClassVar[dict[str, dict[str, Any]]] = {"replace": {"mode": "replace"}, "append": {}}
    lacks: ClassVar[dict[str, str]] = NO_TEXT | dict.fromkeys(
        ["instant", "instant in Berlin", "fine instant"], "Excel has no time zones"
    )
    rejects: ClassVar[dict[str, frozenset[str]]] = {
        "int64": frozenset({"least", "most"}),
        "uint64": frozenset({"most"}),
        "float32": FLOATS,
        "float64": FLOATS,
        "whole decimal": frozenset({"least", "most"}),
        "decimal": frozenset({"least", "most"}),
        "fraction": frozenset({"most"}),
        "wide decimal": frozenset({"most"}),
        "text": frozenset({"long"}),
        "date": frozenset({"year 1", "no such day in 1582"}),
        "far date": NO_TIME["far date"],
        "fine time": FINE,
        "no time": NO_TIME["no time"],
        "moment": frozenset({"year 1", "year 9999"}),
        "fine moment": frozenset({"first", "last", "microseconds", "nanoseconds"}),
        "moment of seconds": frozenset({"year 1"}),
        "far moment": NO_TIME["far moment"],
    }

    def columns(self, schema: pa.Schema) -> dict[str, str] | None:
        flat = pa.schema(
            [pa.field(each.name, pa.string()) if pa.types.is_nested(each.type) else each for each in schema]
        )
        return declared(flat)


class TestXml(WithPlainNames):
    path = "out.xml"
    too_large = "takes more than 32 MiB"
    lacks: ClassVar[dict[str, str]] = plainly(NO_TEXT)
    rejects: ClassVar[dict[str, frozenset[str]]] = plainly(NO_TIME) | {
        "text": frozenset({"NUL", "just NUL", "separators of lines", "control signs", "no character"}),
        "word": frozenset({"NUL"}),
        "fine_moment": frozenset({"first", "last"}),
        "list": frozenset({"empty"}),
    }
