"""Loads a user's function, calls it with a batch, and holds what it gives to what was declared.

Needs Arrow and nothing of the house: it also runs in processes that untrusted code has for itself.
"""

from __future__ import annotations

import importlib
import linecache
import sys
import threading
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

Code = Callable[[pa.RecordBatch], Any]
"""A user's function, loaded."""
ROW = "row"
"""The column that says which record of the batch each record given came from."""
RUN = "run"
"""What the function is called where the code stands in the flow."""
TEXT = "<code>"
MOST_CHARACTERS = 500

_loading = threading.Lock()


class Faulty(Exception):
    """A batch that the function cannot work: smaller parts of it may do."""


class Died(Faulty):
    """A batch over which the function's process ended, or had to be ended."""


class Misbehaved(Exception):
    """The function itself is wrong, whatever the records are."""


@dataclass(frozen=True)
class Given:
    """What the function gave for some records: the declared columns, and from which record each came (None: its own)."""

    batch: pa.RecordBatch
    rows: pa.Int64Array | None = None


def load(project: Path, function: str | None, code: str | None) -> Code:
    """The function that `module:name`, or `run` of the code, is.

    Raises:
        Misbehaved: it cannot be had, or is no function.
    """
    name = (function or "").partition(":")[2] or RUN
    try:
        module = _module_of_code(code) if code is not None else _module(project, (function or "").partition(":")[0])
    except (Exception, SystemExit) as fault:  # whatever a module may raise
        raise Misbehaved(f"cannot be loaded: {words(fault)}") from fault
    found = getattr(module, name, None)
    if not callable(found):
        raise Misbehaved(f"cannot be loaded: there is no function {name!r}")
    return found


def _module(project: Path, name: str) -> ModuleType:
    place = project.joinpath(*name.split("."))
    path = next((file for file in (place.with_suffix(".py"), place / "__init__.py") if file.is_file()), None)
    if str(project) not in sys.path:
        sys.path.append(str(project))
    if path is None:
        return importlib.import_module(name)
    state = path.stat()
    known = f"{name}@{path}@{state.st_mtime_ns}"  # other projects, and later versions, have modules of the same name
    with _loading:
        if known not in sys.modules:
            sys.modules[known] = module = ModuleType(known)
            module.__file__ = str(path)
            module.__package__ = name if path.name == "__init__.py" else name.rpartition(".")[0]
            try:
                exec(compile(path.read_bytes(), path, "exec"), vars(module))  # noqa: S102 -- a module of the project
            except BaseException:
                del sys.modules[known]
                raise
        return sys.modules[known]


def _module_of_code(code: str) -> ModuleType:
    module = ModuleType("code_of_flow")
    linecache.cache[TEXT] = (len(code), None, code.splitlines(keepends=True), TEXT)
    exec(compile(code, TEXT, "exec"), vars(module))  # noqa: S102 -- that is what the user asks for
    return module


def called(function: Code, batch: pa.RecordBatch, schema: pa.Schema) -> Given:
    """What the function gives for a batch, as the columns of `schema`.

    Raises:
        Faulty: it raised something, or gave a value that is none of its column's type.
        Misbehaved: it gave something else than declared.
    """
    try:
        given = function(batch)
    except (Exception, SystemExit) as fault:  # whatever a user's code may raise
        raise Faulty(words(fault)) from fault
    columns = _columns(given)
    missing = [name for name in schema.names if name not in columns]
    if missing:
        there = ", ".join(columns) or "none"
        raise Misbehaved(f"gives no column {missing[0]!r}; it gives: {there}")
    rows = None
    if ROW in columns and ROW not in schema.names:
        rows = _rows(columns[ROW], batch.num_rows)
    expected = batch.num_rows if rows is None else len(rows)
    arrays = [_array(columns[field.name], field) for field in schema]
    for field, array in zip(schema, arrays, strict=True):
        if len(array) != expected:
            beside = f"for {expected}" if rows is None else f"beside {expected} of {ROW!r}"
            fix = f"; return a column {ROW!r} that says which record each came from" if rows is None else ""
            raise Misbehaved(f"gives {len(array)} values of {field.name!r} {beside} records{fix}")
    return Given(pa.RecordBatch.from_arrays(arrays, schema=schema), rows)


def _columns(given: Any) -> Mapping[str, Any]:
    if isinstance(given, Mapping):
        return given
    if isinstance(given, pa.RecordBatch | pa.Table) or hasattr(given, "__arrow_c_stream__"):
        table = given if isinstance(given, pa.RecordBatch | pa.Table) else pa.table(given)
        return dict(zip(table.schema.names, table.columns, strict=True))
    raise Misbehaved(f"gives {type(given).__name__}; a function gives a RecordBatch, a Table or a dict of columns")


def _array(values: Any, field: pa.Field) -> pa.Array:
    """The values as the declared type, none of them changed."""
    if isinstance(values, str | bytes) or not hasattr(values, "__len__"):
        raise Misbehaved(f"gives {type(values).__name__} as column {field.name!r}; a column is an array or a list")
    try:
        if isinstance(values, pa.ChunkedArray):
            values = values.combine_chunks()
        if isinstance(values, pa.ChunkedArray):  # an empty one stays what it was
            values = pa.concat_arrays(values.chunks) if values.num_chunks else pa.array([], values.type)
        return _cast(values, field.type) if isinstance(values, pa.Array) else _made(values, field.type)
    except (pa.ArrowException, TypeError, ValueError, OverflowError) as fault:
        raise Faulty(f"column {field.name!r}: {str(fault) or type(fault).__name__:.{MOST_CHARACTERS}}") from fault


def _made(values: Any, kind: pa.DataType) -> pa.Array:
    """Python's values as an array. As what they are first: told the type at once, Arrow cuts 1.5 to 1 in silence."""
    try:
        return _cast(pa.array(values), kind)
    except pa.ArrowNotImplementedError:  # such as a dict for a map
        return pa.array(values, kind)
    except (pa.ArrowException, TypeError, ValueError, OverflowError):
        if pa.types.is_nested(kind) or pa.types.is_integer(kind) or pa.types.is_temporal(kind):
            raise
        return pa.array(values, kind)  # such as decimals and whole numbers together


def _cast(array: pa.Array, kind: pa.DataType) -> pa.Array:
    """The array as another type; an error where a value would not be the same."""
    found = array if array.type.equals(kind) else array.cast(kind)
    if pa.types.is_date(kind) and pa.types.is_timestamp(array.type) and not found.cast(array.type).equals(array):
        raise pa.ArrowInvalid("a time of day would be lost")
    return found


def _rows(values: Any, most: int) -> pa.Int64Array:
    try:
        rows = _array(values, pa.field(ROW, pa.int64()))
    except Faulty as fault:
        raise Misbehaved(str(fault)) from fault
    if rows.null_count:
        raise Misbehaved(f"gives null as {ROW!r}")
    if len(rows) and (pc.min(rows).as_py() < 0 or pc.max(rows).as_py() >= most):
        raise Misbehaved(f"gives a {ROW!r} that is none of 0 to {most - 1}")
    return rows


def words(fault: BaseException) -> str:
    """What was raised, and at which line of whose file, without a traceback."""
    text = f"{type(fault).__name__}: {fault}" if str(fault) else type(fault).__name__
    frames = traceback.extract_tb(fault.__traceback__)
    own = [frame for frame in frames if frame.filename not in (__file__, importlib.__file__)]
    own = [frame for frame in own if "site-packages" not in frame.filename and not frame.filename.startswith("<frozen")]
    if own and not isinstance(fault, SyntaxError):
        where = "the code" if own[-1].filename == TEXT else Path(own[-1].filename).name
        return f"{text:.{MOST_CHARACTERS}} (line {own[-1].lineno} of {where})"
    return f"{text:.{MOST_CHARACTERS}}"
