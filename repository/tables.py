"""The tables of the lake whose rows come from reports, and what every view of the lake is made of."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Row = dict[str, Any]

RUN_COLUMNS = {
    "run": "VARCHAR", "flow": "VARCHAR", "version": "VARCHAR", "status": "VARCHAR", "balanced": "BOOLEAN",
    "started": "TIMESTAMPTZ", "ended": "TIMESTAMPTZ", "seconds": "DOUBLE", "environment": "VARCHAR",
    "trigger": "VARCHAR", "replay_of": "VARCHAR", "delivery": "JSON", "error": "VARCHAR", "parameters": "JSON",
}  # fmt: skip
NODE_COLUMNS = {
    "run": "VARCHAR", "flow": "VARCHAR", "node": "VARCHAR", "type": "VARCHAR", "in": "BIGINT", "created": "BIGINT",
    "out": "JSON", "out_records": "BIGINT", "filtered": "BIGINT", "rejected": "BIGINT", "delivered": "BIGINT",
    "seconds": "DOUBLE", "status": "VARCHAR",
}  # fmt: skip
REPORTED = {"runs": RUN_COLUMNS, "nodes": NODE_COLUMNS}

HEAD = {"run": "VARCHAR", "flow": "VARCHAR", "version": "VARCHAR", "node": "VARCHAR"}
TABLES: dict[str, dict[str, str]] = {
    **REPORTED,
    "records": {
        **HEAD, "port": "VARCHAR", "rid": "BIGINT", "key": "VARCHAR", "at": "TIMESTAMPTZ", "payload": "JSON",
    },
    "rejects": {
        **HEAD, "rid": "BIGINT", "key": "VARCHAR", "code": "VARCHAR", "message": "VARCHAR", "attempt": "INTEGER",
        "at": "TIMESTAMPTZ", "payload": "JSON",
    },
    "deliveries": {
        **HEAD, "rid": "BIGINT", "key": "VARCHAR", "id": "VARCHAR", "status": "VARCHAR", "attempt": "INTEGER",
        "milliseconds": "DOUBLE", "at": "TIMESTAMPTZ",
    },
    "parents": {**HEAD, "rid": "BIGINT", "parent": "BIGINT", "parents": "BIGINT"},
    "replays": {**HEAD, "rid": "BIGINT", "of": "VARCHAR"},
    "transactions": {
        "run": "VARCHAR", "flow": "VARCHAR", "version": "VARCHAR", "seq": "BIGINT", "at": "TIMESTAMPTZ",
        "node": "VARCHAR", "what": "VARCHAR", "details": "JSON",
    },
}  # fmt: skip
"""Every view with its columns and their types."""


def run_row(report: Mapping[str, Any]) -> Row:
    """The row of a run in `runs`."""
    return {name: report.get(name) for name in RUN_COLUMNS}


def node_rows(report: Mapping[str, Any]) -> list[Row]:
    """The rows of a run in `nodes`, in the order of the flow."""
    rows = []
    for name, node in report.get("nodes", {}).items():
        out = node.get("out", {})
        made = {
            **node, "run": report["run"], "flow": report["flow"], "node": name, "out_records": sum(out.values()),
            "status": node.get("status") or ("done_with_rejects" if node.get("rejected") else "done"),
        }  # fmt: skip
        rows.append({column: made.get(column) for column in NODE_COLUMNS})
    return rows
