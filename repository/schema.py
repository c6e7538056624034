"""The catalogue's tables, as SQLAlchemy knows them. A change here needs a migration in `repository/migrations`."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import JSON, BigInteger, Column, DateTime, Index, Integer, MetaData, String, Table, Text
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeDecorator, TypeEngine

HEAD = "0004"
"""The migration that makes the tables below."""


class Instant(TypeDecorator[datetime]):
    """A moment, in UTC. SQLite keeps it as ISO 8601 text, which sorts as time does."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        return dialect.type_descriptor(String(40) if dialect.name == "sqlite" else DateTime(timezone=True))

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> Any:
        if value is None:
            return None
        moment = value.astimezone(UTC)
        return moment.isoformat(timespec="microseconds") if dialect.name == "sqlite" else moment

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        moment = datetime.fromisoformat(value) if isinstance(value, str) else value
        return moment.astimezone(UTC)


metadata = MetaData()

runs = Table(
    "runs",
    metadata,
    Column("run", String(64), primary_key=True),
    Column("flow", String(200), nullable=False),
    Column("version", String(64), nullable=False),
    Column("environment", String(200), nullable=False),
    Column("trigger", String(200), nullable=False),
    Column("status", String(32), nullable=False),
    Column("started", Instant, nullable=False),
    Column("ended", Instant),
    Column("owner_host", String(200), nullable=False),
    Column("owner_pid", Integer, nullable=False),
    Column("owner_since", String(200), nullable=False),
    Column("heartbeat", Instant, nullable=False),
    Column("error", Text),
    Column("parameters", JSON, nullable=False),
    Column("report", JSON),
    Index("runs_by_start", "started"),
    Index("runs_by_flow", "flow", "environment", "started"),
    Index("runs_by_status", "status"),
)

positions = Table(
    "positions",
    metadata,
    Column("environment", String(200), primary_key=True),
    Column("flow", String(200), primary_key=True),
    Column("node", String(200), primary_key=True),
    Column("position", JSON(none_as_null=True)),
    Column("run", String(64), nullable=False),
    Column("at", Instant, nullable=False),
)

memories = Table(
    "memories",
    metadata,
    Column("path", String(600), primary_key=True),
    Column("environment", String(200), nullable=False),
    Column("flow", String(200), nullable=False),
    Column("node", String(200), nullable=False),
    Column("run", String(64), nullable=False),
    Column("key", JSON, nullable=False),
    Column("rows", BigInteger, nullable=False),
    Column("since", Instant, nullable=False),
    Column("at", Instant, nullable=False),
    Index("memories_by_flow", "flow", "environment", "node"),
)
"""Files of keys that nodes have let through, below the project's memory folder: they count while they stand here."""

stored = Table(
    "stored",
    metadata,
    Column("environment", String(200), primary_key=True),
    Column("flow", String(200), primary_key=True),
    Column("name", String(100), primary_key=True),
    Column("key", String(1000), primary_key=True),
    Column("value", JSON, nullable=False),
    Column("run", String(64), nullable=False),
    Column("at", Instant, nullable=False),
)
"""Values that nodes store: each column's as text. No flow: those of all flows of the environment."""

seen = Table(
    "seen",
    metadata,
    Column("environment", String(200), primary_key=True),
    Column("flow", String(200), primary_key=True),
    Column("node", String(200), primary_key=True),
    Column("columns", Text, nullable=False),
    Column("run", String(64), nullable=False),
    Column("at", Instant, nullable=False),
)
"""The columns that each source had when a run last was done, as an Arrow schema in Base64."""

versions = Table(
    "versions",
    metadata,
    Column("flow", String(200), primary_key=True),
    Column("version", String(64), primary_key=True),
    Column("text", Text, nullable=False),
    Column("first_seen", Instant, nullable=False),
)
