"""An HTTP API as a connection: where it is, who asks, how fast and how often."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Self

from pydantic import Field, model_validator

from pipelines import environment, flow
from pipelines.model import Model
from pipelines.scope import Scope
from pipelines.secrets import Secret, address_of


class Basic(Model):
    """User and password in each request."""

    user: str
    """The user's name."""
    password: Secret
    """The password, by the name of a secret."""


class ApiKey(Model):
    """A key in a header or in the query."""

    header: str | None = Field(default=None, examples=["X-Api-Key"])
    """The header that holds the key; or `query`."""
    query: str | None = Field(default=None, examples=["api_key"])
    """The query's parameter that holds the key; it is never shown in a message."""
    value: Secret
    """The key, by the name of a secret."""
    prefix: str = ""
    """What stands before the key in the header, such as `Token ` with its blank."""

    @model_validator(mode="after")
    def _has_one_place(self) -> Self:
        if (self.header is None) == (self.query is None):
            raise ValueError("a key stands in a `header` or in the `query`: name one of them")
        return self


class OAuth2(Model):
    """A token of an OAuth 2 server (RFC 6749), by client credentials or a refresh token; renewed before it expires."""

    token_url: str = Field(examples=["https://login.example.org/token"])
    """Where tokens are given out; from the connection's `url` where it has no host."""
    client_id: str
    """The client's name."""
    client_secret: Secret | None = None
    """The client's secret, by the name of a secret."""
    refresh_token: Secret | None = None
    """A refresh token, by the name of a secret; without it the client's own credentials are used. Where the server gives
    a new one in exchange, it is kept: in the file that the secret comes from, or else while the process lives."""
    scope: str | None = Field(default=None, examples=["orders.read orders.write"])
    """What is asked for, words with blanks between."""
    audience: str | None = None
    """The `audience` that some servers ask for."""
    send: Literal["basic", "body"] = "basic"
    """Whether the client's name and secret are sent as user and password, or in the body."""
    early_seconds: float = Field(default=30.0, ge=0)
    """So long before it expires a token is renewed."""

    @model_validator(mode="after")
    def _names_no_user(self) -> Self:
        address_of("token_url", self.token_url, "`client_id` and `client_secret`")
        return self


class Hmac(Model):
    """A signature of each request with a shared secret (RFC 2104)."""

    secret: Secret
    """The shared secret, by its name."""
    header: str = "X-Signature"
    """The header that holds the signature."""
    over: str = "{method}\n{path}\n{timestamp}\n{body}"
    """What is signed: text with `{method}`, `{path}` (with the query), `{host}`, `{timestamp}`, `{body}` and
    `{body_sha256}`, the body's hash in hexadecimal digits."""
    algorithm: Literal["sha1", "sha256", "sha384", "sha512"] = "sha256"
    """The hash."""
    encoding: Literal["hex", "base64"] = "hex"
    """How the signature is written."""
    prefix: str = Field(default="", examples=["sha256=", "HMAC-SHA256 Signature="])
    """What stands before the signature in its header."""
    timestamp_header: str | None = Field(default=None, examples=["X-Timestamp"])
    """The header that tells the receiver the signed `{timestamp}`."""
    timestamp: Literal["seconds", "milliseconds", "iso"] = "seconds"
    """How the time is written: seconds or milliseconds since 1970, or as `2026-01-31T08:00:00Z`."""


class Auth(Model):
    """How a request shows who asks: one of these."""

    basic: Basic | None = None
    """User and password."""
    bearer: Secret | None = None
    """A token, by the name of a secret."""
    api_key: ApiKey | None = None
    """A key in a header or in the query."""
    oauth2: OAuth2 | None = None
    """A token of an OAuth 2 server."""
    hmac: Hmac | None = None
    """A signature of each request."""

    @model_validator(mode="after")
    def _is_one(self) -> Self:
        given = [name for name in type(self).model_fields if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"one of {', '.join(type(self).model_fields)} is given, not {len(given)}")
        return self


class Limit(Model):
    """How much is asked of the API, by all nodes of all runs of this process together."""

    per_second: float | None = Field(default=None, gt=0)
    """So many requests begin in a second at most. Null: any number."""
    concurrent: int = Field(default=8, ge=1, le=1024)
    """So many requests are under way at once."""


class Retry(flow.Retry):
    """How often a request is made that was not answered, or answered with 408, 425, 429, 500, 502, 503 or 504."""

    after_seconds: float = Field(default=120.0, ge=0)
    """The longest wait that an answer may ask for by its header `Retry-After`; where it asks for more, the attempt has
    failed for good."""


class Tls(Model):
    """Certificates, where those of the machine are not enough."""

    ca: str | None = None
    """A file of the authorities that the server's certificate is checked against, from the project folder."""
    certificate: str | None = None
    """A file with the client's own certificate, from the project folder."""
    key: str | None = None
    """A file with the certificate's private key, where it is not in the same file."""
    key_password: Secret | None = None
    """The private key's password, by the name of a secret."""


class Proxy(Model):
    """An HTTP proxy on the way to the API."""

    url: str = Field(examples=["http://proxy.example.org:3128"])
    """The proxy's address."""
    user: str | None = None
    """Who asks the proxy."""
    password: Secret | None = None
    """The proxy's password, by the name of a secret."""

    @model_validator(mode="after")
    def _names_no_user(self) -> Self:
        address_of("url", self.url, "`user` and `password`")
        return self


class Connection(environment.Connection):
    """An HTTP API: where it is, who asks, how fast and how often."""

    adapter: Literal["http"]
    """`http`."""
    url: str = Field(examples=["https://erp.example.org/api"])
    """The address that the paths of nodes are added to."""
    auth: Auth | Literal["none"] | None = None
    """How a request shows who asks. Credentials go to the host of `url` alone, whatever an answer redirects to."""
    headers: dict[str, str | Secret] = Field(default_factory=dict)
    """Headers of every request."""
    query: dict[str, str | Secret] = Field(default_factory=dict)
    """Parameters of every request's query, such as a version."""
    tls: Tls = Tls()
    """Certificates, where those of the machine are not enough."""
    proxy: Proxy | None = None
    """An HTTP proxy on the way."""
    timeout_seconds: float = Field(default=30.0, gt=0)
    """So long a request may take, its whole answer included."""
    connect_seconds: float = Field(default=10.0, gt=0)
    """So long it may take to reach the server."""
    retry: Retry = Retry()
    """How often a request is made that was not answered."""
    limit: Limit = Limit()
    """How much is asked of the API, by all nodes of all runs of this process together."""
    test_path: str = ""
    """What `connections test` asks for: a path that the API answers quickly, best one that needs the credentials."""

    openapi: str | None = Field(default=None, examples=["shop-openapi.json"])
    """The API's OpenAPI 3 document, a file from the project folder: `connections discover` lists its endpoints. Without it,
    what `test_path` answers is taken as a sample."""

    @model_validator(mode="after")
    def _names_a_server(self) -> Self:
        place = address_of("url", self.url, "`auth: {basic: {user, password}}`")
        if place.scheme not in ("http", "https") or not place.hostname:
            raise ValueError(f"`url` is no address of a server: {self.url!r:.80}; write one such as https://host/api")
        if place.query or place.fragment:
            raise ValueError("`url` ends before a `?` or `#`; write parameters in `query`")
        return self

    @property
    def address(self) -> str:
        """The base address without a slash at its end."""
        return self.url.rstrip("/")

    def test(self, scope: Scope) -> str:
        """Asks for `test_path` and says what was answered."""
        from adapters.http.asking import tested

        return tested(self, scope)

    def discover(self, scope: Scope) -> Sequence[environment.Found]:
        from adapters.http.discovering import discovered

        return discovered(self, scope)
