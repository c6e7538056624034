"""Makes the table of the columns that sources had."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from repository.schema import Instant

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Makes the table."""
    op.create_table(
        "seen",
        sa.Column("environment", sa.String(200), primary_key=True),
        sa.Column("flow", sa.String(200), primary_key=True),
        sa.Column("node", sa.String(200), primary_key=True),
        sa.Column("columns", sa.Text, nullable=False),
        sa.Column("run", sa.String(64), nullable=False),
        sa.Column("at", Instant, nullable=False),
    )


def downgrade() -> None:
    """Drops the table."""
    op.drop_table("seen")
