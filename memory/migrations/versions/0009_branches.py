"""branches: which run one goes on from, and where its own turns begin

Revision ID: 0009
Revises: 0008
"""

import sqlalchemy as sa
from alembic import op

revision: str = "0009"
down_revision: str | None = "0008"


def upgrade() -> None:
    op.add_column("run", sa.Column("branch_of", sa.String(), nullable=True))
    op.add_column("run", sa.Column("branch_at", sa.Integer(), nullable=True))
    op.add_column("run", sa.Column("first_turn", sa.Integer(), nullable=False, server_default="0"))


def downgrade() -> None:
    op.drop_column("run", "first_turn")
    op.drop_column("run", "branch_at")
    op.drop_column("run", "branch_of")
