"""An HTTP API for the tests: a shop's orders in every kind of pages, a target that answers with ids, and all bad days.

What is in `scripts` under a path is answered first, once each: a status and a body, or one of the faults below.
"""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections import defaultdict, deque
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import uvicorn
from fastapi import Depends, FastAPI, Request, Response
from fastapi.responses import JSONResponse
from fastapi.security import HTTPBearer

from tests.parts.shop_models import NewOrder, NewOrders, Order, Orders, OrdersBefore, TakenOrder, answers, takes

Fault = Callable[["Exchange"], Awaitable[None]]
MOST_PER_PAGE = 100


@dataclass
class Exchange:
    """One request on the wire, for faults that a framework cannot make."""

    scope: Any
    receive: Any
    send: Any

    @property
    def transport(self) -> Any:
        return self.send.__self__.transport


@dataclass(frozen=True)
class Seen:
    """A request that came."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    body: bytes


@dataclass
class Shop:
    """What the server knows, and what came to it."""

    url: str = ""
    orders: list[dict[str, Any]] = field(default_factory=list)
    taken: dict[str, dict[str, Any]] = field(default_factory=dict)
    """What has been posted, by order number; with the id that the shop gave it."""
    posts: int = 0
    seen: list[Seen] = field(default_factory=list)
    scripts: dict[str, deque[Fault]] = field(default_factory=lambda: defaultdict(deque))
    slow_seconds: float = 0.0
    under_way: int = 0
    most_under_way: int = 0
    shelves: dict[str, dict[str, bytes]] = field(default_factory=lambda: defaultdict(dict))
    """What has been put on each, to the byte, by the number of its request or its key."""
    refuses: str = ""
    """A shelf takes no record in which this is negative."""
    answered_by_key: dict[str, dict[str, Any]] = field(default_factory=dict)

    def script(self, path: str, *faults: Fault) -> None:
        """What the next requests to a path get."""
        self.scripts[path].extend(faults)

    def asked(self, path: str) -> list[Seen]:
        return [each for each in self.seen if each.path == path]


def answer(status: int, body: str | bytes = b"", **headers: str) -> Fault:
    """A whole answer; `_` in a header's name stands for `-`."""

    async def say(exchange: Exchange) -> None:
        content = body.encode() if isinstance(body, str) else body
        named = {"content-type": "application/json", **{name.replace("_", "-"): text for name, text in headers.items()}}
        named = {"content-length": str(len(content)), **named}
        pairs = [(name.encode(), text.encode()) for name, text in named.items()]
        await exchange.send({"type": "http.response.start", "status": status, "headers": pairs})
        await exchange.send({"type": "http.response.body", "body": content})

    return say


async def hang_up(exchange: Exchange) -> None:
    """The connection ends without an answer."""
    exchange.transport.abort()


def broken_off(body: bytes, missing: int = 100) -> Fault:
    """The connection ends in the middle of the answer."""

    async def say(exchange: Exchange) -> None:
        head = [(b"content-type", b"application/json"), (b"content-length", str(len(body) + missing).encode())]
        await exchange.send({"type": "http.response.start", "status": 200, "headers": head})
        await exchange.send({"type": "http.response.body", "body": body, "more_body": True})
        await asyncio.sleep(0.02)
        exchange.transport.abort()

    return say


def slowly(seconds: float) -> Fault:
    """Nothing for a while, then an empty list."""

    async def say(exchange: Exchange) -> None:
        await asyncio.sleep(seconds)
        await answer(200, "[]")(exchange)

    return say


def taken_then_lost(shop: Shop) -> Fault:
    """The record is taken, and the connection ends before the answer."""

    async def say(exchange: Exchange) -> None:
        message = await exchange.receive()
        _take(shop, json.loads(message["body"]))
        exchange.transport.abort()

    return say


def _take(shop: Shop, order: dict[str, Any]) -> dict[str, Any]:
    shop.posts += 1
    number = str(order["order_no"])
    known = shop.taken.get(number)
    made = {**order, "id": known["id"] if known else f"E{len(shop.taken) + 1}"}
    shop.taken[number] = made
    return made


class Scripted:
    """Answers by script where there is one, else by the API; keeps what came."""

    def __init__(self, shop: Shop, api: FastAPI) -> None:
        self._shop = shop
        self._api = api

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self._api(scope, receive, send)
            return
        shop = self._shop
        shop.under_way += 1
        shop.most_under_way = max(shop.most_under_way, shop.under_way)
        try:
            body = await _body(receive)
            if body is None:
                return
            headers = {name.decode().lower(): text.decode("latin-1") for name, text in scope["headers"]}
            path = scope["raw_path"].decode()
            shop.seen.append(Seen(scope["method"], path, scope["query_string"].decode(), headers, body))
            if shop.slow_seconds:
                await asyncio.sleep(shop.slow_seconds)
            given = iter([{"type": "http.request", "body": body, "more_body": False}])

            async def again() -> Any:
                return next(given, None) or await receive()

            if shop.scripts[path]:
                await shop.scripts[path].popleft()(Exchange(scope, again, send))
            else:
                await self._api(scope, again, send)
        finally:
            shop.under_way -= 1


async def _body(receive: Any) -> bytes | None:
    """The whole body; None: the client has gone in the middle of it."""
    parts, more = [], True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        parts.append(message.get("body", b""))
        more = message.get("more_body", False)
    return b"".join(parts)


def api_of(shop: Shop) -> FastAPI:  # noqa: C901 - one function a path
    """The API."""
    anybody = Depends(HTTPBearer(auto_error=False))  # it names a token in its description, and asks nobody for one
    api = FastAPI(title="Test shop", openapi_url="/openapi.json", dependencies=[anybody])

    def page(start: int, count: int) -> list[dict[str, Any]]:
        return shop.orders[start : start + count]

    @api.get("/orders", responses=answers(Orders))
    def by_page(page_no: int = 1, per_page: int = 10) -> Any:
        per_page = min(per_page, MOST_PER_PAGE)
        return {"items": page((page_no - 1) * per_page, per_page), "meta": {"total": len(shop.orders)}}

    @api.get("/plain", responses=answers(list[Order]))
    def by_offset(offset: int = 0, limit: int = 10) -> Any:
        return page(offset, min(limit, MOST_PER_PAGE))

    @api.get("/cursors", responses=answers(OrdersBefore))
    def by_cursor(after: str = "0", limit: int = 10) -> Any:
        start = int(after)
        following = str(start + limit) if start + limit < len(shop.orders) else None
        return {"data": page(start, limit), "meta": {"next": following, "has_more": following is not None}}

    @api.get("/nexts")
    def by_next(request: Request, start: int = 0) -> Any:
        more = start + 10 < len(shop.orders)
        return {"items": page(start, 10), "links": {"next": f"/nexts?start={start + 10}&x=%20y" if more else None}}

    @api.get("/links")
    def by_link(request: Request, response: Response, start: int = 0) -> Any:
        if start + 10 < len(shop.orders):
            response.headers["Link"] = f'<{shop.url}/links?start=0>; rel="first", <?start={start + 10}>; rel="next"'
        return page(start, 10)

    @api.get("/changes", responses=answers(list[Order]))
    def changes(since: str | None = None) -> Any:
        return [order for order in shop.orders if since is None or order["updated_at"] >= since]

    @api.get("/orders/{order_no}", responses=answers(Order))
    def one(order_no: str) -> Any:
        found = [order for order in shop.orders if str(order["id"]) == order_no]
        return found[0] if found else JSONResponse({"detail": "no such order"}, 404)

    @api.post("/orders", status_code=201, responses=answers(TakenOrder, 201), openapi_extra=takes(NewOrder))
    async def create(request: Request) -> Any:
        order = await request.json()
        key = request.headers.get("idempotency-key")
        if key is not None and key in shop.answered_by_key:
            return shop.answered_by_key[key]
        if isinstance(order.get("total"), (int, float)) and order["total"] < 0:
            return JSONResponse({"error": {"message": "total must not be negative"}}, 422)
        made = _take(shop, order)
        if key is not None:
            shop.answered_by_key[key] = made
        return JSONResponse(made, 201, headers={"Location": f"/orders/{made['id']}"})

    @api.put("/orders/{order_no:path}", responses=answers(TakenOrder), openapi_extra=takes(NewOrder))
    async def put(order_no: str, request: Request) -> Any:
        return _take(shop, {**await request.json(), "order_no": order_no})

    @api.delete("/orders/{order_no}", status_code=204)
    def delete(order_no: str) -> None:
        shop.taken.pop(order_no, None)

    @api.post("/shelves/{name}", status_code=201)
    async def shelve(name: str, request: Request) -> Any:
        body = await request.body()
        if shop.refuses and json.loads(body)[shop.refuses] < 0:
            return JSONResponse({"detail": "no negative numbers"}, 422)
        shop.shelves[name][str(len(shop.shelves[name]))] = body
        return None

    @api.put("/shelves/{name}/{key}")
    async def shelve_by_key(name: str, key: str, request: Request) -> None:
        shop.shelves[name][key] = await request.body()

    @api.get("/shelves/{name}")
    def shelf(name: str) -> Response:
        return Response(b"[" + b",".join(shop.shelves[name].values()) + b"]", media_type="application/json")

    @api.post("/lists", status_code=201, responses=answers(list[TakenOrder], 201), openapi_extra=takes(list[NewOrder]))
    async def whole_list(request: Request) -> Any:
        orders = await request.json()
        if any(order["total"] < 0 for order in orders):
            return JSONResponse({"detail": "a total is negative"}, 422)
        return [_take(shop, order) for order in orders]

    @api.post("/orders/bulk", status_code=207, openapi_extra=takes(NewOrders))
    async def bulk(request: Request) -> Any:
        results = []
        for order in (await request.json())["orders"]:
            if order["total"] < 0:
                results.append({"order_no": order["order_no"], "status": 422, "error": "negative"})
            else:
                results.append({"order_no": order["order_no"], "status": 201, "id": _take(shop, order)["id"]})
        return {"results": results[::-1]}

    return api


@contextmanager
def serving(orders: int = 25, **words: Any) -> Iterator[Shop]:
    """The server on a free port, in a thread of this process."""
    shop = Shop(orders=[made_order(number) for number in range(1, orders + 1)])
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        scheme = "https" if "ssl_certfile" in words else "http"
        shop.url = f"{scheme}://127.0.0.1:{listener.getsockname()[1]}"
        config = uvicorn.Config(Scripted(shop, api_of(shop)), log_level="critical", lifespan="off", ws="none", **words)
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        while not server.started:
            assert thread.is_alive()
            threading.Event().wait(0.005)
        try:
            yield shop
        finally:
            server.should_exit = server.force_exit = True
            thread.join()


def made_order(number: int) -> dict[str, Any]:
    """An order, always the same for its number."""
    return {
        "id": number,
        "customer": f"C{number % 7}",
        "total": number * 1.25,
        "paid": number % 2 == 0,
        "updated_at": f"2026-01-{1 + number // 24:02d}T{number % 24:02d}:00:00Z",
    }
