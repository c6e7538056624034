"""Makes requests of records: their JSON, addresses, envelopes and idempotency keys. What cannot be sent is a reject."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pyarrow as pa
import pyarrow.compute as pc

from adapters.file.text import lines, without_json
from adapters.http.client import Request
from adapters.http.templates import Missing, address, filled, filled_path, places, written
from pipelines.tables.post import record_keys
from pipelines.tables.relation import as_list

if TYPE_CHECKING:
    from adapters.http.post import Post

RECORD, RECORDS, COUNT = "$record", "$records", "$count"
MARK = "\x00processflow\x00"
KEY_CHARACTERS = 200


@dataclass(frozen=True)
class Parcel:
    """One request and the rows of the batch that it carries."""

    request: Request
    rows: Sequence[int]


@dataclass
class Packed:
    """A batch made ready: its parcels, and what cannot be sent, by row: a code and a message."""

    parcels: list[Parcel] = field(default_factory=list)
    unfit: dict[int, tuple[str, str]] = field(default_factory=dict)
    keys: Sequence[str | None] = ()
    texts: Sequence[str] | None = None
    """Each record as JSON; None where none is sent."""
    plain: Sequence[Mapping[str, Any]] | None = None
    """Each record's values for addresses, headers and envelopes; None where none is needed."""

    def text(self, rows: Sequence[int]) -> list[str] | None:
        return None if self.texts is None else [self.texts[row] for row in rows]

    def values(self, row: int) -> Mapping[str, Any]:
        return {} if self.plain is None else self.plain[row]


class Packer:
    """Makes parcels of batches, as a post's fields say."""

    def __init__(self, post: Post, base: str, values: Mapping[str, Any], schema: pa.Schema) -> None:
        self._post = post
        self._base = base
        self._values = values
        named = {*places(post.path), *places(post.query), *places(post.headers), *places(post.envelope)}
        self._filled = [name for name in schema.names if name in named]
        self._sent = post.sent_columns(schema)
        self._method = post.asked_method
        self._headers = {"Accept": "application/json"}
        if post.carries != "none":
            self._headers["Content-Type"] = "application/json"

    def __call__(self, batch: pa.RecordBatch) -> Packed:
        """The requests for the records of a batch, in their order."""
        packed = Packed(keys=_keys(batch, as_list(self._post.key)), texts=self._texts(batch))
        packed.plain = batch.select(self._filled).to_pylist() if self._filled else None
        self._set_aside(batch, packed)
        rows = [row for row in range(batch.num_rows) if row not in packed.unfit]
        if self._post.carries == "many":
            self._together(packed, rows)
            return packed
        for row in rows:  # a request each
            try:
                packed.parcels.append(self.parcel(packed, [row]))
            except Missing as fault:
                packed.unfit[row] = ("path", str(fault))
        return packed

    def _set_aside(self, batch: pa.RecordBatch, packed: Packed) -> None:
        """Records with a value that JSON has no form of, or without a key."""
        for row, words in without_json(batch, self._sent):
            packed.unfit.setdefault(row, ("no_text", words))
        for name in as_list(self._post.key):
            for row in pc.indices_nonzero(batch.column(name).is_null()).to_pylist():
                packed.unfit.setdefault(row, ("key", f"key column {name!r} is null"))

    def _texts(self, batch: pa.RecordBatch) -> list[str] | None:
        if self._post.carries == "none":
            return None
        if not self._sent:
            return ["{}"] * batch.num_rows
        found: list[str] = lines(self._sent, [batch.column(name) for name in self._sent]).to_pylist()
        return found

    def _together(self, packed: Packed, rows: Sequence[int]) -> None:
        """Lists of records that go to the same address."""
        groups: dict[str, list[int]] = {}
        for row in rows:
            try:
                groups.setdefault(self._address(packed.values(row)), []).append(row)
            except Missing as fault:
                packed.unfit[row] = ("path", str(fault))
        for group in groups.values():
            for start in range(0, len(group), self._post.size):
                packed.parcels.append(self.parcel(packed, group[start : start + self._post.size]))

    def parcel(self, packed: Packed, rows: Sequence[int]) -> Parcel:
        """One request with these rows."""
        texts, plain = packed.text(rows), packed.values(rows[0])
        values = {**self._values, **plain}
        body = None if texts is None else self._body(texts, values).encode()
        headers = self._headers
        if self._post.headers:
            headers = headers | {name: written(filled(text, values)) for name, text in self._post.headers.items()}
        if self._post.idempotency_header is not None:
            keys = [packed.keys[row] or "" for row in rows]
            headers = headers | {self._post.idempotency_header: self._idempotency_key(keys, body)}
        return Parcel(Request(self._method, self._address(plain), headers, body), rows)

    def _address(self, plain: Mapping[str, Any]) -> str:
        values = {**self._values, **plain}
        return address(self._base, filled_path(self._post.path, values), filled(self._post.query, values))

    def _body(self, texts: list[str], values: Mapping[str, Any]) -> str:
        """The records in their envelope, as they were written: nothing is read and written again on the way."""
        is_list = self._post.carries == "many"
        records = f"[{','.join(texts)}]" if is_list else texts[0]
        if self._post.envelope is None:
            return records
        marks = {RECORDS: MARK, RECORD: MARK, COUNT: len(texts)}
        made = filled(_marked(self._post.envelope, marks), values)
        return json.dumps(made, ensure_ascii=False, default=written).replace(json.dumps(MARK), records)

    def _idempotency_key(self, keys: Sequence[str], body: bytes | None) -> str:
        """The same for the same content under the same key, whenever it is sent; another for changed content."""
        about = hashlib.blake2b(f"{self._method} {self._post.path}".encode(), digest_size=12)
        for key in keys:
            about.update(b"\x00" + key.encode("utf-8", "surrogatepass"))
        about.update(b"\x00" + (body or b""))
        begin = quote(keys[0], safe="-_.:")[:KEY_CHARACTERS] if len(keys) == 1 else str(len(keys))
        return f"{begin}-{about.hexdigest()}"


def _marked(template: Any, marks: Mapping[str, Any]) -> Any:
    if isinstance(template, Mapping):
        return {name: _marked(value, marks) for name, value in template.items()}
    if isinstance(template, list):
        return [_marked(value, marks) for value in template]
    return marks.get(template, template) if isinstance(template, str) else template


def _keys(batch: pa.RecordBatch, key: Sequence[str]) -> list[str | None]:
    found = record_keys(batch, key)
    return [None] * batch.num_rows if found is None else found.to_pylist()
