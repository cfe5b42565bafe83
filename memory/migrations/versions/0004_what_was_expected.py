"""what was expected of a design, and several designs in a turn

Revision ID: 0004
Revises: 0003
"""

import sqlalchemy as sa
from alembic import op

revision: str = "0004"
down_revision: str | None = "0003"

_NAME = "uq_proposal_run_id_turn_attempt_proposer"


def upgrade() -> None:
    # The rows that there are need a value: each was the only one of its turn.
    op.add_column("call", sa.Column("candidate", sa.Integer(), nullable=False, server_default="0"))
    _lay_trials_aside()
    with op.batch_alter_table("proposal") as table:
        table.add_column(sa.Column("candidate", sa.Integer(), nullable=False, server_default="0"))
        table.add_column(sa.Column("expected_score", sa.Float(), nullable=True))
        table.add_column(sa.Column("expected_deviation", sa.Float(), nullable=True))
        table.drop_constraint(_NAME, type_="unique")
        table.create_unique_constraint(f"{_NAME}_candidate", ["run_id", "turn", "attempt", "proposer", "candidate"])
    _put_trials_back()


def downgrade() -> None:
    # A version without candidates can hold one for each turn: that of the trial, else the first.
    op.execute(
        "DELETE FROM proposal WHERE id NOT IN (SELECT proposal_id FROM trial) AND EXISTS (SELECT 1 FROM proposal AS o "
        "LEFT JOIN trial AS t ON t.proposal_id = o.id WHERE o.run_id = proposal.run_id AND o.turn = proposal.turn AND "
        "o.attempt = proposal.attempt AND o.proposer = proposal.proposer AND "
        "(t.id IS NOT NULL OR o.candidate < proposal.candidate))"
    )
    _lay_trials_aside()
    with op.batch_alter_table("proposal") as table:
        table.drop_constraint(f"{_NAME}_candidate", type_="unique")
        table.create_unique_constraint(_NAME, ["run_id", "turn", "attempt", "proposer"])
        table.drop_column("expected_deviation")
        table.drop_column("expected_score")
        table.drop_column("candidate")
    _put_trials_back()
    op.drop_column("call", "candidate")


def _lay_trials_aside() -> None:
    """SQLite makes a table anew to change its constraints, and refuses that while rows of another one refer to it."""
    if op.get_bind().dialect.name == "sqlite":
        op.execute("CREATE TABLE trial_aside AS SELECT * FROM trial")
        op.execute("DELETE FROM trial")


def _put_trials_back() -> None:
    if op.get_bind().dialect.name == "sqlite":
        op.execute("INSERT INTO trial SELECT * FROM trial_aside")
        op.execute("DROP TABLE trial_aside")
