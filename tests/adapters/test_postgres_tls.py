"""TLS to PostgreSQL: what is checked, what is said where the check fails, and that both drivers agree."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from adapters.postgres import Connection, snapshots
from adapters.postgres.copying import Source
from adapters.postgres.opening import connect
from pipelines.errors import FlowError, Invalid
from tests.adapters.postgres_room import Schemas
from tests.adapters.table_room import Room
from tests.agent.projects import processflow, project
from tests.parts.postgres import Server, schema_of


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home folder of this test's own, in which libpq looks for certificates and passwords."""
    found = tmp_path / "home"
    (found / ".postgresql").mkdir(parents=True)
    monkeypatch.setenv("HOME", str(found))
    return found


@pytest.fixture
def room(secured_postgres: Server, tmp_path: Path) -> Iterator[Room]:
    """A schema of its own on the server that speaks TLS."""
    yield Schemas(secured_postgres).room(tmp_path)
    snapshots.release_all()


def given(server: Server, change: dict[str, Any]) -> dict[str, Any]:
    """A connection's settings with a change, in which `ROOT` names a file of the server's folder."""
    found = {**server.settings(), **change}
    if str(found.get("tls_root", "")).endswith(".pem"):
        found["tls_root"] = str(server.folder / found["tls_root"])
    return found


WRONG = [
    ({"tls": "verify-full", "tls_root": "other-ca.pem"}, "signed by none of the authorities in"),
    ({"tls": "verify-ca", "tls_root": "other-ca.pem"}, "signed by none of the authorities in"),
    ({"tls": "require", "tls_root": "other-ca.pem"}, "signed by none of the authorities in"),
    ({"tls": "verify-full", "tls_root": "ca.pem", "host": "127.0.0.2"}, "give `host` as the certificate names it, or check only"),
    ({"tls": "verify-full"}, "root.crt\" does not exist; give the certificate of the authority that signed the server's as `tls_root`"),
    ({"tls": "verify-ca"}, "`tls_root: system` for those that this machine trusts"),
    ({"tls": "verify-full", "tls_root": "system"}, "signed by none of those this machine trusts"),
    ({"tls": "verify-full", "tls_root": "none.pem"}, "`tls_root`: there is no file"),
    ({"tls": "disable", "user": "reader"}, "pg_hba.conf"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "words"), WRONG)
def test_a_server_that_cannot_be_trusted_is_refused_with_what_to_do(
    secured_postgres: Server, room: Room, change: dict[str, Any], words: str
) -> None:
    connection = Connection(**given(secured_postgres, change))

    with pytest.raises(Invalid) as fault:
        connection.test(room.scope)

    assert words in str(fault.value)
    assert "sslrootcert" not in str(fault.value)


def test_the_command_and_a_run_say_it_too_and_wait_for_nothing(secured_postgres: Server, tmp_path: Path) -> None:
    settings = given(secured_postgres, {"tls": "verify-full", "tls_root": "other-ca.pem"})
    flow = """flow: nightly
nodes:
  start: {type: start}
  orders: {type: postgres.get, from: start, connection: shop, table: orders}
"""
    text = json.dumps({"environment": "local", "connections": {"shop": settings}})
    project(tmp_path, flow, {"environments/local.yaml": text})

    told = processflow(tmp_path, "connections", "test", "shop")
    ran = processflow(tmp_path, "run", "nightly")

    for done in (told, ran):
        assert done.returncode == 2
        assert "signed by none of the authorities in" in done.stderr.replace("\n", " ")
        assert "Traceback" not in done.stderr


def test_a_server_without_tls_is_refused_where_tls_is_required(postgres: Server, room: Room) -> None:
    with pytest.raises(Invalid, match=r"have the server take encrypted connections \(`ssl = on`\)"):
        Connection(**postgres.settings(), tls="require").test(room.scope)
    assert "encrypted" not in Connection(**postgres.settings(), tls="prefer").test(room.scope)


@pytest.mark.parametrize(
    ("change", "is_encrypted"),
    [
        ({}, True), ({"tls": "disable"}, False), ({"tls": "allow"}, False), ({"tls": "prefer"}, True), ({"tls": "require"}, True),
        ({"tls": "require", "tls_root": "ca.pem", "host": "127.0.0.2"}, True),
        ({"tls": "verify-ca", "tls_root": "ca.pem", "host": "127.0.0.2"}, True),
        ({"tls": "verify-full", "tls_root": "ca.pem"}, True),
        ({"tls": "verify-full", "tls_root": "ca.pem", "host": "localhost"}, True),
    ],
)  # fmt: skip
def test_both_drivers_are_encrypted_as_far_as_asked(
    secured_postgres: Server, room: Room, change: dict[str, Any], is_encrypted: bool
) -> None:
    room.sql("CREATE TABLE t (n int)", "INSERT INTO t SELECT generate_series(1, 20)")
    elsewhere = replace(room, settings=lambda path: given(secured_postgres, {**change, "search_path": schema_of(path)}))
    server = elsewhere.scope.environment.connections["shop"].server(room.scope)

    said = Connection(**given(secured_postgres, change)).test(room.scope)
    with closing(connect(server, read_only=True)) as pattern, closing(Source(server, pattern, None)) as source:
        sql = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
        found = b"".join(source.blocks(sql))

    assert (", encrypted, " in said) == is_encrypted
    assert found.strip() == (b"t" if is_encrypted else b"f")
    assert len(elsewhere.read(table="t").rows) == 20


@pytest.mark.parametrize("mode", ["require", "verify-ca", "verify-full"])
@pytest.mark.parametrize("root", [None, "ca.pem", "other-ca.pem"])
def test_what_libpq_refuses_by_the_users_own_root_file_asyncpg_refuses_too(
    secured_postgres: Server, room: Room, home: Path, mode: str, root: str | None
) -> None:
    own = home / ".postgresql" / "root.crt"
    shutil.copy(secured_postgres.folder / "ca.pem", own)
    server = Connection(**given(secured_postgres, {"tls": mode})).server(room.scope)

    with closing(connect(server, read_only=True)) as pattern:
        own.unlink()
        if root:
            shutil.copy(secured_postgres.folder / root, own)
        by_libpq = is_refused(lambda: connect(server, read_only=True).close())
        by_asyncpg = is_refused(lambda: Source(server, pattern, None).close())

    assert by_libpq == by_asyncpg == (root == "other-ca.pem" or (root is None and mode != "require"))


def is_refused(work: Callable[[], None]) -> bool:
    try:
        work()
    except FlowError:
        return True
    return False


def test_where_tls_is_only_preferred_a_certificate_of_another_authority_leaves_both_drivers_unencrypted(
    secured_postgres: Server, room: Room, home: Path
) -> None:
    shutil.copy(secured_postgres.folder / "other-ca.pem", home / ".postgresql" / "root.crt")
    room.sql("CREATE TABLE t (n int)", "INSERT INTO t VALUES (1)")

    assert ", encrypted" not in room.scope.environment.connections["shop"].test(room.scope)
    assert room.read(table="t").rows == [{"n": 1}]


def test_both_drivers_show_the_clients_certificate(secured_postgres: Server, room: Room, home: Path) -> None:
    with closing(secured_postgres.connect()) as connection:
        connection.execute("DO $$ BEGIN CREATE ROLE shown LOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$")
    room.sql("CREATE TABLE t (n int)", "INSERT INTO t VALUES (1)", "GRANT SELECT ON t TO shown")
    room.sql(f"GRANT USAGE ON SCHEMA {schema_of(room.path)} TO shown")
    shown = replace(room, settings=lambda path: {
        "adapter": "postgres", "host": "localhost", "port": secured_postgres.port, "user": "shown", "database": "postgres",
        "tls": "require", "search_path": schema_of(path),
    })  # fmt: skip

    with pytest.raises(Invalid, match="give the client's certificate in `url`"):
        shown.scope.environment.connections["shop"].test(room.scope)
    for ending in ("crt", "key"):
        kept = home / ".postgresql" / f"postgresql.{ending}"
        shutil.copy(secured_postgres.folder / f"shown.{ending.replace('crt', 'pem')}", kept)
        kept.chmod(0o600)

    assert shown.read(table="t").rows == [{"n": 1}]


@pytest.mark.parametrize(
    "place",
    [
        {"tls_root": "ca.pem"}, {"tls": "prefer", "tls_root": "ca.pem"}, {"tls": "disable", "tls_root": "ca.pem"},
        {"tls": "require", "tls_root": "system"},
    ],
)  # fmt: skip
def test_a_root_file_that_would_not_be_checked_is_refused(place: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="needs `tls: verify-full`"):
        Connection(adapter="postgres", host="h", **place)
