"""What people look up in memory: designs near in shape, and designs, lessons and prompts near in wording."""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from pydantic import BaseModel
from sqlmodel import col, select

from memory.filters import Filter
from memory.outcomes import describe_outcome, reason_of_failure
from memory.records import Records
from memory.tables import Evaluation, Promotion, Run
from memory.vectors import Passage, VectorStore
from memory.views import TrialView
from tools.architecture import Architecture
from tools.errors import InputError

_WIDER = 8
"""So many times what is wanted is looked at, since equal wordings count once and lessons know little of designs."""
_MOST = 1000
"""Who has looked at so many lessons looks no further: each is looked up in the records."""
_EXCERPT = 200


class FoundDesign(BaseModel):
    """A past design: `distance` is that of shapes in `like`, and of the wording of `lesson` in a search by words."""

    id: str
    run: str
    source: str
    design: str
    parameters: int
    fidelity: str
    loss: float | None
    outcome: str
    distance: float
    lesson: str | None = None


class FoundLesson(BaseModel):
    """A past lesson, what came of the design `trial` that it led to, and how far it is in wording."""

    id: str
    trial: str
    source: str
    text: str
    loss: float | None
    outcome: str
    distance: float


class FoundPrompt(BaseModel):
    """A prompt template, its beginning, in how many runs it was used, and how far it is in wording."""

    id: str
    name: str
    text: str
    runs: int
    distance: float


class Found(BaseModel):
    """What a search by words found, the nearest first."""

    designs: list[FoundDesign] = []
    lessons: list[FoundLesson] = []
    prompts: list[FoundPrompt] = []


class _Known(NamedTuple):
    run: Run
    view: TrialView
    outcome: str


def search_words(
    records: Records, vectors: VectorStore, text: str, k: int, where: Filter, kinds: Iterable[str]
) -> Found:
    """The `k` of each of `kinds` (designs, lessons, prompts) that are nearest in wording.

    Designs are found by the lessons that led to them. Prompts know of no source, size or fidelity: of the conditions
    only that of the run holds for them.
    """
    kinds, designs, lessons = set(kinds), dict[str, FoundDesign](), dict[str, FoundLesson]()
    looked_at = 0
    while kinds & {"designs", "lessons"} and looked_at < _MOST:
        wanted = max(_WIDER * k, min(_WIDER * looked_at, _MOST))
        passages = vectors.lessons(text, wanted, where.of_lessons())
        new = passages[looked_at:]
        known = _known(records, {_trial_of(one.id) for one in new})
        for one in new:
            entry = known.get(_trial_of(one.id))
            if entry is None or not _admits(where, entry.view):
                continue
            lessons.setdefault(" ".join(one.text.lower().split()), _lesson(one, entry))
            designs.setdefault(entry.view.identity, _design(entry, one.distance, one.text))
        looked_at = len(passages)
        if looked_at < wanted or min(len(designs), len(lessons)) >= k:
            break
    return Found(
        designs=list(designs.values())[:k] if "designs" in kinds else [],
        lessons=list(lessons.values())[:k] if "lessons" in kinds else [],
        prompts=_prompts(records, vectors, text, k, where) if "prompts" in kinds else [],
    )


def search_shape(records: Records, vectors: VectorStore, trial: TrialView, k: int, where: Filter) -> list[FoundDesign]:
    """The `k` past designs nearest in shape to that of `trial`, each design once and without itself.

    Raises:
        InputError: the source model of its run is not known.
    """
    run = records.run(trial.run_id)
    if run.source_architecture is None:
        raise InputError(f"run {run.id} has not surveyed its source model yet, and shapes are told relative to that")
    reference = Architecture.model_validate(run.source_architecture)
    rows = [
        row
        for conditions in _of_designs(records, where)
        for row in vectors.nearest(trial.architecture, reference, _WIDER * k, conditions)
    ]
    known = _known(records, {row.id for row in rows})
    found: dict[str, FoundDesign] = {}
    for row in sorted(rows, key=lambda row: row.distance):
        entry = known.get(row.id)
        if entry is not None and _admits(where, entry.view):
            found.setdefault(entry.view.identity, _design(entry, row.distance))
    return list(found.values())[:k]


def require_fidelity(records: Records, where: Filter) -> None:
    """Raises InputError where nothing was ever measured at the fidelity that is asked for."""
    if where.fidelity is None:
        return
    with records.reading() as session:
        known = sorted(session.exec(select(Evaluation.fidelity).distinct()))
    if where.fidelity not in known:
        raise InputError(
            f"Nothing was measured at the fidelity {where.fidelity!r}; "
            + (f"there is {', '.join(known)}." if known else "nothing was measured at all yet.")
        )


def _of_designs(records: Records, where: Filter) -> list[dict[str, Any]]:
    """The conditions on vectors of designs. These know the first rung alone: who climbed is found by the design."""
    conditions = where.of_designs()
    if where.fidelity is None:
        return [conditions]
    query = (
        select(Evaluation.architecture_hash)
        .join(Promotion, col(Promotion.evaluation_id) == col(Evaluation.id))
        .where(Promotion.fidelity == where.fidelity)
        .distinct()
    )
    with records.reading() as session:
        climbed = sorted(set(session.exec(query)) - {where.unlike})
    above = {key: value for key, value in conditions.items() if key != "fidelity"}
    return [conditions, above | {"architecture_hash": {"$in": climbed}}] if climbed else [conditions]


def _prompts(records: Records, vectors: VectorStore, text: str, k: int, where: Filter) -> list[FoundPrompt]:
    uses = records.prompt_uses()
    found = [
        FoundPrompt(
            id=one.id,
            name=str(one.metadata.get("name", "")),
            text=_beginning(one.text),
            runs=len(uses.get(one.id, ())),
            distance=one.distance,
        )
        for one in vectors.prompts(text, _WIDER * k)
        if where.run_id is None or where.run_id in uses.get(one.id, ())
    ]
    return found[:k]


def _lesson(passage: Passage, entry: _Known) -> FoundLesson:
    return FoundLesson(
        id=passage.id,
        trial=entry.view.name,
        source=entry.run.source,
        text=passage.text,
        loss=entry.view.loss,
        outcome=entry.outcome,
        distance=passage.distance,
    )


def _known(records: Records, ids: Iterable[str]) -> dict[str, _Known]:
    """From the records, which may have forgotten what the vectors still hold."""
    numbers: dict[str, set[int]] = {}
    for id in ids:
        run_id, _, number = id.rpartition("/")
        numbers.setdefault(run_id, set()).add(int(number))
    runs, found = {run.id: run for run in records.runs()}, dict[str, _Known]()
    for run_id in numbers.keys() & runs.keys():
        views = records.trials(run_id, numbers[run_id])
        above = {view.parent_number for view in views if view.parent_number is not None}
        parents = {view.number: view for view in records.trials(run_id, above)}
        for view in views:
            parent = None if view.parent_number is None else parents.get(view.parent_number)
            reason = reason_of_failure(view)
            words = describe_outcome(view, parent) + (f" ({reason})" if reason else "")
            found[view.name] = _Known(runs[run_id], view, words)
    return found


def _design(entry: _Known, distance: float, lesson: str | None = None) -> FoundDesign:
    view = entry.view
    return FoundDesign(
        id=view.name,
        run=view.run_id,
        source=entry.run.source,
        design=view.architecture.describe(),
        parameters=view.architecture.parameters,
        fidelity=view.fidelity or "",
        loss=view.loss,
        outcome=entry.outcome,
        distance=distance,
        lesson=lesson,
    )


def _admits(where: Filter, view: TrialView) -> bool:
    """What the metadata of a lesson cannot say."""
    size, rungs = view.architecture.parameters, {one.fidelity for one in view.rungs if one.measurement is not None}
    checks: tuple[tuple[object, Callable[[], bool]], ...] = (
        (where.fidelity, lambda: where.fidelity in rungs | {view.fidelity}),
        (where.min_parameters, lambda: size >= (where.min_parameters or 0)),
        (where.max_parameters, lambda: size <= (where.max_parameters or 0)),
        (where.succeeded, lambda: view.succeeded == where.succeeded),
    )
    return all(holds() for wanted, holds in checks if wanted is not None)


def _trial_of(lesson: str) -> str:
    return lesson.rpartition("/")[0]


def _beginning(text: str) -> str:
    words = " ".join(text.split())
    return words if len(words) <= _EXCERPT else f"{words[: _EXCERPT - 4]} ..."
