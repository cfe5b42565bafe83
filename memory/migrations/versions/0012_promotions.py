"""promotions: what a trial measured on higher rungs, and among how many it had been chosen for that

Revision ID: 0012
Revises: 0011
"""

import sqlalchemy as sa
from alembic import op

revision: str = "0012"
down_revision: str | None = "0011"


def upgrade() -> None:
    op.create_table(
        "promotion",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("run_id", sa.String(), nullable=False),
        sa.Column("trial_id", sa.Integer(), nullable=False),
        sa.Column("turn", sa.Integer(), nullable=False),
        sa.Column("rung", sa.Integer(), nullable=False),
        sa.Column("fidelity", sa.String(), nullable=False),
        sa.Column("rank", sa.Integer(), nullable=False),
        sa.Column("rivals", sa.Integer(), nullable=False),
        sa.Column("evaluation_id", sa.Integer(), nullable=True),
        sa.Column("cached", sa.Boolean(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["evaluation_id"], ["evaluation.id"], name=op.f("fk_promotion_evaluation_id_evaluation")
        ),
        sa.ForeignKeyConstraint(["run_id"], ["run.id"], name=op.f("fk_promotion_run_id_run")),
        sa.ForeignKeyConstraint(["trial_id"], ["trial.id"], name=op.f("fk_promotion_trial_id_trial")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_promotion")),
        sa.UniqueConstraint("trial_id", "rung", name=op.f("uq_promotion_trial_id_rung")),
    )
    op.create_index(op.f("ix_promotion_evaluation_id"), "promotion", ["evaluation_id"], unique=False)
    op.create_index(op.f("ix_promotion_run_id"), "promotion", ["run_id"], unique=False)


def downgrade() -> None:
    op.drop_index(op.f("ix_promotion_run_id"), table_name="promotion")
    op.drop_index(op.f("ix_promotion_evaluation_id"), table_name="promotion")
    op.drop_table("promotion")
