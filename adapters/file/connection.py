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
from pipelines.secrets import Secret, address_of

SCHEMES = {"s3": "s3", "sftp": "sftp", "gs": "gs", "az": "az"}
"""The system that an address is of."""
ALSO = frozenset({"adapter", "url", "retry", "timeout_seconds", "connect_seconds"})
TAKES = {
    "s3": frozenset(
        {"access_key", "secret_key", "session_token", "profile", "region", "endpoint", "tls_root", "anonymous"}
    ),
    "sftp": frozenset({"user", "password", "key_file", "key_password", "known_hosts"}),
    "gs": frozenset({"key_file", "key", "endpoint", "anonymous"}),
    "az": frozenset(
        {"account", "account_key", "sas_token", "tenant", "client", "client_secret", "endpoint", "anonymous"}
    ),
}
"""The fields of each system beside those of all."""
FORM = "s3://bucket/folder, sftp://user@host:22/folder, gs://bucket/folder or az://container/folder"


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
    """Files on S3, SFTP, Google Cloud Storage or Azure: where they are, and who asks."""

    adapter: Literal["file"]
    """`file`."""
    url: str = Field(examples=["s3://lake/orders", "sftp://reader@files.example.org/out", "gs://lake", "az://lake"])
    """The folder that the paths of nodes start in: `s3://bucket/folder`, `sftp://user@host:22/folder` (`/~/folder` for one
    in the user's home), `gs://bucket/folder`, `az://container/folder`."""
    endpoint: str | None = Field(default=None, examples=["https://minio.example.org:9000"])
    """S3, Google Cloud Storage, Azure: the server's address, where it is not the provider's own; buckets are then part of
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
    """SFTP: the user's private key, a file from the project folder; without it and `password` the keys in `~/.ssh` and those
    of the agent are taken. Google Cloud Storage: a service account's key file."""
    key_password: Secret | None = None
    """SFTP: the private key's password, by the name of a secret."""
    known_hosts: str | None = None
    """SFTP: the file that names the server's key, from the project folder; without it `~/.ssh/known_hosts`. A server whose
    key is not in it is refused."""
    key: Secret | None = None
    """Google Cloud Storage: a service account's key, the text of its JSON file, by the name of a secret. Without a key the
    machine's own credentials are taken."""
    account: str | None = None
    """Azure: the storage account's name."""
    account_key: Secret | None = None
    """Azure: the account's key, by the name of a secret."""
    sas_token: Secret | None = None
    """Azure: a shared access signature, by the name of a secret."""
    tenant: str | None = None
    """Azure: the tenant's id, for `client` and `client_secret`."""
    client: str | None = None
    """Azure: the application's id. Without it, a key or a token, the machine's own credentials are taken."""
    client_secret: Secret | None = None
    """Azure: the application's secret, by the name of a secret."""
    anonymous: bool = False
    """S3, Google Cloud Storage, Azure: whether to ask without credentials, as for public buckets."""
    connect_seconds: float = Field(default=10.0, gt=0)
    """So long it may take to reach the server."""
    timeout_seconds: float = Field(default=60.0, gt=0)
    """So long an answer may pause."""
    retry: flow.Retry = flow.Retry()
    """How often a request is made that was not answered, or answered with a request to slow down."""

    @model_validator(mode="after")
    def _names_a_store(self) -> Self:
        place = address_of("url", self.url, "`password`", takes_user=True)
        if self.endpoint is not None:
            address_of("endpoint", self.endpoint, "`access_key` and `secret_key`")
        kind = SCHEMES.get(place.scheme)
        if kind is None or not place.hostname:
            raise ValueError(f"`url` is no address of files: {place.scheme}:…; write {FORM}")
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
        if kind == "az" and self.account is None:
            raise ValueError("Azure needs the storage `account`")
        return self

    def store(self, scope: Scope) -> Store:
        """The folder that paths start in. Reaches nothing yet."""
        place = urlsplit(self.url)
        return {"s3": self._s3, "sftp": self._sftp, "gs": self._cloud, "az": self._cloud}[place.scheme](scope)

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

    def _cloud(self, scope: Scope) -> Store:
        from adapters.file.stores.cloud import Cloud, Settings

        place = urlsplit(self.url)
        words = self._google(scope) if place.scheme == "gs" else self._azure(scope)
        kind: Literal["gs", "az"] = "gs" if place.scheme == "gs" else "az"
        folder = unquote(place.path).strip("/")
        settings = Settings(kind, place.netloc, tuple(sorted(words.items())), self.timeout_seconds)
        return Cloud(settings, f"{folder}/" if folder else "")

    def _google(self, scope: Scope) -> dict[str, str | bool | None]:
        file = str(scope.path(self.key_file)) if self.key_file else None
        token = "anon" if self.anonymous else self._revealed(self.key, scope) or file
        return {"token": token, "endpoint_url": self.endpoint}

    def _azure(self, scope: Scope) -> dict[str, str | bool | None]:
        key, signature = self._revealed(self.account_key, scope), self._revealed(self.sas_token, scope)
        if self.endpoint is not None and (key or signature):
            said = f"AccountKey={key}" if key else f"SharedAccessSignature={signature}"
            return {"connection_string": f"BlobEndpoint={self.endpoint};AccountName={self.account};{said}"}
        return {
            "account_name": self.account,
            "account_key": key,
            "sas_token": signature,
            "tenant_id": self.tenant,
            "client_id": self.client,
            "client_secret": self._revealed(self.client_secret, scope),
            "account_host": urlsplit(self.endpoint).netloc if self.endpoint else None,
            "anon": self.anonymous,
        }

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
