"""What SFTP servers refuse, and what a connection may not say: each message says what to do, and none holds a secret."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from pipelines.errors import Invalid, Unavailable
from tests.adapters.file.post_room import batch, post, stage
from tests.adapters.file.store_room import Room, on_sftp, said
from tests.adapters.file.test_stores import delivered, rows
from tests.parts import sftp as sftp_parts
from tests.parts.proxy import Proxy


@pytest.fixture
def home(sftp: sftp_parts.Server, tmp_path: Path) -> Room:
    return on_sftp(sftp, tmp_path)


def test_a_host_that_is_not_known_is_refused_and_its_line_lets_it_in(
    sftp: sftp_parts.Server, home: Room, tmp_path: Path
) -> None:
    (tmp_path / "hosts").write_text("# nobody\n")

    text = said(home, tmp_path, Invalid, known_hosts="hosts")
    line = text.partition("then add this line: ")[2]
    (tmp_path / "hosts").write_text(line + "\n")

    assert f"[127.0.0.1]:{sftp.port} ssh-ed25519 " in line
    assert "compare that with what the server's owner says" in text
    assert "SFTP server" in home.connection(known_hosts="hosts").test(home.scope(tmp_path))
    assert "which is no file" in said(home, tmp_path, Invalid, known_hosts="missing")


def test_a_server_with_another_key_is_refused(sftp: sftp_parts.Server, home: Room, tmp_path: Path) -> None:
    other = (sftp.folder / "key.pub").read_text().split()
    (tmp_path / "hosts").write_text(f"[127.0.0.1]:{sftp.port} {other[0]} {other[1]}\n")

    assert "the server shows another key than known_hosts has for it" in said(
        home, tmp_path, Invalid, known_hosts="hosts"
    )


def test_a_user_is_let_in_by_password_and_refused_without_the_right_one(
    sftp: sftp_parts.Server, home: Room, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert sftp.password
    own = {name: value for name, value in home.settings.items() if name != "key_file"}
    room = Room(own, home.put, home.files, home.pending, home.remove)
    monkeypatch.setenv("MISTAKEN", "mistaken")

    assert "SFTP server" in room.connection(password={"secret": sftp_parts.SECRET}).test(room.scope(tmp_path))
    assert "the server does not let this user in" in said(room, tmp_path, Invalid, password={"secret": "MISTAKEN"})
    (tmp_path / "no_key").write_text("nothing")
    assert "is no private key" in said(room, tmp_path, Invalid, key_file="no_key")
    assert "there is no key file" in said(room, tmp_path, Invalid, key_file="none")


def test_what_a_user_may_not_read_or_write_is_told(sftp: sftp_parts.Server, home: Room, tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.fail("only root can give files to another user than the one it asks as")
    home.put("mine.csv", b"id\n1\n")
    folder = sftp.home / home.settings["url"].rpartition("/")[2]
    os.chown(folder / "mine.csv", 0, 0)
    (folder / "mine.csv").chmod(0o600)
    (folder / "closed").mkdir(mode=0o755)

    with pytest.raises(Invalid, match=r"mine\.csv: permission denied to this user"):
        rows(home.scope(tmp_path), path="mine.csv")
    with pytest.raises(Invalid, match=r"closed/a\.csv: permission denied to this user"):
        delivered(post(connection="lake", path="closed/a.csv"), [batch([{"id": 1}])], home.scope(tmp_path))


def test_a_full_disk_of_an_sftp_server_is_told_and_nothing_stays_on_it(
    sftp: sftp_parts.Server, home: Room, tmp_path: Path
) -> None:
    url = home.settings["url"].rpartition("/")[0] + "/small"
    scope, node = home.scope(tmp_path, url=url), post(connection="lake", path="a.jsonl")
    records = batch({"v": os.urandom(500).hex()} for _ in range(2_000))
    parts, _ = stage(node, [records], scope)
    publication = node.publish(parts, records.schema, scope, "r/node")

    with pytest.raises(Unavailable, match=r"a\.jsonl.*: .* its disk is full or a quota reached"):
        list(publication.settle())
    publication.abandon()

    assert "with 0 files" in home.connection(url=url).test(scope)
    delivered(post(connection="lake", path="b.jsonl"), [batch([{"id": 1}])], scope)


def test_a_server_that_is_away_is_told(sftp: sftp_parts.Server, home: Room, tmp_path: Path) -> None:
    with Proxy(sftp.port) as proxy:
        url = home.settings["url"].replace(f":{sftp.port}/", f":{proxy.port}/")
        proxy.refuse()

        assert "cannot be reached" in said(home, tmp_path, Unavailable, url=url)
    assert "no host has this name" in said(home, tmp_path, Invalid, url="sftp://reader@no-such-host.invalid/out")


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"url": "ftp://host/x"}, "is no address of files"),
        ({"url": "s3://"}, "is no address of files"),
        ({"url": "sftp://user:pw@host/x"}, "holds a password"),
        ({"url": "sftp://host/x"}, "the user is named once"),
        ({"url": "s3://b/x", "password": {"secret": "X"}}, "'password' means nothing for s3"),
        ({"url": "s3://b/x", "access_key": "A"}, "`access_key` and `secret_key` go together"),
        ({"url": "sftp://user@host/x", "region": "eu"}, "'region' means nothing for sftp"),
    ],
)
def test_a_connection_that_says_too_little_or_too_much_is_refused(settings: dict[str, Any], words: str) -> None:
    from pydantic import ValidationError

    from adapters.file import Connection

    with pytest.raises(ValidationError, match=words):
        Connection.model_validate({"adapter": "file", **settings})


def test_settings_show_no_secrets() -> None:
    from adapters.file.stores.s3 import S3
    from adapters.file.stores.s3 import Settings as S3Settings
    from adapters.file.stores.sftp import Settings as SftpSettings
    from adapters.file.stores.sftp import Sftp

    stores = (
        S3(S3Settings("b", access_key="k", secret_key="hush", session_token="hush"), ""),
        Sftp(SftpSettings("h", 22, "u", "hush", key_password="hush"), ""),
    )

    assert "hush" not in repr(stores)
