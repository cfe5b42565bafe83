"""What Alembic runs to migrate: on the connection that the caller put into the configuration.

A new migration is drafted with `python -m memory.migrations.draft "what changes"` and checked by hand.
Logging is left as the program has set it.
"""

from typing import Any, Literal

from alembic import context
from alembic.autogenerate.api import AutogenContext
from alembic.runtime.environment import NameFilterType
from sqlalchemy import JSON
from sqlalchemy.sql.schema import SchemaItem
from sqlmodel.sql.sqltypes import AutoString, UTCDateTime

from memory.tables import Table


def include_object(
    _item: SchemaItem, name: str | None, kind: NameFilterType, reflected: bool, _compare_to: SchemaItem | None
) -> bool:
    """Leave foreign tables alone: LangGraph's checkpoints may live in the same database."""
    return not (kind == "table" and reflected and name not in Table.metadata.tables)


def render_item(kind: str, item: Any, _context: AutogenContext) -> str | Literal[False]:
    """Write SQLModel's types as the plain types below them, so that a migration outlives SQLModel's versions."""
    if kind == "type" and isinstance(item, AutoString):
        return "sa.String()"
    if kind == "type" and isinstance(item, UTCDateTime):
        return "sa.DateTime(timezone=True)"
    if kind == "type" and isinstance(item, JSON):
        return 'sa.JSON(none_as_null=True).with_variant(postgresql.JSONB(none_as_null=True), "postgresql")'
    return False


connection = context.config.attributes["connection"]
context.configure(
    connection=connection,
    target_metadata=Table.metadata,
    include_object=include_object,
    render_item=render_item,
    render_as_batch=connection.dialect.name == "sqlite",
    # SQLite can roll back changes of tables too: a migration that is killed half-way leaves nothing behind.
    transactional_ddl=True,
)
with context.begin_transaction():
    context.run_migrations()
