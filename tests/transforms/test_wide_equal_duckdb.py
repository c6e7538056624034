"""Every wide node against plain DuckDB: keys and values of every kind, nulls, batches of any size, any number of workers."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, ClassVar

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.prepare import Request, prepare
from pipelines.drive import drive
from pipelines.environment import Environment, Runner
from pipelines.errors import Invalid
from pipelines.flow import Link, NodeSpec
from pipelines.job import Gathering, Job
from pipelines.node import Chunk, Get, Json, Schemas, Split, SplitPlan, Want, Wide
from pipelines.plan import Plan, Station
from pipelines.remembering import CAME, KeyWriter, Memory, keep_unseen
from pipelines.scope import Scope
from pipelines.sql.carried import plain_type
from pipelines.sql.sandbox import Sandbox
from pipelines.sql.workbench import Workbench
from pipelines.tap import TapPlan
from tests.agent.projects import project
from tests.pipelines.engine import open_noted
from transforms.aggregate import Aggregate
from transforms.dedupe import Dedupe
from transforms.join import Join
from transforms.pivot import Pivot
from transforms.sort import Sort
from transforms.sql import Sql

EXAMPLES = 2
"""Examples for each kind: each runs fourteen nodes. Many kinds find more than many examples."""
COMING: dict[str, list[pa.RecordBatch]] = {}
"""What the sources of the example at hand give, a batch for each split."""


class Here(Get):
    """Gives what lies in this module."""

    name: str
    category: ClassVar[str] = "tests"

    def check(self, inputs: Schemas, scope: Scope, report: Any) -> Schemas:
        return {"out": COMING[self.name][0].schema}

    def plan(self, scope: Scope, position: Json, want: Want) -> SplitPlan:
        return SplitPlan(tuple(Split(number, batch.num_rows) for number, batch in enumerate(COMING[self.name])))

    def read(self, split: Json, schema: pa.Schema, scope: Scope, want: Want) -> Iterator[Chunk]:
        batch = COMING[self.name][split]
        for first in range(0, batch.num_rows, want.batch_rows):
            yield Chunk(batch.slice(first, want.batch_rows), first)


MOMENTS = st.datetimes()
NANOS = st.integers(-(10**15), 10**15).map(lambda number: number * 1000)
TEXTS = st.sampled_from(
    ["", " ", "a", "A", "a ", "ä", "a\u0308", "ß", "ss", "\x00", "a\x00b", "null", "1", "🙂", "Z" * 40]
)
KINDS: dict[str, tuple[pa.DataType, st.SearchStrategy[Any]]] = {
    "bool": (pa.bool_(), st.booleans()),
    "int8": (pa.int8(), st.integers(-128, 127)),
    "int32": (pa.int32(), st.integers(-3, 3)),
    "int64": (pa.int64(), st.one_of(st.integers(-3, 3), st.sampled_from([2**63 - 1, -(2**63)]))),
    "uint64": (pa.uint64(), st.sampled_from([0, 1, 2**63, 2**64 - 1])),
    "float": (pa.float32(), st.sampled_from([0.0, -0.0, 1.5, math.nan, math.inf, -math.inf])),
    "double": (pa.float64(), st.sampled_from([0.0, -0.0, 1.5, math.nan, -math.nan, math.inf, -math.inf, 5e-324])),
    "decimal": (pa.decimal128(38, 10), st.decimals(-1000, 1000, places=10)),
    "small decimal": (pa.decimal128(9, 2), st.sampled_from([Decimal("0.00"), Decimal("1.10"), Decimal("-1.10")])),
    "text": (pa.string(), TEXTS),
    "large text": (pa.large_string(), TEXTS),
    "bytes": (pa.binary(), st.binary(max_size=2)),
    "date": (pa.date32(), st.dates(date(1, 1, 1), date(9999, 12, 31))),
    "time": (pa.time64("us"), st.times()),
    "timestamp": (pa.timestamp("us"), MOMENTS),
    "timestamp in seconds": (pa.timestamp("s"), MOMENTS.map(lambda moment: moment.replace(microsecond=0))),
    "timestamp in nanoseconds": (pa.timestamp("ns"), NANOS),
    "timestamp of a zone": (pa.timestamp("us", "UTC"), MOMENTS.map(lambda moment: moment.replace(tzinfo=UTC))),
    "timestamp of another zone": (
        pa.timestamp("us", "Europe/Berlin"),
        st.integers(0, 4 * 10**9).map(lambda seconds: datetime.fromtimestamp(seconds, UTC)),
    ),
    "list": (pa.list_(pa.int64()), st.lists(st.one_of(st.none(), st.integers(0, 2)), max_size=3)),
    "struct": (
        pa.struct([("a", pa.int64()), ("b", pa.string())]),
        st.fixed_dictionaries({"a": st.one_of(st.none(), st.integers(0, 1)), "b": st.one_of(st.none(), TEXTS)}),
    ),
    "list of structs": (
        pa.list_(pa.struct([("x", pa.float64())])),
        st.lists(st.fixed_dictionaries({"x": st.sampled_from([0.0, -0.0, math.nan, None])}), max_size=2),
    ),
    "large list": (pa.large_list(pa.string()), st.lists(TEXTS, max_size=2)),
    "list of two": (pa.list_(pa.int64(), 2), st.lists(st.integers(0, 1), min_size=2, max_size=2)),
    "map": (
        pa.map_(pa.string(), pa.int64()),
        st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 1)), max_size=1),
    ),
    "time in seconds": (pa.time32("s"), st.times().map(lambda moment: moment.replace(microsecond=0))),
    "time in nanoseconds": (pa.time64("ns"), st.times()),
    "date in milliseconds": (pa.date64(), st.dates(date(1970, 1, 1), date(2100, 1, 1))),
    "two bytes": (pa.binary(2), st.binary(min_size=2, max_size=2)),
    "text view": (pa.string_view(), TEXTS),
    "dictionary of numbers": (pa.dictionary(pa.int8(), pa.int64()), st.integers(0, 3)),
    "dictionary": (pa.dictionary(pa.int32(), pa.string()), TEXTS),
    "null": (pa.null(), st.none()),
}

NODES: dict[str, tuple[Wide, dict[str, str], str]] = {
    "groups": (
        Aggregate(
            by=["k"], measures={"n": "count(*)", "s": "sum(v)", "d": "sum(m)", "least": "min(k)", "ids": "max(id)"}
        ),
        {"": "left"},
        "SELECT k, count(*) AS n, sum(v) AS s, sum(m) AS d, min(k) AS least, max(id) AS ids FROM l GROUP BY k",
    ),
    "all": (
        Aggregate(measures={"n": "count(k)", "kinds": "count(DISTINCT k)", "s": "sum(v)"}),
        {"": "left"},
        "SELECT count(k) AS n, count(DISTINCT k) AS kinds, sum(v) AS s FROM l",
    ),
    "firsts": (
        Dedupe(key=["k"], order_by=["v", "id"]),
        {"": "left"},
        "SELECT * FROM l QUALIFY row_number() OVER (PARTITION BY k ORDER BY v NULLS LAST, id NULLS LAST) = 1",
    ),
    "lasts": (
        Dedupe(key=["k", "v"], keep="last", order_by=["id"]),
        {"": "left"},
        "SELECT * FROM l QUALIFY row_number() OVER (PARTITION BY k, v ORDER BY id DESC NULLS LAST) = 1",
    ),
    "sorted": (
        Sort(by=["k", "-v", "id"]),
        {"": "left"},
        "SELECT * FROM l ORDER BY k NULLS LAST, v DESC NULLS LAST, id",
    ),
    "few": (
        Sort(by=["-k", "id"], limit=3),
        {"": "left"},
        "SELECT * FROM l ORDER BY k DESC NULLS LAST, id LIMIT 3",
    ),
    "pivoted": (
        Pivot(by=["k"], on="v", columns={"one": "1", "two": "2"}, values="count(*)"),
        {"": "left"},
        "SELECT k, count(*) FILTER (WHERE v::VARCHAR = '1') AS one, count(*) FILTER (WHERE v::VARCHAR = '2') AS two "
        "FROM l GROUP BY k",
    ),
    "asked": (
        Sql.model_validate({"query": "SELECT k, count(*) AS n, sum(rid) AS r FROM l LEFT JOIN r USING (k) GROUP BY k"}),
        {"l": "left", "r": "right"},
        "SELECT k, count(*) AS n, sum(rid) AS r FROM l LEFT JOIN r USING (k) GROUP BY k",
    ),
    **{
        f"{how} join": (
            Join.model_validate({"on": "k", "how": how, "take": ["rid"]}),
            {"left": "left", "right": "right"},
            f"SELECT l.id, {key} AS k, l.v, l.m, r.rid FROM l {kind} r ON l.k = r.k",
        )
        for how, kind, key in (
            ("inner", "JOIN", "l.k"),
            ("left", "LEFT JOIN", "l.k"),
            ("right", "RIGHT JOIN", "r.k"),
            ("full", "FULL JOIN", "coalesce(l.k, r.k)"),
        )
    },
    **{
        f"{how} join": (
            Join.model_validate({"on": ["k"], "how": how}),
            {"left": "left", "right": "right"},
            f"SELECT l.* FROM l {how} JOIN r ON l.k = r.k",
        )
        for how in ("semi", "anti")
    },
}
ORDERED = ("sorted", "few")


def outcome(folder: Path, nodes: Mapping[str, tuple[Wide, dict[str, str], str]], batch_rows: int, workers: int) -> Job:
    """A job that has run all these nodes over what is `COMING`, dry."""
    environment = Environment(runner=Runner(workers=workers))
    scope = Scope(project=folder, environment=environment, run="r", staging=folder / "staging")
    scope.staging.mkdir(exist_ok=True)
    schemas = {name: batches[0].schema for name, batches in COMING.items()}
    stations = {}
    for number, (name, schema) in enumerate(schemas.items()):
        targets = tuple(node for node, (_, inputs, _) in nodes.items() if name in inputs.values())
        spec = NodeSpec(name, "here", Here(name=name))
        stations[name] = Station(spec, schema, {"out": schema}, {"out": targets}, number=number)
    for name, (config, inputs, _) in nodes.items():
        named = {into: schemas[source] for into, source in inputs.items()}
        links = tuple(Link(source, into=into) for into, source in inputs.items())
        told = config.check(named, scope, _refused)["out"]
        assert told is not None
        stations[name] = Station(
            NodeSpec(name, name, config, links), schemas["left"], {"out": told}, named_inputs=named
        )
    plan = Plan("types", "1", stations, batch_rows)
    gathering = Gathering({(name, "out"): None for name in nodes})
    tap_plan = TapPlan(folder, scope.staging, "types", "1", "r", {})
    job = Job(plan, scope, tap_plan, open_noted, workers=workers, gathering=gathering)
    drive(job)
    return job


def _refused(at: tuple[str | int, ...], what: str, fix: str = "", *, warning: bool = False) -> None:
    raise AssertionError(f"{at}: {what}; {fix}")


def plain(value: Any) -> Any:
    """A value as it can be compared: NaN is NaN, and zero has no sign."""
    if isinstance(value, float):
        return "nan" if math.isnan(value) else value + 0.0
    if isinstance(value, datetime) and value.tzinfo is not None:
        return value.astimezone(UTC)
    if isinstance(value, Mapping):
        return {name: plain(each) for name, each in value.items()}
    if isinstance(value, list):
        return [plain(each) for each in value]
    return value


def shown(table: pa.Table) -> list[str]:
    return [repr(plain(row)) for row in table.to_pylist()]


def batch(kind: pa.DataType, rows: Sequence[tuple[Any, int | None]], names: tuple[str, str]) -> pa.RecordBatch:
    keys = pa.array([key for key, _ in rows], kind)
    values = [value for _, value in rows]
    columns = {names[0]: pa.array(range(len(rows)), pa.int64()), names[1]: keys}
    if names[0] == "id":
        money = [None if value is None else Decimal(value) / 4 for value in values]
        columns |= {"v": pa.array(values, pa.int64()), "m": pa.array(money, pa.decimal128(38, 2))}
    return pa.record_batch(columns)


def cut(whole: pa.RecordBatch, parts: int) -> list[pa.RecordBatch]:
    edges = [whole.num_rows * part // parts for part in range(parts + 1)]
    return [whole.slice(first, last - first) for first, last in itertools.pairwise(edges)]


@pytest.mark.parametrize("kind", KINDS)
def test_every_wide_node_gives_what_duckdb_gives_for_keys_of(
    kind: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    arrow, values = KINDS[kind]
    pairs = st.tuples(st.one_of(st.none(), values), st.one_of(st.none(), st.integers(0, 3)))

    @settings(max_examples=EXAMPLES, suppress_health_check=list(HealthCheck))
    @given(
        st.lists(pairs, max_size=24),
        st.lists(pairs, max_size=12),
        st.integers(1, 8),
        st.integers(1, 4),
        st.integers(1, 3),
    )
    def holds(left: list[Any], right: list[Any], batch_rows: int, workers: int, parts: int) -> None:
        sides = {"left": batch(arrow, left, ("id", "k")), "right": batch(arrow, right, ("rid", "k"))}
        COMING.update({name: cut(whole, parts) for name, whole in sides.items()})
        job = outcome(tmp_path_factory.mktemp("types"), NODES, batch_rows, workers)
        assert job.gathering is not None

        with duckdb.connect() as connection:
            connection.execute("SET TimeZone = 'UTC'")
            connection.register("l", sides["left"])
            connection.register("r", sides["right"])
            for name, (_, _, sql) in NODES.items():
                station = job.plan.stations[name]
                found = pa.Table.from_batches(job.gathering.found.get((name, "out"), []), station.outputs["out"])
                wanted = connection.sql(sql).to_arrow_table()
                assert found.schema.names == wanted.schema.names, name
                order = (lambda rows: rows) if name in ORDERED else sorted
                assert order(shown(found)) == order(shown(wanted)), name

    holds()


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_remembered_is_found_again_and_nothing_else_for_keys_of(
    kind: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    arrow, values = KINDS[kind]
    keys = st.lists(st.one_of(st.none(), values), max_size=12)

    @settings(max_examples=EXAMPLES, suppress_health_check=list(HealthCheck))
    @given(keys, keys)
    def holds(before: list[Any], now: list[Any]) -> None:
        folder, sandbox = tmp_path_factory.mktemp("keys"), Sandbox()
        known = batch(plain_type(arrow), [(key, None) for key in before], ("rid", "k"))
        coming = batch(plain_type(arrow), [(key, None) for key in now], ("rid", "k"))
        writer = KeyWriter(folder, ["k"], datetime(2026, 1, 1, tzinfo=UTC), sandbox)
        writer.put(known)
        files = tuple(file["path"] for file in writer.close())

        bench = Workbench(folder, 1 << 28)
        bench.lend(CAME, pa.Table.from_batches([coming]))
        keep_unseen(bench, "input", ["k"], Memory(files), sandbox)
        left = bench.rows("SELECT rid FROM input ORDER BY rid")
        bench.close()

        with duckdb.connect() as connection:
            connection.register("l", coming)
            connection.register("r", known)
            same = "EXISTS (SELECT 1 FROM r WHERE l.k IS NOT DISTINCT FROM r.k)"
            assert left == connection.execute(f"SELECT rid FROM l WHERE NOT {same} ORDER BY rid").fetchall()

    holds()


def test_what_comes_in_many_dictionaries_leaves_as_it_was(tmp_path: Path) -> None:
    kind = pa.dictionary(pa.int32(), pa.string())
    rows = [(f"text {number % 50}", number) for number in range(400)]
    COMING["left"] = [batch(kind, rows[first : first + 50], ("id", "k")) for first in range(0, 400, 50)]
    COMING["right"] = [batch(kind, [("text 1", 1)], ("rid", "k"))]

    job = outcome(tmp_path, {name: NODES[name] for name in ("sorted", "firsts")}, 7, 2)

    assert job.gathering is not None
    found = pa.Table.from_batches(job.gathering.found["sorted", "out"]).column("k").to_pylist()
    assert sorted(found) == sorted(key for key, _ in rows)
    assert sum(each.num_rows for each in job.gathering.found["firsts", "out"]) == 50


@pytest.mark.parametrize("kind", [pa.duration("us"), pa.decimal256(50, 2), pa.float16(), pa.list_(pa.duration("s"))])
def test_a_column_that_duckdb_would_change_is_a_problem_before_the_run(kind: pa.DataType, tmp_path: Path) -> None:
    pq.write_table(pa.table({"k": pa.array([None], kind)}), tmp_path / "k.parquet", store_schema=True)
    flow = """flow: night
nodes:
  start: {type: start}
  read: {type: file.get, from: start, path: k.parquet}
  once: {type: dedupe, from: read, key: [k]}
  kept: {type: file.post, from: once, path: kept.parquet}
"""

    with pytest.raises(Invalid, match=r"column 'k' is .*, which this node cannot keep as it is"):
        prepare(Request(project(tmp_path, flow), "night"))
