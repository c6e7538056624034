"""Makes runs, positions and flow versions."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from repository.schema import Instant

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Makes the tables."""
    op.create_table(
        "runs",
        sa.Column("run", sa.String(64), primary_key=True),
        sa.Column("flow", sa.String(200), nullable=False),
        sa.Column("version", sa.String(64), nullable=False),
        sa.Column("environment", sa.String(200), nullable=False),
        sa.Column("trigger", sa.String(200), nullable=False),
        sa.Column("status", sa.String(32), nullable=False),
        sa.Column("started", Instant, nullable=False),
        sa.Column("ended", Instant),
        sa.Column("owner_host", sa.String(200), nullable=False),
        sa.Column("owner_pid", sa.Integer, nullable=False),
        sa.Column("owner_since", sa.String(200), nullable=False),
        sa.Column("heartbeat", Instant, nullable=False),
        sa.Column("error", sa.Text),
        sa.Column("parameters", sa.JSON, nullable=False),
        sa.Column("report", sa.JSON),
    )
    op.create_index("runs_by_start", "runs", ["started"])
    op.create_index("runs_by_flow", "runs", ["flow", "environment", "started"])
    op.create_index("runs_by_status", "runs", ["status"])
    op.create_table(
        "positions",
        sa.Column("environment", sa.String(200), primary_key=True),
        sa.Column("flow", sa.String(200), primary_key=True),
        sa.Column("node", sa.String(200), primary_key=True),
        sa.Column("position", sa.JSON),
        sa.Column("run", sa.String(64), nullable=False),
        sa.Column("at", Instant, nullable=False),
    )
    op.create_table(
        "versions",
        sa.Column("flow", sa.String(200), primary_key=True),
        sa.Column("version", sa.String(64), primary_key=True),
        sa.Column("text", sa.Text, nullable=False),
        sa.Column("first_seen", Instant, nullable=False),
    )


def downgrade() -> None:
    """Drops the tables."""
    for table in ("versions", "positions", "runs"):
        op.drop_table(table)
