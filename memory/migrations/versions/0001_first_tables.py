"""first tables

Revision ID: 0001
Revises: nothing
"""

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision: str = "0001"
down_revision: str | None = None


def portable_json() -> sa.types.TypeEngine[Any]:
    """JSON on SQLite, JSONB on PostgreSQL."""
    return sa.JSON(none_as_null=True).with_variant(postgresql.JSONB(none_as_null=True), "postgresql")


def upgrade() -> None:
    op.create_table(
        "prompt",
        sa.Column("hash", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("hash", name=op.f("pk_prompt")),
    )
    op.create_index(op.f("ix_prompt_name"), "prompt", ["name"], unique=False)
    op.create_table(
        "run",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("config", portable_json(), nullable=False),
        sa.Column("fingerprint", sa.String(), nullable=False),
        sa.Column("source", sa.String(), nullable=False),
        sa.Column("corpus", sa.String(), nullable=False),
        sa.Column("source_architecture", portable_json(), nullable=True),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("result", portable_json(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_run")),
    )
    op.create_index(op.f("ix_run_corpus"), "run", ["corpus"], unique=False)
    op.create_index(op.f("ix_run_created_at"), "run", ["created_at"], unique=False)
    op.create_index(op.f("ix_run_fingerprint"), "run", ["fingerprint"], unique=False)
    op.create_index(op.f("ix_run_source"), "run", ["source"], unique=False)
    op.create_table(
        "call",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("run_id", sa.String(), nullable=False),
        sa.Column("turn", sa.Integer(), nullable=False),
        sa.Column("agent", sa.String(), nullable=False),
        sa.Column("prompt_hash", sa.String(), nullable=True),
        sa.Column("model", sa.String(), nullable=False),
        sa.Column("messages", portable_json(), nullable=False),
        sa.Column("answer", sa.Text(), nullable=False),
        sa.Column("schema_name", sa.String(), nullable=False),
        sa.Column("temperature", sa.Float(), nullable=False),
        sa.Column("input_tokens", sa.Integer(), nullable=False),
        sa.Column("output_tokens", sa.Integer(), nullable=False),
        sa.Column("seconds", sa.Float(), nullable=False),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["run_id"], ["run.id"], name=op.f("fk_call_run_id_run")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_call")),
    )
    op.create_index(op.f("ix_call_run_id"), "call", ["run_id"], unique=False)
    op.create_table(
        "evaluation",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("run_id", sa.String(), nullable=False),
        sa.Column("architecture_hash", sa.String(), nullable=False),
        sa.Column("architecture", portable_json(), nullable=False),
        sa.Column("fidelity", sa.String(), nullable=False),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("loss", sa.Float(), nullable=True),
        sa.Column("parameters", sa.BigInteger(), nullable=False),
        sa.Column("measurement", portable_json(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["run_id"], ["run.id"], name=op.f("fk_evaluation_run_id_run")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_evaluation")),
        sa.UniqueConstraint("key", name=op.f("uq_evaluation_key")),
    )
    op.create_index(op.f("ix_evaluation_architecture_hash"), "evaluation", ["architecture_hash"], unique=False)
    op.create_index(op.f("ix_evaluation_run_id"), "evaluation", ["run_id"], unique=False)
    op.create_table(
        "proposal",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("run_id", sa.String(), nullable=False),
        sa.Column("turn", sa.Integer(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("stage", sa.String(), nullable=False),
        sa.Column("proposer", sa.String(), nullable=False),
        sa.Column("parent_number", sa.Integer(), nullable=True),
        sa.Column("based_on", portable_json(), nullable=False),
        sa.Column("prompt_hash", sa.String(), nullable=True),
        sa.Column("raw", sa.Text(), nullable=False),
        sa.Column("parsed", portable_json(), nullable=True),
        sa.Column("rationale", portable_json(), nullable=False),
        sa.Column("problems", portable_json(), nullable=False),
        sa.Column("notes", portable_json(), nullable=False),
        sa.Column("outcome", sa.String(), nullable=False),
        sa.Column("architecture", portable_json(), nullable=True),
        sa.Column("forecast", sa.Float(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["run_id"], ["run.id"], name=op.f("fk_proposal_run_id_run")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_proposal")),
        sa.UniqueConstraint(
            "run_id", "turn", "attempt", "proposer", name=op.f("uq_proposal_run_id_turn_attempt_proposer")
        ),
    )
    op.create_index(op.f("ix_proposal_prompt_hash"), "proposal", ["prompt_hash"], unique=False)
    op.create_index(op.f("ix_proposal_run_id"), "proposal", ["run_id"], unique=False)
    op.create_table(
        "trial",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("run_id", sa.String(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("proposal_id", sa.Integer(), nullable=False),
        sa.Column("evaluation_id", sa.Integer(), nullable=True),
        sa.Column("stage", sa.String(), nullable=False),
        sa.Column("proposer", sa.String(), nullable=False),
        sa.Column("parent_number", sa.Integer(), nullable=True),
        sa.Column("architecture_hash", sa.String(), nullable=False),
        sa.Column("architecture", portable_json(), nullable=False),
        sa.Column("cached", sa.Boolean(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["evaluation_id"], ["evaluation.id"], name=op.f("fk_trial_evaluation_id_evaluation")),
        sa.ForeignKeyConstraint(["proposal_id"], ["proposal.id"], name=op.f("fk_trial_proposal_id_proposal")),
        sa.ForeignKeyConstraint(["run_id"], ["run.id"], name=op.f("fk_trial_run_id_run")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_trial")),
        sa.UniqueConstraint("proposal_id", name=op.f("uq_trial_proposal_id")),
        sa.UniqueConstraint("run_id", "number", name=op.f("uq_trial_run_id_number")),
    )
    op.create_index(op.f("ix_trial_architecture_hash"), "trial", ["architecture_hash"], unique=False)
    op.create_index(op.f("ix_trial_evaluation_id"), "trial", ["evaluation_id"], unique=False)
    op.create_index(op.f("ix_trial_run_id"), "trial", ["run_id"], unique=False)


def downgrade() -> None:
    op.drop_table("trial")
    op.drop_table("proposal")
    op.drop_table("evaluation")
    op.drop_table("call")
    op.drop_table("run")
    op.drop_table("prompt")
