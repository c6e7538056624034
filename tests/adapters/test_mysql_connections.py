"""Connections to MySQL: what they say when they cannot be made, how they are encrypted, what a user may see."""

from __future__ import annotations

import pickle
from dataclasses import replace

import pyarrow as pa
import pytest

from adapters.mysql import Connection, Get
from adapters.mysql.parameters import literal
from pipelines.errors import Invalid, Unavailable
from tests.adapters.table_room import Room, batch_of
from tests.parts.mariadb import SECRET, Server, database_of


@pytest.fixture
def room(mysql_room: Room) -> Room:
    return mysql_room


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"password": {"secret": "WRONG"}}, Invalid, "Access denied for user 'tester'@'127.0.0.1' (using password: YES); check"),
        ({"user": "nobody_here"}, Invalid, "Access denied"),
        ({"database": "elsewhere"}, Invalid, "Unknown database 'elsewhere'; check `database`"),
        ({"port": 1}, Unavailable, "refused"),
        ({"tls": "verify-full"}, Invalid, "certificate verify failed"),
        ({"tls": "verify-full", "tls_root": "none.pem"}, Invalid, "cannot be read"),
        ({"host": "no-such-host.invalid"}, Invalid, "no-such-host.invalid"),
        ({"password": None}, Invalid, "(using password: NO)"),
    ],
)  # fmt: skip
def test_a_connection_that_cannot_be_made_says_why(
    mariadb: Server, room: Room, monkeypatch: pytest.MonkeyPatch, change: dict[str, object],
    error: type[Exception], words: str,
) -> None:  # fmt: skip
    monkeypatch.setenv("WRONG", "open sesame")
    connection = Connection(**{**mariadb.settings("mysql"), **change})

    with pytest.raises(error) as fault:
        connection.test(room.scope)

    assert words in str(fault.value)
    assert "sesame" not in str(fault.value)
    assert str(fault.value).startswith(str(change.get("host", "127.0.0.1")))


@pytest.mark.parametrize(
    ("tls", "root", "host"),
    [
        ("prefer", None, "127.0.0.1"), ("require", None, "127.0.0.1"), ("verify-ca", "ca.pem", "127.0.0.1"),
        ("verify-full", "ca.pem", "localhost"),
    ],
)  # fmt: skip
def test_a_connection_is_encrypted_as_far_as_asked(
    mariadb: Server, room: Room, tls: str, root: str | None, host: str
) -> None:
    room.sql("CREATE TABLE t (n int)", "INSERT INTO t VALUES (1)")
    change = {"tls": tls, "host": host, "tls_root": str(mariadb.folder / root) if root else None}
    elsewhere = replace(room, settings=lambda path: {**mariadb.settings(database_of(path)), **change})

    said = elsewhere.scope.environment.connections["shop"].test(room.scope)

    assert ", encrypted, " in said
    assert elsewhere.read(table="t").rows == [{"n": 1}]


def test_a_certificate_of_another_authority_is_refused(mariadb: Server, room: Room) -> None:
    settings = {**mariadb.settings("mysql"), "tls": "verify-ca", "tls_root": str(mariadb.folder / "other-ca.pem")}

    with pytest.raises(Invalid, match="certificate verify failed"):
        Connection(**settings).test(room.scope)


def test_a_url_names_the_server_too(mariadb: Server, room: Room) -> None:
    room.sql("CREATE TABLE t (n int)", "INSERT INTO t VALUES (1)")
    url = f"mysql://tester@127.0.0.1:{mariadb.port}/{database_of(room.path)}"
    settings = {"adapter": "mysql", "password": {"secret": SECRET}, "url": url}

    assert replace(room, settings=lambda path: dict(settings)).read(table="t").rows == [{"n": 1}]


@pytest.mark.parametrize(
    "place",
    [
        {}, {"host": "h"}, {"url": "mysql://me@h/d", "host": "h"}, {"url": "mysql://me:open@h/d"}, {"url": "mysql://me@h"},
        {"url": "postgresql://me@h/d"}, {"url": "mysql://me@h/d?charset=latin1"},
    ],
)  # fmt: skip
def test_a_connection_names_one_server_and_no_password(place: dict[str, str]) -> None:
    with pytest.raises(ValueError, match=r"`url`") as fault:
        Connection(adapter="mysql", **place)

    assert "open" not in str(fault.value).split("[type")[0]


def test_parameters_are_found_outside_of_texts_names_and_comments_only(mysql_room: Room) -> None:
    room = replace(mysql_room, values={"a": "it's \\", "b": 2, "none": None, "x": b"\x00'"})
    room.sql(
        'CREATE TABLE t (n int, "$a" text, s text, x blob)',
        "INSERT INTO t VALUES (2, '$a', 'it''s \\', x'0027'), (3, 'x', 'y', NULL)",
    )

    where = """ `$a` = '$a' AND "$a" = '$a' AND s = $a AND n = $b /* $b */ AND x = $x AND $none IS NULL -- $b"""

    assert [row["n"] for row in room.read(table="t", where=where).rows] == [2]


def test_what_no_statement_can_hold_is_invalid() -> None:
    with pytest.raises(Invalid, match="is no number for MySQL"):
        literal(float("nan"))


def test_a_get_survives_pickling_and_its_connection_shows_no_password(room: Room) -> None:
    server = room.scope.environment.connections["shop"].server(room.scope)

    assert "secret" not in repr(server).replace("PROCESSFLOW", "")
    assert pickle.loads(pickle.dumps(Get(connection="shop", table="a"))) == Get(connection="shop", table="a")


def test_a_user_without_rights_is_told_so(mariadb: Server, room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("READER", "read")
    room.sql("CREATE TABLE t (n bigint)", "CREATE TABLE hidden (n bigint)", "INSERT INTO t VALUES (1)")
    database = database_of(room.path)
    room.sql(f"CREATE USER r{database}@'%' IDENTIFIED BY 'read'", f"GRANT SELECT ON {database}.t TO r{database}@'%'")
    settings = {**mariadb.settings(database), "user": f"r{database}", "password": {"secret": "READER"}}
    elsewhere = replace(room, settings=lambda path: dict(settings))

    assert elsewhere.read(table="t").rows == [{"n": 1}]
    assert elsewhere.problems(elsewhere.get(table="hidden")) == ["table: there is no table 'hidden'; there are: t"]
    with pytest.raises(Invalid, match="command denied to user"):
        elsewhere.deliver(batch_of({"n": pa.int64()}, [(1,)]), table="t")
