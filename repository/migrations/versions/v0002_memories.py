"""Makes the table of keys that nodes remember from run to run."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from repository.schema import Instant

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Makes the table."""
    op.create_table(
        "memories",
        sa.Column("path", sa.String(600), primary_key=True),
        sa.Column("environment", sa.String(200), nullable=False),
        sa.Column("flow", sa.String(200), nullable=False),
        sa.Column("node", sa.String(200), nullable=False),
        sa.Column("run", sa.String(64), nullable=False),
        sa.Column("key", sa.JSON, nullable=False),
        sa.Column("rows", sa.BigInteger, nullable=False),
        sa.Column("since", Instant, nullable=False),
        sa.Column("at", Instant, nullable=False),
    )
    op.create_index("memories_by_flow", "memories", ["flow", "environment", "node"])


def downgrade() -> None:
    """Drops the table."""
    op.drop_table("memories")
