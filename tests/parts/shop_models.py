"""What the shop's API says of itself in its OpenAPI document: the records it answers with and takes."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

from pydantic import BaseModel, Field, TypeAdapter


class Order(BaseModel):
    """An order as it is read."""

    id: int
    customer: str
    total: float
    paid: bool
    updated_at: datetime


class Meta(BaseModel):
    """What a page tells of all pages."""

    total: int


class Orders(BaseModel):
    """A page of orders."""

    items: list[Order]
    meta: Meta


class Following(BaseModel):
    """What a page tells of the next."""

    next: str | None
    has_more: bool


class OrdersBefore(BaseModel):
    """Orders up to a cursor."""

    data: list[Order]
    meta: Following


class NewOrder(BaseModel):
    """An order as it is sent."""

    order_no: str
    total: float = Field(ge=0)
    note: str | None = None


class TakenOrder(NewOrder):
    """An order that was taken."""

    id: str


class NewOrders(BaseModel):
    """Several orders."""

    orders: list[NewOrder]


def takes(kind: Any) -> dict[str, Any]:
    """What a path's description says of the request's body, where the path reads it by itself."""
    schema = TypeAdapter(kind).json_schema()
    text = json.dumps({name: inner for name, inner in schema.items() if name != "$defs"})
    for name, inner in schema.get("$defs", {}).items():
        text = text.replace(json.dumps({"$ref": f"#/$defs/{name}"}), json.dumps(inner))
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": json.loads(text)}}}}


def answers(kind: Any, status: int = 200) -> dict[int | str, dict[str, Any]]:
    """What a path's description says of its answer; the answer itself is left as it is."""
    return {status: {"model": kind}}
