"""Row rules made ready for one worker thread: one statement a batch says which records break which rules."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from pipelines.quality.conditions import SHOWN_LETTERS, Condition, compile_rule, require_columns
from pipelines.quality.families import family_of, missing
from pipelines.quality.foreign import ForeignPredicate
from pipelines.quality.rules import Rule
from pipelines.scope import Scope
from pipelines.sql.expressions import Evaluator
from pipelines.sql.faults import Fault
from pipelines.sql.literals import literal, name_of
from pipelines.sql.sandbox import Prepared, Sandbox


@dataclass(frozen=True)
class Judged:
    """What the rules said of a batch: per rule and record."""

    records: pa.RecordBatch
    """The batch with what was computed beside it."""
    broken: Mapping[int, pa.BooleanArray]
    """Per row rule, by its number: which records break it."""
    considered: Mapping[int, pa.BooleanArray]
    """Per rule that is counted: which records count for it."""
    faults: tuple[Fault, ...] = ()
    """Records for which a row condition could not be computed."""


class Checks:
    """Rules compiled for batches of one schema."""

    def __init__(self, rules: Sequence[Rule], schema: pa.Schema, scope: Scope, sandbox: Sandbox) -> None:
        self.rules = rules
        self.whens = when_columns(rules)
        self._evaluator = Evaluator(self.whens, schema, scope, sandbox) if self.whens else None
        self.conditions = conditions_of(rules, schema, self.whens)
        self.predicates = {
            name: predicate for each in self.conditions.values() for name, predicate in each.predicates.items()
        }
        extra = [pa.field(name, pa.bool_()) for name in (*self.whens, *self.predicates)]
        self.schema = pa.schema([*schema, *extra])
        self._sandbox = sandbox
        self._counted = {number for number, each in self.conditions.items() if not each.rule.rejects}
        self._prepared = self._prepare()

    def _prepare(self) -> Prepared | None:
        items = [f"{each.broken} AS b{number}" for number, each in self.conditions.items()]
        items += [f"({self.conditions[number].considered}) AS c{number}" for number in self._counted]
        if not items:
            return None
        used = {*self.whens, *self.predicates}
        used.update(name for each in self.conditions.values() for name in each.rule.columns)
        fields = [pa.field(field.name, field.type) for field in self.schema if field.name in used]
        return self._sandbox.prepare(", ".join(items), pa.schema(fields))

    def __call__(self, batch: pa.RecordBatch) -> Judged:
        """Judges every record by every rule."""
        faults: tuple[Fault, ...] = ()
        columns = list(batch.columns)
        if self._evaluator is not None:
            evaluated = self._evaluator(batch)
            faults = evaluated.faults
            columns += [column.cast(pa.bool_()) for column in evaluated.columns.columns]
        columns += [predicate(batch) for predicate in self.predicates.values()]
        records = pa.RecordBatch.from_arrays(columns, schema=self.schema)
        if self._prepared is None:
            return Judged(records, {}, {}, faults)
        found = self._prepared(records)
        return Judged(
            records,
            {number: found.column(f"b{number}") for number in self.conditions},
            {number: found.column(f"c{number}") for number in self._counted},
            faults,
        )

    def message_of(self, number: int) -> str:
        """SQL: what to say of a record that breaks a rule."""
        condition = self.conditions[number]
        return message(condition.rule.columns, self.schema, condition.demand, condition.rule.name)


def when_columns(rules: Sequence[Rule]) -> dict[str, str]:
    """The distinct row conditions of some rules, by the name of the column that holds what they give."""
    distinct = dict.fromkeys(rule.row_condition for rule in rules if rule.row_condition is not None)
    return {f"__when_{index}": condition for index, condition in enumerate(distinct)}


def when_of(rule: Rule, whens: Mapping[str, str]) -> str | None:
    """The column that says whether a rule's row condition holds."""
    return next((name for name, condition in whens.items() if condition == rule.row_condition), None)


def conditions_of(rules: Sequence[Rule], schema: pa.Schema, whens: Mapping[str, str]) -> dict[int, Condition]:
    """The conditions of those rules that are judged or counted per record, by number."""
    found: dict[int, Condition] = {}
    for number, rule in enumerate(rules):
        when = when_of(rule, whens)
        if rule.place == "count":
            found[number] = _counting(rule, schema, when)
        elif rule.place == "row" and rule.foreign:
            require_columns(rule, schema)
            name = f"__predicate_{number}"
            gaps = " OR ".join(missing(column, schema) for column in rule.columns) or "false"
            counts = f"NOT ({gaps})" + (f" AND coalesce({name_of(when)}, false)" if when else "")
            demand = "must meet the expectation"
            found[number] = Condition(rule, counts, name_of(name), demand, {name: ForeignPredicate(rule)})
        elif rule.place == "row":
            found[number] = compile_rule(rule, schema, number, when)
    return found


def _counting(rule: Rule, schema: pa.Schema, when: str | None) -> Condition:
    considered = "true" if when is None else f"coalesce({name_of(when)}, false)"
    require_columns(rule, schema)
    column = rule.arguments.get("column")
    met = "true" if column is None else f"NOT {missing(column, schema)}"
    return Condition(rule, considered, met, "", {})


def message(columns: Sequence[str], schema: pa.Schema, demand: str, rule: str) -> str:
    """SQL: `email: is null, must not be (rule)`."""
    verb = "is" if len(columns) == 1 else "are"
    shown = " || ', ' || ".join(value_shown(name, schema) for name in columns) or "'it'"
    head = literal(f"{', '.join(columns)}: {verb} ")
    return f"{head} || {shown} || {literal(f', {demand} ({rule})')}"


def value_shown(name: str, schema: pa.Schema) -> str:
    """SQL: a value in words, texts in quotes, cut where long."""
    kind = schema.field(name).type
    text = f"CAST({name_of(name)} AS VARCHAR)"
    cut = f"CASE WHEN length({text}) > {SHOWN_LETTERS} THEN left({text}, {SHOWN_LETTERS}) || '…' ELSE {text} END"
    if family_of(kind) == "text":
        cut = f"'''' || {cut} || ''''"
    return f"coalesce({cut}, 'null')"


def any_of(flags: Sequence[pa.BooleanArray], rows: int) -> pa.BooleanArray:
    """Whether any flag is true, per record; null counts as false."""
    joint = pa.repeat(False, rows)
    for flag in flags:
        joint = pc.or_(joint, flag.fill_null(False))
    return joint
