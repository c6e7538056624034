"""Makes the table of values that nodes store."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from repository.schema import Instant

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Makes the table."""
    op.create_table(
        "stored",
        sa.Column("environment", sa.String(200), primary_key=True),
        sa.Column("flow", sa.String(200), primary_key=True),
        sa.Column("name", sa.String(100), primary_key=True),
        sa.Column("key", sa.String(1000), primary_key=True),
        sa.Column("value", sa.JSON, nullable=False),
        sa.Column("run", sa.String(64), nullable=False),
        sa.Column("at", Instant, nullable=False),
    )


def downgrade() -> None:
    """Drops the table."""
    op.drop_table("stored")
