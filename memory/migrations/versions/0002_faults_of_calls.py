"""faults of calls

Revision ID: 0002
Revises: 0001
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision: str = "0002"
down_revision: str | None = "0001"


def upgrade() -> None:
    portable_json = sa.JSON(none_as_null=True).with_variant(postgresql.JSONB(none_as_null=True), "postgresql")
    # The rows that there are need a value.
    op.add_column("call", sa.Column("faults", portable_json, nullable=False, server_default="[]"))


def downgrade() -> None:
    with op.batch_alter_table("call") as table:
        table.drop_column("faults")
