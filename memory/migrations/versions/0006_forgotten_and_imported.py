"""evaluations outlive the run that paid for them, and imported runs are marked

Revision ID: 0006
Revises: 0005
"""

import sqlalchemy as sa
from alembic import op

revision: str = "0006"
down_revision: str | None = "0005"

_REFERRING = ("patterntest", "trial")
"""Tables whose rows refer to evaluations, at last; those that refer to others of them first."""


def upgrade() -> None:
    op.add_column("run", sa.Column("imported_at", sa.DateTime(timezone=True), nullable=True))
    _lay_aside()
    with op.batch_alter_table("evaluation") as table:
        table.alter_column("run_id", existing_type=sa.String(), nullable=True)
    _put_back()


def downgrade() -> None:
    # An older version asks who paid: of those that use it the first.
    op.execute(
        "UPDATE evaluation SET run_id = (SELECT trial.run_id FROM trial WHERE trial.evaluation_id = evaluation.id "
        "ORDER BY trial.id LIMIT 1) WHERE run_id IS NULL"
    )
    op.execute("DELETE FROM evaluation WHERE run_id IS NULL")
    _lay_aside()
    with op.batch_alter_table("evaluation") as table:
        table.alter_column("run_id", existing_type=sa.String(), nullable=False)
    _put_back()
    op.drop_column("run", "imported_at")


def _lay_aside() -> None:
    """SQLite makes a table anew to change a column, and refuses that while rows of another one refer to it."""
    if op.get_bind().dialect.name == "sqlite":
        for name in _REFERRING:
            op.execute(f"CREATE TABLE {name}_aside AS SELECT * FROM {name}")  # noqa: S608 - a name from above
            op.execute(f"DELETE FROM {name}")  # noqa: S608


def _put_back() -> None:
    if op.get_bind().dialect.name == "sqlite":
        for name in reversed(_REFERRING):
            op.execute(f"INSERT INTO {name} SELECT * FROM {name}_aside")  # noqa: S608
            op.execute(f"DROP TABLE {name}_aside")
