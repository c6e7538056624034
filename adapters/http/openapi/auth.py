"""What a connection needs to show who asks, from the security schemes of an OpenAPI document."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from adapters.http.openapi.document import Document, Object


@dataclass
class Asking:
    """Who asks, as fields of a connection; `open` says what is left to do for a person."""

    auth: dict[str, Any] | None = None
    headers: dict[str, Any] = field(default_factory=dict)
    query: dict[str, Any] = field(default_factory=dict)
    open: list[str] = field(default_factory=list)

    def take(self, auth: dict[str, Any]) -> None:
        """Adds one way of showing who asks; beside the first only further keys can be sent."""
        key = auth.get("api_key")
        if self.auth is None:
            self.auth = auth
        elif key is not None:
            holder = self.headers if "header" in key else self.query
            holder[key.get("header") or key["query"]] = key["value"]
        else:
            self.open.append(f"the API also wants {next(iter(auth))}, which a connection cannot send beside the first")


def asking(document: Document, name: str) -> Asking:
    """Who asks, by the requirement that most operations have and that can be met."""
    schemes = document.followed(document.followed(document.tree.get("components")).get("securitySchemes"))
    wanted: Counter[tuple[tuple[str, tuple[str, ...]], ...]] = Counter()
    for operation in document.operations():
        for requirement in operation.security:
            wanted[tuple((str(scheme), _words(scopes)) for scheme, scopes in requirement.items())] += 1
    found = [made for needed, _ in wanted.most_common() if needed for made in _met(document, schemes, needed, name)]
    if not found:
        return Asking()
    return next((made for made in found if made.auth is not None), found[0])


def _words(scopes: Any) -> tuple[str, ...]:
    return tuple(map(str, scopes)) if isinstance(scopes, list) else ()


def _met(document: Document, schemes: Mapping[str, Any], needed: Any, name: str) -> Iterator[Asking]:
    """A requirement met: all its schemes together."""
    made = Asking()
    for scheme, scopes in needed:
        if scheme not in schemes:
            made.open.append(f"security scheme {scheme!r} is named and not described")
            continue
        auth = _auth(document.followed(schemes[scheme]), scopes, name, made)
        if auth is not None:
            made.take(auth)
    yield made


def _auth(scheme: Object, scopes: tuple[str, ...], name: str, made: Asking) -> dict[str, Any] | None:
    prefix = name.upper().replace("-", "_")
    kind, way = scheme.get("type"), str(scheme.get("scheme", "")).lower()
    if kind == "http" and way == "basic":
        made.open.append("`auth: basic: user` is USER: write the user's name")
        return {"basic": {"user": "USER", "password": {"secret": f"{prefix}_PASSWORD"}}}
    if kind == "http" and way == "bearer":
        return {"bearer": {"secret": f"{prefix}_TOKEN"}}
    if kind == "apiKey" and scheme.get("in") in ("header", "query"):
        return {"api_key": {scheme["in"]: str(scheme.get("name")), "value": {"secret": f"{prefix}_KEY"}}}
    if kind == "oauth2":
        flows = scheme.get("flows")
        return _oauth2(flows if isinstance(flows, Mapping) else {}, scopes, prefix, made)
    told = {"apiKey": f"a key in a {scheme.get('in')}", "http": f"HTTP scheme {way!r}"}.get(str(kind), str(kind))
    made.open.append(
        f"the API wants {told}, which a connection cannot send; write `headers` by hand if a token can be had"
    )
    return None


def _oauth2(flows: Mapping[str, Any], scopes: tuple[str, ...], prefix: str, made: Asking) -> dict[str, Any] | None:
    for way in ("clientCredentials", "authorizationCode", "password"):
        flow = flows.get(way)
        if not isinstance(flow, Mapping) or not flow.get("tokenUrl"):
            continue
        made.open.append("`auth: oauth2: client_id` is CLIENT_ID: write the client's name")
        oauth: dict[str, Any] = {"token_url": str(flow["tokenUrl"]), "client_id": "CLIENT_ID"}
        oauth["client_secret"] = {"secret": f"{prefix}_CLIENT_SECRET"}
        if way != "clientCredentials":
            made.open.append("a person has to sign in once to give the refresh token")
            oauth["refresh_token"] = {"secret": f"{prefix}_REFRESH_TOKEN"}
        if scopes:
            oauth["scope"] = " ".join(scopes)
        return {"oauth2": oauth}
    made.open.append("the API wants an OAuth 2 flow without a token address, which a connection cannot follow")
    return None
