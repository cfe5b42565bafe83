"""What a prompt is given from memory: designs near the current one, good ones, failed ones, lessons that fit."""

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

from memory.diversity import diverse
from memory.filters import Filter
from memory.library import Library, Past
from memory.recollection import Recollection, RetrievedDesign, RetrievedLesson
from memory.sentences import is_sentence

CurrentT = TypeVar("CurrentT")

_WIDER = 4
"""So many times what is wanted is looked at: equal designs and wordings count once."""
_POOL = 32
"""So many of the best are looked at for good ones that are unlike each other."""
_SIZE_SCALE = 0.25
"""A lesson from a design that is larger or smaller by this much, in logarithms of the size, counts 1/e of one alike."""


@dataclass(frozen=True)
class Here(Generic[CurrentT]):
    """Where a search stands: its current design, with id and canonical hash, and its `size` as a share of the source's.

    The `topic` is what lessons are looked up by: what was thought and made last, in words.
    """

    id: str
    identity: str
    design: CurrentT
    size: float
    topic: str


def recollect(
    library: Library[CurrentT],
    here: Here[CurrentT],
    k: int,
    scope: Filter,
    lessons: bool = True,
    without: Collection[str] = (),
) -> Recollection:
    """Designs near the current one, good and failed ones, and lessons that fit it, at most `k` of each.

    Nothing stands in it twice, nor the current design itself, nor a lesson whose wording, as `plain` has it, is one of
    `without`.
    """
    distances = _near(library, here.design, k, replace(scope, unlike=here.identity))
    order = library.leading(_POOL)
    passages = _passages(library, here.topic, k, scope, without) if lessons else []
    # At once, since reading takes longer than anything else.
    known = library.past({*distances, *order, *(_design_of(id) for id, _, _ in passages)})
    near, failed = _apart(known, distances, k)
    told = {here.id, here.identity, *(one.id for one in near)}
    return Recollection(
        nearby=tuple(near),
        best=tuple(_diverse_of(known, order, k, told)),
        failed=tuple(failed),
        lessons=tuple(_fitting_of(known, passages, here.size, k)),
    )


def designs_near(
    library: Library[CurrentT], design: CurrentT, k: int, where: Filter
) -> tuple[list[RetrievedDesign], list[RetrievedDesign]]:
    """The `k` past designs nearest in shape that could be used, and the `k` nearest that could not, each once.

    Unusable are those that failed and those over a limit of the run. Designs whose size does not fit are left out.
    """
    distances = _near(library, design, k, where)
    return _apart(library.past(distances), distances, k)


def diverse_best(
    library: Library[CurrentT], k: int, without: Collection[str] = (), pool: int = _POOL
) -> list[RetrievedDesign]:
    """`k` good designs that are unlike each other, by maximal marginal relevance (`memory.diversity`).

    Good is the better half of the `pool` best ones that are of use and fit: while few were measured, the others are no
    example. Those with an id or an identity in `without` are not told. The first is the best, and the distance of an
    entry is the one to it.
    """
    order = library.leading(pool)
    return _diverse_of(library.past(order), order, k, without)


def fitting_lessons(
    library: Library[CurrentT], text: str, size: float, k: int, where: Filter, without: Collection[str] = ()
) -> list[RetrievedLesson]:
    """The `k` past lessons that fit best, each wording once, with how often it led to a better design.

    How well one fits is the likeness of its wording to `text`, times that of its design's size to `size` (a share of
    the source's), times its worth: 1 where all designs that it led to were better than their parents, 0.5 where none
    was, 0.75 where that is not known. Wordings in `without`, as `plain` has them, are left out, and those that are no
    sentences.
    """
    passages = _passages(library, text, k, where, without)
    return _fitting_of(library.past({_design_of(id) for id, _, _ in passages}), passages, size, k)


def plain(text: str) -> str:
    """A wording without what makes no difference: capitals and white space."""
    return " ".join(text.lower().split())


def _near(library: Library[CurrentT], design: CurrentT, k: int, where: Filter) -> dict[str, float]:
    """Distances of designs near in shape, and of failed ones: few fail, so that among the nearest there may be none."""
    if where.succeeded is not None:
        return dict(library.near(design, _WIDER * k, where))
    return {
        id: distance
        for succeeded in (True, False)
        for id, distance in library.near(design, _WIDER * k, replace(where, succeeded=succeeded))
    }


def _apart(
    known: Mapping[str, Past], distances: Mapping[str, float], k: int
) -> tuple[list[RetrievedDesign], list[RetrievedDesign]]:
    """The nearest that could be used, and those that could not."""
    entries = [known[id] for id in sorted(distances, key=lambda id: distances[id]) if id in known and known[id].fits]
    once = list(_once(entries))
    usable, unusable = ([one for one in once if one.unusable == which][:k] for which in (False, True))
    return [_design(one, distances[one.id]) for one in usable], [_design(one, distances[one.id]) for one in unusable]


def _diverse_of(
    known: Mapping[str, Past], order: Sequence[str], k: int, without: Collection[str]
) -> list[RetrievedDesign]:
    usable = [known[id] for id in order if id in known and not known[id].unusable and known[id].fits]
    scored = [one for one in _once(usable) if one.score is not None]
    good = scored[: (len(scored) + 1) // 2]
    entries = [one for one in good if not {one.id, one.identity} & set(without)]
    # Ranks, not scores: one design far behind would make all others alike in worth.
    chosen = diverse([-place for place in range(len(entries))], [one.vector for one in entries], k)
    return [_design(entries[place], _distance(entries[place], entries[chosen[0]])) for place in chosen]


def _passages(
    library: Library[CurrentT], text: str, k: int, where: Filter, without: Collection[str]
) -> list[tuple[str, str, float]]:
    """Lessons near in wording."""
    found = library.worded(text, _WIDER * k, where)
    return [row for row in found if is_sentence(row[1]) and plain(row[1]) not in without]


def _fitting_of(
    known: Mapping[str, Past], passages: Sequence[tuple[str, str, float]], size: float, k: int
) -> list[RetrievedLesson]:
    wordings: dict[str, list[tuple[str, str, float]]] = {}
    for passage in passages:
        if _design_of(passage[0]) in known:
            wordings.setdefault(plain(passage[1]), []).append(passage)
    fitted: list[tuple[float, RetrievedLesson]] = []
    for same in wordings.values():
        pasts = [known[_design_of(id)] for id, _, _ in same]
        changes = [past.change for past in pasts if past.change is not None]
        better = sum(change < 0 for change in changes)
        worth = 0.75 if not changes else 0.5 + 0.5 * better / len(changes)
        (id, words, distance), first = same[0], pasts[0]
        outcome = (
            first.outcome
            if len(changes) < 2
            else f"{first.outcome}; {better} of {len(changes)} such designs were better"
        )
        lesson = RetrievedLesson(id, words, first.loss, outcome, distance, first.origin)
        likeness = math.exp(-abs(math.log(first.size / size)) / _SIZE_SCALE)
        fitted.append((max(0.0, 1 - distance) * likeness * worth, lesson))
    # Of equal ones the one nearer in wording stays before the other.
    return [lesson for _, lesson in sorted(fitted, key=lambda entry: -entry[0])[:k]]


def _once(entries: Sequence[Past]) -> Iterator[Past]:
    """Each design once, from the run that asks where it has it."""
    kept: dict[str, Past] = {}
    for entry in entries:
        before = kept.get(entry.identity)
        if before is None or (before.origin and not entry.origin):
            kept[entry.identity] = entry
    yield from kept.values()


def _design(past: Past, distance: float) -> RetrievedDesign:
    return RetrievedDesign(past.id, past.design, past.loss, past.outcome, distance, past.origin)


def _distance(one: Past, other: Past) -> float:
    return math.dist(one.vector, other.vector)


def _design_of(lesson: str) -> str:
    return lesson.rpartition("/")[0]
