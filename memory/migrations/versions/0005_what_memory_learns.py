"""what was retrieved for a prompt, patterns and their tests, events

Revision ID: 0005
Revises: 0004
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision: str = "0005"
down_revision: str | None = "0004"


def upgrade() -> None:
    portable_json = sa.JSON(none_as_null=True).with_variant(postgresql.JSONB(none_as_null=True), "postgresql")
    # The rows that there are need a value.
    op.add_column("proposal", sa.Column("retrieved", portable_json, nullable=False, server_default="[]"))
    op.create_table(
        "runevent",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("run_id", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("trial", sa.Integer(), nullable=True),
        sa.Column("payload", portable_json, nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["run_id"], ["run.id"], name="fk_runevent_run_id_run"),
        sa.PrimaryKeyConstraint("id", name="pk_runevent"),
    )
    op.create_index("ix_runevent_run_id", "runevent", ["run_id"])
    op.create_table(
        "pattern",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("run_id", sa.String(), nullable=False),
        sa.Column("proposal_id", sa.Integer(), nullable=False),
        sa.Column("line", sa.Integer(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("claim", portable_json, nullable=True),
        sa.Column("drawn_from", portable_json, nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["proposal_id"], ["proposal.id"], name="fk_pattern_proposal_id_proposal"),
        sa.ForeignKeyConstraint(["run_id"], ["run.id"], name="fk_pattern_run_id_run"),
        sa.PrimaryKeyConstraint("id", name="pk_pattern"),
        sa.UniqueConstraint("proposal_id", "line", name="uq_pattern_proposal_id_line"),
    )
    op.create_index("ix_pattern_run_id", "pattern", ["run_id"])
    op.create_table(
        "patterntest",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("pattern_id", sa.Integer(), nullable=False),
        sa.Column("trial_id", sa.Integer(), nullable=False),
        sa.Column("verdict", sa.String(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["pattern_id"], ["pattern.id"], name="fk_patterntest_pattern_id_pattern"),
        sa.ForeignKeyConstraint(["trial_id"], ["trial.id"], name="fk_patterntest_trial_id_trial"),
        sa.PrimaryKeyConstraint("id", name="pk_patterntest"),
        sa.UniqueConstraint("pattern_id", "trial_id", name="uq_patterntest_pattern_id_trial_id"),
    )
    op.create_index("ix_patterntest_trial_id", "patterntest", ["trial_id"])


def downgrade() -> None:
    op.drop_table("patterntest")
    op.drop_table("pattern")
    op.drop_table("runevent")
    op.drop_column("proposal", "retrieved")
