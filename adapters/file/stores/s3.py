"""Files in S3, and in what speaks like it. What is written is a multipart upload, which shows when it is completed."""

from __future__ import annotations

import base64
import hashlib
import logging
import os
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

from adapters.file.stores.s3faults import explained
from adapters.file.stores.store import Entry, Missing, Note, Source
from pipelines.errors import Invalid, Unavailable
from pipelines.node import Json

PART_BYTES = 8 << 20
MOST_PARTS = 10_000
"""S3's own limit: larger files get larger parts."""
LANES = 4
"""How many pieces of a file are fetched or sent at once."""
MARK = "processflow-publication"
"""The object's metadata in which its publication is named."""


@dataclass(frozen=True)
class Settings:
    """How a bucket is reached."""

    bucket: str
    endpoint: str | None = None
    region: str | None = None
    access_key: str | None = None
    secret_key: str | None = None
    session_token: str | None = None
    profile: str | None = None
    is_anonymous: bool = False
    ca: str | None = None
    attempts: int = 5
    connect_seconds: float = 10.0
    timeout_seconds: float = 60.0

    def __repr__(self) -> str:
        return f"Settings({self.bucket!r})"


@dataclass(frozen=True)
class S3:
    """A bucket, or a folder in one."""

    settings: Settings
    folder: str
    """What stands before every path: empty, or ending in `/`."""

    has_folders = False

    @property
    def address(self) -> str:
        return f"s3://{self.settings.bucket}/{self.folder}".rstrip("/")

    def look(self, path: str) -> Entry | None:
        try:
            found = self.ask("head_object", path)
        except Missing:
            return None
        return Entry(path, int(found["ContentLength"]), _nanoseconds(found["LastModified"]), found["ETag"])

    def is_folder(self, path: str) -> bool:
        return next(self.list(f"{path}/" if path else "", None), None) is not None

    def list(self, prefix: str, depth: int | None) -> Iterator[Entry]:
        words: dict[str, Any] = {"Prefix": self.folder + prefix}
        base = self.folder + prefix.rpartition("/")[0]
        if depth == 0:
            words["Delimiter"] = "/"
        while True:
            page = self.ask("list_objects_v2", "", **words)
            for each in page.get("Contents", ()):
                key = each["Key"]
                if key.endswith("/") or (depth is not None and key[len(base) :].strip("/").count("/") > depth):
                    continue  # a folder's mark, or too deep
                changed = _nanoseconds(each["LastModified"])
                yield Entry(key.removeprefix(self.folder), int(each["Size"]), changed, each["ETag"])
            if not page.get("IsTruncated"):
                return
            words["ContinuationToken"] = page["NextContinuationToken"]

    def open(self, entry: Entry) -> Source:
        return Opened(self, entry)

    def stage(self, local: Path, path: str, token: str, note: Note) -> Json:
        step: dict[str, Any] = {"path": path, "token": token, "since": datetime.now(UTC).timestamp()}
        note(step)
        upload = self.ask("create_multipart_upload", path, Metadata={MARK: token})["UploadId"]
        step["upload"] = upload
        note(step)
        size = local.stat().st_size
        part_bytes = max(PART_BYTES, -(-size // MOST_PARTS))
        numbers = range(max(-(-size // part_bytes), 1))
        with ThreadPoolExecutor(LANES, thread_name_prefix="file-upload") as threads:
            sent = [threads.submit(self._send, local, path, upload, number, part_bytes) for number in numbers]
            try:
                step["parts"] = [each.result() for each in sent]
            finally:
                for each in sent:
                    each.cancel()
        return step

    def _send(self, local: Path, path: str, upload: str, number: int, part_bytes: int) -> str:
        with local.open("rb") as file:
            file.seek(number * part_bytes)
            data = file.read(part_bytes)
        digest = base64.b64encode(hashlib.md5(data, usedforsecurity=False).digest()).decode()
        words = {"UploadId": upload, "PartNumber": number + 1, "Body": data, "ContentMD5": digest}
        return str(self.ask("upload_part", path, **words)["ETag"])

    def finish(self, step: Json) -> None:
        parts = [{"ETag": tag, "PartNumber": number} for number, tag in enumerate(step["parts"], 1)]
        words = {"UploadId": step["upload"], "MultipartUpload": {"Parts": parts}}
        try:
            self.ask("complete_multipart_upload", step["path"], **words)
        except Missing:
            if not self.is_finished(step):  # else it was completed, and nobody heard it
                raise

    def is_finished(self, step: Json) -> bool:
        try:
            found = self.ask("head_object", step["path"])
        except Missing:
            return False
        return bool(found.get("Metadata", {}).get(MARK) == step["token"])

    def discard(self, step: Json) -> None:
        if "upload" in step:
            self._abort(step["path"], step["upload"])
            return
        # Noted, and nobody heard how the upload is called: it is one of this name to which nothing was sent.
        key = self.folder + step["path"]
        for each in self.ask("list_multipart_uploads", "", Prefix=key).get("Uploads", ()):
            if each["Key"] == key and not self._parts(step["path"], each["UploadId"]):
                self._abort(step["path"], each["UploadId"])

    def _parts(self, path: str, upload: str) -> bool:
        return bool(self.ask("list_parts", path, UploadId=upload).get("Parts"))

    def _abort(self, path: str, upload: str) -> None:
        with suppress(Missing):
            self.ask("abort_multipart_upload", path, UploadId=upload)

    def remove(self, path: str) -> None:
        self.ask("delete_object", path)

    def test(self) -> str:
        page = self.ask("list_objects_v2", "", Prefix=self.folder, MaxKeys=1000)
        count = f"{page['KeyCount']}{' or more' if page.get('IsTruncated') else ''}"
        return f"S3 bucket {self.address} with {count} file{'' if count == '1' else 's'}"

    def ask(self, what: str, path: str, **words: Any) -> Mapping[str, Any]:
        """One request, made as often as the connection says. `Invalid` and `Unavailable` say what to do."""
        if path:
            words["Key"] = self.folder + path
        shown = f"{self.address}/{path}" if path else self.address
        try:
            return getattr(client(self.settings, os.getpid()), what)(Bucket=self.settings.bucket, **words)
        except Exception as fault:  # noqa: BLE001 - botocore's faults have no ancestor of their own
            raise explained(shown, what, fault, self.settings.attempts) from None


@dataclass(frozen=True)
class Opened:
    """An object of one version, read by ranges."""

    store: S3
    entry: Entry
    lanes = LANES

    def fetch(self, start: int, stop: int) -> bytes:
        """The bytes of a range; asked for again where the answer breaks off."""
        attempt = 0
        while True:
            attempt += 1
            try:
                return self._fetched(start, stop)
            except Unavailable as fault:
                if attempt >= self.store.settings.attempts or fault.asked_again:
                    raise

    def _fetched(self, start: int, stop: int) -> bytes:
        words = {"Range": f"bytes={start}-{stop - 1}", "IfMatch": self.entry.version}
        body = self.store.ask("get_object", self.entry.path, **words)["Body"]
        shown = f"{self.store.address}/{self.entry.path}"
        try:
            data = bytes(body.read())
        except Exception as fault:  # noqa: BLE001 - of botocore, urllib3 or the socket: the answer broke off
            with suppress(Exception):
                body.close()
            raise explained(shown, "get_object", fault, 0) from None
        if len(data) != stop - start:
            raise Unavailable(f"{shown}: {len(data)} bytes came where {stop - start} were asked for")
        return data

    def close(self) -> None:
        """Nothing is held between ranges."""


def _nanoseconds(moment: datetime) -> int:
    return int(moment.timestamp() * 1_000) * 1_000_000


@lru_cache(maxsize=64)
def client(settings: Settings, process: int) -> Any:
    """A client of botocore, one for each connection and process; any thread may use it."""
    import botocore.session
    from botocore import UNSIGNED
    from botocore.config import Config

    if settings.ca is not None and not Path(settings.ca).is_file():
        raise Invalid(f"s3://{settings.bucket}: `tls_root` names {settings.ca}, which is no file")
    logging.getLogger("botocore").setLevel(logging.INFO)  # what it says for debugging holds the session's token
    config = Config(
        signature_version=UNSIGNED if settings.is_anonymous else "s3v4",
        connect_timeout=settings.connect_seconds,
        read_timeout=settings.timeout_seconds,
        retries={"mode": "standard", "total_max_attempts": settings.attempts},
        max_pool_connections=32,
        s3={"addressing_style": "path" if settings.endpoint else "auto"},
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        user_agent_extra="processflow",
    )
    session = botocore.session.Session(profile=settings.profile)
    return session.create_client(
        "s3",
        region_name=settings.region or session.get_config_variable("region") or "us-east-1",
        endpoint_url=settings.endpoint,
        aws_access_key_id=settings.access_key,
        aws_secret_access_key=settings.secret_key,
        aws_session_token=settings.session_token,
        verify=settings.ca,
        config=config,
    )
