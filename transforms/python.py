"""The node type `python`: a function of a batch, written by the user."""

import ast
import importlib.util
import re
from pathlib import Path
from typing import Literal

import pyarrow as pa
from pydantic import Field

from pipelines.errors import Invalid
from pipelines.functions.calling import RUN, Misbehaved
from pipelines.functions.function import Function, Here, Work, Worked
from pipelines.functions.process import Process
from pipelines.node import Example, Outcome, Piece, Rejects, Report, Schemas, Step, Transform
from pipelines.quality.declared import arrow_type
from pipelines.scope import Scope
from pipelines.sql.sandbox import Sandbox, borrowed
from pipelines.tables.relation import suggestion

PYTHON = "python"
"""The reject code of a record that the function fails for."""
NAMED = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")
TOTALS = """import pyarrow.compute as pc

def run(batch):
    return {"total": pc.multiply(batch["quantity"], batch["price"])}
"""
CHECKS = """def check_digit(batch):
    numbers = batch["ean"].to_pylist()
    return {"is_sound": [sum(int(d) * (1, 3)[i % 2] for i, d in enumerate(n)) % 10 == 0 for n in numbers]}
"""
WORDS = """def run(batch):
    found = [(row, word) for row, text in enumerate(batch["text"].to_pylist()) for word in text.split()]
    return {"row": [row for row, _ in found], "word": [word for _, word in found]}
"""


class Python(Transform):
    """Calls a Python function with each batch and passes on the columns that it gives.

    The function takes a `pyarrow.RecordBatch` and gives a RecordBatch, a Table, a data frame or a dict of columns, with
    a value for each record. To leave records out or to make several of one, it also gives a column `row`: which record
    of the batch, from 0, each came from. How records are cut into batches must make no difference to it. Where it raises
    something, ends its process, takes too long or gives a value that is not of its column's type, smaller parts of
    the batch are tried until the records are found; these are rejected with the code `python` and what was raised.

    Unless it is `trusted` it runs in processes of its own, one for each worker thread, which do not see this one's
    environment and are ended when they take more time or memory than they may. They are no wall against ill will: they
    read what their user may read.
    """

    function: str | None = Field(default=None, examples=["prices:with_discount"])
    """The function, as `module:name`; the module lies in the project folder or is installed."""
    code: str | None = Field(default=None, examples=[TOTALS])
    """Python text that defines the function `run`, in place of `function`."""
    columns: dict[str, str] = Field(min_length=1, examples=[{"total": "DECIMAL(18, 2)"}])
    """The columns it gives, with their DuckDB types; values must be of them exactly. Others that it gives are left out."""
    uses: list[str] | None = Field(default=None, examples=[["quantity", "price"]])
    """The input's columns that the function is given. Without it all."""
    keep: Literal["all", "none"] | list[str] = "none"
    """The input's columns that stay, before those the function gives: `all`, `none` or their names. A column it gives
    takes the place of a kept one of its name."""
    trusted: bool = False
    """Whether it runs inside of the run's own process: quicker, but what it breaks is the run, and no limit holds."""
    timeout_seconds: float = Field(default=60.0, gt=0)
    """How long it may take for a batch (some 65,000 records). Parts of a batch get their part, at least a tenth."""
    memory_bytes: int = Field(default=1 << 30, ge=1 << 26)
    """How much memory its process may take beyond what Python and Arrow themselves need (on Linux)."""

    category = "code"
    examples = (
        Example(
            says="Arrow's own functions work at a whole column at once.",
            config={"code": TOTALS, "columns": {"total": "DOUBLE"}, "keep": ["id"]},
            records=[{"id": 1, "quantity": 2, "price": 1.5}, {"id": 2, "quantity": 1, "price": None}],
            gives={"out": [{"id": 1, "total": 3.0}, {"id": 2, "total": None}]},
        ),
        Example(
            says="A function of the project. It cannot work one record: just that one is rejected.",
            config={
                "function": "checks:check_digit",
                "columns": {"is_sound": "BOOLEAN"},
                "uses": ["ean"],
                "keep": "all",
            },
            records=[{"ean": "4006381333931"}, {"ean": "40O6381333931"}, {"ean": "4006381333932"}],
            files={"checks.py": CHECKS},
            gives={
                "out": [
                    {"ean": "4006381333931", "is_sound": True},
                    {"ean": "4006381333932", "is_sound": False},
                ],
                "rejected": [
                    {
                        "ean": "40O6381333931",
                        "reject_code": "python",
                        "reject_message": "ValueError: invalid literal for int() with base 10: 'O' (line 3 of checks.py)",
                    }
                ],
            },
        ),
        Example(
            says="Several records of one, or none: `row` says which each came from.",
            config={"code": WORDS, "columns": {"word": "VARCHAR"}, "keep": ["id"], "trusted": True},
            records=[{"id": 1, "text": "hello world"}, {"id": 2, "text": ""}],
            gives={"out": [{"id": 1, "word": "hello"}, {"id": 1, "word": "world"}]},
        ),
    )

    def check(self, inputs: Schemas, scope: Scope, report: Report) -> Schemas:
        schema = inputs.get("")
        self._check_function(scope.project, report)
        types = self._types(scope, report)
        if schema is None:
            return {"out": None}
        named = {"uses": self.uses or [], "keep": self.keep if isinstance(self.keep, list) else []}
        for field, names in named.items():
            for number, name in enumerate(names):
                if name not in schema.names:
                    report((field, number), f"no column {name!r} comes in", suggestion(name, schema.names))
        return {"out": None if types is None else self._laid_out(schema, types)}

    def open(self, schema: pa.Schema, scope: Scope, sandbox: Sandbox) -> Step:
        given = pa.schema([(name, arrow_type(kind, sandbox)) for name, kind in self.columns.items()])
        project = scope.project.resolve()
        function = Function(project, self.function, self.code, given, self.timeout_seconds, self.memory_bytes)
        uses = [name for name in self.uses or () if name in schema.names]
        gives = self._laid_out(schema, given)
        try:
            work = Work(Here(function) if self.trusted else Process(function), given)
        except Misbehaved as fault:
            raise self._wrong(fault) from fault

        def step(batch: pa.RecordBatch) -> Outcome:
            try:
                worked = work(batch if self.uses is None else batch.select(uses))
            except Misbehaved as fault:
                raise self._wrong(fault) from fault
            columns = [
                worked.batch.column(name) if name in given.names else batch.column(name).take(worked.rows)
                for name in gives.names
            ]
            made = pa.RecordBatch.from_arrays(columns, schema=gives)
            return Outcome({"out": Piece(made, worked.rows)}, worked.left_out, _rejects(worked))

        return Calling(step, work)

    def needs(self, wanted: frozenset[str] | None, schema: pa.Schema, sandbox: Sandbox) -> frozenset[str] | None:
        if self.uses is None:
            return None
        kept = frozenset(self._kept(schema))
        return frozenset(self.uses) | (kept if wanted is None else kept & wanted)

    def _kept(self, schema: pa.Schema) -> list[str]:
        """The input's columns that stay, as far as they come in."""
        if self.keep == "none":
            return []
        return [name for name in schema.names if self.keep == "all" or name in self.keep]

    def _laid_out(self, schema: pa.Schema, given: pa.Schema) -> pa.Schema:
        kept = self._kept(schema)
        beside = [given.field(name) if name in given.names else schema.field(name) for name in kept]
        return pa.schema([*beside, *(field for field in given if field.name not in kept)])

    def _types(self, scope: Scope, report: Report) -> pa.Schema | None:
        """The columns that the function gives; None where a type is none."""
        found: list[pa.Field] = []
        with borrowed(scope) as sandbox:
            for name, kind in self.columns.items():
                try:
                    found.append(pa.field(name, arrow_type(kind, sandbox)))
                except Invalid as fault:
                    fix = "write one such as integer, decimal(18, 2), varchar, date or timestamp"
                    report(("columns", name), str(fault), fix)
        return pa.schema(found) if len(found) == len(self.columns) else None

    def _check_function(self, project: Path, report: Report) -> None:
        """What can be seen of the function without running anything."""
        if (self.function is None) == (self.code is None):
            what = "names no function" if self.function is None else "has both `function` and `code`"
            report((), what, "give it either `function` or `code`")
        elif self.code is not None:
            _check_text(self.code, "the code", RUN, ("code",), report)
        elif self.function is not None and not NAMED.fullmatch(self.function):
            report(("function",), f"{self.function!r} names no function", "write `module:name`")
        elif self.function is not None:
            module, _, name = self.function.partition(":")
            place = project.joinpath(*module.split("."))
            path = next((path for path in (place.with_suffix(".py"), place / "__init__.py") if path.is_file()), None)
            if path is not None:
                text = path.read_text(encoding="utf-8", errors="replace")
                _check_text(text, path.relative_to(project).as_posix(), name, ("function",), report)
            elif importlib.util.find_spec(module.split(".", 1)[0]) is None:
                there = f"there is neither a file {module.replace('.', '/')}.py nor an installed module {module!r}"
                report(("function",), there, "write `module:name`, the module from the project folder")

    def _wrong(self, fault: Misbehaved) -> Invalid:
        return Invalid(f"function {self.function or RUN!r} {fault}")


def _check_text(text: str, shown: str, name: str, at: tuple[str | int, ...], report: Report) -> None:
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError) as fault:
        line = f", line {fault.lineno}" if isinstance(fault, SyntaxError) else ""
        report(at, f"{shown}{line}: {getattr(fault, 'msg', fault)}", "write Python")
        return
    names = {bound for statement in ast.walk(tree) for bound in _bound(statement)}
    if name not in names and "*" not in names:
        report(at, f"{shown} defines no function {name!r}", suggestion(name, sorted(names)) if names else "")


def _bound(statement: ast.AST) -> list[str]:
    """The names that a statement may give to something."""
    if isinstance(statement, ast.FunctionDef | ast.ClassDef):
        return [statement.name]
    if isinstance(statement, ast.Import | ast.ImportFrom):
        return [alias.asname or alias.name for alias in statement.names]
    return [statement.id] if isinstance(statement, ast.Name) and isinstance(statement.ctx, ast.Store) else []


class Calling:
    """The node at work in one thread; its call can be ended from another."""

    def __init__(self, step: Step, work: Work) -> None:
        self._step = step
        self.end_call = work.end_call

    def __call__(self, batch: pa.RecordBatch) -> Outcome:
        return self._step(batch)


def _rejects(worked: Worked) -> Rejects | None:
    if not worked.wrong:
        return None
    return Rejects(pa.array(worked.wrong, pa.int64()), [PYTHON] * len(worked.wrong), list(worked.wrong.values()))
