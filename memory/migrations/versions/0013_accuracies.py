"""accuracies: beside the losses, in a column with an index by which the best of many are found

Revision ID: 0013
Revises: 0012
"""

import sqlalchemy as sa
from alembic import op

revision: str = "0013"
down_revision: str | None = "0012"

_INDEX = "ix_evaluation_status_accuracy_parameters"


def upgrade() -> None:
    op.add_column("evaluation", sa.Column("accuracy", sa.Float(), nullable=True))
    if op.get_bind().dialect.name == "sqlite":
        # What is not a number stands there as text.
        op.execute(
            "UPDATE evaluation SET accuracy = json_extract(measurement, '$.accuracy') "
            "WHERE json_type(measurement, '$.accuracy') IN ('real', 'integer')"
        )
    else:
        op.execute(
            "UPDATE evaluation SET accuracy = CAST(measurement ->> 'accuracy' AS double precision) "
            "WHERE jsonb_typeof(measurement -> 'accuracy') = 'number'"
        )
    op.create_index(_INDEX, "evaluation", ["status", "accuracy", "parameters"])


def downgrade() -> None:
    op.drop_index(_INDEX, table_name="evaluation")
    op.drop_column("evaluation", "accuracy")
