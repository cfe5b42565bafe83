"""Records of runs."""

from typing import Any

from sqlmodel import col, func, select

from memory.database import Database, change, insert_if_new
from memory.tables import Run
from tools.errors import InputError


def newest_first() -> tuple[Any, ...]:
    """By what runs are ordered: as they were written down; those of one import by the clock of their own home."""
    return col(Run.position).desc(), col(Run.created_at).desc(), col(Run.id).desc()


class RunRecords(Database):
    """Runs: create, find by id or the beginning of one, change."""

    def create_run(self, run: Run) -> Run:
        """Write a new run down.

        Raises:
            InputError: a run of this id exists.
        """
        with self.writing() as session:
            if session.get(Run, run.id):
                raise InputError(f"a run named {run.id} exists already; choose another id or resume that one")
            insert_if_new(session, run, "id")
            return session.exec(select(Run).where(Run.id == run.id)).one()

    def run(self, name: str = "latest") -> Run:
        """The run of this id, the only one whose id begins so, or the `latest`.

        Raises:
            InputError: there is none, or there are several.
        """
        with self.reading() as session:
            if name == "latest":
                # One's own before those of another home.
                order = (col(Run.imported_at).is_not(None), *newest_first())
                newest = session.exec(select(Run).order_by(*order)).first()
                if newest is None:
                    raise InputError("there is no run yet; start one with `penjing search`, see `penjing runs`")
                return newest
            exact = session.get(Run, name)
            if exact:
                return exact
            beginning = func.substr(Run.id, 1, len(name)) == name
            found = session.exec(select(Run).where(beginning).order_by(col(Run.id)).limit(9)).all() if name else []
        if not found:
            raise InputError(f"there is no run {name!r}; `penjing runs` lists the runs there are")
        if len(found) > 1:
            names = ", ".join(run.id for run in found[:8]) + (", ..." if len(found) > 8 else "")
            raise InputError(f"{name!r} fits several runs ({names}); give more of the name")
        return found[0]

    def runs(self) -> list[Run]:
        """All runs, newest first."""
        with self.reading() as session:
            return list(session.exec(select(Run).order_by(*newest_first())).all())

    def update_run(self, run_id: str, **fields: Any) -> Run:
        """Change fields of a run and return it.

        Raises:
            InputError: there is no such run.
        """
        with self.writing() as session:
            run = session.get(Run, run_id)
            if run is None:
                raise InputError(f"there is no run {run_id!r}; `penjing runs` lists the runs there are")
            change(run, fields)
            return run
