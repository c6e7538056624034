"""A Kafka cluster as a connection: where it is, and who asks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, model_validator

from pipelines import environment
from pipelines.model import Model
from pipelines.scope import Scope
from pipelines.secrets import Secret
from pipelines.tables.relation import Names, as_list

Mechanism = Literal["SCRAM-SHA-512", "SCRAM-SHA-256", "PLAIN"]


class Tls(Model):
    """Certificates, where those of the machine are not enough."""

    ca: str | None = None
    """A file of the authorities that the brokers' certificates are checked against, from the project folder."""
    certificate: str | None = None
    """A file with the client's own certificate, from the project folder."""
    key: str | None = None
    """A file with the certificate's private key."""
    key_password: Secret | None = None
    """The private key's password, by the name of a secret."""

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        if (self.certificate is None) != (self.key is None):
            raise ValueError("`certificate` and `key` belong together: give both or neither")
        return self


class Security(Model):
    """How the brokers know who asks, and how the line is encrypted."""

    user: str | None = None
    """The user's name."""
    password: Secret | None = None
    """The user's password, by the name of a secret."""
    mechanism: Mechanism = "SCRAM-SHA-512"
    """How the password is shown. `PLAIN` sends it as it is, so it needs `tls`."""
    tls: bool | Tls = False
    """Whether the line is encrypted; or the certificates for that. The brokers' certificates are always checked."""

    @model_validator(mode="after")
    def _hangs_together(self) -> Self:
        if (self.user is None) != (self.password is None):
            raise ValueError("`user` and `password` belong together: give both or neither")
        if self.user is not None and self.mechanism == "PLAIN" and not self.tls:
            raise ValueError(
                "mechanism PLAIN would send the password in the open; set `tls: true`, or use SCRAM-SHA-512"
            )
        return self


class Registry(Model):
    """A schema registry that speaks Confluent's REST API: where the Avro schemas of topics are kept."""

    url: str = Field(examples=["https://registry.example.org:8081"])
    """The registry's address."""
    user: str | None = None
    """Who asks."""
    password: Secret | None = None
    """The password, by the name of a secret."""
    ca: str | None = None
    """A file of the authorities that its certificate is checked against, from the project folder."""

    @model_validator(mode="after")
    def _is_an_address(self) -> Self:
        place = urlsplit(self.url)
        if place.scheme not in ("http", "https") or not place.hostname:
            raise ValueError(f"`url` is no address of a server: {self.url!r:.80}; write one such as https://host:8081")
        if place.password is not None or place.username is not None:
            raise ValueError("`url` holds a user or password; name them in `user` and `password` instead")
        if (self.user is None) != (self.password is None):
            raise ValueError("`user` and `password` belong together: give both or neither")
        return self


class Connection(environment.Connection):
    """A Kafka cluster: where it is, and who asks."""

    adapter: Literal["kafka"]
    """`kafka`."""
    servers: Names = Field(
        examples=["kafka-1.example.org:9092", ["kafka-1.example.org:9092", "kafka-2.example.org:9092"]]
    )
    """Some of the brokers, as `host:port`; they tell of the others."""
    security: Security = Security()
    """How the brokers know who asks, and how the line is encrypted; without it, neither."""
    registry: Registry | None = None
    """Where the Avro schemas of topics are kept."""
    timeout_seconds: float = Field(default=30.0, gt=0, le=600)
    """So long brokers may leave a request unanswered, or nothing may be read or written, until they count as away."""

    @model_validator(mode="after")
    def _names_servers(self) -> Self:
        named = [text.strip() for given in as_list(self.servers) for text in given.split(",")]
        if not all(named):
            raise ValueError("`servers` names no broker; write one such as kafka-1.example.org:9092")
        for text in named:
            if "@" in text or "://" in text:
                raise ValueError("`servers` holds a user or a scheme; write host:port, and who asks in `security`")
        return self

    @property
    def address(self) -> str:
        """The brokers that are asked first."""
        return ",".join(as_list(self.servers))

    def test(self, scope: Scope) -> str:
        """Reaches a broker, and counts the brokers and the topics that can be seen."""
        from adapters.kafka.topics import tested

        return tested(self, scope)

    def discover(self, scope: Scope) -> Sequence[environment.Found]:
        """The topics, each with the columns of a sample of its records."""
        from adapters.kafka.discovering import discovered

        return discovered(self, scope)
