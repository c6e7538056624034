"""Asks a schema registry, by Confluent's REST API (https://docs.confluent.io/platform/current/schema-registry/develop/api.html)."""

from __future__ import annotations

import base64
import json
import ssl
import urllib.error
import urllib.request
from typing import Any
from urllib.parse import quote

from adapters.kafka.connection import Connection, Registry
from pipelines.errors import Invalid, Unavailable
from pipelines.node import Json
from pipelines.scope import Scope

CONTENT = "application/vnd.schemaregistry.v1+json"
NOT_FOUND, CONFLICT = 404, 409


class Schemas:
    """The schemas of a registry; each is asked for once."""

    def __init__(self, connection: Connection, scope: Scope) -> None:
        assert connection.registry is not None
        self._registry: Registry = connection.registry
        self._seconds = connection.timeout_seconds
        self._headers = {"Accept": CONTENT, "Content-Type": CONTENT}
        if self._registry.user is not None and self._registry.password is not None:
            words = f"{self._registry.user}:{self._registry.password.reveal(scope.project)}"
            self._headers["Authorization"] = "Basic " + base64.b64encode(words.encode()).decode()
        ca = self._registry.ca
        self._tls = ssl.create_default_context(cafile=None if ca is None else str(scope.path(ca)))
        self._known: dict[int, Json] = {}

    def by_id(self, number: int) -> Json | None:
        """The schema of an id; None: there is none."""
        if number not in self._known:
            found = self._asked(f"/schemas/ids/{number}")
            if found is None:
                return None
            self._known[number] = self._read(found)
        return self._known[number]

    def latest(self, subject: str) -> Json | None:
        """The latest schema of a subject; None: it has none."""
        found = self._asked(f"/subjects/{quote(subject, safe='')}/versions/latest")
        return None if found is None else self._read(found)

    def subjects(self) -> list[str]:
        """What has schemas."""
        found = self._asked("/subjects")
        return [] if found is None else list(found)

    def keep(self, subject: str, schema: Json) -> int:
        """The id of a schema, which becomes the subject's latest where it is new.

        Raises:
            Invalid: the registry finds that it does not go with those before it.
        """
        found = self._asked(f"/subjects/{quote(subject, safe='')}/versions", {"schema": json.dumps(schema)})
        if found is None:
            raise Invalid(f"schema registry {self._registry.url}: takes no schema for {subject!r}")
        return int(found["id"])

    def _read(self, found: Any) -> Json:
        if found.get("schemaType", "AVRO") != "AVRO":
            raise Invalid(f"schema registry {self._registry.url}: the schema is of {found['schemaType']}, not Avro")
        if found.get("references"):
            raise Invalid(
                f"schema registry {self._registry.url}: the schema refers to others, which is not read; inline them"
            )
        return json.loads(found["schema"])

    def _asked(self, path: str, body: Any = None) -> Any:
        place = f"schema registry {self._registry.url}"
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self._registry.url.rstrip("/") + path, data, self._headers)  # noqa: S310 - http or https
        try:
            with urllib.request.urlopen(request, timeout=self._seconds, context=self._tls) as answer:  # noqa: S310
                return json.load(answer)
        except urllib.error.HTTPError as fault:
            with fault:
                said = fault.read(2_000).decode("utf-8", "replace")
            if fault.code == NOT_FOUND:
                return None
            if fault.code in (401, 403):
                raise Invalid(f"{place}: answers {fault.code}; check `user` and `password` of `registry`") from None
            if fault.code == CONFLICT:
                raise Invalid(f"{place}: the schema does not go with those before it: {said}") from None
            kind = Unavailable if fault.code >= 500 or fault.code == 429 else Invalid
            raise kind(f"{place}: answers {fault.code}: {said}") from None
        except (urllib.error.URLError, OSError, ValueError) as fault:
            why = getattr(fault, "reason", fault)
            if isinstance(why, ssl.SSLError):
                raise Invalid(f"{place}: {why}; check `ca` of `registry`") from None
            raise Unavailable(f"{place}: {why}; check `url` of `registry`, and that it runs") from None
