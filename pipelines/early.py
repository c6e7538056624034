"""Groups made early: of what a worker holds, before it is spilled, and put together when all have come.

It is done only where the groups come out the same to the last digit: counts, least and greatest values, and sums of whole
numbers and decimals. An average or a sum of floating point depends on the order in which it is added up. A worker of whose
records one makes nearly as many groups gives it up, and spills records as they are.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import duckdb
import pyarrow as pa

from pipelines.errors import Failed
from pipelines.records import ROW_ID
from pipelines.sql.literals import name_of
from pipelines.sql.sandbox import Sandbox
from pipelines.sql.wording import one_line
from pipelines.sql.workbench import Workbench
from pipelines.wire import read_spill

EARLY, RAW, IDS = "__early", "__raw", "__ids"
WORTH = 2
"""Groups are made early as long as so many records on average become one."""
COUNTED = "CAST(sum({}) AS BIGINT)"
TOGETHER = {"count": COUNTED, "count_star": COUNTED, "sum": "sum({})", "min": "min({})", "max": "max({})"}
PLAIN = (
    *(pa.types.is_integer, pa.types.is_decimal128, pa.types.is_boolean, pa.types.is_string),
    *(pa.types.is_date, pa.types.is_time, pa.types.is_timestamp),
)
"""What a measure may be, so that its parts lie in a file as they are."""


@dataclass(frozen=True)
class Groups:
    """How records become groups: by some columns, with measures that can be put together of parts."""

    by: Sequence[str]
    measures: Mapping[str, str]
    """Names to aggregates in SQL."""
    merges: Mapping[str, str]
    """Names to what puts parts together, with `{}` for their column."""

    def items(self, ids: str) -> str:
        """The list of a SELECT that makes groups, with their row id, and all row ids where they are asked for."""
        named = [f"{text} AS {name_of(name)}" for name, text in self.measures.items()]
        return ", ".join([*map(name_of, self.by), *named, f"min({ROW_ID}) AS {ROW_ID}", *([ids] if ids else [])])

    @property
    def then(self) -> str:
        return f"GROUP BY {', '.join(map(name_of, self.by))}"

    def together(self, has_raw: bool) -> str:
        """The SELECT that puts together what was grouped early, and what was not."""
        columns = ", ".join(map(name_of, [*self.by, *self.measures, ROW_ID]))
        parts = f"SELECT {columns} FROM {EARLY}"
        parts += f" UNION ALL SELECT {self.items('')} FROM {RAW} {self.then}" if has_raw else ""
        merged = [f"{self.merges[name].format(name_of(name))} AS {name_of(name)}" for name in self.measures]
        return f"SELECT {', '.join([*map(name_of, self.by), *merged, f'min({ROW_ID}) AS {ROW_ID}'])} FROM ({parts}) {self.then}"


def groups_of(by: Sequence[str], measures: Mapping[str, str], given: pa.Schema, sandbox: Sandbox) -> Groups | None:
    """How groups can be made early; None: not with the same result. `given`: the columns of the groups."""
    if not by:
        return None
    merges = {name: _merge(text, given.field(name).type, sandbox) for name, text in measures.items()}
    found = {name: merge for name, merge in merges.items() if merge is not None}
    return Groups(by, measures, found) if len(found) == len(measures) else None


def _merge(text: str, kind: pa.DataType, sandbox: Sandbox) -> str | None:
    ((told,),) = sandbox.fetch("SELECT json_serialize_sql($1)", [f"SELECT {text}"])
    tree = json.loads(str(told))["statements"][0]["node"]["select_list"][0]
    is_plain = tree["class"] == "FUNCTION" and not tree["distinct"] and not tree["order_bys"]["orders"]
    name = tree["function_name"].lower() if is_plain and len(tree["arguments"]) <= 1 else ""
    if name == "sum" and not pa.types.is_decimal128(kind):
        return None
    return TOGETHER.get(name) if any(is_kind(kind) for is_kind in PLAIN) else None


class Early:
    """Makes groups of the records that one worker holds, as long as that is worth it."""

    def __init__(self, groups: Groups, schema: pa.Schema, sandbox: Sandbox, keeps_ids: bool) -> None:
        ids = f"list({ROW_ID}) AS {IDS}" if keeps_ids else ""
        self._groups = sandbox.prepare(groups.items(ids), schema, groups.then)
        self.keys = pa.schema([schema.field(name) for name in groups.by])
        self.is_exact = all(self._groups.schema.field(key.name).type.equals(key.type) for key in self.keys)
        """Whether the keys come back as they are."""

    def __call__(self, batch: pa.RecordBatch) -> pa.RecordBatch | None:
        """The groups of a batch; None: they are too many."""
        try:
            found = self._groups(batch)
        except duckdb.Error as fault:
            raise Failed(one_line(str(fault))) from fault
        return found if found.num_rows * WORTH <= batch.num_rows else None


def put_together(bench: Workbench, relation: str, groups: Groups, paths: Sequence[Path], has_raw: bool) -> str:
    """The SELECT over groups made early and the records that lie in `RAW`, if any. `relation` has the keys and row ids of all."""
    batches = [batch for path in paths for batch in read_spill(path)]
    bench.lend(EARLY, pa.Table.from_batches(batches))
    if IDS in batches[0].schema.names:
        keys = ", ".join(map(name_of, groups.by))
        raw = f" UNION ALL SELECT {keys}, {ROW_ID} FROM {RAW}" if has_raw else ""
        unnested = f"SELECT {keys}, unnest({IDS}) AS {ROW_ID} FROM {EARLY}"
        bench.run(f"CREATE TEMP VIEW {name_of(relation)} AS {unnested}{raw}")
    return groups.together(has_raw)
