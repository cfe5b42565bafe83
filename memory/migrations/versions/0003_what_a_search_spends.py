"""what a search spends

Revision ID: 0003
Revises: 0002
"""

import sqlalchemy as sa
from alembic import op

revision: str = "0003"
down_revision: str | None = "0002"


def upgrade() -> None:
    # The rows that there are need a value. What their calls cost was not recorded, so that stays unknown.
    op.add_column("call", sa.Column("cached_tokens", sa.Integer(), nullable=False, server_default="0"))
    op.add_column("call", sa.Column("cost_usd", sa.Float(), nullable=True))
    op.add_column("run", sa.Column("wall_clock_seconds", sa.Float(), nullable=False, server_default="0"))


def downgrade() -> None:
    # Not in a batch, which would make the tables anew: others refer to the runs.
    op.drop_column("run", "wall_clock_seconds")
    op.drop_column("call", "cost_usd")
    op.drop_column("call", "cached_tokens")
