"""Reads texts that were no records in an earlier run as the file they came from would be read today."""

from __future__ import annotations

import csv
import io
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from adapters.file.csv import Csv
from adapters.file.fixed import FixedWidth
from adapters.file.jsonl import JsonLines
from adapters.file.xml import Xml
from adapters.file.xml_records import NotWellFormed, plain_names
from pipelines.errors import Invalid
from pipelines.node import Chunk, Json, Malformed, Want
from pipelines.scope import Scope

if TYPE_CHECKING:
    from adapters.file.get import Get

PREFIX = "processflow-again-"
ROOT = "processflow-again"
PLACE = re.compile(rf"^\S*{PREFIX}\S+ line \d+: ")
SUFFIXES: Mapping[type, tuple[str, str]] = {
    Csv: (".csv", "csv"),
    JsonLines: (".jsonl", "jsonl"),
    FixedWidth: (".txt", "fixed"),
    Xml: (".xml", "xml"),
}
"""Of the formats whose records are texts: how a file's name ends, and the format's own name."""


def parse(get: Get, texts: Sequence[str], schema: pa.Schema, scope: Scope, want: Want) -> Iterator[Chunk]:
    """The records of the texts; ordinals are places in `texts`.

    They are read as one file. Where that gives more or fewer records than there are texts, each is read by itself,
    and one that is several records, or none, stays broken.
    """
    found = _together(get, texts, schema, scope, want)
    seen = sum(chunk.batch.num_rows + len(chunk.malformed.ordinals if chunk.malformed else ()) for chunk in found)
    if seen == len(texts) or (get.where is not None and seen < len(texts) and not any("\n" in one for one in texts)):
        yield from found
        return
    for place, text in enumerate(texts):
        yield from _one(get, text, place, schema, scope, want)


def _together(get: Get, texts: Sequence[str], schema: pa.Schema, scope: Scope, want: Want) -> list[Chunk]:
    """What comes of the texts as one file; nothing where one of them spoils the document."""
    try:
        return list(_read(get, texts, schema, scope, want))
    except NotWellFormed:
        return []


def _one(get: Get, text: str, place: int, schema: pa.Schema, scope: Scope, want: Want) -> Iterator[Chunk]:
    chunks = _together(get, [text], schema, scope, want)
    records = sum(chunk.batch.num_rows for chunk in chunks)
    faults = [chunk.malformed for chunk in chunks if chunk.malformed is not None]
    if records == 1 and not faults:
        for chunk in chunks:
            yield replace(chunk, first=place, ordinals=pa.array([place] * chunk.batch.num_rows, pa.int64()))
        return
    if records + len(faults) == 0 and get.where is not None and text.strip():
        return
    code, message = (
        (faults[0].codes[0], faults[0].messages[0]) if faults else ("malformed", f"it reads as {records} records")
    )
    yield Chunk(_none(schema), 0, None, Malformed([text], [code], [message], [place]))


def _none(schema: pa.Schema) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays([pa.array([], field.type) for field in schema], schema=schema)


def _read(get: Get, texts: Sequence[str], schema: pa.Schema, scope: Scope, want: Want) -> Iterator[Chunk]:
    files = get.files(scope)
    suffix, form = SUFFIXES.get(type(get.reader(files)), ("", ""))
    if not form:
        raise Invalid("its records cannot be read from their text alone; let it read its source again")
    if get.filename is not None and get.filename in schema.names:
        raise Invalid(f"which file a text came from is not known any more, and {get.filename!r} would hold it")
    lines = [*_header(get, suffix, scope), *texts]
    around: dict[str, Json] = {}
    if form == "xml":
        lines = [f"<{ROOT}>", *map(plain_names, texts), f"</{ROOT}>"]
        around = {"records": f"{ROOT}/*", "namespaces": {}}
    with tempfile.TemporaryDirectory(prefix=PREFIX) as folder:
        path = Path(folder) / f"texts{suffix}"
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        fresh: dict[str, Json] = {
            "path": str(path),
            "format": form,
            "encoding": "utf-8",
            "skip_rows": 0,
            "cursor": None,
            "connection": None,
            **around,
        }
        alone = get.model_copy(update={**fresh, "once": False, "split_bytes": 1 << 40})
        plan = alone.plan(scope, None, want)
        for split in plan.splits:
            for chunk in alone.read(split.payload, schema, scope, want):
                yield chunk if chunk.malformed is None else replace(chunk, malformed=_placeless(chunk.malformed))


def _placeless(malformed: Malformed) -> Malformed:
    """Without the place in our own file before each message: nobody can look there."""
    return replace(malformed, messages=[PLACE.sub("", message) for message in malformed.messages])


def _header(get: Get, suffix: str, scope: Scope) -> list[str]:
    """The first line of a CSV file with a header: the names as the files have them today, or as they are declared."""
    if suffix != ".csv" or not get.header:
        return []
    names = get.names(scope)
    if names is None:
        raise Invalid("the order of its columns is not known: no file is there, and `columns` declares none")
    delimiter = get.delimiter or ("\t" if get.path.endswith((".tsv", ".tsv.gz", ".tsv.zst", ".tsv.bz2")) else ",")
    line = io.StringIO()
    csv.writer(line, delimiter=delimiter, lineterminator="").writerow(names)
    return [line.getvalue()]
