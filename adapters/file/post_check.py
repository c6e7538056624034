"""What is wrong with a post before anything is written: its fields, its path, and what is there already."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from adapters.file.delivering import columns_in
from adapters.file.forms import BINARY, FIELDS, form_of, told_format
from adapters.file.layout import overlapping, spans_of
from adapters.file.parquet import plain_type
from adapters.file.source import UTF8, encoding_of, has_single_bytes
from adapters.file.target import Target
from adapters.file.text import unsupported
from adapters.file.writers import Form
from adapters.file.writers_excel import IS_THERE
from adapters.file.xml_template import NAME, document_of, placed
from pipelines.align import unify
from pipelines.errors import Invalid
from pipelines.scope import Scope
from pipelines.tables.relation import suggestion

if TYPE_CHECKING:
    from adapters.file.post import Post

NOT_A_DELIMITER = '"\r\n.-+: \\'
TITLES = {"csv": "CSV", "fixed": "fixed width", "excel": "Excel", "xml": "XML"}
NOT_IN_SHEETS = "[]:*?/\\"

Found = tuple[tuple[str | int, ...], str, str]
"""Where in the node, what, and what would be right."""


def problems(node: Post) -> Iterator[Found]:
    """What is wrong with the fields by themselves."""
    try:
        kind, packed, _ = told_format(node)
    except Invalid as fault:
        yield ("path",), str(fault).partition("; ")[0], str(fault).partition("; ")[2]
        return
    if node.mode in ("upsert", "delete") and not node.keys:
        yield ("mode",), f"mode {node.mode} tells records apart by `key`, which is missing", "set `key`"
    for name in sorted(FIELDS.keys() & node.model_fields_set):
        if kind not in FIELDS[name]:
            titles = " and ".join(TITLES[each] for each in FIELDS[name])
            yield (name,), f"{name} is for {titles}, and this is {kind}", f"leave {name} away"
    if kind in _OWN_PROBLEMS:
        yield from _OWN_PROBLEMS[kind](node)
    if packed is not None and (kind in BINARY or node.compression not in (None, packed)):
        yield ("path",), "the suffix names another compression than the file will have", "let both say the same"
    if kind not in BINARY and node.compression == "snappy":
        yield ("compression",), f"snappy is no compression for {kind}", "use gzip or zstd"


def _csv_problems(node: Post) -> Iterator[Found]:
    if node.delimiter is not None and (node.delimiter in NOT_A_DELIMITER or node.delimiter.isalnum()):
        what = f"{node.delimiter!r} occurs in values, so it cannot stand between them"
        yield ("delimiter",), what, "use , ; | or tab"
    if any(each in node.null for each in '"\r\n' + (node.delimiter or ",")):
        yield ("null",), f"null {node.null!r} holds what CSV itself is made of", "use a word such as NULL"


def _fixed_problems(node: Post) -> Iterator[Found]:
    try:
        spans = spans_of(node.layout)
    except Invalid as fault:
        for problem in fault.problems:
            yield problem.at, problem.what, problem.fix
        return
    both = overlapping(spans)
    if both is not None:
        one, other = both
        what = f"columns {one.name!r} and {other.name!r} stand in each other's place"
        yield ("layout", other.name), what, f"let {other.name!r} begin at {one.stop + 1}"
    encoding = encoding_of(node.encoding)
    if encoding != UTF8 and not has_single_bytes(encoding):
        yield ("encoding",), f"{node.encoding} has no single bytes", "use utf-8, latin-1, cp1252 or the like"
    if "\n" in node.null or "\r" in node.null:
        yield ("null",), f"null {node.null!r} holds a line's end", "use a word such as NULL"


def _excel_problems(node: Post) -> Iterator[Found]:
    if node.mode in ("upsert", "delete"):
        what = f"mode {node.mode} changes records that are there, and a workbook is always written as a whole"
        yield ("mode",), what, "use `replace`, or keep the records in another format"
    if any(sign in node.sheet for sign in NOT_IN_SHEETS) or node.sheet.startswith("'") or node.sheet.endswith("'"):
        yield ("sheet",), f"{node.sheet!r} is no name for a sheet", f"leave away {NOT_IN_SHEETS} and quotes at the ends"
    if node.split_sheets and len(node.sheet) > 26:
        yield ("sheet",), f"{node.sheet!r} leaves no room for numbers behind it", "take at most 26 characters"
    if node.compression is not None:
        yield ("compression",), "a workbook has a compression of its own", "leave compression away"


def _xml_problems(node: Post) -> Iterator[Found]:
    if node.template is None:
        if not all(NAME.fullmatch(step) for step in node.records.split("/")):
            yield ("records",), f"{node.records!r} is no path of names", "write it as orders/order"
        return
    try:
        document_of(node.template, node.records)
    except ValueError as fault:
        what, _, fix = str(fault).partition("; ")
        yield ("template",), what, fix
    if node.mode in ("upsert", "delete"):
        what = f"mode {node.mode} reads what is there, and nobody can tell which element a template made of a column"
        yield ("mode",), what, "use `append` or `replace`, or write without a template"


_OWN_PROBLEMS: Mapping[str, Callable[[Post], Iterator[Found]]] = {
    "csv": _csv_problems,
    "fixed": _fixed_problems,
    "excel": _excel_problems,
    "xml": _xml_problems,
}


def _template_misfits(node: Post, schema: pa.Schema) -> Iterator[Found]:
    """Values of a template that no column has, or that hold others."""
    if node.template is None:
        return
    try:
        record = document_of(node.template, node.records).record
    except ValueError:
        return  # that is a problem of its own
    for value, kind, is_each in placed(record, {each.name: each.type for each in schema}):
        name = ".".join(value.path)
        if kind is None:
            yield ("template",), f"there is no column {name!r}", suggestion(value.path[0], schema.names)
        elif is_each:
            yield ("template",), f"{name!r} is {kind}, which has no items", "leave `each` away, or name a list"
        elif pa.types.is_nested(kind):
            what = f"{name!r} is {kind}, which is no text"
            yield ("template",), what, 'name a field inside of it, or repeat an element by each="{column}"'
        elif why := unsupported(kind):
            yield ("template",), f"column {name!r} is {kind}: {why.partition('; ')[0]}", why.partition("; ")[2]


def misfits(node: Post, schema: pa.Schema, scope: Scope) -> Iterator[Found]:
    """What of records of these columns cannot go there."""
    target, form = node.into(scope), form_of(node)
    for what, fix in target.problems(schema):
        yield ("path",), what, fix
    yield from _key_misfits(node, schema, target)
    stored = target.stored(schema)
    if node.mode != "delete":
        yield from _column_misfits(node, stored, form)
    if form.is_built_whole and node.mode == "append" and _is_there(target):
        yield ("mode",), IS_THERE.partition("; ")[0], IS_THERE.partition("; ")[2]
    if node.mode != "replace":
        yield from _clashes(node, stored, target, form)


def _column_misfits(node: Post, stored: pa.Schema, form: Form) -> Iterator[Found]:
    yield from _template_misfits(node, stored)
    for name in node.layout or ():
        if name not in stored.names:
            yield ("layout", name), f"column {name!r} does not come in", suggestion(name, stored.names)
    for column in stored:
        if what := form.unsupported(column):
            said, _, fix = what.partition("; ")
            yield ("path",), f"column {column.name!r} is {column.type}: {said}", fix


def _key_misfits(node: Post, schema: pa.Schema, target: Target) -> Iterator[Found]:
    for name in node.keys:
        if name not in schema.names:
            yield ("key",), f"key names column {name!r}, which does not come in", suggestion(name, schema.names)
        elif pa.types.is_nested(schema.field(name).type):
            what = f"key column {name!r} is {schema.field(name).type}, which cannot be compared"
            yield ("key",), what, "use another"
    if node.mode not in ("upsert", "delete"):
        return
    beside = [name for name in target.columns if name not in node.keys]
    if beside and node.keys:
        what = f"with mode {node.mode} a record must stay in its place, but {beside[0]!r} in the path is not in `key`"
        yield ("key",), what, f"add {beside[0]!r} to `key`"
    if node.keys and all(name in target.hive_columns for name in node.keys):
        yield ("key",), "every key column is in the path and none in the files", "add a column that tells records apart"


def _clashes(node: Post, stored: pa.Schema, target: Target, form: Form) -> Iterator[Found]:
    """Where what is there has other columns or types."""
    there = columns_there(target, form)
    if there is None:
        return
    for column in stored:
        if node.mode == "delete" and column.name not in node.keys:
            continue
        if column.name not in there:
            what = f"column {column.name!r} is not in the file that is there, which has: {', '.join(there)}"
            yield ("path",), what, "drop it with a map"
        elif not _fits(column.type, there[column.name]):
            what = f"column {column.name!r} is {column.type}, but {there[column.name]} in the file that is there"
            yield ("path",), what, "cast it with a map, or use mode `replace`"


def columns_there(target: Target, form: Form) -> dict[str, pa.DataType | None] | None:
    """The columns of what is there already: of the file, or of a folder's first."""
    if target.columns and not target.is_folder:
        return None
    there = _columns_on_path(target, form) if target.store is None else columns_in(target.store, target, form)
    return None if there is None else {name: kind for name, kind in there.items() if name not in target.hive_columns}


def _columns_on_path(target: Target, form: Form) -> Mapping[str, pa.DataType | None] | None:
    found: Path | None = target.root
    if target.is_folder:
        every = target.root.rglob(f"*{form.suffix}") if target.root.is_dir() else ()
        found = min((path for path in every if not path.name.startswith((".", "_"))), default=None)
    return None if found is None or not found.is_file() else form.columns(found)


def _is_there(target: Target) -> bool:
    """Whether the one file that a path means is there already."""
    if target.columns or target.is_folder:
        return False
    return target.root.exists() if target.store is None else target.store.look(target.inside) is not None


def _fits(coming: pa.DataType, there: pa.DataType | None) -> bool:
    """Whether every value of one type is one of the other."""
    if there is None:
        return True
    wide, narrow = plain_type(there), plain_type(coming)
    try:
        both = unify([pa.schema([pa.field("column", wide)]), pa.schema([pa.field("column", narrow)])])
    except Invalid:
        return False
    return bool(both.field(0).type.equals(wide))
