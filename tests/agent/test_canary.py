"""No secret reaches a report, a log, the catalogue, the terminal or an error, however a system fails: one canary in all of them."""

from __future__ import annotations

import base64
import json
import logging
import tempfile
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pyarrow.parquet as pq
import pytest

from adapters import http
from adapters.mysql import snapshots as mysql_snapshots
from adapters.postgres import snapshots
from pipelines.environment import Connection
from pipelines.environmentfile import load_environment
from pipelines.errors import FlowError
from pipelines.scope import Scope
from tests.adapters import kafka_room
from tests.agent.projects import processflow, project, run_here
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


@pytest.fixture
def opened() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack
    snapshots.release_all()
    mysql_snapshots.release_all()
    http.loop.run(http.client.close_all())


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


@pytest.mark.parametrize("name", WORLDS)
def test_no_secret_is_written_anywhere_on_any_day(
    name: str, request: pytest.FixtureRequest, tmp_path: Path, opened: ExitStack, caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    world = WORLDS[name](request, tmp_path, opened)
    monkeypatch.setenv(NAME, CANARY)
    (tmp_path / "faults").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "faults"))  # where what was not foreseen is kept
    caplog.set_level(logging.DEBUG)
    texts: dict[str, str] = {}
    for number, (day, (settings, happens)) in enumerate(world.days.items()):
        folder = tmp_path / f"day-{number}"
        world.before()
        texts[day] = "\n".join(lived(world, folder, {**world.settings, **settings}, happens))
        texts[f"{day}: logged"] = "\n".join(map(caplog.handler.format, caplog.records))
        caplog.clear()
    texts["terminal"] = "".join(capfd.readouterr())

    assert len(texts) > len(world.days)
    forms = {form for secret in world.secrets for form in written(secret)}
    assert '"status": "done' in texts.get("works", '"status": "done')
    assert {place: lines for place, text in texts.items() if (lines := leaks(text, forms))} == {}
    assert leaking_files(tmp_path, forms) == []


def lived(
    world: World, folder: Path, settings: Mapping[str, Any], happens: Callable[[Proxy], None] | None
) -> Iterator[str]:
    """All that is said on a day: by the connection's test, by the list of what is there, by a run."""
    with ExitStack() as stack:
        if happens is not None:
            line = stack.enter_context(Proxy(world.port))
            settings = {**settings, "port": line.port}
            happens(line)
        text = json.dumps({"environment": "local", "connections": {"shop": settings}})
        made = project(folder, world.flow, {"environments/local.yaml": text})
        scope = Scope(folder, load_environment(folder, "local"), staging=folder / "staging")
        connection = scope.connection("shop", Connection)
        yield repr(connection)
        for work in (lambda: connection.test(scope), lambda: connection.discover(scope)) if happens is None else ():
            yield _said(work)
        yield _said(lambda: json.dumps(run_here(made, "kept"), default=str))
        snapshots.release_all()
        mysql_snapshots.release_all()


def _said(work: Callable[[], object]) -> str:
    try:
        return str(work())
    except FlowError as fault:
        return "".join(traceback.format_exception(fault))  # as the command would keep it


def written(secret: str) -> set[str]:
    """The ways in which a secret may be written."""
    pairs = [secret, f"{USER}:{secret}"]
    packed = [base64.b64encode(pair.encode()).decode().rstrip("=") for pair in pairs]
    return {
        secret,
        quote(secret, safe=""),
        json.dumps(secret)[1:-1],
        repr(secret)[1:-1],
        secret.encode().hex(),
        *packed,
    }


def leaks(text: str, forms: set[str]) -> list[str]:
    """The lines of a text that hold a secret."""
    return [line for line in text.splitlines() if any(form in line for form in forms)]


def leaking_files(folder: Path, forms: set[str]) -> list[str]:
    """The files below a folder that hold it; Parquet as what it keeps."""
    found = []
    for path in sorted(each for each in folder.rglob("*") if each.is_file()):
        content = path.read_bytes()
        shown = str(pq.read_table(path).to_pylist()) if path.suffix == ".parquet" else ""
        if any(form.encode() in content or form in shown for form in forms):
            found.append(str(path.relative_to(folder)))
    return found


IN_THE_OPEN: dict[str, dict[str, Any]] = {
    "postgres url": {"adapter": "postgres", "url": f"postgresql://{USER}:{quote(CANARY, safe='')}@h/d"},
    "postgres words": {"adapter": "postgres", "url": f"host=h password={CANARY}"},
    "postgres query": {"adapter": "postgres", "url": f"postgresql://h/d?password={quote(CANARY)}"},
    "postgres password": {"adapter": "postgres", "host": "h", "password": CANARY},
    "mysql url": {"adapter": "mysql", "url": f"mysql://{USER}:{quote(CANARY, safe='')}@h/d"},
    "mysql scheme": {"adapter": "mysql", "url": f"oracle://{USER}:{quote(CANARY, safe='')}@h/d"},
    "http url": {"adapter": "http", "url": f"https://{USER}:{quote(CANARY, safe='')}@h/"},
    "http scheme": {"adapter": "http", "url": f"ftp://{USER}:{quote(CANARY, safe='')}@h/"},
    "http query": {"adapter": "http", "url": f"https://h/?key={quote(CANARY)}"},
    "http port": {"adapter": "http", "url": f"https://{USER}:{quote(CANARY, safe='')}@h:no/"},
    "http bearer": {"adapter": "http", "url": "https://h/", "auth": {"bearer": CANARY}},
    "http auth": {"adapter": "http", "url": "https://h/", "auth": CANARY},
    "http proxy": {"adapter": "http", "url": "https://h/", "proxy": {"url": f"http://{USER}:{quote(CANARY)}@p:1"}},
    "http token url": {
        "adapter": "http", "url": "https://h/",
        "auth": {"oauth2": {"token_url": f"https://{USER}:{quote(CANARY)}@h/t", "client_id": "x"}},
    },
    "kafka servers": {"adapter": "kafka", "servers": f"{USER}:{CANARY}@h:9092"},
    "kafka password": {"adapter": "kafka", "servers": "h:9092", "security": {"user": USER, "password": CANARY}},
    "s3 url": {"adapter": "file", "url": f"s3://{USER}:{quote(CANARY, safe='')}@bucket"},
    "s3 key": {"adapter": "file", "url": "s3://bucket", "access_key": "k", "secret_key": CANARY},
    "sftp url": {"adapter": "file", "url": f"sftp://{USER}:{quote(CANARY, safe='')}@h/x"},
    "postgres raw": {"adapter": "postgres", "url": f"postgresql://{USER}:{CANARY}@h/d"},
    "mysql raw": {"adapter": "mysql", "url": f"mysql://{USER}:{CANARY}@h/d"},
    "http raw": {"adapter": "http", "url": f"https://{USER}:{CANARY}@h/d"},
    "s3 raw": {"adapter": "file", "url": f"s3://{USER}:{CANARY}@bucket/x"},
    "sftp raw": {"adapter": "file", "url": f"sftp://{USER}:{CANARY}@h/x"},
    "s3 endpoint": {"adapter": "file", "url": "s3://bucket", "endpoint": f"https://{USER}:{CANARY}@h:9000"},
    "sftp query": {"adapter": "file", "url": f"sftp://h/x?password={quote(CANARY)}"},
    "store scheme": {"adapter": "file", "url": f"ftp://{USER}:{quote(CANARY, safe='')}@h/x"},
    "an unknown field": {"adapter": "mysql", "url": "mysql://me@h/d", "passwd": CANARY},
    "an unknown adapter": {"adapter": "oracle", "password": CANARY},
}  # fmt: skip


@pytest.mark.parametrize("name", IN_THE_OPEN)
def test_a_secret_written_in_the_open_is_refused_without_being_shown(name: str, tmp_path: Path) -> None:
    text = json.dumps({"environment": "local", "connections": {"shop": IN_THE_OPEN[name]}})
    made = project(tmp_path, FLOW.replace("KIND", "sqlite").replace(", GET", "").replace(", POST", ""),
                   {"environments/local.yaml": text})  # fmt: skip

    said = [_said(lambda: load_environment(made.folder, "local")), _said(lambda: run_here(made, "kept"))]

    assert "Invalid" in said[0] + said[1]
    assert [leaks(text, written(CANARY)) for text in said] == [[], []]


def test_what_the_command_prints_holds_no_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(NAME, CANARY)
    (tmp_path / "faults").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "faults"))
    with serving(3) as shop:
        echo = json.dumps({"error": f"{CANARY} may not do this"})
        shop.script("/orders", *[answer(401, echo)] * 50)
        shop.script("/plain", *[answer(500, echo)] * 50)
        settings = {"adapter": "http", "url": f"{shop.url}/plain", "test_path": "", "retry": {"attempts": 1},
                    "auth": {"api_key": {"query": "key", "value": SECRET}}}  # fmt: skip
        flow = (
            FLOW.replace("KIND", "http").replace("GET", 'path: "", columns: {id: BIGINT}').replace("POST", 'path: ""')
        )
        environments = {
            f"environments/{place}.yaml": json.dumps(
                {"environment": place, "connections": {"shop": {**settings, "url": f"{shop.url}/{path}"}}}
            )
            for place, path in (("local", "plain"), ("other", "orders"))
        }
        project(tmp_path, flow, environments)
        done = [
            processflow(tmp_path, *words, "--environment", place)
            for place in ("local", "other")
            for words in (("connections", "test", "shop"), ("run", "kept"))
        ]

    forms = written(CANARY)
    assert [each.returncode for each in done] == [3, 3, 2, 1]
    assert "key=" in shop.seen[0].query
    assert [leaks(each.stdout + each.stderr, forms) for each in done] == [[], [], [], []]
    assert leaking_files(tmp_path, forms) == []
