"""Drafts a migration from what the tables have and the last one lacks: `python -m memory.migrations.draft "why"`."""

import sys

from alembic import command
from sqlalchemy import create_engine

from memory.migrations import configuration, upgrade


def main() -> int:
    """Write a new file into `versions`, to be checked by hand."""
    if len(sys.argv) != 2:
        print('usage: python -m memory.migrations.draft "what changes"', file=sys.stderr)
        return 2
    with create_engine("sqlite://").begin() as connection:
        upgrade(connection)
        command.revision(configuration(connection), message=sys.argv[1], autogenerate=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
