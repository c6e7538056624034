"""The list of values at the edge in each format: what `file.post` writes `file.get` gives back as it was."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import pyarrow as pa
import pytest

from adapters import file
from pipelines.conformance import exchanges
from pipelines.conformance.edges import edges
from pipelines.conformance.exchanges import Rig
from tests.adapters.file.post_room import scope_in
from tests.adapters.test_exchanges import NO_TEXT, NO_TIME, InFile, declared


class TestAvro(InFile):
    path = "out.avro"
    lacks: ClassVar[dict[str, str]] = {
        "fine_time": "Avro's times have microseconds",
        "duration": "Avro's durations are unlike it",
    }
    rejects: ClassVar[dict[str, frozenset[str]]] = {"no_time": NO_TIME["no time"]}

    @pytest.fixture(autouse=True)
    def _plain_names(self, monkeypatch: pytest.MonkeyPatch) -> None:
        named = {name.replace(" ", "_"): edge for name, edge in edges().items()}
        monkeypatch.setattr(exchanges, "edges", lambda: named)

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

    def rig(self, tmp_path: Path) -> Rig:
        right = {"width": 80, "align": "right"}
        layout = {
            "k": 10,
            **{name: right if name == "wide decimal" else 80 for name in edges() if name not in self.lacks},
        }
        fields: dict[str, Any] = {"path": "out.txt", "format": "fixed", "layout": layout}
        return Rig(
            scope_in(tmp_path),
            lambda **config: file.Post(**{**fields, "layout": layout, **config}),
            lambda schema: file.Get(**fields, columns=declared(schema)),
        )
