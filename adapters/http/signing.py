"""Puts who asks into a request: headers, query, tokens that are renewed in time, signatures. Secrets are read at each use."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote, urljoin

from adapters.http.connection import Auth, Connection, Hmac, OAuth2
from pipelines import secrets
from pipelines.errors import Invalid, Unavailable
from pipelines.secrets import Secret

SHORTEST_SECRET = 4
"""Shorter secrets are not looked for in messages: they would be found in any word."""
Post = Callable[[str, bytes, Mapping[str, str]], Awaitable[tuple[int, bytes]]]
"""Posts a form to an address: gives status and body."""


@dataclass
class Signed:
    """What a request gets added."""

    headers: dict[str, str] = field(default_factory=dict)
    query: dict[str, str] = field(default_factory=dict)


class Signer:
    """Who asks, for one connection. Lives on the loop."""

    def __init__(self, connection: Connection, project: Path, post: Post) -> None:
        self._connection = connection
        self._project = project
        self._auth = connection.auth if isinstance(connection.auth, Auth) else Auth.model_construct()
        self._tokens = None if self._auth.oauth2 is None else Tokens(self._auth.oauth2, connection, project, post)

    async def signed(self, method: str, path: str, host: str, body: bytes | None) -> Signed:
        """What is added to a request to the connection's own server."""
        made = Signed()
        for name, value in self._connection.headers.items():
            made.headers[name] = self._plain(value)
        for name, value in self._connection.query.items():
            made.query[name] = self._plain(value)
        auth = self._auth
        if auth.basic is not None:
            pair = f"{auth.basic.user}:{self._plain(auth.basic.password)}"
            made.headers["Authorization"] = f"Basic {base64.b64encode(pair.encode()).decode()}"
        elif auth.bearer is not None:
            made.headers["Authorization"] = f"Bearer {self._plain(auth.bearer)}"
        elif auth.api_key is not None:
            value = self._plain(auth.api_key.value)
            if auth.api_key.query is not None:
                made.query[auth.api_key.query] = value
            else:
                made.headers[str(auth.api_key.header)] = auth.api_key.prefix + value
        elif self._tokens is not None:
            made.headers["Authorization"] = f"Bearer {await self._tokens.token()}"
        elif auth.hmac is not None:
            self._sign(auth.hmac, made, method, path, host, body or b"")
        return made

    def refused(self) -> bool:
        """The server refused the credentials: whether asking again with a new token may help."""
        return self._tokens is not None and self._tokens.forget()

    def known(self) -> list[str]:
        """Every secret that a message might hold, in each form in which it is sent."""
        found: list[str] = [] if self._tokens is None else self._tokens.known()
        for named in _secrets_of(self._connection):
            value = secrets.find(named.secret, self._project)
            if value is not None:
                found += [value, quote(value, safe=""), json.dumps(value)[1:-1]]
        basic = self._auth.basic
        if basic is not None and (value := secrets.find(basic.password.secret, self._project)) is not None:
            found.append(base64.b64encode(f"{basic.user}:{value}".encode()).decode())
        return sorted({each for each in found if len(each) >= SHORTEST_SECRET}, key=len, reverse=True)

    def _plain(self, value: str | Secret) -> str:
        return value.reveal(self._project) if isinstance(value, Secret) else value

    def _sign(self, how: Hmac, made: Signed, method: str, path: str, host: str, body: bytes) -> None:
        stamp = _stamp(how.timestamp)
        text = body.decode("utf-8", "surrogateescape")
        parts = {
            "method": method, "path": path, "host": host, "timestamp": stamp, "body": text,
            "body_sha256": hashlib.sha256(body).hexdigest(),
        }  # fmt: skip
        over = how.over
        for name, value in parts.items():
            if name != "body":
                over = over.replace("{" + name + "}", value)
        over = over.replace("{body}", text)  # last: what stands in a body is no place
        secret = self._plain(how.secret).encode()
        digest = hmac.new(secret, over.encode("utf-8", "surrogateescape"), how.algorithm).digest()
        written = digest.hex() if how.encoding == "hex" else base64.b64encode(digest).decode()
        made.headers[how.header] = how.prefix + written
        if how.timestamp_header is not None:
            made.headers[how.timestamp_header] = stamp


class Tokens:
    """The token of an OAuth 2 server, shared by all requests of a connection and renewed before it expires."""

    def __init__(self, how: OAuth2, connection: Connection, project: Path, post: Post) -> None:
        self._how = how
        self._url = urljoin(connection.address + "/", how.token_url)
        self._project = project
        self._post = post
        self._lock = asyncio.Lock()
        self._token: str | None = None
        self._renew_at = 0.0
        self._refresh: str | None = None
        self._fresh_since = 0.0

    async def token(self) -> str:
        """A token that is good for a while."""
        async with self._lock:
            if self._token is None or time.monotonic() >= self._renew_at:
                await self._renew()
            return str(self._token)

    def forget(self) -> bool:
        """A server has refused the token: whether a new one may be asked for, as it is not new itself."""
        was_new = time.monotonic() - self._fresh_since < 1.0
        if not was_new:
            self._token = None
        return not was_new

    def known(self) -> list[str]:
        return [each for each in (self._token, self._refresh) if each is not None]

    async def _renew(self) -> None:
        how = self._how
        form = {"grant_type": "client_credentials"}
        if how.refresh_token is not None:
            refresh = self._refresh or how.refresh_token.reveal(self._project)
            form = {"grant_type": "refresh_token", "refresh_token": refresh}
        form |= {name: value for name, value in (("scope", how.scope), ("audience", how.audience)) if value}
        headers = {"Content-Type": "application/x-www-form-urlencoded", "Accept": "application/json"}
        secret = "" if how.client_secret is None else how.client_secret.reveal(self._project)
        if how.send == "basic" and secret:
            pair = f"{quote(how.client_id, safe='')}:{quote(secret, safe='')}"
            headers["Authorization"] = f"Basic {base64.b64encode(pair.encode()).decode()}"
        else:
            form |= {"client_id": how.client_id} | ({"client_secret": secret} if secret else {})
        body = "&".join(f"{name}={quote(value, safe='')}" for name, value in form.items())
        status, answer = await self._post(self._url, body.encode(), headers)
        self._take(status, answer)

    def _take(self, status: int, answer: bytes) -> None:
        try:
            told: Any = json.loads(answer)
        except ValueError:
            told = None
        told = told if isinstance(told, dict) else {}
        token = told.get("access_token")
        if status >= 500 or status == 429:
            raise Unavailable(f"{self._url}: answered {status} where a token was asked for")
        if status >= 400 or not isinstance(token, str):
            why = told.get("error_description") or told.get("error") or "it holds no access_token"
            raise Invalid(f"{self._url}: gives no token: answered {status}, {why}; check client_id and its secret")
        now = time.monotonic()
        self._token, self._fresh_since = token, now
        try:
            lasting = float(told.get("expires_in") or 3600)
        except (TypeError, ValueError):
            lasting = 3600.0
        self._renew_at = now + max(lasting - self._how.early_seconds, min(lasting / 2, 1.0))
        if isinstance(told.get("refresh_token"), str):
            self._refresh = told["refresh_token"]
            if self._how.refresh_token is not None:
                secrets.keep(self._how.refresh_token.secret, told["refresh_token"], self._project)


def _stamp(how: str) -> str:
    now = datetime.now(UTC)
    if how == "iso":
        return now.strftime("%Y-%m-%dT%H:%M:%SZ")
    return str(int(now.timestamp() * (1000 if how == "milliseconds" else 1)))


def _secrets_of(value: Any) -> list[Secret]:
    """Every secret that a model names, at any depth."""
    if isinstance(value, Secret):
        return [value]
    if hasattr(type(value), "model_fields"):
        value = {name: getattr(value, name) for name in type(value).model_fields}
    inner = value.values() if isinstance(value, Mapping) else ()
    return [found for each in inner for found in _secrets_of(each)]
