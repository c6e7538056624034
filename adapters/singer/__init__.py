"""Singer taps: reads any system for which there is one, in a process and a virtual environment of the tap's own."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, Literal

import pyarrow as pa
from pydantic import Field

from adapters.http.records import declared_types
from adapters.singer import catalog, process
from adapters.singer.installing import installed
from adapters.singer.reading import BEHIND, Messages
from pipelines import environment, node
from pipelines.environment import Found
from pipelines.errors import Invalid
from pipelines.node import Chunk, Example, Json, Report, Schemas, Split, SplitPlan, Want
from pipelines.scope import Scope
from pipelines.secrets import Secret
from pipelines.sql.sandbox import borrowed
from pipelines.tables.relation import Names, as_list, suggestion

ROOM = 1 << 44
LEAST_CHARACTERS = 4
"""Shorter secrets are not looked for in messages: they would be found in any word."""
_CATALOGS: dict[str, catalog.Catalog] = {}
_LOCK = threading.Lock()


class Connection(environment.Connection):
    """A tap, and what it shall be told."""

    adapter: Literal["singer"]
    """`singer`."""
    tap: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", examples=["tap-postgres"])
    """The tap's command."""
    packages: Names | None = Field(
        default=None, examples=["meltanolabs-tap-postgres==0.10.0", ["tap-github==1.2", "requests<3"]]
    )
    """The Python packages that bring it, as pip takes them; without it, the package of the command's name. They are
    installed into `.processflow/taps` at first use."""
    python: str | None = Field(default=None, examples=["python3.12"])
    """The Python that runs it, where it needs another than ours."""
    config: dict[str, Any] = Field(
        default_factory=dict, examples=[{"host": "db", "password": {"secret": "DB_PASSWORD"}}]
    )
    """What its documentation calls the config. `{secret: NAME}` stands for a secret's value, at any depth."""
    variables: dict[str, Any] = Field(default_factory=dict)
    """Environment variables that it gets beside `PATH`, `HOME`, the language, the time zone and the proxy's; `{secret: NAME}` as in `config`."""
    silent_seconds: float = Field(default=600, gt=0)
    """So long it may say nothing before it counts as hanging."""

    def test(self, scope: Scope) -> str:
        """Installs the tap where it is not, and asks it for its streams."""
        streams = catalog.names(self.catalog(scope, anew=True))
        count = f"{len(streams)} {'stream' if len(streams) == 1 else 'streams'}"
        return f"{self.tap} has {count}" + (f": {', '.join(streams[:10])}" if streams else "")

    def discover(self, scope: Scope) -> Sequence[Found]:
        found = self.catalog(scope, anew=True)
        return [
            Found(name, "stream", catalog.columns_of(stream), _about(stream))
            for name in catalog.names(found)
            for stream in [catalog.stream_of(found, name)]
        ]

    def catalog(self, scope: Scope, *, anew: bool = False) -> catalog.Catalog:
        """What the tap can read; asked once in a process, as taps take their time."""
        asked = repr((self.model_dump_json(), scope.project))
        with _LOCK:
            if anew or asked not in _CATALOGS:
                with self.started(scope, ["--discover"], {}) as tap:
                    _CATALOGS[asked] = catalog.read(tap.output(), self.tap)
            return _CATALOGS[asked]

    def started(self, scope: Scope, words: Sequence[str], files: Mapping[str, Any]) -> process.Tap:
        """The tap at work, with its config and these files."""
        packages = as_list(self.packages) or [self.tap]
        command = installed(scope.project, self.tap, packages, self.python)
        hidden: list[str] = []
        config = _revealed(self.config, scope, hidden)
        variables = {name: str(value) for name, value in _revealed(self.variables, scope, hidden).items()}
        return process.Tap([str(command), *words], {"config": config, **files}, variables, hidden, self.silent_seconds)


class Get(node.Get):
    """Reads a stream of a Singer tap.

    The tap runs in a process of its own, with packages of its own, and sees of our environment only what the connection
    gives it. Its state is the node's position: where the tap knows how to go on from one, the next run reads what is new. A
    record that does not fit the columns is set aside with its text and the reason.

    Columns have the types that the tap's catalogue tells: a number is a DOUBLE unless `multipleOf` tells its decimal places, what
    may be of several types is text. `columns` declares others; a DECIMAL keeps all digits that the tap has written.
    """

    category: ClassVar[str] = "bridges"

    connection: str
    """The connection's name."""
    stream: str = Field(min_length=1, examples=["public-orders"])
    """The stream's name in the tap's catalogue; `processflow connections discover` lists them."""
    columns: Names | dict[str, str] | None = Field(default=None, examples=[["id", "total"], {"total": "DECIMAL(18,2)"}])
    """Which columns to read: names, or names to DuckDB types. A column without a type has the catalogue's."""
    key: Names | None = None
    """The columns that identify a record; without it those that the catalogue tells."""
    replication: Literal["full", "incremental", "log"] | None = None
    """How the tap reads: all, what is new by `cursor`, or the source's log of changes. Without it, as the catalogue says."""
    cursor: str | None = Field(default=None, examples=["updated_at"])
    """The column by which `incremental` tells what is new."""

    examples: ClassVar[tuple[Example, ...]] = (
        Example(
            says="Reads a stream, its amounts as exact decimals.",
            config={"connection": "legacy", "stream": "orders", "columns": {"id": "BIGINT", "total": "DECIMAL(12,2)"}},
            gives={"out": [{"id": 1, "total": "9.50"}, {"id": 2, "total": None}]},
        ),
        Example(
            says="Reads what has changed since the last run, where the tap can tell by a column.",
            config={"connection": "legacy", "stream": "orders", "replication": "incremental", "cursor": "id"},
            gives={"out": [{"id": 1, "total": 9.5}, {"id": 2, "total": None}]},
        ),
    )

    def check(self, inputs: Schemas, scope: Scope, report: Report) -> Schemas:
        found = scope.connection(self.connection, Connection).catalog(scope)
        try:
            stream = catalog.stream_of(found, self.stream)
        except Invalid as fault:
            what, _, fix = str(fault).partition("; ")
            report(("stream",), what, fix)
            return {"out": None}
        try:
            schema = self._schema(stream)
        except Invalid as fault:
            for problem in fault.problems:
                report(problem.at or ("columns",), problem.what, problem.fix)
            return {"out": None}
        there = catalog.columns_of(stream).names
        for place, names in {"key": as_list(self.key), "cursor": [self.cursor] if self.cursor else []}.items():
            for name in names:
                if name not in there:
                    report((place,), f"there is no column {name!r}", suggestion(name, there))
        return {"out": schema}

    def _schema(self, stream: catalog.Stream) -> pa.Schema:
        """The columns that leave."""
        whole = catalog.columns_of(stream)
        declared = declared_types(self.columns)
        wanted = list(self.columns) if isinstance(self.columns, dict) else as_list(self.columns)
        for name in wanted:
            if name not in whole.names:
                raise Invalid(f"there is no column {name!r}; {suggestion(name, whole.names)}")
        if not len(whole):
            raise Invalid(f"the catalogue tells no columns of stream {self.stream!r}")
        return pa.schema([(name, declared.get(name, whole.field(name).type)) for name in (wanted or whole.names)])

    def plan(self, scope: Scope, position: Json, want: Want) -> SplitPlan:
        return SplitPlan((Split({"after": position}, ROOM),))

    def read(self, split: Json, schema: pa.Schema, scope: Scope, want: Want) -> Iterator[Chunk]:
        connection = scope.connection(self.connection, Connection)
        whole = connection.catalog(scope)
        stream = catalog.stream_of(whole, self.stream)
        after = split["after"] or {BEHIND: 0}
        how = {None: None, "full": "FULL_TABLE", "incremental": "INCREMENTAL", "log": "LOG_BASED"}[self.replication]
        files: dict[str, Any] = {"catalog": catalog.chosen(whole, self.stream, how, self.cursor, schema.names)}
        if "state" in after:
            files["state"] = after["state"]
        most_rows = want.batch_rows if want.rows is None else min(want.rows, want.batch_rows)
        names = {str(stream[word]) for word in ("tap_stream_id", "stream") if word in stream}
        with connection.started(scope, [], files) as tap, borrowed(scope) as sandbox:
            yield from Messages(names, schema, sandbox, after[BEHIND], most_rows)(tap.lines())

    def later(self, one: Json, other: Json) -> Json:
        if one is None or other is None:
            return one if other is None else other
        return max(one, other, key=lambda position: position[BEHIND])

    def repeats(self, split: Json) -> bool:
        """A tap owes nobody the same order twice."""
        return False


def _revealed(value: Any, scope: Scope, hidden: list[str]) -> Any:
    """A value in which secrets stand in the place of their names; each is noted in `hidden`."""
    if isinstance(value, Mapping):
        if set(value) == {"secret"} and isinstance(value["secret"], str):
            found = Secret(secret=value["secret"]).reveal(scope.project)
            if len(found) >= LEAST_CHARACTERS:
                hidden.append(found)
            return found
        return {name: _revealed(inner, scope, hidden) for name, inner in value.items()}
    return [_revealed(inner, scope, hidden) for inner in value] if isinstance(value, list) else value


def _about(stream: catalog.Stream) -> str:
    key = catalog.key_of(stream)
    return f"key: {', '.join(key)}" if key else ""
