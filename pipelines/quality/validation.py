"""A `validate` node at work in one thread: brings columns to their types, judges records, keeps what the run's end needs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from uuid import uuid4

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipelines.node import Outcome, Part, Piece, Rejects
from pipelines.quality.checks import Checks, Judged, any_of
from pipelines.quality.declared import Conversion, Declared, conversions, converted_schema, required
from pipelines.quality.rules import Rule
from pipelines.scope import Scope
from pipelines.sql.literals import literal, name_of
from pipelines.sql.sandbox import Prepared, Sandbox

CODE = "validation"
"""The reject code of a record that breaks a rule."""
CONDITION_CODE = "expression"
"""The reject code of a record for which a row condition cannot be computed."""
GROUP_ROWS = 65_536
"""The least rows of a row group in the file of spilled columns."""
EXAMPLES = 3
"""So many broken records of a rule that is judged over the run are told by each thread."""


@dataclass
class Count:
    """What one thread saw of one rule."""

    considered: int = 0
    broken: int = 0
    examples: list[str] = field(default_factory=list)


class Validation:
    """The step of a `validate` node. Its `close` names the parts that `verdicts.findings` judges."""

    def __init__(
        self, rules: Sequence[Rule], declared: Mapping[str, Declared], schema: pa.Schema, scope: Scope, sandbox: Sandbox
    ) -> None:
        self._sandbox = sandbox
        self._conversions = conversions(declared, schema, sandbox)
        self.schema = converted_schema(schema, self._conversions)
        self._needed = required(declared, self.schema)
        self._columns = self._prepare_columns(schema)
        self._checks = Checks(rules, self.schema, scope, sandbox)
        self._counts: dict[int, Count] = {number: Count() for number in self._checks.conditions}
        self._explained: dict[str, Prepared] = {}
        self._rows = 0
        self._spill = Spill(spilled_columns(rules, self.schema, self._checks.whens), scope.staging)

    def _prepare_columns(self, schema: pa.Schema) -> Prepared | None:
        """One statement: the columns that need another type, and which values cannot have it."""
        if not self._conversions:
            return None
        items = [f"{each.value} AS v{index}, {each.wrong} AS w{index}" for index, each in enumerate(self._conversions)]
        names = {each.name for each in self._conversions}
        used = pa.schema([pa.field(column.name, column.type) for column in schema if column.name in names])
        return self._sandbox.prepare(", ".join(items), used)

    def __call__(self, batch: pa.RecordBatch) -> Outcome:
        self._rows += batch.num_rows
        typed, wrong = self._convert(batch)
        judged = self._checks(typed)
        flags = self._flags(judged, wrong, typed.num_rows)
        self._count(judged)
        self._spill.write(judged.records)
        faulty = {fault.row: fault.message for fault in reversed(judged.faults)}
        bad = any_of(list(flags.values()), typed.num_rows)
        if faulty:
            bad = pc.or_(bad, pa.array([row in faulty for row in range(typed.num_rows)], pa.bool_()))
        if not pc.any(bad, min_count=0).as_py():
            return Outcome({"out": Piece(typed)})
        rows = pc.indices_nonzero(bad).cast(pa.int64())
        good = pc.indices_nonzero(pc.invert(bad)).cast(pa.int64())
        said = self._explain(batch, judged, flags, rows)
        codes = (
            [CONDITION_CODE if row in faulty else CODE for row in rows.to_pylist()] if faulty else [CODE] * len(rows)
        )
        if faulty:
            said = [faulty.get(row, text) for row, text in zip(rows.to_pylist(), said, strict=True)]
        return Outcome({"out": Piece(typed.take(good), good)}, rejects=Rejects(rows, codes, said))

    def _convert(self, batch: pa.RecordBatch) -> tuple[pa.RecordBatch, dict[int, pa.BooleanArray]]:
        if self._columns is None:
            return batch, {}
        found = self._columns(batch)
        columns = list(batch.columns)
        for index, each in enumerate(self._conversions):
            columns[batch.schema.get_field_index(each.name)] = found.column(f"v{index}").cast(each.kind)
        wrong = {index: found.column(f"w{index}") for index in range(len(self._conversions))}
        return pa.RecordBatch.from_arrays(columns, schema=self.schema), wrong

    def _flags(self, judged: Judged, wrong: Mapping[int, pa.BooleanArray], rows: int) -> dict[str, pa.BooleanArray]:
        """Per rule that sets records aside, which it does. What could not be brought to its type breaks no other rule."""
        flags = {f"w{index}": flag for index, flag in wrong.items()}
        spoiled = {self._conversions[index].name: flag for index, flag in wrong.items()}
        for index, name in enumerate(self._needed):
            column = judged.records.column(name)
            gap = pc.is_null(column, nan_is_null=pa.types.is_floating(column.type))
            flags[f"r{index}"] = _unless(gap, [spoiled[name]] if name in spoiled else [], rows)
        for number, condition in self._checks.conditions.items():
            if condition.rule.rejects:
                others = [spoiled[name] for name in condition.rule.columns if name in spoiled]
                flags[f"b{number}"] = _unless(judged.broken[number], others, rows)
        return flags

    def _count(self, judged: Judged) -> None:
        for number, count in self._counts.items():
            broken = judged.broken[number]
            count.broken += broken.true_count
            if number in judged.considered:
                count.considered += judged.considered[number].true_count
            told = self._checks.conditions[number].demand and not self._checks.rules[number].rejects
            if told and broken.true_count and len(count.examples) < EXAMPLES:
                rows = pc.indices_nonzero(broken)[: EXAMPLES - len(count.examples)]
                texts = self._said(self._checks.message_of(number), judged.records.take(rows))
                count.examples.extend(texts)

    def _explain(
        self, batch: pa.RecordBatch, judged: Judged, flags: Mapping[str, pa.BooleanArray], rows: pa.Int64Array
    ) -> list[str]:
        """For each of some rows every rule it broke, in words."""
        parts = [f"CASE WHEN {name_of(f'__{flag}')} THEN {self._saying(flag)} END" for flag in flags]
        columns = [*judged.records.columns, *flags.values()]
        fields = [*judged.records.schema, *(pa.field(f"__{flag}", pa.bool_()) for flag in flags)]
        for index, each in enumerate(self._conversions):
            columns.append(batch.column(each.name))
            fields.append(pa.field(f"__raw_{index}", columns[-1].type))
        records = pa.RecordBatch.from_arrays(columns, schema=pa.schema(fields))
        return self._said(f"concat_ws('; ', {', '.join(parts) or 'NULL'})", records.take(rows))

    def _saying(self, flag: str) -> str:
        """SQL: what to say of a record that is set aside for this flag."""
        index = int(flag[1:])
        if flag[0] == "b":
            return self._checks.message_of(index)
        if flag[0] == "r":
            name = list(self._needed)[index]
            return literal(f"{name}: is null, must be given (columns)")
        return _type_said(self._conversions[index], index)

    def _said(self, text: str, records: pa.RecordBatch) -> list[str]:
        if text not in self._explained:
            schema = pa.schema([pa.field(column.name, column.type) for column in records.schema])
            self._explained[text] = self._sandbox.prepare(f"{text} AS said", schema)
        said: list[str] = self._explained[text](records).column("said").to_pylist()
        return said

    def close(self) -> Sequence[Part]:
        """What this thread saw: counts per rule, and the file of the columns that rules over the run read."""
        counts = {str(number): [each.considered, each.broken, each.examples] for number, each in self._counts.items()}
        path, size = self._spill.close()
        return (Part({"counts": counts, "file": path}, self._rows, size),)


def _type_said(conversion: Conversion, index: int) -> str:
    raw = name_of(f"__raw_{index}")
    shown = f"CASE WHEN length(CAST({raw} AS VARCHAR)) > 80 THEN left(CAST({raw} AS VARCHAR), 80) || '…' "
    shown += f"ELSE CAST({raw} AS VARCHAR) END"
    head, tail = literal(f"{conversion.name}: is '"), literal(f"', must be of type {conversion.type} (columns)")
    return f"{head} || {shown} || {tail}"


def _unless(flag: pa.BooleanArray, others: Sequence[pa.BooleanArray], rows: int) -> pa.BooleanArray:
    return pc.and_(flag.fill_null(False), pc.invert(any_of(others, rows))) if others else flag.fill_null(False)


def spilled_columns(rules: Sequence[Rule], schema: pa.Schema, whens: Mapping[str, str]) -> list[str]:
    """The columns that rules over the whole run read, with those that tell whether their row conditions hold."""
    whole = [rule for rule in rules if rule.place == "whole"]
    names = {name for rule in whole for name in rule.columns}
    if any(not rule.columns for rule in whole):
        names.update(schema.names)
    conditions = {rule.row_condition for rule in whole}
    return [name for name in schema.names if name in names] + [n for n, text in whens.items() if text in conditions]


class Spill:
    """Columns of every batch in one Parquet file, opened once there is enough for a row group."""

    def __init__(self, columns: Sequence[str], folder: Path) -> None:
        self._columns = list(columns)
        self._path = folder / "checked" / f"{uuid4().hex}.parquet"
        self._writer: pq.ParquetWriter | None = None
        self._waiting: list[pa.RecordBatch] = []

    def write(self, batch: pa.RecordBatch) -> None:
        if self._columns and batch.num_rows:
            self._waiting.append(batch.select(self._columns))
            if sum(each.num_rows for each in self._waiting) >= GROUP_ROWS:
                self._flush()

    def _flush(self) -> None:
        if not self._waiting:
            return
        table = pa.Table.from_batches(self._waiting)
        if self._writer is None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            # Without statistics: Arrow's leave NaN out, and DuckDB would conclude from them that there is none.
            self._writer = pq.ParquetWriter(
                self._path, table.schema, compression="zstd", compression_level=1, write_statistics=False
            )
        self._writer.write_table(table)
        self._waiting.clear()

    def close(self) -> tuple[str | None, int]:
        """The file and its size; none where nothing was written."""
        self._flush()
        if self._writer is None:
            return None, 0
        self._writer.close()
        self._writer = None
        return str(self._path), self._path.stat().st_size
