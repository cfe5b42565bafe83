"""order of runs: in which they were begun, and what was measured before, which the machine's clock need not know

Revision ID: 0011
Revises: 0010
"""

import sqlalchemy as sa
from alembic import op

revision: str = "0011"
down_revision: str | None = "0010"

_RUN = sa.table("run", sa.column("id"), sa.column("created_at"), sa.column("position"), sa.column("evaluations_before"))
_EVALUATION = sa.table("evaluation", sa.column("id"), sa.column("created_at"))


def upgrade() -> None:
    op.add_column("run", sa.Column("position", sa.Integer(), nullable=False, server_default="0"))
    op.add_column("run", sa.Column("evaluations_before", sa.Integer(), nullable=False, server_default="0"))
    connection = op.get_bind()
    order = sa.select(_RUN.c.id, _RUN.c.created_at).order_by(_RUN.c.created_at, _RUN.c.id)
    for position, (run_id, created_at) in enumerate(connection.execute(order).all(), 1):
        before = sa.select(sa.func.coalesce(sa.func.max(_EVALUATION.c.id), 0))
        before = before.where(_EVALUATION.c.created_at < created_at)
        values = {"position": position, "evaluations_before": before.scalar_subquery()}
        connection.execute(_RUN.update().where(_RUN.c.id == run_id).values(**values))


def downgrade() -> None:
    op.drop_column("run", "evaluations_before")
    op.drop_column("run", "position")
