"""Every system that is read and written as a rig: declared once, for all that adapters are held to."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Any, ClassVar

import duckdb
import pyarrow as pa
import pytest
import trustme

from adapters import file, http
from pipelines.conformance import SystemConformance
from pipelines.conformance.baddays import Cut, Line, Mistake
from pipelines.conformance.exchanges import Rig
from pipelines.environment import Environment
from pipelines.errors import FlowError, Unavailable
from pipelines.node import Get, Post
from pipelines.scope import Scope
from tests.adapters import kafka_room
from tests.adapters.file import store_room
from tests.adapters.file.post_room import scope_in
from tests.parts import kafka as kafka_parts
from tests.parts import mariadb as mariadb_parts
from tests.parts import postgres as postgres_parts
from tests.parts import s3 as s3_parts
from tests.parts.proxy import Proxy
from tests.parts.shop_api import answer, serving

NOWHERE = "no-such-host.invalid"
WRONG = "PROCESSFLOW_TESTS_WRONG"
"""A secret that is not the right one."""
os.environ[WRONG] = "canary-of-the-wrong-password"

NO_TEXT = {
    "bytes": "binary has no text of its own",
    "four bytes": "binary has no text of its own",
    "duration": "an interval has no text that reads back the same",
}
NO_TIME: dict[str, frozenset[str]] = {
    "far date": frozenset({"year 0", "year 10000", "last", "first"}),
    "no time": frozenset({"24:00", "below zero"}),
    "far moment": frozenset({"year 10000", "last", "first"}),
}
FINE = frozenset({"nanoseconds"})
MICROSECONDS = {"fine time": FINE, "fine moment": FINE | {"first", "last"}, "fine instant": FINE}
FLOATS = frozenset({"not a number", "infinite", "minus infinite"})
JSON = NO_TIME | {"float32": FLOATS, "float64": FLOATS, "fine moment": frozenset({"first", "last"})}


def declared(schema: pa.Schema) -> dict[str, str]:
    """Columns with the DuckDB types to read them as; what those cannot be is read as text."""

    def type_of(kind: pa.DataType) -> str:
        if pa.types.is_null(kind) or pa.types.is_decimal256(kind):
            return "VARCHAR"
        return str(connection.from_arrow(pa.table({"v": pa.array([], kind)})).types[0])

    with duckdb.connect() as connection:
        return {field.name: type_of(field.type) for field in schema}


class Watched(SystemConformance):
    """A system of which no message may hold a secret."""

    def secrets(self) -> tuple[str, ...]:
        return (os.environ[WRONG], postgres_parts.PASSWORD, mariadb_parts.PASSWORD)


class InFile(Watched):
    """A file of a format."""

    path = ""
    modes: ClassVar[dict[str, dict[str, Any]]] = {"append": {}, "upsert": {"mode": "upsert", "key": "k"}}
    spared: ClassVar[dict[str, str]] = {
        "host": "a file is on this machine",
        "port": "a file is on this machine",
        "password": "a file asks for none",
        "certificate": "a file shows none",
        "database": "a file is in no database",
    }

    def fields(self) -> dict[str, Any]:
        """What get and post say of the file."""
        return {"path": self.path}

    def columns(self, schema: pa.Schema) -> dict[str, str] | None:
        """How the file is read."""
        return declared(schema)

    def rig(self, tmp_path: Path, **connection: Any) -> Rig:
        def get(schema: pa.Schema, **config: Any) -> Get:
            return file.Get(**{**self.fields(), "columns": self.columns(schema), **config})

        def post(**config: Any) -> Post:
            return file.Post(**{**self.fields(), **config})

        return Rig(scope_in(tmp_path), post, get)

    def mistakes(self, tmp_path: Path) -> Mapping[str, Mistake]:
        below = f"{self.path}/below{Path(self.path).suffix}"
        return {
            "table": Mistake("none" + Path(self.path).suffix, get={"path": f"none{Path(self.path).suffix}"}, post=None),
            "rights": Mistake("cannot be written", get=None, post={"path": below}, check_tells=False),
        }


class InStore(Watched):
    """A file in a folder of a server."""

    modes: ClassVar[dict[str, dict[str, Any]]] = {"append": {}, "upsert": {"mode": "upsert", "key": "k"}}
    rooms: dict[Path, store_room.Room]

    def room(self, folder: Path) -> store_room.Room:
        raise NotImplementedError

    def rig(self, tmp_path: Path, **connection: Any) -> Rig:
        if tmp_path not in self.rooms:
            self.rooms[tmp_path] = self.room(tmp_path)
        scope = self.rooms[tmp_path].scope(tmp_path, **connection)

        def get(schema: pa.Schema, **config: Any) -> Get:
            return file.Get(**{"connection": "lake", "path": "out.parquet", **config})

        def post(**config: Any) -> Post:
            return file.Post(**{"connection": "lake", "path": "out.parquet", **config})

        return Rig(scope, post, get)


class OnS3(InStore):
    """A file in a bucket."""

    spared: ClassVar[dict[str, str]] = {
        "password": "this server looks at no signature",
        "certificate": "this server shows none; see test_stores",
        "rights": "this server lets everybody do everything",
    }
    reading: ClassVar[dict[str, Cut]] = {
        "connect": Cut(count=1),
        "first page": Cut(rb"GET /.*out.parquet", heard=True),
        "middle": Cut(count=10_000, direction="down"),
    }
    writing: ClassVar[dict[str, Cut]] = {
        "connect": Cut(count=1),
        "middle": Cut(count=10_000),
        "commit": Cut(rb"P(U|OS)T /.*out.parquet"),
        "after commit": Cut(rb"P(U|OS)T /.*out.parquet", heard=True),
    }

    @pytest.fixture(autouse=True)
    def _store(self, s3: s3_parts.Server) -> None:
        self.server, self.rooms = s3, {}

    def room(self, folder: Path) -> store_room.Room:
        return store_room.on_s3(self.server, folder)

    def line(self) -> AbstractContextManager[Line]:
        return Proxy(self.server.port)

    def through(self, line: Line) -> Mapping[str, Any]:
        return {"endpoint": f"http://127.0.0.1:{line.port}"}

    def mistakes(self, tmp_path: Path) -> Mapping[str, Mistake]:
        return {
            "host": Mistake("no host has this name", {"endpoint": f"http://{NOWHERE}"}),
            "port": Mistake("cannot be made", {"endpoint": "http://127.0.0.1:1"}, error=Unavailable),
            "database": Mistake("elsewhere", {"url": "s3://elsewhere-7f3a/lake"}, check_tells=False),
            "table": Mistake("none.parquet", {}, {"path": "none.parquet"}, None, test_tells=False),
        }


class OverHttp(Watched):
    """A shelf of an API."""

    modes: ClassVar[dict[str, dict[str, Any]]] = {
        "append": {},
        "upsert": {"mode": "upsert", "key": "k"},
    }
    spared: ClassVar[dict[str, str]] = {"database": "an API has none"}
    count = 150
    reading: ClassVar[dict[str, Cut]] = {
        "connect": Cut(count=1),
        "first page": Cut(rb"GET /shelves", heard=True),
        "middle": Cut(count=40_000, direction="down"),
    }
    writing: ClassVar[dict[str, Cut]] = {
        "connect": Cut(count=1),
        "middle": Cut(count=40_000),
        "commit": Cut(rb"POST /shelves"),
        "after commit": Cut(rb"POST /shelves", heard=True),
    }

    @pytest.fixture(autouse=True)
    def _shop(self) -> Iterator[None]:
        with ExitStack() as self.opened:
            self.shop = self.opened.enter_context(serving(0))
            yield
            http.loop.run(http.client.close_all())

    def rig(self, tmp_path: Path, **connection: Any) -> Rig:
        place = f"/shelves/{tmp_path.name}"
        retry = {"attempts": 3, "first_seconds": 0.001}
        given = {"adapter": "http", "url": self.shop.url, "retry": retry, **connection}
        environment = Environment(connections={"shop": http.Connection.model_validate_json(json.dumps(given))})
        scope = Scope(tmp_path, environment, staging=tmp_path)

        def post(**config: Any) -> Post:
            path = place + "/{k}" if config.get("mode") == "upsert" else place
            return http.Post(**{"connection": "shop", "path": path, **config})

        def get(schema: pa.Schema, **config: Any) -> Get:
            return http.Get(**{"connection": "shop", "path": place, "columns": declared(schema), **config})

        return Rig(scope, post, get)

    def refusing(self, tmp_path: Path) -> Rig | None:
        self.shop.refuses = "n"
        return self.rig(tmp_path)

    def line(self) -> AbstractContextManager[Line]:
        return Proxy(int(self.shop.url.rpartition(":")[2]))

    def through(self, line: Line) -> Mapping[str, Any]:
        return {"url": f"http://127.0.0.1:{line.port}"}

    def untrusted(self, folder: Path) -> str:
        """The address of an API whose certificate nobody knows."""
        pair = trustme.CA().issue_cert("127.0.0.1").private_key_and_cert_chain_pem
        pair.write_to_path(str(folder / "server.pem"))
        words = {"ssl_certfile": folder / "server.pem", "ssl_keyfile": folder / "server.pem"}
        return self.opened.enter_context(serving(0, **words)).url

    def mistakes(self, tmp_path: Path) -> Mapping[str, Mistake]:
        refused = {"check_tells": False, "test_tells": False}
        self.shop.script("/denied", *[answer(403, '{"detail": "not for you"}')] * 9)
        self.shop.script("/private", *[answer(401, '{"detail": "who are you"}')] * 9)
        return {
            "host": Mistake(NOWHERE, {"url": f"http://{NOWHERE}"}, check_tells=False),
            "port": Mistake("cannot be reached", {"url": "http://127.0.0.1:1"}, error=Unavailable, check_tells=False),
            "certificate": Mistake(
                "its certificate is not trusted", {"url": self.untrusted(tmp_path)}, check_tells=False
            ),
            "password": Mistake(
                "401", {"auth": {"bearer": {"secret": WRONG}}}, {"path": "/private"}, {"path": "/private"}, **refused
            ),
            "table": Mistake("404", {}, {"path": "/nothing"}, None, **refused),
            "rights": Mistake("403", {}, {"path": "/denied"}, None, **refused),
        }


class InKafka(Watched):
    """A topic of a broker. The broker tells clients its own address, so no line leads to it by another: what is cut is tested
    with the broker's own listeners."""

    modes: ClassVar[dict[str, dict[str, Any]]] = {"append": {}, "upsert": {"mode": "upsert", "key": "k"}}
    spared: ClassVar[dict[str, str]] = {
        "password": "this broker takes everybody; see test_kafka_bad_days",
        "certificate": "this broker shows none; see test_kafka_bad_days",
        "database": "a cluster has topics only",
        "rights": "this broker lets everybody do everything; see test_kafka_bad_days",
    }

    @pytest.fixture(autouse=True)
    def _broker(self, kafka: kafka_parts.Broker) -> None:
        self.broker = kafka
        self.topics: dict[Path, str] = {}

    def rig(self, tmp_path: Path, **connection: Any) -> Rig:
        if tmp_path not in self.topics:
            self.topics[tmp_path] = kafka_room.made(self.broker, max_message_bytes="16000000")
        topic = self.topics[tmp_path]
        room = kafka_room.Room(self.broker, tmp_path, **connection)

        def get(schema: pa.Schema, **config: Any) -> Get:
            return room.get(**{"topic": topic, "columns": declared(schema), **config})

        return Rig(room.scope, lambda **config: room.post(**{"topic": topic, **config}), get)

    def mistakes(self, tmp_path: Path) -> Mapping[str, Mistake]:
        quickly = {"timeout_seconds": 1}
        return {
            "host": Mistake(NOWHERE, {"servers": f"{NOWHERE}:9092", **quickly}, error=FlowError),
            "port": Mistake("127.0.0.1:1", {"servers": "127.0.0.1:1", **quickly}, error=Unavailable),
            "table": Mistake("none", {}, {"topic": "none"}, {"topic": "none"}, test_tells=False),
        }
