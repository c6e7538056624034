"""Files that lie elsewhere as a connection: where they are, and who asks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self
from urllib.parse import unquote, urlsplit

from pydantic import Field, model_validator

from adapters.file.stores.store import Store
from pipelines import environment, flow
from pipelines.environment import Found
from pipelines.scope import Scope
from pipelines.secrets import Secret

SCHEMES = {"s3": "s3", "sftp": "sftp"}
"""The system that an address is of."""
ALSO = frozenset({"adapter", "url", "retry", "timeout_seconds", "connect_seconds"})
TAKES = {
    "s3": frozenset(
        {"access_key", "secret_key", "session_token", "profile", "region", "endpoint", "tls_root", "anonymous"}
    ),
    "sftp": frozenset({"user", "password", "key_file", "key_password", "known_hosts"}),
}
"""The fields of each system beside those of all."""
FORM = "s3://bucket/folder or sftp://user@host:22/folder"


@dataclass(frozen=True)
class Place:
    """Where a node's files lie."""

    folder: Path
    """The folder that paths start in, where they are on this machine."""
    store: Store | None = None

    def path(self, name: str) -> Path:
        """Where a file is that was found here by this name."""
        return self.folder / name if self.store is None else Path(name)


class Connection(environment.Connection):
    """Files on S3 or SFTP: where they are, and who asks."""

    adapter: Literal["file"]
    """`file`."""
    url: str = Field(examples=["s3://lake/orders", "sftp://reader@files.example.org/out"])
    """The folder that the paths of nodes start in: `s3://bucket/folder`, `sftp://user@host:22/folder` (`/~/folder` for one
    in the user's home)."""
    endpoint: str | None = Field(default=None, examples=["https://minio.example.org:9000"])
    """S3: the server's address, where it is not the provider's own; buckets are then part of
    the path."""
    region: str | None = Field(default=None, examples=["eu-central-1"])
    """S3: the bucket's region; without it that of the environment (`AWS_REGION`, `~/.aws/config`)."""
    access_key: str | None = None
    """S3: the access key's id. Without it credentials are looked for where AWS's own tools do: `AWS_ACCESS_KEY_ID` and the
    other variables, `~/.aws`, the role of the container or machine."""
    secret_key: Secret | None = None
    """S3: the secret access key, by the name of a secret."""
    session_token: Secret | None = None
    """S3: the token of temporary credentials, by the name of a secret."""
    profile: str | None = None
    """S3: a profile of `~/.aws/config`, which may name a role to take."""
    tls_root: str | None = None
    """S3: a file of certificates, from the project folder, that the server's is checked against; without it the usual ones."""
    user: str | None = None
    """SFTP: who asks, where `url` does not say it."""
    password: Secret | None = None
    """SFTP: the user's password, by the name of a secret."""
    key_file: str | None = Field(default=None, examples=["keys/reader_ed25519"])
    """SFTP: the user's private key, a file from the project folder. Without `password` and `key_file` the keys in `~/.ssh`
    and those of the agent are taken."""
    key_password: Secret | None = None
    """SFTP: the private key's password, by the name of a secret."""
    known_hosts: str | None = None
    """SFTP: the file that names the server's key, from the project folder; without it `~/.ssh/known_hosts`. A server whose
    key is not in it is refused."""
    anonymous: bool = False
    """S3: whether to ask without credentials, as for public buckets."""
    connect_seconds: float = Field(default=10.0, gt=0)
    """So long it may take to reach the server."""
    timeout_seconds: float = Field(default=60.0, gt=0)
    """So long an answer may pause."""
    retry: flow.Retry = flow.Retry()
    """How often a request is made that was not answered, or answered with a request to slow down."""

    @model_validator(mode="after")
    def _names_a_store(self) -> Self:
        place = urlsplit(self.url)
        kind = SCHEMES.get(place.scheme)
        if kind is None or not place.hostname:
            raise ValueError(f"`url` is no address of files: {place.scheme}:…; write {FORM}")
        if place.password is not None:
            raise ValueError("`url` holds a password; name a secret in `password` instead")
        if place.query or place.fragment:
            raise ValueError("`url` ends before a `?` or `#`")
        strange = sorted(self.model_fields_set - TAKES[kind] - ALSO)
        if strange:
            raise ValueError(
                f"{strange[0]!r} means nothing for {place.scheme}; it takes {', '.join(sorted(TAKES[kind]))}"
            )
        if (self.access_key is None) != (self.secret_key is None):
            raise ValueError("`access_key` and `secret_key` go together")
        if kind == "sftp" and (place.username is None) == (self.user is None):
            raise ValueError("the user is named once: in `url` or by `user`")
        return self

    def store(self, scope: Scope) -> Store:
        """The folder that paths start in. Reaches nothing yet."""
        place = urlsplit(self.url)
        return {"s3": self._s3, "sftp": self._sftp}[SCHEMES[place.scheme]](scope)

    def _s3(self, scope: Scope) -> Store:
        from adapters.file.stores.s3 import S3, Settings

        place = urlsplit(self.url)
        settings = Settings(
            place.netloc,
            self.endpoint,
            self.region,
            self.access_key,
            self._revealed(self.secret_key, scope),
            self._revealed(self.session_token, scope),
            self.profile,
            self.anonymous,
            str(scope.path(self.tls_root)) if self.tls_root else None,
            self.retry.attempts,
            self.connect_seconds,
            self.timeout_seconds,
        )
        folder = unquote(place.path).strip("/")
        return S3(settings, f"{folder}/" if folder else "")

    def _sftp(self, scope: Scope) -> Store:
        from adapters.file.stores.sftp import PORT, Settings, Sftp

        place = urlsplit(self.url)
        settings = Settings(
            place.hostname or "",
            place.port or PORT,
            self.user or unquote(place.username or ""),
            self._revealed(self.password, scope),
            scope.path(self.key_file) if self.key_file else None,
            self._revealed(self.key_password, scope),
            scope.path(self.known_hosts) if self.known_hosts else None,
            self.connect_seconds,
            self.timeout_seconds,
        )
        folder = unquote(place.path)
        is_home = folder in ("", "/", "/~") or folder.startswith("/~/")
        return Sftp(settings, folder.removeprefix("/~").strip("/") if is_home else f"/{folder.strip('/')}")

    def _revealed(self, secret: Secret | None, scope: Scope) -> str | None:
        return None if secret is None else secret.reveal(scope.project)

    def test(self, scope: Scope) -> str:
        """Reaches the store, and counts what is there."""
        return self.store(scope).test()

    def discover(self, scope: Scope) -> Sequence[Found]:
        from adapters.file.discovering import discovered

        return discovered(self, scope)


def place_of(connection: str | None, scope: Scope) -> Place:
    """Where a node's files lie: in the project folder, or where its connection says."""
    if connection is None:
        return Place(scope.project)
    return Place(scope.project, scope.connection(connection, Connection).store(scope))
