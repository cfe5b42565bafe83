"""best evaluations: an index by which the best of many are found without looking at the others

Revision ID: 0010
Revises: 0009
"""

from alembic import op

revision: str = "0010"
down_revision: str | None = "0009"


def upgrade() -> None:
    op.create_index("ix_evaluation_status_loss_parameters", "evaluation", ["status", "loss", "parameters"])


def downgrade() -> None:
    op.drop_index("ix_evaluation_status_loss_parameters", table_name="evaluation")
