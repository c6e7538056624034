"""The orders that the conformance suite meets in every system."""

from __future__ import annotations

from typing import Any

ORDERS = "CREATE TABLE orders (order_no VARCHAR PRIMARY KEY, country VARCHAR, total DOUBLE, updated_at BIGINT)"
ROWS: list[dict[str, Any]] = [
    {"order_no": "WEB-1", "country": "DE", "total": 1.5, "updated_at": 1},
    {"order_no": "WEB-2", "country": None, "total": None, "updated_at": 2},
    {"order_no": "WEB-3", "country": "FR", "total": 7.25, "updated_at": 3},
]
NEW: dict[str, Any] = {"order_no": "WEB-4", "country": "DE", "total": 4.0, "updated_at": 4}
