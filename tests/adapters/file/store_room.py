"""Files on the servers that the tests start: what the tests of stores share."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from adapters.file import Connection
from pipelines.environment import Environment
from pipelines.errors import FlowError
from pipelines.scope import Scope
from tests.adapters.file.post_room import scope_in
from tests.parts import clouds as cloud_parts
from tests.parts import s3 as s3_parts
from tests.parts import sftp as sftp_parts


@dataclass(frozen=True)
class Room:
    """A folder of a test's own on a server, looked at with other eyes than the adapter's."""

    settings: dict[str, Any]
    put: Callable[[str, bytes], None]
    """Writes a file as somebody else would."""
    files: Callable[[], dict[str, bytes]]
    """Every file by its path, hidden ones too."""
    pending: Callable[[], list[str]]
    """What was begun and does not show, such as uploads."""
    remove: Callable[[str], None]

    def connection(self, **settings: Any) -> Connection:
        return Connection.model_validate({**self.settings, **settings})

    def scope(self, folder: Path, run: str = "run-1", **settings: Any) -> Scope:
        """A run whose connection `lake` is this folder."""
        return replace(
            scope_in(folder, run), environment=Environment(connections={"lake": self.connection(**settings)})
        )


def on_s3(server: s3_parts.Server, path: Path, folder: str = "lake") -> Room:
    """A folder in a bucket of its own."""
    bucket, client = server.bucket(path), server.client()

    def files() -> dict[str, bytes]:
        keys = [each["Key"] for each in client.list_objects_v2(Bucket=bucket).get("Contents", ())]
        return {
            key.removeprefix(f"{folder}/"): client.get_object(Bucket=bucket, Key=key)["Body"].read() for key in keys
        }

    def pending() -> list[str]:
        return [each["Key"] for each in client.list_multipart_uploads(Bucket=bucket).get("Uploads", ())]

    settings = {
        "adapter": "file", "url": f"s3://{bucket}/{folder}", "endpoint": server.address, "region": s3_parts.REGION,
        "access_key": s3_parts.KEY, "secret_key": {"secret": s3_parts.SECRET}, "retry": {"attempts": 2},
    }  # fmt: skip
    return Room(
        settings,
        lambda name, data: client.put_object(Bucket=bucket, Key=f"{folder}/{name}", Body=data),
        files,
        pending,
        lambda name: client.delete_object(Bucket=bucket, Key=f"{folder}/{name}"),
    )


def on_sftp(server: sftp_parts.Server, path: Path) -> Room:
    """A folder in the user's home."""
    folder = server.folder_for(Path(_named(path)))

    def put(name: str, data: bytes) -> None:
        target = folder / name
        missing = [each for each in target.parents if not each.exists()]
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
        if os.geteuid() == 0:
            for each in [target, *missing]:
                os.chown(each, sftp_parts.USER_ID, sftp_parts.USER_ID)

    def files() -> dict[str, bytes]:
        found = sorted(each for each in folder.rglob("*") if each.is_file())
        return {each.relative_to(folder).as_posix(): each.read_bytes() for each in found}

    settings = {
        "adapter": "file", "url": f"sftp://{server.user}@127.0.0.1:{server.port}/~/{folder.name}",
        "key_file": str(server.key), "known_hosts": str(server.known_hosts),
    }  # fmt: skip

    def pending() -> list[str]:
        return [name for name in files() if name.rpartition("/")[2].startswith(".")]

    return Room(settings, put, files, pending, lambda name: (folder / name).unlink())


def on_google(server: cloud_parts.Google, path: Path) -> Room:
    """A folder in a bucket of its own."""
    from gcsfs.core import GCSFileSystem

    system = GCSFileSystem(project="tests", token="anon", endpoint_url=server.address, skip_instance_cache=True)
    settings = {"adapter": "file", "endpoint": server.address, "anonymous": True}
    return _on_cloud(system, "gs", _named(path), settings)


def on_azure(server: cloud_parts.Azure, path: Path) -> Room:
    """A folder in a container of its own."""
    from adlfs import AzureBlobFileSystem

    words = f"BlobEndpoint={server.address};AccountName={cloud_parts.ACCOUNT};AccountKey={cloud_parts.KEY}"
    system = AzureBlobFileSystem(connection_string=words, skip_instance_cache=True)
    settings = {
        "adapter": "file", "endpoint": server.address, "account": cloud_parts.ACCOUNT,
        "account_key": {"secret": cloud_parts.SECRET},
    }  # fmt: skip
    return _on_cloud(system, "az", _named(path), settings)


def _on_cloud(system: Any, scheme: str, bucket: str, settings: dict[str, Any]) -> Room:
    system.mkdir(bucket)

    def files() -> dict[str, bytes]:
        system.invalidate_cache()
        return {name.removeprefix(f"{bucket}/lake/"): system.cat_file(name) for name in system.find(bucket)}

    def pending() -> list[str]:
        return [name for name in files() if name.rpartition("/")[2].startswith(".")]

    return Room(
        {**settings, "url": f"{scheme}://{bucket}/lake"},
        lambda name, data: system.pipe_file(f"{bucket}/lake/{name}", data),
        files,
        pending,
        lambda name: system.rm_file(f"{bucket}/lake/{name}"),
    )


def _named(path: Path) -> str:
    return f"t{hashlib.sha256(str(path).encode()).hexdigest()[:16]}"


def said(room: Room, folder: Path, kind: type[FlowError], **settings: Any) -> str:
    """What a test of the connection with these settings says is wrong."""
    with pytest.raises(kind) as caught:
        room.connection(**settings).test(room.scope(folder))
    text = str(caught.value)
    for secret in (s3_parts.PASSWORD, sftp_parts.PASSWORD, "mistaken"):
        assert secret not in text
    return text
