"""Projects that the figures run: made data, a flow over it, and the commands of both sides."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import duckdb

from agent.execute import Executor
from agent.prepare import Request, prepare
from agent.runs import Host
from repository.project import Project

COMMAND = str(Path(sys.executable).with_name("processflow"))


def project(folder: Path, flow: str, text: str) -> Project:
    """A project with one flow and the default environment of two workers."""
    (folder / "flows").mkdir(parents=True, exist_ok=True)
    (folder / "flows" / f"{flow}.yaml").write_text(text)
    return Project(folder)


def warm(made: Project, flow: str) -> Callable[[], object]:
    """Runs the flow in this process, where it was checked and planned once and its compiled pipeline stays."""
    host = Host(made, Executor().run)
    prepared = prepare(Request(made, flow))

    def once() -> None:
        report = host.run(prepared)
        assert report["balanced"], report["error"]

    return once


def duckdb_command(statement: str, **settings: str) -> list[str]:
    """A process that runs one statement in DuckDB, which may have further settings."""
    config = {"threads": 2, **settings}
    return [sys.executable, "-c", f"import duckdb; duckdb.connect(config={config!r}).execute({statement!r})"]


def duckdb_call(statement: str, **settings: str) -> Callable[[], object]:
    """Runs one statement in a DuckDB that is open."""
    connection = duckdb.connect(config={"threads": 2, **settings})
    return lambda: connection.execute(statement)


def orders_csv(path: Path, rows: int) -> None:
    """Made orders: eight columns, about 100 bytes a row."""
    duckdb.execute(f"""
        COPY (SELECT i AS order_id, 'customer-' || (hash(i) % 500000) AS customer,
                     ['DE', 'FR', 'NL', 'AT', 'US'][1 + (hash(i * 7) % 5)::INT] AS country,
                     (1 + hash(i * 3) % 9)::INT AS quantity, ((hash(i * 5) % 100000) / 100)::DECIMAL(10,2) AS unit_price,
                     TIMESTAMP '2026-01-01' + INTERVAL 1 SECOND * (hash(i * 11) % 31536000)::INT AS ordered_at,
                     ['new', 'paid', 'sent', 'cancelled'][1 + (hash(i * 13) % 4)::INT] AS status,
                     'note ' || md5(i::VARCHAR) AS note
              FROM range({rows}) t(i)) TO '{path}' (HEADER)""")
