"""Converts lines of JSON to records: all at once where they are regular, else finding those that do not fit.

Regular lines have every key and only values that fit. Others are converted leniently first; then each null that came
out must be explained by a null or a missing key of the line, or the line is at fault.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from adapters.file.nested import Fitting, replaced, travels_as_text
from adapters.file.quotes import RECORD_LIMIT_BYTES
from adapters.file.types import duckdb_name
from pipelines.errors import Bug
from pipelines.sql.literals import quoted
from pipelines.sql.sandbox import Prepared, Sandbox
from pipelines.sql.wording import one_line

LINE = pa.schema([pa.field("line", pa.string())])
SHOWN_CHARACTERS = 200
LONG_NUMBER = "[0-9][0-9.]{15,}|[0-9.]{2,}[eE]"
TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|(-?[0-9][0-9.eE+-]{15,}|-?[0-9.]+[eE][0-9+-]+)')
"""A text, or a number that is long or has an exponent."""
KINDS = {"ARRAY": "an array", "VARCHAR": "a text", "BOOLEAN": "true or false", "NULL": "null"}
TOGETHER_BYTES = RECORD_LIMIT_BYTES
"""So much text is taken apart at once, which takes DuckDB several times as much memory."""
TOO_LARGE = f"is longer than {RECORD_LIMIT_BYTES >> 20} MiB"
DUCKDB_ERRORS = (duckdb.Error, UnicodeDecodeError)
"""The second, where DuckDB has cut its message in the middle of a character."""
Faults = dict[int, tuple[str, str]]
"""By record its reject code and message."""


class Careful:
    """Converts lines to records of a schema."""

    def __init__(self, schema: pa.Schema, sandbox: Sandbox) -> None:
        self._schema = schema
        self._sandbox = sandbox
        self._travelling = replaced(
            pa.struct(list(schema)), lambda kind: pa.string() if travels_as_text(kind) else kind
        )
        self._has_decimals = _has_decimals(pa.struct(list(schema)))
        self._structure = quoted(json.dumps(_structure(self._travelling)))

    def nothing(self) -> pa.RecordBatch:
        return pa.RecordBatch.from_pylist([], schema=self._schema)

    def strict(self, raw: pa.BinaryArray) -> pa.RecordBatch | None:
        """The records, where every line is regular; else None."""
        if not len(self._schema):
            return None
        try:
            lines = self._lines(raw.cast(pa.string()))
            found = self._prepared(f"from_json_strict(line, {self._structure}) AS x")(lines).column(0)
        except (pa.ArrowInvalid, *DUCKDB_ERRORS):
            return None
        fitting = Fitting(self._timed)
        batch = self._fitted(found, fitting)
        return None if fitting.faults or found.null_count else batch

    def _lines(self, texts: pa.StringArray) -> pa.RecordBatch:
        return pa.record_batch([exact(texts) if self._has_decimals else texts], schema=LINE)

    def _prepared(self, items: str) -> Prepared:
        return self._sandbox.prepare(items, LINE)

    def _fitted(self, found: pa.StructArray, fitting: Fitting) -> pa.RecordBatch:
        whole = fitting.fit(found, pa.struct(list(self._schema)), np.arange(len(found)), "")
        return pa.RecordBatch.from_arrays(whole.flatten(), schema=self._schema)

    def _timed(self, texts: pa.StringArray, kind: pa.DataType) -> pa.Array:
        cast = self._prepared(f"TRY_CAST(line AS {duckdb_name(kind)}) AS x")
        return cast(pa.record_batch([texts], schema=LINE)).column(0).cast(kind)

    def __call__(self, raw: pa.BinaryArray) -> tuple[pa.RecordBatch, Faults]:
        """The records that fit, and the faults of the others."""
        faults: Faults = {}
        if raw.nbytes > TOGETHER_BYTES and len(self._schema):
            return self._halved(raw) if len(raw) > 1 else (self.nothing(), {0: ("too_large", TOO_LARGE)})
        texts, places = _utf8(raw, faults)
        texts, places, found = self._objects(texts, places, faults)
        fitting = Fitting(self._timed)
        batch = self._fitted(found, fitting) if len(self._schema) else _counted(len(texts))
        bad: Faults = {}
        for row, (path, text, kind) in fitting.faults.items():
            bad[row] = ("type", f"column {path!r}: {_shown(text)} is no {duckdb_name(kind)}")
        self._unexplained(found, texts, bad)
        self._twice(texts, bad)
        faults.update({int(places[row]): fault for row, fault in bad.items()})
        sound = np.ones(batch.num_rows, bool)
        sound[list(bad)] = False
        return batch.filter(pa.array(sound)) if bad else batch, faults

    def _halved(self, raw: pa.BinaryArray) -> tuple[pa.RecordBatch, Faults]:
        half = len(raw) // 2
        (first, faults), (second, others) = self(raw.slice(0, half)), self(raw.slice(half))
        whole = pa.Table.from_batches([first, second]).combine_chunks().to_batches()
        return (whole[0] if whole else first), faults | {half + row: fault for row, fault in others.items()}

    def _objects(
        self, texts: pa.StringArray, places: np.ndarray, faults: Faults
    ) -> tuple[pa.StringArray, np.ndarray, pa.StructArray]:
        """The lines that hold one object each, their places and what is in them; the others become faults."""
        try:
            found = self._lenient(texts)
        except DUCKDB_ERRORS:
            kinds = self._asked("CASE WHEN json_valid(line) THEN json_type(line) END", texts)
            return self._sorted_out(kinds, texts, places, faults)
        doubtful = pc.indices_nonzero(pa.array(_root(found).hollow))
        if not len(doubtful):
            return texts, places, found
        some = self._asked("json_type(line)", texts.take(doubtful))
        kinds = pc.replace_with_mask(pa.repeat("OBJECT", len(texts)), pa.array(_root(found).hollow), some)
        return self._sorted_out(kinds, texts, places, faults)

    def _sorted_out(
        self, kinds: pa.StringArray, texts: pa.StringArray, places: np.ndarray, faults: Faults
    ) -> tuple[pa.StringArray, np.ndarray, pa.StructArray]:
        sound = _mask(pc.fill_null(pc.equal(kinds, "OBJECT"), False))
        for row in np.flatnonzero(~sound):  # rejects only
            faults[int(places[row])] = ("json", self._no_object(texts.slice(row, 1), kinds[int(row)].as_py()))
        kept = texts.filter(pa.array(sound))
        return kept, places[sound], self._lenient(kept)

    def _lenient(self, texts: pa.StringArray) -> pa.StructArray:
        """What is in the lines, null where something does not fit."""
        lines = self._lines(texts)
        if not len(self._schema):
            self._prepared("json(line) AS x")(lines)
            return pa.StructArray.from_arrays([pa.nulls(len(texts))], ["nothing"])
        return self._prepared(f"from_json(line, {self._structure}) AS x")(lines).column(0)

    def _asked(self, question: str, texts: pa.StringArray) -> pa.Array:
        return self._prepared(f"{question} AS x")(pa.record_batch([texts], schema=LINE)).column(0)

    def _no_object(self, text: pa.StringArray, kind: str | None) -> str:
        if kind is not None:
            return f"is {KINDS.get(kind, 'a number')} where an object is wanted"
        try:
            self._prepared("json(line) AS x")(pa.record_batch([text], schema=LINE))
        except DUCKDB_ERRORS as fault:
            told = isinstance(fault, duckdb.Error)
            return f"is no JSON: {one_line(str(fault)).partition(' Input:')[0]}" if told else "is no JSON"
        raise Bug(f"a line is JSON and is not: {text[0].as_py()[:80]!r}")

    def _unexplained(self, found: pa.StructArray, texts: pa.StringArray, bad: Faults) -> None:
        """Values that were lost: a null came out though the line has something there."""
        for row in np.flatnonzero(self._suspects(found, texts)):  # few: lines that a whole column could not clear
            if int(row) in bad:
                continue
            try:
                record = self._value(texts.slice(int(row), 1))
            except RecursionError:
                bad[int(row)] = ("json", "is nested too deeply")
                continue
            fault = lost(record, found[int(row)].as_py(), pa.struct(list(self._schema)), "")
            if fault is not None:
                path, value, kind = fault
                bad[int(row)] = ("type", f"column {path!r}: {_shown(json.dumps(value))} is no {duckdb_name(kind)}")

    def _value(self, text: pa.StringArray) -> Any:
        """A line's value; DuckDB takes some lines that Python does not, such as those with a comma too many."""
        try:
            return json.loads(text[0].as_py())
        except ValueError:
            return json.loads(self._asked("json(line)", text)[0].as_py())

    def _suspects(self, found: pa.StructArray, texts: pa.StringArray) -> np.ndarray:
        """The lines of which a null is not explained yet: those inside lists, and those where something is there."""
        suspects = np.zeros(len(texts), bool)
        asked = []
        for node in _nodes(found, "$"):
            if node.path is None:
                suspects |= node.nulls
            elif node.nulls.any() or node.hollow.any():
                asked.append(node)
        if not asked:
            return suspects
        paths = ", ".join(quoted(str(node.path)) for node in asked)
        kinds = self._asked(f"json_type(line, [{paths}])", texts)
        is_there = pc.fill_null(pc.not_equal(kinds.flatten(), "NULL"), False).to_numpy(zero_copy_only=False)
        is_object = pc.fill_null(pc.equal(kinds.flatten(), "OBJECT"), False).to_numpy(zero_copy_only=False)
        missing = np.column_stack([node.nulls for node in asked])
        hollow = np.column_stack([node.hollow for node in asked])
        there, objects = is_there.reshape(missing.shape), is_object.reshape(missing.shape)
        return suspects | (there & (missing | (hollow & ~objects))).any(axis=1)

    def _twice(self, texts: pa.StringArray, bad: Faults) -> None:
        """Lines that have a wanted key twice, in the record or in an object that is a column or in one."""
        for path, names in _objects(pa.struct(list(self._schema)), "$"):
            keys = self._asked(f"json_keys(line, {quoted(path)})", texts)
            where = f" in {path[2:]}" if path != "$" else ""
            for row in _with_twins(keys, names):  # rejects only
                bad.setdefault(int(row), ("json", f"has a key twice{where}"))


def _counted(rows: int) -> pa.RecordBatch:
    """Records of which no column is wanted."""
    return pa.record_batch([pa.nulls(rows)], ["nothing"]).select([])


def _with_twins(keys: pa.ListArray, names: Sequence[str]) -> np.ndarray:
    """The lists that have one of the names twice."""
    numbers = pc.index_in(keys.flatten(), pa.array(names, pa.string()))
    owners = pc.list_parent_indices(keys).to_numpy()[_mask(numbers.is_valid())]
    is_there = np.zeros((len(keys), len(names)), bool)
    is_there[owners, numbers.drop_null().to_numpy()] = True
    return np.flatnonzero(np.bincount(owners, minlength=len(keys)) > is_there.sum(axis=1))


def _objects(kind: pa.DataType, path: str) -> Iterator[tuple[str, list[str]]]:
    """The paths of the objects in a record that are not in lists, with their keys."""
    yield path, [each.name for each in kind]
    for each in kind:
        if pa.types.is_struct(each.type) and (here := _inner(path, each.name)) is not None:
            yield from _objects(each.type, here)


def _inner(path: str, name: str) -> str | None:
    """The path of a key; None where DuckDB's paths cannot say it."""
    return None if '"' in name or "\\" in name else f'{path}."{name}"'


def lost(value: Any, found: Any, kind: pa.DataType, path: str) -> tuple[str, Any, pa.DataType] | None:
    """The first value of a line that is null in what was found: its path, itself and the type it should have."""
    if value is None:
        return None
    if found is None:
        return path, value, kind
    inner: Iterable[tuple[str, Any, Any, pa.DataType]] = ()
    if pa.types.is_struct(kind) and isinstance(value, dict):
        start = f"{path}." if path else ""
        inner = ((f"{start}{each.name}", value.get(each.name), found[each.name], each.type) for each in kind)
    elif pa.types.is_struct(kind):
        return path, value, kind
    elif pa.types.is_list(kind) and isinstance(value, list):
        inner = ((f"{path}[{place}]", item, found[place], kind.value_type) for place, item in enumerate(value))
    return next((fault for name, item, got, each in inner if (fault := lost(item, got, each, name))), None)


@dataclass(frozen=True)
class Node:
    """A place in the records: by record whether it is null there, or an object with nothing in it."""

    path: str | None
    """In DuckDB's words; None inside a list, or where it cannot be said."""
    nulls: np.ndarray
    hollow: np.ndarray


def _nodes(found: pa.StructArray, path: str) -> Iterator[Node]:
    """The places of columns and of what is in them."""
    for each, child in zip(found.type, found.flatten(), strict=True):
        here = _inner(path, each.name)
        node = _root(child)
        yield Node(here, node.nulls if here else node.nulls | node.hollow, node.hollow)
        if pa.types.is_struct(child.type) and here is not None:
            yield from _nodes(child, here)
        elif pa.types.is_nested(child.type):
            yield Node(None, _holding_nulls(child), node.hollow)


def _root(array: pa.Array) -> Node:
    """Where an array is null, and where it is an object with nothing in it."""
    nulls = _mask(array.is_null())
    if not pa.types.is_struct(array.type):
        return Node(None, nulls, np.zeros(len(array), bool))
    hollow = np.ones(len(array), bool)
    for inner in array.flatten():
        hollow &= _mask(inner.is_null())
    return Node(None, nulls, hollow)


def _mask(array: pa.BooleanArray) -> np.ndarray:
    found: np.ndarray = array.to_numpy(zero_copy_only=False)
    return found


def _holding_nulls(array: pa.Array) -> np.ndarray:
    """Whether there is a null anywhere inside each value."""
    if pa.types.is_struct(array.type):
        inside = np.zeros(len(array), bool)
        for child in array.flatten():
            inside |= _mask(child.is_null()) | _holding_nulls(child)
        return inside
    if not pa.types.is_list(array.type):
        return np.zeros(len(array), bool)
    values = array.flatten()
    nulls = _mask(values.is_null()) | _holding_nulls(values)
    owners = pc.list_parent_indices(array).to_numpy()
    return np.bincount(owners, weights=nulls, minlength=len(array)) > 0


def _has_decimals(kind: pa.DataType) -> bool:
    inner = [kind.field(index).type for index in range(kind.num_fields)]
    return bool(pa.types.is_decimal(kind)) or any(_has_decimals(each) for each in inner)


def _structure(kind: pa.DataType) -> Any:
    """DuckDB's description of what to take from JSON."""
    if pa.types.is_struct(kind):
        return {each.name: _structure(each.type) for each in kind}
    return [_structure(kind.value_type)] if pa.types.is_list(kind) else duckdb_name(kind)


def exact(texts: pa.StringArray) -> pa.StringArray:
    """Lines with long numbers put into quotes, because DuckDB would round them to 64 bits of floating point."""
    long = pc.match_substring_regex(texts, LONG_NUMBER)
    places = pc.indices_nonzero(long)
    if not len(places):
        return texts
    quoted_lines = [TOKEN.sub(_quote, text) for text in texts.take(places).to_pylist()]  # only lines with long numbers
    return pc.replace_with_mask(texts, long, pa.array(quoted_lines, pa.string()))


def _quote(match: re.Match[str]) -> str:
    return f'"{match[1]}"' if match[1] else match[0]


def _shown(text: str) -> str:
    words = text if text.startswith('"') else repr(text)
    return words if len(words) <= SHOWN_CHARACTERS else f"{words[: SHOWN_CHARACTERS - 1]}…"


def _utf8(raw: pa.BinaryArray, faults: Faults) -> tuple[pa.StringArray, np.ndarray]:
    """The lines that are text, and their places; the others become faults."""
    places = np.arange(len(raw))
    bad = _no_text(raw, 0)
    if bad:
        faults.update(dict.fromkeys(bad, ("encoding", "is no UTF-8; set `encoding` to what it is")))
        places = np.delete(places, bad)
        raw = raw.take(pa.array(places))
    return raw.cast(pa.string()), places


def _no_text(raw: pa.BinaryArray, first: int) -> list[int]:
    """The places of what is no UTF-8."""
    try:
        raw.cast(pa.string())
    except pa.ArrowInvalid:
        if len(raw) == 1:
            return [first]
        half = len(raw) // 2
        return [*_no_text(raw.slice(0, half), first), *_no_text(raw.slice(half), first + half)]
    return []
