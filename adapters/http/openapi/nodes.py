"""Node templates for what an API can be asked, with columns, types and paging as an OpenAPI document tells them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from adapters.http.openapi.document import Document, Object, Operation
from adapters.http.openapi.pages import paging_of, records_in
from adapters.http.openapi.types import columns_of, required_of, rows_of

NAME_LENGTH = 50
INPUT = "records"
"""The node that templates take from which need one, until a person names the right one."""
MODES = {"post": "append", "put": "upsert", "patch": "upsert", "delete": "delete"}


@dataclass
class Template:
    """A node ready to be copied into a flow."""

    name: str
    operation: str
    config: dict[str, Any]
    says: str = ""
    notes: list[str] = field(default_factory=list)
    takes: dict[str, str] = field(default_factory=dict)
    """The columns of the records that it sends, with their types."""
    parameters: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Parameters that the flow has to have."""


@dataclass(frozen=True)
class LeftOut:
    """An operation of which no node can be made, and why."""

    operation: str
    why: str


def templates(document: Document, connection: str) -> Iterator[Template | LeftOut]:
    """The nodes of all operations, each with a name of its own."""
    taken = {"start", INPUT}
    for operation in document.operations():
        making = _Making(document, operation, connection)
        for made in making.get() if operation.method == "get" else making.post():
            if isinstance(made, Template):
                made.name = _free(made.name, taken)
                if "from" in made.config and made.config["from"] == making.checked:
                    made.config["from"] = making.checked_name
                elif made.config["type"] == "validate":
                    making.checked_name = made.name
            yield made


class _Making:
    """The nodes of one operation."""

    def __init__(self, document: Document, operation: Operation, connection: str) -> None:
        self._document = document
        self._operation = operation
        self._connection = connection
        self._name = _name_of(operation)
        self.checked = self.checked_name = f"{self._name}-checked"
        self._path = re.sub(r"\{([^{}]*)\}", lambda found: "{" + _column(found[1]) + "}", operation.path)
        self._places = list(dict.fromkeys(re.findall(r"\{([^{}]*)\}", self._path)))
        self._says = _sentence(operation.node.get("summary") or operation.node.get("description"))

    def get(self) -> Iterator[Template | LeftOut]:
        """A node that reads."""
        schema, kinds = self._document.content(self._document.answer(self._operation))
        if schema is None and kinds and not any(kind in str(kinds) for kind in ("csv", "xml", "ndjson")):
            yield LeftOut(self._operation.told, f"it answers with {', '.join(kinds)}, which has no records")
            return
        made = self._template({"type": "http.get", "from": INPUT if self._places else "start"})
        place, rows, note = records_in(self._document, schema if schema is not None else {})
        if place is not None:
            made.config["records"] = place
        if note:
            made.notes.append(note)
        if place != "@" and (paging := paging_of(self._document, self._operation, schema)) is not None:
            made.config["paging"] = paging
        self._ask(made, made.config.get("paging", {}))
        if rows is not None:
            made.config["columns"] = columns_of(self._document, rows)
            if "id" in made.config["columns"]:
                made.config["key"] = ["id"]
        if self._places:
            made.config["keep"] = list(self._places)
            made.config["columns"] = {
                name: kind for name, kind in made.config.get("columns", {}).items() if name not in self._places
            }
            made.notes.append(
                f"fetches for each record of `{INPUT}`: name a node there whose records have {self._named()}"
            )
            if not made.config["columns"]:
                made.notes.append("write `columns` with their types: the document does not tell them")
            made.config.pop("key", None)
        yield made

    def post(self) -> Iterator[Template | LeftOut]:
        """A node that writes, behind one that holds the records to what the API takes."""
        schema, kinds = self._document.content(self._operation.node.get("requestBody"))
        if schema is None and kinds:
            yield LeftOut(self._operation.told, f"it takes {', '.join(kinds)}; a node sends JSON")
            return
        rows, carried = self._carried(schema)
        columns = {} if rows is None else columns_of(self._document, self._written(rows))
        wanted = required_of(self._document, rows) if rows is not None else []
        asked = {
            _column(str(each["name"])): {"type": self._kind(each), "required": True}
            for each in self._operation.placed("path")
        }
        said = {name: {"type": kind, "required": name in wanted} for name, kind in columns.items() if name not in asked}
        if said or asked:
            check = Template(self.checked, self._operation.told, {"type": "validate", "from": INPUT})
            check.config["columns"] = {name: _asked(each) for name, each in {**asked, **said}.items()}
            check.says = f"Holds records to what {self._operation.told} takes."
            check.notes.append(f"`{INPUT}`: name the node whose records are sent")
            yield check
        made = self._sending(rows, carried, columns, list(asked), bool(said or asked))
        made.takes = {name: str(each["type"]) for name, each in {**asked, **said}.items()}
        yield made

    def _sending(
        self, rows: Any, carried: dict[str, Any], columns: dict[str, str], asked: Sequence[str], checked: bool
    ) -> Template:
        method = self._operation.method
        made = self._template({"type": "http.post", "from": self.checked if checked else INPUT})
        made.config["mode"] = MODES[method]
        if method == "patch":
            made.config["method"] = "PATCH"
        made.config.update(carried)
        if asked:
            made.config["key"] = list(asked)
        if rows is None and carried.get("body") != "none":
            made.notes.append("the document does not say what is sent: set `columns`; without it, all")
        if columns and (set(asked) - set(columns) or len(columns) < len(columns_of(self._document, rows))):
            made.config["columns"] = list(columns)
        self._ask(made, {})
        self._answered(made, columns)
        for header in self._operation.placed("header"):
            if str(header.get("name", "")).lower() == "idempotency-key":
                if asked:
                    made.config["idempotency_header"] = header["name"]
                else:
                    made.notes.append(
                        f"name the record's `key`, then `idempotency_header: {header['name']}` avoids duplicates"
                    )
        return made

    def _carried(self, schema: Any) -> tuple[Any, dict[str, Any]]:
        """The schema of a record that is sent, and how records are put into a request."""
        if schema is None:
            return None, {"body": "none"} if self._operation.method == "delete" else {}
        rows = rows_of(self._document, schema)
        if rows is not None:
            return rows, {"body": "many"}
        properties: Object = self._document.schema(schema).get("properties") or {}
        if len(properties) == 1:
            name, inner = next(iter(properties.items()))
            rows = rows_of(self._document, inner)
            if rows is not None:
                return rows, {"body": "many", "envelope": {name: "$records"}}
        return (schema, {"body": "one"}) if properties else (None, {})

    def _written(self, rows: Any) -> dict[str, Any]:
        """The schema without what only the API writes."""
        whole = self._document.schema(rows)
        properties: Object = whole.get("properties") or {}
        kept = {name: each for name, each in properties.items() if not self._document.schema(each).get("readOnly")}
        return {"type": "object", "properties": kept}

    def _answered(self, made: Template, columns: dict[str, str]) -> None:
        """What the answer to one record has that was not sent goes on with it."""
        if made.config.get("body") == "many":
            made.notes.append("where the answer tells of each record, `results` and `response` read it")
            return
        schema, _ = self._document.content(self._document.answer(self._operation))
        found = {} if schema is None else columns_of(self._document, schema)
        plain = [name for name in found if name not in columns and name not in self._places and name.isidentifier()]
        plain = [name for name in plain if "(" not in found[name] and not found[name].endswith("[]")]
        if plain:
            made.config["response"] = {name: name for name in plain}

    def _ask(self, made: Template, paging: dict[str, Any]) -> None:
        """Puts what must be asked into query and headers, and tells what may be."""
        used = {paging.get("parameter"), paging.get("size_parameter")}
        may: list[str] = []
        for each in [*self._operation.placed("query"), *self._operation.placed("header")]:
            name, place = str(each.get("name")), "query" if each.get("in") == "query" else "headers"
            if name in used or name.lower() in ("accept", "content-type", "authorization", "idempotency-key"):
                continue
            if not each.get("required"):
                may.append(f"{name} ({self._kind(each)})" if place == "query" else f"header {name}")
                continue
            value = self._value(each)
            if value is None:
                parameter = _column(name)
                made.parameters[parameter] = {"type": self._kind(each).lower()}
                value = f"${parameter}" if place == "query" else "{" + parameter + "}"
            made.config.setdefault(place, {})[name] = value if place == "query" else str(value)
        if may:
            made.notes.append(f"may be asked with: {', '.join(may)}")

    def _value(self, parameter: Object) -> Any:
        """The one value that a parameter can have, or has unless told."""
        schema = self._document.schema(parameter.get("schema", {}))
        choices = schema.get("enum") or ([schema["const"]] if "const" in schema else [])
        return schema.get("default", choices[0] if len(choices) == 1 else None)

    def _kind(self, parameter: Object) -> str:
        found = columns_of(self._document, {"properties": {"x": parameter.get("schema", {})}})["x"]
        return found if "(" not in found else "VARCHAR"

    def _template(self, config: dict[str, Any]) -> Template:
        whole = {**config, "connection": self._connection, "path": self._path}
        return Template(self._name, self._operation.told, whole, self._says)

    def _named(self) -> str:
        return ", ".join(f"`{name}`" for name in self._places)


def _asked(column: dict[str, Any]) -> Any:
    return column if column["required"] else column["type"]


def _name_of(operation: Operation) -> str:
    """What the document calls it, without path and method, which some frameworks add."""
    name = slug(str(operation.node.get("operationId") or ""), "-")
    added = f"-{slug(operation.path, '-')}-{operation.method}"
    return name.removesuffix(added) if name != "node" else slug(operation.told, "-")


def slug(text: str, joined: str) -> str:
    """Words of a text as a name: with `-`, `listOrders` is `list-orders`."""
    apart = re.sub(r"([a-z0-9])([A-Z])", r"\1 \2", re.sub(r"([A-Z]+)([A-Z][a-z])", r"\1 \2", text))
    words = re.findall(r"[a-z0-9]+", apart.lower())
    name = joined.join(words)[:NAME_LENGTH].strip(joined)
    return name if name[:1].isalpha() else f"n{joined}{name}" if name else "node"


def _column(name: str) -> str:
    """A parameter's name as that of a column."""
    return name if re.fullmatch(r"[A-Za-z_]\w*", name) else slug(name, "_")


def _free(name: str, taken: set[str]) -> str:
    number = 2
    free = name
    while free in taken:
        free, number = f"{name}-{number}", number + 1
    taken.add(free)
    return free


def _sentence(text: Any) -> str:
    """The first sentence of a text, in one line."""
    found = " ".join(str(text or "").split())
    first = re.split(r"(?<=[.!?]) ", found)[0]
    return first if len(first) <= 110 else first[:107] + "…"
