"""Connections to PostgreSQL: what they say when they cannot be made, and how they outlive silence."""

from __future__ import annotations

import os
import pickle
import socket
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from typing import Any

import pytest

from adapters.postgres import Connection, Get
from adapters.postgres.copying import Source
from adapters.postgres.opening import connect
from pipelines.errors import Invalid, Unavailable
from tests.adapters.table_room import Room
from tests.parts.postgres import PASSWORD, SECRET, USER, Server, schema_of
from tests.parts.proxy import Proxy


@pytest.fixture
def room(postgres_room: Room) -> Room:
    return postgres_room


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        (
            {"password": {"secret": "WRONG"}},
            Invalid,
            'password authentication failed for user "tester"; check `user` and `password`',
        ),
        ({"user": "nobody_here"}, Invalid, "password authentication failed"),
        ({"database": "elsewhere"}, Invalid, 'database "elsewhere" does not exist; check `database`'),
        ({"port": 1}, Unavailable, "refused"),
        ({"tls": "require"}, Invalid, "server does not support SSL, but SSL was required; have the server"),
        ({"host": "no-such-host.invalid"}, Invalid, "no-such-host.invalid"),
        (
            {"password": None},
            Invalid,
            "no password supplied; name a secret in `password`, or give libpq's password file",
        ),
        (
            {"host": None, "port": None, "user": None, "database": None, "service": "none"},
            Invalid,
            "no such service is in",
        ),
    ],
)
def test_a_connection_that_cannot_be_made_says_why(
    postgres: Server, room: Room, monkeypatch: pytest.MonkeyPatch, change: dict[str, object],
    error: type[Exception], words: str,
) -> None:  # fmt: skip
    monkeypatch.setenv("WRONG", "open sesame")
    connection = Connection(**{**postgres.settings(), **change})

    with pytest.raises(error) as fault:
        connection.test(room.scope)

    assert words in str(fault.value)
    assert "sesame" not in str(fault.value)
    assert str(fault.value).startswith(str(change.get("host", "127.0.0.1") or "service none"))


def test_a_url_and_a_service_name_the_server_too(postgres: Server, room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    services = room.folder / "pg_service.conf"
    services.write_text(f"[shop]\nhost=127.0.0.1\nport={postgres.port}\ndbname=postgres\nuser=tester\n")
    monkeypatch.setenv("PGSERVICEFILE", str(services))
    schema, secret = schema_of(room.path), {"secret": SECRET}
    room.sql("CREATE TABLE t (n int)", "INSERT INTO t VALUES (1)")

    for place in ({"url": f"postgresql://tester@127.0.0.1:{postgres.port}/postgres"}, {"service": "shop"}):
        settings = {"adapter": "postgres", "password": secret, "search_path": schema, **place}
        elsewhere = replace(room, settings=lambda path, found=settings: dict(found))

        assert elsewhere.read(table="t").rows == [{"n": 1}]


@pytest.mark.parametrize("place", [{}, {"url": "postgresql://h/d", "host": "h"}, {"url": "postgresql://me:open@h/d"}])
def test_a_connection_names_one_server_and_no_password(place: dict[str, str]) -> None:
    with pytest.raises(ValueError, match=r"`url`") as fault:
        Connection(adapter="postgres", **place)

    assert "open" not in str(fault.value).replace("opened", "").split("[type")[0]


def test_a_get_survives_pickling_and_its_connection_shows_no_password(room: Room) -> None:
    server = room.scope.environment.connections["shop"].server(room.scope)

    assert "secret" not in repr(server).replace("PROCESSFLOW", "")
    assert pickle.loads(pickle.dumps(Get(connection="shop", table="a"))) == Get(connection="shop", table="a")


@pytest.mark.parametrize("named", ["PGPASSFILE", "home", "url"])
def test_without_a_password_libpqs_password_file_serves_both_drivers(
    postgres: Server, room: Room, monkeypatch: pytest.MonkeyPatch, named: str
) -> None:
    room.sql("CREATE TABLE t (n int)", "INSERT INTO t VALUES (1)")
    escaped = PASSWORD.replace("\\", "\\\\")
    kept = room.folder / ".pgpass"
    kept.write_text(f"127.0.0.1:{postgres.port}:*:{USER}:{escaped}\n")
    kept.chmod(0o600)
    monkeypatch.setenv("HOME", str(room.folder if named == "home" else room.folder / "elsewhere"))
    if named == "PGPASSFILE":
        monkeypatch.setenv("PGPASSFILE", str(kept))
    file = f"?passfile={kept}" if named == "url" else ""
    url = f"postgresql://{USER}@127.0.0.1:{postgres.port}/postgres{file}"
    settings = {"adapter": "postgres", "url": url, "search_path": schema_of(room.path)}
    elsewhere = replace(room, settings=lambda path: dict(settings))

    assert elsewhere.read(table="t").rows == [{"n": 1}]


def test_a_server_that_says_nothing_is_given_up_after_connect_seconds(postgres: Server, room: Room) -> None:
    with Proxy(postgres.port) as proxy:
        proxy.hang()
        connection = Connection(**{**postgres.settings(), "port": proxy.port, "connect_seconds": 2})

        with pytest.raises(Unavailable, match="nothing answered within `connect_seconds`"):
            connection.test(room.scope)


def test_what_a_url_says_of_waiting_stands_unless_a_field_says_else(room: Room) -> None:
    url = "postgresql://tester@h/d?connect_timeout=3&keepalives_idle=7"

    server = Connection(adapter="postgres", url=url).server(room.scope)

    assert (server.word("connect_timeout"), server.word("keepalives_idle"), server.word("keepalives_count")) == (
        "3",
        "7",
        "3",
    )


@contextmanager
def both(server: Any) -> Iterator[list[socket.socket]]:
    """The sockets of a connection of either driver."""
    with (
        closing(connect(server, read_only=True)) as one,
        closing(Source(server, one, None)) as other,
        socket.socket(fileno=os.dup(one.fileno())) as line,
    ):
        yield [line, other._connection._transport.get_extra_info("socket")]


def test_the_lines_of_both_drivers_ask_whether_a_silent_server_is_still_there(postgres: Server, room: Room) -> None:
    server = Connection(**postgres.settings(), keepalive_seconds=7).server(room.scope)

    with both(server) as lines:
        for line in lines:
            asked = [line.getsockopt(socket.IPPROTO_TCP, number)
                     for number in (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT)]  # fmt: skip
            assert line.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
            assert asked == [7, 7, 3]


def test_a_servers_limits_on_idle_sessions_and_long_transactions_do_not_end_a_run_that_waits(
    postgres: Server, room: Room
) -> None:
    role = f"idle_{schema_of(room.path)}"
    room.sql(f"CREATE ROLE {role} SUPERUSER LOGIN PASSWORD '{PASSWORD.replace(chr(39), chr(39) * 2)}'")
    for name in (
        "idle_session_timeout",
        "transaction_timeout",
        "idle_in_transaction_session_timeout",
        "statement_timeout",
    ):
        room.sql(f"ALTER ROLE {role} SET {name} = 50")
    server = Connection(**{**postgres.settings(), "user": role, "password": {"secret": SECRET}}).server(room.scope)

    with closing(connect(server, read_only=True)) as pattern, closing(Source(server, pattern, None)) as source:
        pattern.execute("SELECT pg_sleep(0.1)")
        slow = b"".join(source.blocks("SELECT pg_sleep(0.2)"))
        found = pattern.execute("SELECT 1").fetchall()
    room.sql(f"DROP ROLE {role}")

    assert (slow, found) == (b'""\n', [(1,)])
