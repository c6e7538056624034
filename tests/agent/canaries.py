"""Systems that know a canary by heart, and the days on which each of them fails."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from tests.adapters import kafka_room
from tests.parts import kafka as kafka_parts
from tests.parts import s3 as s3_parts
from tests.parts import sftp as sftp_parts
from tests.parts.mariadb import database_of
from tests.parts.postgres import schema_of
from tests.parts.proxy import Proxy
from tests.parts.shop_api import answer, hang_up, serving

CANARY = "canary-7f3a/9c+e="
NAME = "PROCESSFLOW_CANARY"
USER = "bird"
SECRET = {"secret": NAME}
FLOW = """flow: kept
settings: {retry: {attempts: 2, first_seconds: 0.01}}
nodes:
  start: {type: start}
  orders: {type: KIND.get, from: start, connection: shop, GET}
  sent: {type: KIND.post, from: orders, connection: shop, POST}
  wrong: {type: file.post, from: sent.rejected, path: wrong.csv}
"""


@dataclass
class World:
    """A system that knows the canary, and the days on which it fails."""

    kind: str
    get: str
    post: str
    settings: Mapping[str, Any]
    days: Mapping[str, tuple[Mapping[str, Any], Callable[[Proxy], None] | None]]
    """By name: settings that differ, and what happens to the line."""
    port: int = 0
    """Where the system listens; 0: there is no line to it."""
    before: Callable[[], None] = field(default=lambda: None)
    """What is done before each day."""
    secrets: tuple[str, ...] = (CANARY,)

    @property
    def flow(self) -> str:
        return FLOW.replace("KIND", self.kind).replace("GET", self.get).replace("POST", self.post)


def in_postgres(request: pytest.FixtureRequest, folder: Path, opened: ExitStack) -> World:
    server = request.getfixturevalue("postgres")
    schema = schema_of(folder / "canary")
    role = f"{USER}_{schema}"[:60]
    with closing(server.connect()) as connection:
        connection.execute(f"CREATE ROLE {role} LOGIN PASSWORD '{CANARY}'")
        connection.execute(f"CREATE SCHEMA {schema} AUTHORIZATION {role}")
        connection.execute(f"SET ROLE {role}")
        connection.execute(f"CREATE TABLE {schema}.orders AS SELECT n::bigint AS id FROM generate_series(1, 300) n")
        connection.execute(f"CREATE TABLE {schema}.kept (id bigint CHECK (id <> 7))")
    return World(
        "postgres", "table: orders, key: [id]", "table: kept, key: [id]",
        {**server.settings(schema), "user": role, "password": SECRET, "connect_seconds": 2},
        {
            "works": ({}, None),
            "nobody": ({"port": 1}, None),
            "refused": ({"user": "postgres_nobody"}, None),
            "no such database": ({"database": "elsewhere"}, None),
            "no TLS": ({"tls": "require"}, None),
            "cut while reading": ({}, lambda line: line.cut_at(rb"COPY \(SELECT", heard=True)),
            "cut at the commit": ({}, lambda line: line.cut_at(rb"COMMIT\0", heard=True, then_refuse=True)),
            "hangs": ({}, Proxy.hang),
        },
        server.port,
    )  # fmt: skip


def in_mysql(request: pytest.FixtureRequest, folder: Path, opened: ExitStack) -> World:
    server = request.getfixturevalue("mariadb")
    database = database_of(folder / "canary")
    with closing(server.connect()) as connection:
        connection.query(f"CREATE DATABASE {database}")
        connection.select_db(database)
        for sql in (
            f"CREATE USER {database}@'%' IDENTIFIED BY '{CANARY}'",
            f"GRANT ALL ON {database}.* TO {database}@'%'",
            f"CREATE TABLE {database}.orders (id bigint PRIMARY KEY)",
            f"INSERT INTO {database}.orders SELECT seq FROM seq_1_to_300",
            f"CREATE TABLE {database}.kept (id bigint CHECK (id <> 7))",
        ):
            connection.query(sql)
    return World(
        "mysql", "table: orders, key: [id]", "table: kept, key: [id]",
        {**server.settings(database), "user": database, "password": SECRET},
        {
            "works": ({}, None),
            "nobody": ({"port": 1}, None),
            "refused": ({"user": "nobody_here"}, None),
            "no such database": ({"database": "elsewhere"}, None),
            "strange certificate": ({"tls": "verify-full"}, None),
            "cut while reading": ({}, lambda line: line.cut_at(rb"SELECT .*FROM .*orders", heard=True)),
            "cut at the commit": ({}, lambda line: line.cut_at(rb"COMMIT", heard=True, then_refuse=True)),
        },
        server.port,
    )  # fmt: skip


def over_http(request: pytest.FixtureRequest, folder: Path, opened: ExitStack) -> World:
    shop = opened.enter_context(serving(5))
    echo = json.dumps({"error": f"what are you doing with {CANARY}, {USER}?"})
    words = f"Bearer {CANARY}"

    def before() -> None:
        shop.scripts.clear()
        token = json.dumps({"access_token": CANARY, "expires_in": 3600, "refresh_token": CANARY})
        shop.script("/token", *[answer(200, token)] * 3)
        shop.script("/orders", *[answer(422, echo)] * 2, answer(500, words, content_type="text/plain"))
        shop.script("/denied", *[answer(401, echo, **{"www-authenticate": words})] * 20)
        shop.script("/lost", *[hang_up] * 20)
        shop.script("/moved", *[answer(302, "", location=f"http://127.0.0.1:1/x?key={quote(CANARY)}")] * 20)
        shop.script("/text", *[answer(200, words, content_type="text/plain")] * 20)
        shop.script("/bad", *[answer(200, f'[{{"id": 1, "note": {json.dumps(words)}')] * 20)

    def asks(path: str) -> Mapping[str, Any]:
        return {"url": f"{shop.url}{path}", "test_path": path}

    auths = {
        "basic": {"basic": {"user": USER, "password": SECRET}},
        "bearer": {"bearer": SECRET},
        "key in a header": {"api_key": {"header": "X-Key", "value": SECRET}},
        "key in the query": {"api_key": {"query": "key", "value": SECRET}},
        "client credentials": {"oauth2": {"token_url": "/token", "client_id": USER, "client_secret": SECRET}},
        "refresh token": {"oauth2": {"token_url": "/token", "client_id": USER, "refresh_token": SECRET}},
        "refused token": {
            "oauth2": {"token_url": "/denied", "client_id": USER, "client_secret": SECRET, "send": "body"}
        },
        "signed": {"hmac": {"secret": SECRET, "over": "{method} {path}"}},
    }
    days: dict[str, tuple[Mapping[str, Any], None]] = {name: ({"auth": auth}, None) for name, auth in auths.items()}
    everywhere = {"auth": auths["key in the query"], "headers": {"X-Also": SECRET}, "query": {"also": SECRET}}
    for path in ("/denied", "/lost", "/moved", "/text", "/bad"):
        days[path] = ({**everywhere, "url": f"{shop.url}{path}"}, None)
    days["nobody"] = ({**everywhere, "url": "http://127.0.0.1:1"}, None)
    days["by a proxy"] = (
        {**everywhere, "proxy": {"url": "http://127.0.0.1:1", "user": USER, "password": SECRET}},
        None,
    )
    days["too slow"] = ({**everywhere, "timeout_seconds": 0.001}, None)
    retry = {"attempts": 2, "first_seconds": 0.001}
    return World(
        "http", 'path: "", columns: {id: BIGINT, total: DOUBLE}', 'path: "", key: id',
        {"adapter": "http", "url": f"{shop.url}/plain", "retry": retry, "limit": {"concurrent": 1}}, days, 0, before,
    )  # fmt: skip


def in_kafka(request: pytest.FixtureRequest, folder: Path, opened: ExitStack) -> World:
    broker = request.getfixturevalue("secured_kafka")
    topics = [kafka_room.made(broker) for _ in range(2)]
    kafka_room.send(broker, topics[0], [(None, {"id": number}) for number in range(20)])
    right = kafka_room.settings(broker, timeout_seconds=5)
    security = right["security"] = {**right["security"], "user": kafka_parts.ADMIN}  # who needs no rules
    return World(
        "kafka", f"topic: {topics[0]}, columns: {{id: BIGINT}}", f"topic: {topics[1]}, key: id", right,
        {
            "works": ({}, None),
            "nobody": ({"servers": "127.0.0.1:1", "timeout_seconds": 1}, None),
            "refused": ({"security": {**security, "password": SECRET}}, None),
            "strange certificate": ({"security": {**security, "tls": True}}, None),
            "no TLS": ({"security": {**security, "tls": False}, "timeout_seconds": 1}, None),
        },
        secrets=(CANARY, kafka_parts.PASSWORD),
    )  # fmt: skip


def on_s3(request: pytest.FixtureRequest, folder: Path, opened: ExitStack) -> World:
    server = request.getfixturevalue("s3")
    bucket = server.bucket(folder / "canary")
    server.client().put_object(Bucket=bucket, Key="in.csv", Body=b"id\n1\n2\nx\n")
    own = {"url": f"s3://{bucket}", "endpoint": server.address, "region": s3_parts.REGION, "retry": {"attempts": 2}}
    keys = {"access_key": s3_parts.KEY, "secret_key": {"secret": s3_parts.SECRET}}
    return World(
        "file", "path: in.csv, columns: {id: BIGINT}", "path: out.csv, mode: replace", {"adapter": "file", **own, **keys},
        {
            "works": ({}, None),
            "another key": ({"secret_key": SECRET, "session_token": SECRET}, None),
            "nobody": ({"endpoint": "http://127.0.0.1:1", "secret_key": SECRET}, None),
            "no such bucket": ({"url": "s3://elsewhere-7f3a", "secret_key": SECRET}, None),
            "no TLS": ({"endpoint": server.address.replace("http:", "https:"), "secret_key": SECRET}, None),
        },
        secrets=(CANARY, s3_parts.PASSWORD),
    )  # fmt: skip


def on_sftp(request: pytest.FixtureRequest, folder: Path, opened: ExitStack) -> World:
    server = request.getfixturevalue("sftp")
    own = {"adapter": "file", "url": f"sftp://{server.user}@127.0.0.1:{server.port}/~", "retry": {"attempts": 2}}
    return World(
        "file", "path: none.csv, columns: {id: BIGINT}", "path: out/out.csv, mode: replace",
        {**own, "password": {"secret": sftp_parts.SECRET}, "known_hosts": str(server.known_hosts)},
        {
            "nothing there": ({}, None),
            "refused": ({"password": SECRET}, None),
            "nobody": ({"url": "sftp://me@127.0.0.1:1/x", "password": SECRET}, None),
            "strange host": ({"known_hosts": "none", "password": SECRET}, None),
            "key that is none": ({"password": None, "key_file": "flows/kept.yaml", "key_password": SECRET}, None),
        },
        secrets=(CANARY, sftp_parts.PASSWORD),
    )  # fmt: skip


WORLDS = {
    "postgres": in_postgres, "mysql": in_mysql, "http": over_http, "kafka": in_kafka, "s3": on_s3, "sftp": on_sftp,
}  # fmt: skip
