"""Stored values: of every type as they were, by scope, key by key, all or nothing."""

from __future__ import annotations

import threading
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from pipelines import stored
from pipelines.conformance.nodes import Reported
from pipelines.errors import Invalid
from pipelines.node import Want
from pipelines.scope import Scope
from pipelines.sql.sandbox import Sandbox
from pipelines.stored import Change, Place
from repository.catalogue import Catalogue
from repository.project import Project
from transforms.recall import Recall
from transforms.store import Store


def test_values_of_an_environment_are_all_flows_and_those_of_a_flow_its_own(tmp_path: Path) -> None:
    (tmp_path / ".processflow").mkdir()
    catalogue = Catalogue(Project(tmp_path).catalogue_url)
    change = Change(Place("environment", "rates"), {"[]": {"rate": "1.5"}})
    own = Change(Place("flow", "rates"), {"[]": {"rate": "2.5"}})
    for run, flow in (("r1", "one"), ("r2", "two")):
        catalogue.begin_run(run, flow, "v", "local", datetime.now(UTC))
    catalogue.end_run("r1", {"status": "done"}, changes=[change, own])
    catalogue.end_run("r2", {"status": "done"})

    assert catalogue.stored("local", "two", Place("environment", "rates")) == {"[]": {"rate": "1.5"}}
    assert catalogue.stored("local", "one", Place("flow", "rates")) == {"[]": {"rate": "2.5"}}
    assert catalogue.stored("local", "two", Place("flow", "rates")) == {}
    assert catalogue.stored("other", "one", Place("environment", "rates")) == {}


def test_of_runs_at_the_same_time_the_one_that_ends_last_counts_key_by_key(tmp_path: Path) -> None:
    (tmp_path / ".processflow").mkdir()
    url = Project(tmp_path).catalogue_url
    setup = Catalogue(url)
    for number in range(8):
        setup.begin_run(f"r{number}", f"flow-{number}", "v", "local", datetime.now(UTC))

    def end(number: int) -> None:
        values = {f'["{number}"]': {"v": str(number)}, '["all"]': {"v": str(number)}}
        catalogue = Catalogue(url)
        catalogue.end_run(f"r{number}", {"status": "done"}, changes=[Change(Place("environment", "n"), values)])
        catalogue.close()

    threads = [threading.Thread(target=end, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    found = setup.stored("local", "any", Place("environment", "n"))
    assert {found[f'["{number}"]']["v"] for number in range(8)} == {str(number) for number in range(8)}
    assert found['["all"]']["v"] in {str(number) for number in range(8)}


def test_a_change_replaces_or_forgets_and_is_all_or_nothing(tmp_path: Path) -> None:
    place = Place("flow", "n")
    values = {f"[{number}]": {"v": str(number)} for number in range(1_000)}

    deleted = stored.changed(values, Change(place, {"[0]": None, "[5000]": None}))
    replaced = stored.changed(values, Change(place, {"[7]": {"v": "x"}}, replaces=True))

    assert len(deleted) == 999
    assert replaced == {"[7]": {"v": "x"}}
    (tmp_path / ".processflow").mkdir()
    catalogue = Catalogue(Project(tmp_path).catalogue_url)
    for number, change in enumerate(
        [Change(place, values), Change(place, {"[0]": None}), Change(place, {"[7]": {"v": "x"}}, True)]
    ):
        catalogue.begin_run(f"r{number}", "f", "v", "local", datetime.now(UTC))
        catalogue.end_run(f"r{number}", {"status": "done"}, changes=[change])
        assert len(catalogue.stored("local", "f", place)) == (1_000, 999, 1)[number]


def test_values_of_every_plain_type_come_back_as_they_were(tmp_path: Path) -> None:
    schema = pa.schema(
        [
            ("b", pa.bool_()), ("i", pa.int64()), ("u", pa.uint64()), ("f", pa.float64()), ("d", pa.decimal128(38, 9)),
            ("t", pa.string()), ("x", pa.binary()), ("day", pa.date32()), ("at", pa.timestamp("us", "UTC")), ("m", pa.timestamp("us")),
        ]
    )  # fmt: skip
    kinds = {
        "b": "BOOLEAN",
        "i": "BIGINT",
        "u": "UBIGINT",
        "f": "DOUBLE",
        "d": "DECIMAL(38,9)",
        "t": "VARCHAR",
        "x": "BLOB",
        "day": "DATE",
        "at": "TIMESTAMPTZ",
        "m": "TIMESTAMP",
    }
    rows = [
        {
            "b": True,
            "i": -(2**63),
            "u": 2**64 - 1,
            "f": 0.1,
            "d": Decimal("-12345678901234567890123456789.123456789"),
            "t": "it's \U0001f600",
            "x": b"\x00'\xff\\",
            "day": date(9999, 12, 31),
            "at": datetime(2026, 1, 1, 0, 0, 0, 1, tzinfo=UTC),
            "m": datetime.fromisoformat("0001-01-01"),
        },
        dict.fromkeys(schema.names),
    ]
    sandbox = Sandbox()
    records = stored.texts(pa.RecordBatch.from_pylist(rows, schema=schema), sandbox)
    scope = Scope(tmp_path, staging=tmp_path)
    stored.keep(scope, Place("flow", "all"), {str(number): record for number, record in enumerate(records)})
    node = Recall(name="all", columns=kinds)
    told = node.check({}, scope, Reported())["out"]
    assert told is not None

    (chunk,) = node.read({}, told, scope, Want())

    assert chunk.batch.schema.equals(told)
    assert told.equals(schema)
    assert chunk.batch.to_pylist() == rows
    sandbox.close()


def test_what_was_stored_as_another_type_is_told(tmp_path: Path) -> None:
    scope = Scope(tmp_path, staging=tmp_path)
    stored.keep(scope, Place("flow", "last"), {"[]": {"at": "soon"}})
    node = Recall(name="last", columns={"at": "DATE"})

    with pytest.raises(
        Invalid, match="what is stored as 'last': column 'at' holds 'soon' in record 1, which is no DATE"
    ):
        list(node.read({}, pa.schema([("at", pa.date32())]), scope, Want()))


def test_what_is_wrong_is_told_at_its_field(tmp_path: Path) -> None:
    nested = pa.schema([("n", pa.int64()), ("tags", pa.list_(pa.string()))])

    def problems(node: Any, schema: pa.Schema = nested) -> list[str]:
        report = Reported()
        scope = Scope(tmp_path)
        node.check_each(schema, scope, report) if isinstance(node, Recall) else node.check({"": schema}, scope, report)
        return list(report)

    assert problems(Store(name="x", key="m"))[0] == "key: there is no column 'm'; there are: n, tags"
    assert problems(Store(name="x", key="n"))[0].startswith("columns: column 'tags' is nested")
    assert problems(Store(name="x", mode="delete", columns="n"))[0].startswith("mode: mode 'delete' needs `key`")
    assert problems(Recall(name="x", columns={"a": "NUMBERISH"}))[0].startswith(
        "columns.a: 'NUMBERISH' is no DuckDB type"
    )
    assert problems(Recall(name="x", columns={"n": "BIGINT"}))[0].startswith(
        "columns: column 'n' comes in and is recalled"
    )
    assert problems(Recall(name="x", columns={"a": "DATE"}, key="b"))[0].startswith("key: 'b' is none of `columns`")
    assert problems(Recall(name="x", columns={"a": "DATE"}, default={"a": "soon"}))[0].startswith(
        "default: the default of 'x'"
    )
