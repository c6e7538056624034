"""What goes wrong with stores: every message says what to do, nothing half shows, and nothing stays behind."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from adapters.file import Get
from pipelines.errors import Invalid, Unavailable
from pipelines.node import Want
from tests.adapters.file.post_room import batch, post, stage
from tests.adapters.file.reading import checked
from tests.adapters.file.store_room import Room, on_azure, on_google, on_s3, on_sftp, said
from tests.adapters.file.test_stores import delivered
from tests.parts import certificates
from tests.parts import s3 as s3_parts
from tests.parts import sftp as sftp_parts
from tests.parts.clouds import Azure
from tests.parts.proxy import Proxy
from tests.parts.s3_faults import Faulty

IDS = pa.schema([("id", pa.int64())])
BIG = ("id,text\n" + "".join(f"{number},{os.urandom(60).hex()}\n" for number in range(60_000))).encode()


@pytest.fixture
def bucket(s3: s3_parts.Server, tmp_path: Path) -> Room:
    return on_s3(s3, tmp_path)


@pytest.fixture
def home(sftp: sftp_parts.Server, tmp_path: Path) -> Room:
    return on_sftp(sftp, tmp_path)


@pytest.fixture
def faulty(s3: s3_parts.Server) -> Iterator[Faulty]:
    with Faulty(s3.port) as found:
        yield found


def read_after(room: Room, folder: Path, change: Any) -> None:
    """Reads a file, and does something to it after its first records have come."""
    room.put("big.csv", BIG)
    scope = room.scope(folder)
    get = Get(connection="lake", path="big.csv", split_bytes=1 << 30)
    (split,) = get.plan(scope, None, Want()).splits
    chunks = get.read(split.payload, checked(get, scope), scope, Want(batch_rows=1000))
    next(chunks)
    change()
    for _chunk in chunks:
        pass


def test_a_line_that_breaks_within_an_answer_of_s3_is_asked_again(
    s3: s3_parts.Server, bucket: Room, tmp_path: Path
) -> None:
    bucket.put("big.csv", BIG)

    with Proxy(s3.port) as proxy:
        scope = bucket.scope(tmp_path, endpoint=f"http://127.0.0.1:{proxy.port}", retry={"attempts": 4})
        get = Get(connection="lake", path="big.csv", split_bytes=1 << 30)
        schema, (split,) = checked(get, scope), get.plan(scope, None, Want()).splits
        proxy.cut_after(2_000_000, "down")
        found = [chunk.batch.num_rows for chunk in get.read(split.payload, schema, scope, Want())]

    assert proxy.cuts == 1
    assert sum(found) == 60_000


def test_a_line_that_breaks_within_an_upload_to_s3_is_asked_again(
    s3: s3_parts.Server, bucket: Room, tmp_path: Path
) -> None:
    with Proxy(s3.port) as proxy:
        scope = bucket.scope(tmp_path, endpoint=f"http://127.0.0.1:{proxy.port}", retry={"attempts": 4})
        proxy.cut_after(200_000, "up")
        delivered(
            post(connection="lake", path="a.jsonl"), [batch({"v": os.urandom(500).hex()} for _ in range(2_000))], scope
        )

    assert proxy.cuts == 1
    assert [len(data.splitlines()) for data in bucket.files().values()] == [2_000]
    assert bucket.pending() == []


def test_a_line_to_sftp_that_breaks_while_reading_is_told_and_a_new_one_goes_on(
    sftp: sftp_parts.Server, home: Room, tmp_path: Path
) -> None:
    home.put("big.csv", BIG)
    with Proxy(sftp.port) as proxy:
        host = f"[127.0.0.1]:{proxy.port} " + sftp.known_hosts.read_text().partition(" ")[2]
        (tmp_path / "hosts").write_text(host)
        url = home.settings["url"].replace(f":{sftp.port}/", f":{proxy.port}/")
        scope = home.scope(tmp_path, url=url, known_hosts="hosts")
        get = Get(connection="lake", path="big.csv", split_bytes=1 << 30)
        schema, (split,) = checked(get, scope), get.plan(scope, None, Want()).splits
        proxy.cut_after(3_000_000, "down")
        with pytest.raises(
            Unavailable, match=r"big\.csv: (the connection was lost|no answer|cannot be reached|the server says)"
        ):
            list(get.read(split.payload, schema, scope, Want()))
        found = [chunk.batch.num_rows for chunk in get.read(split.payload, schema, scope, Want())]

    assert sum(found) == 60_000


def test_a_line_to_sftp_that_breaks_while_writing_leaves_nothing_that_shows(
    sftp: sftp_parts.Server, home: Room, tmp_path: Path
) -> None:
    records = batch({"v": os.urandom(500).hex()} for _ in range(4_000))
    with Proxy(sftp.port) as proxy:
        host = f"[127.0.0.1]:{proxy.port} " + sftp.known_hosts.read_text().partition(" ")[2]
        (tmp_path / "hosts").write_text(host)
        url = home.settings["url"].replace(f":{sftp.port}/", f":{proxy.port}/")
        scope = home.scope(tmp_path, url=url, known_hosts="hosts")
        node = post(connection="lake", path="a.jsonl")
        parts, _ = stage(node, [records], scope)
        publication = node.publish(parts, records.schema, scope, "r/node")
        proxy.cut_after(1_000_000, "up")
        with pytest.raises(Unavailable, match=r"a\.jsonl: "):
            list(publication.settle())
        shown = [name for name in home.files() if not name.startswith(".")]
        publication.abandon()
        left = home.files()
        node.publish(parts, records.schema, scope, "r/node").commit()

    assert (shown, left) == ([], {})
    assert [len(data.splitlines()) for data in home.files().values()] == [4_000]


def test_a_store_that_is_away_when_a_run_ends_is_tidied_by_the_next(
    s3: s3_parts.Server, bucket: Room, tmp_path: Path
) -> None:
    with Proxy(s3.port) as proxy:
        settings = {"endpoint": f"http://127.0.0.1:{proxy.port}", "retry": {"attempts": 1}}
        scope, node = bucket.scope(tmp_path, "r1", **settings), post(connection="lake", path="a.csv")
        parts, _ = stage(node, [batch([{"id": 1}])], scope)
        publication = node.publish(parts, IDS, scope, "r1/node")
        list(publication.settle())
        proxy.refuse()
        proxy.cut()
        publication.abandon()
        node.sweep(scope, "r1/node")
        between = bucket.pending()
        proxy.back()
        delivered(node, [batch([{"id": 2}])], bucket.scope(tmp_path, "r2", **settings))

    assert between == ["lake/a.csv"]
    assert (bucket.files(), bucket.pending()) == ({"a.csv": b"id\n2\n"}, [])
    assert list((tmp_path / ".processflow" / "left").rglob("*.notes")) == []


def test_a_file_that_is_replaced_while_it_is_read_is_told(room: Room, tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match=r"big\.csv: .*(was replaced|bytes where it had|became shorter).*run again"):
        read_after(room, tmp_path, lambda: room.put("big.csv", BIG[: len(BIG) // 2]))


def test_a_file_that_is_deleted_while_it_is_read_is_told(room: Room, tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match=r"big\.csv: is gone; it was there when the run was planned"):
        read_after(room, tmp_path, lambda: room.remove("big.csv"))


def test_a_missing_bucket_a_wrong_region_and_a_wrong_server_are_named(
    s3: s3_parts.Server, bucket: Room, faulty: Faulty, tmp_path: Path
) -> None:
    faulty.answer("GET", "elsewhere", 301, "PermanentRedirect")
    closed = f"http://127.0.0.1:{s3_parts.sharing.free_port()}"

    assert "s3://no-such-bucket: there is no such bucket; correct the connection's `url`" in said(
        bucket, tmp_path, Invalid, url="s3://no-such-bucket"
    )
    assert "set the connection's `region`" in said(
        bucket, tmp_path, Invalid, url="s3://elsewhere", endpoint=faulty.address
    )
    assert "the connection was lost or cannot be made" in said(bucket, tmp_path, Unavailable, endpoint=closed)
    assert "no host has this name" in said(bucket, tmp_path, Invalid, endpoint="http://no-such-host.invalid:9000")


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("InvalidAccessKeyId", "the access key is not known there; correct the connection's `access_key`"),
        ("SignatureDoesNotMatch", "correct the secret that `secret_key` names"),
        ("ExpiredToken", "the session token has expired"),
        ("AccessDenied", "access is denied; allow s3:ListBucket to these credentials"),
    ],
)
def test_credentials_that_are_refused_are_told(
    code: str, words: str, bucket: Room, faulty: Faulty, tmp_path: Path
) -> None:
    faulty.answer("GET", "list-type", 403, code)

    assert words in said(bucket, tmp_path, Invalid, endpoint=faulty.address)


def test_without_credentials_of_its_own_a_connection_takes_those_of_the_environment(
    bucket: Room, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = {name: value for name, value in bucket.settings.items() if name not in ("access_key", "secret_key", "region")}
    room = Room(own, bucket.put, bucket.files, bucket.pending, bucket.remove)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))

    assert "there are no credentials" in said(room, tmp_path, Invalid, timeout_seconds=31)
    assert "with 0 files" in room.connection(anonymous=True).test(room.scope(tmp_path))
    (tmp_path / "credentials").write_text("[told]\naws_access_key_id = A\naws_secret_access_key = B\n")
    assert "with 0 files" in room.connection(profile="told").test(room.scope(tmp_path))
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", s3_parts.KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", s3_parts.PASSWORD)
    assert "with 0 files" in room.connection(timeout_seconds=32).test(room.scope(tmp_path))


def test_a_server_that_asks_for_less_is_asked_again_and_in_the_end_is_away(
    bucket: Room, faulty: Faulty, tmp_path: Path
) -> None:
    scope = bucket.scope(tmp_path, endpoint=faulty.address, retry={"attempts": 2})
    faulty.answer("PUT", "partNumber", 503, "SlowDown", times=1)

    delivered(post(connection="lake", path="a.csv"), [batch([{"id": 1}])], scope)
    assert (faulty.answered, bucket.files()) == (1, {"a.csv": b"id\n1\n"})
    faulty.answer("GET", "list-type", 503, "SlowDown")
    with pytest.raises(Unavailable, match=r"the server asks for less: SlowDown \(asked 2 times\)"):
        Get(connection="lake", path="*.csv").files(scope)


def test_an_upload_that_is_refused_leaves_nothing(bucket: Room, faulty: Faulty, tmp_path: Path) -> None:
    faulty.answer("PUT", "partNumber=1", 403, "AccessDenied")
    scope, node = bucket.scope(tmp_path, endpoint=faulty.address), post(connection="lake", path="a.csv")
    parts, _ = stage(node, [batch([{"id": 1}])], scope)
    publication = node.publish(parts, IDS, scope, "r/node")

    with pytest.raises(Invalid, match=r"a\.csv: access is denied; allow s3:PutObject"):
        list(publication.settle())
    publication.abandon()

    assert (bucket.files(), bucket.pending()) == ({}, [])


def test_an_upload_whose_name_nobody_heard_is_found_and_those_of_others_are_left_alone(
    s3: s3_parts.Server, bucket: Room, faulty: Faulty, tmp_path: Path
) -> None:
    client, name = s3.client(), bucket.settings["url"].split("/")[2]
    other = client.create_multipart_upload(Bucket=name, Key="lake/a.csv")["UploadId"]
    client.upload_part(Bucket=name, Key="lake/a.csv", UploadId=other, PartNumber=1, Body=b"somebody else's")
    scope, node = bucket.scope(tmp_path), post(connection="lake", path="a.csv")
    parts, _ = stage(node, [batch([{"id": 1}])], scope)
    list(node.publish(parts, IDS, scope, "r/node").settle())
    notes = next(scope.staging.rglob("*.notes"))
    notes.write_text(notes.read_text().splitlines()[0] + "\n")
    next(scope.staging.rglob("published-*.json")).unlink()
    ours = [
        each["UploadId"] for each in client.list_multipart_uploads(Bucket=name)["Uploads"] if each["UploadId"] != other
    ]
    client.abort_multipart_upload(Bucket=name, Key="lake/a.csv", UploadId=ours[0])
    client.create_multipart_upload(Bucket=name, Key="lake/a.csv")

    node.sweep(scope, "r/node")

    assert [each["UploadId"] for each in client.list_multipart_uploads(Bucket=name)["Uploads"]] == [other]


def test_a_completion_whose_answer_was_lost_counts_as_done(s3: s3_parts.Server, bucket: Room, tmp_path: Path) -> None:
    with Proxy(s3.port) as proxy:
        scope = bucket.scope(tmp_path, endpoint=f"http://127.0.0.1:{proxy.port}", retry={"attempts": 3})
        proxy.cut_at(rb"<CompleteMultipartUpload", heard=True)
        delivered(post(connection="lake", path="a.csv"), [batch([{"id": 1}])], scope)

    assert proxy.cuts == 1
    assert (bucket.files(), bucket.pending()) == ({"a.csv": b"id\n1\n"}, [])


def test_a_certificate_is_checked_against_the_authority_that_is_named(
    s3: s3_parts.Server, bucket: Room, tmp_path: Path
) -> None:
    certificates.make(tmp_path)
    with Faulty(s3.port, tmp_path) as server:
        mistrusted = said(bucket, tmp_path, Invalid, endpoint=server.address)
        other = said(bucket, tmp_path, Invalid, endpoint=server.address, tls_root="other-ca.pem")
        trusted = bucket.connection(endpoint=server.address, tls_root="ca.pem").test(bucket.scope(tmp_path))
        missing = said(bucket, tmp_path, Invalid, endpoint=server.address, tls_root="none.pem")

    assert "its certificate is not trusted" in mistrusted
    assert "name its authority's file by `tls_root`" in other
    assert "with 0 files" in trusted
    assert "none.pem" in missing


@pytest.mark.parametrize("kind", ["google", "azure"])
def test_a_cloud_that_is_away_or_has_no_such_bucket_is_told(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    room = {"google": on_google, "azure": on_azure}[kind](request.getfixturevalue(kind), tmp_path)
    scheme = room.settings["url"].partition(":")[0]

    text = said(room, tmp_path, Unavailable, url=f"{scheme}://no-such-bucket")

    assert f"{scheme}://no-such-bucket: is not there, or not any more; check the connection's `url`" in text


def test_an_account_key_that_is_wrong_is_told_and_never_shown(
    azure: Azure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MISTAKEN", "bWlzdGFrZW4=")

    text = said(on_azure(azure, tmp_path), tmp_path, Invalid, account_key={"secret": "MISTAKEN"})

    assert "access is denied; check `account_key`" in text
    assert "bWlzdGFrZW4" not in text
