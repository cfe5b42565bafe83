"""Records of other runs, as far as they compare with those of one."""

import json
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

from sqlalchemy import Connection
from sqlmodel import col, select

from memory.database import Database
from memory.tables import Evaluation, Run, Trial
from tools.architecture import Architecture
from tools.measurement import Measurement

_CHUNK = 500
"""Names in one statement."""
_LOOKED_AT = (3, 64)
"""So many times what is wanted is looked at among the best of all runs, at first and then."""

# Plain statements: what is told is few columns of large rows, read at each turn. SQLite looks up a list of pairs by an
# index only where it is a table that others are joined to.
_MARKS = ":values"
_RUNS = """
SELECT id, source, corpus, CAST(config AS TEXT), CAST(source_architecture AS TEXT) FROM run WHERE id IN (:values)
"""
_KNOWN = "SELECT id FROM run WHERE id IN (:values)"
_FINISHED = """
WITH wanted (run_id, number) AS (VALUES :values)
SELECT trial.run_id, trial.number, CAST(trial.architecture AS TEXT), trial.architecture_hash, evaluation.parameters,
       CAST(evaluation.measurement AS TEXT), CAST(measured_above.measurement AS TEXT)
FROM wanted
JOIN trial ON trial.run_id = wanted.run_id AND trial.number = wanted.number
JOIN evaluation ON evaluation.id = trial.evaluation_id
LEFT JOIN trial AS above ON above.run_id = trial.run_id AND above.number = trial.parent_number
LEFT JOIN evaluation AS measured_above ON measured_above.id = above.evaluation_id
"""


_OF_MANY = """
SELECT evaluation.id, trial.run_id, trial.number
FROM evaluation JOIN trial ON trial.evaluation_id = evaluation.id
WHERE evaluation.status = 'done' AND evaluation.{figure} IS NOT NULL AND evaluation.parameters BETWEEN {mark} AND {mark}
ORDER BY evaluation.{figure} {way}, evaluation.id, trial.id LIMIT {mark}
"""


class FinishedDesign(NamedTuple):
    """A finished trial's design, its canonical hash and size, what was measured of it, and of its parent, if any."""

    run_id: str
    architecture: Architecture
    hash: str
    parameters: int
    measurement: Measurement
    parent: Measurement | None


class PastRecords(Database):
    """Finished designs of any runs, and the best trials of several."""

    def runs_named(self, ids: Collection[str]) -> dict[str, Run]:
        """The runs of these ids, by id, with what they were to find out and how; without those that there are not."""
        rows = self._of_each(_RUNS, sorted(ids))
        return {
            id: Run(
                id=id,
                source=source,
                corpus=corpus,
                config=json.loads(config),
                source_architecture=None if design is None else json.loads(design),
            )
            for id, source, corpus, config, design in rows
        }

    def run_ids(self, source: str, corpus: str) -> list[str]:
        """Ids of all runs with this source and corpus."""
        with self.reading() as session:
            query = select(Run.id).where(Run.source == source, Run.corpus == corpus)
            return list(session.exec(query.order_by(col(Run.id))))

    def known_run_ids(self, ids: Collection[str]) -> set[str]:
        """Those of these ids that runs have."""
        return {id for (id,) in self._of_each(_KNOWN, sorted(ids))}

    def finished_designs(self, names: Iterable[str]) -> dict[str, FinishedDesign]:
        """The finished trials of these names, `RUN/NUMBER`, of any runs, by name; without those that there are not."""
        parts = [name.rpartition("/") for name in names]
        rows = self._of_each(_FINISHED, [(run_id, int(number)) for run_id, _, number in parts])
        return {
            f"{run_id}/{number}": FinishedDesign(
                run_id,
                Architecture.model_validate_json(design),
                hash,
                parameters,
                Measurement.model_validate_json(measurement),
                None if of_parent is None else Measurement.model_validate_json(of_parent),
            )
            for run_id, number, design, hash, parameters, measurement, of_parent in rows
        }

    def leading_trials(self, run_ids: Sequence[str], limit: int, objective: str, sizes: tuple[int, int]) -> list[str]:
        """Ids `RUN/NUMBER` of the best finished trials of these runs, the best first, of these sizes in parameters.

        The best have the lowest loss, or, where the `objective` is accuracy, the highest one. Trials that share an
        evaluation count once, as the first of them. All trials of these runs are looked at.
        """
        figure, rows = _figure(objective), list[Any]()
        query = _finished(objective, sizes).add_columns(figure, col(Trial.id))
        with self.reading() as session:
            for start in range(0, len(run_ids), _CHUNK):
                wanted = col(Trial.run_id).in_(run_ids[start : start + _CHUNK])
                rows += session.exec(query.where(wanted)).all()
        sign = 1 if objective == "loss" else -1
        return _first_of_each(sorted(rows, key=lambda row: (sign * row[3], row[0], row[4])), limit)

    def leading_of_many(
        self, limit: int, objective: str, sizes: tuple[int, int], admitted: Callable[[set[str]], Collection[str]]
    ) -> list[str] | None:
        """The same of all runs that `admitted` lets through, without looking at all their trials.

        None where so few of the best ones of all runs are of those that it would have to.
        """
        figure, way = ("loss", "") if objective == "loss" else ("accuracy", "DESC")
        statement = _OF_MANY.format(figure=figure, way=way, mark=self._mark)
        for most in (times * limit for times in _LOOKED_AT):
            with self._connected() as connection:
                rows = connection.exec_driver_sql(statement, (*sizes, most)).all()
            within = admitted({run_id for _, run_id, _ in rows})
            found = _first_of_each((row for row in rows if row[1] in within), limit)
            if len(found) == limit or len(rows) < most:
                return found
        return None

    def _of_each(self, statement: str, values: Sequence[Any]) -> list[Any]:
        """All rows of a statement with a place for a list of values, or of tuples of values."""
        found = list[Any]()
        for start in range(0, len(values), _CHUNK):
            chunk = [one if isinstance(one, tuple) else (one,) for one in values[start : start + _CHUNK]]
            mark = ", ".join([self._mark] * len(chunk[0]))
            marks = ", ".join([f"({mark})"] * len(chunk))
            with self._connected() as connection:
                given = tuple(value for one in chunk for value in one)
                found += connection.exec_driver_sql(statement.replace(_MARKS, marks), given).all()
        return found

    @property
    def _mark(self) -> str:
        """How the driver writes the place of a value."""
        return "?" if self.engine.dialect.name == "sqlite" else "%s"

    @contextmanager
    def _connected(self) -> Iterator[Connection]:
        with self._named_failures(), self.engine.connect() as connection:
            yield connection


def _figure(objective: str) -> Any:
    return col(Evaluation.loss if objective == "loss" else Evaluation.accuracy)


def _finished(objective: str, sizes: tuple[int, int]) -> Any:
    """Evaluation, run and number of trials that have a score and such a size."""
    query = select(Evaluation.id, Trial.run_id, Trial.number)
    return query.join(Trial, col(Trial.evaluation_id) == col(Evaluation.id)).where(
        Evaluation.status == "done", _figure(objective).is_not(None), col(Evaluation.parameters).between(*sizes)
    )


def _first_of_each(rows: Iterable[Sequence[Any]], limit: int) -> list[str]:
    """Names of the trials that come first with each evaluation."""
    found = dict[int, str]()
    for evaluation_id, run_id, number, *_ in rows:
        found.setdefault(evaluation_id, f"{run_id}/{number}")
    return list(found.values())[:limit]
