"""Design principles on trial: what later trials say of a claim, and how a pattern then stands.

A trial tests a claim where its design moved with it or against it from another measured design of about equal size.
With it and better, or against it and worse, is support; the opposite is contradiction; all else says nothing.
"""

import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Literal, Protocol, TypeVar

import numpy as np

from memory.pattern_records import NumberedPattern, PatternPlace

Verdict = Literal["support", "contradiction"]
State = Literal["untestable", "open", "supported", "contradicted"]
DesignT = TypeVar("DesignT", contravariant=True)
_DesignT = TypeVar("_DesignT")

NOISE = {"loss": 0.002, "accuracy": 0.005}
"""Scores that differ by less, in nats per token or as a share, are equal: so far do seeds alone move them."""
EQUAL_SIZE = 0.002
"""Sizes that differ by less, in logarithms, are equal: 0.2 %."""
FARTHEST_SIZE = 0.1
"""Sizes that differ by more cannot be made up for."""
_FEWEST_FOR_SLOPE = 8
_LEAST_SPREAD = 0.005
_FEWEST_CONTRADICTIONS = 2
_BY_CHANCE = 0.1


class Testable(Protocol[DesignT]):
    """A claim about designs of one space."""

    def movement(self, before: DesignT, after: DesignT) -> float:
        """How far `after` moved in the claimed direction, negative against it, 0 where it did not."""


def verdict(movement: float, change: float, noise: float) -> Verdict | None:
    """What a movement in the claimed direction and a change of the score, negative where better, say of the claim."""
    if movement == 0 or not abs(change) >= noise:
        return None
    return "support" if (movement > 0) == (change < 0) else "contradiction"


def change_at_equal_size(change: float, before: int, after: int, known: Sequence[tuple[int, float]]) -> float | None:
    """The change of a score without what the change of size does to it; None where that cannot be told.

    It is taken as linear in the logarithm of the size, as fitted to `known`, distinct designs measured before: size in
    parameters and score. There must be eight of them that differ in size, and the larger be no worse.
    """
    step = math.log(after / before)
    if abs(step) <= EQUAL_SIZE:
        return change
    if abs(step) > FARTHEST_SIZE or len(known) < _FEWEST_FOR_SLOPE:
        return None
    sizes, scores = np.log([size for size, _ in known]), np.array([score for _, score in known])
    if sizes.std() < _LEAST_SPREAD:
        return None
    slope = float(np.cov(sizes, scores, bias=True)[0, 1] / sizes.var())
    return change - slope * step if slope <= 0 else None


def state_of(testable: bool, support: int, contradiction: int) -> State:
    """How a pattern stands.

    Contradicted is one with at least two contradictions, and more of them than supports: of two mistakes to go on
    telling it is the worse. Supported is one that has so much support that coins would show it once in ten times at
    most (a sign test): four trials without a contradiction, or six with one.
    """
    if not testable:
        return "untestable"
    if contradiction >= _FEWEST_CONTRADICTIONS and contradiction > support:
        return "contradicted"
    tests = support + contradiction
    by_chance = sum(math.comb(tests, count) for count in range(support, tests + 1)) / 2**tests
    return "supported" if by_chance <= _BY_CHANCE else "open"


@dataclass(frozen=True)
class Measured(Generic[_DesignT]):
    """A measured trial: `score` is the lower the better; `size` in parameters, None where a space has no sizes."""

    number: int
    parent_number: int | None
    design: _DesignT
    identity: str
    size: int | None
    score: float
    fidelity: str


def comparisons(
    trials: Sequence[Measured[_DesignT]],
    distance: Callable[[_DesignT, _DesignT], float],
    noise: float,
    numbers: Collection[int] | None = None,
) -> Iterator[tuple[Measured[_DesignT], Measured[_DesignT], float]]:
    """Trials with what each is compared with, and the change of its score at equal size, where that exceeds the noise.

    A trial is compared with its parent; one without, as judges make them, with the nearest design that was measured
    before it. The two must be of one fidelity. `trials` are in the order of their numbers; only what was known when a
    trial was measured counts, so that nothing that comes later changes what it said.
    """
    for place, trial in enumerate(trials):
        if numbers is not None and trial.number not in numbers:
            continue
        before = [one for one in trials[:place] if one.fidelity == trial.fidelity and one.identity != trial.identity]
        if trial.parent_number is None:
            reference = min(before, key=lambda one: distance(one.design, trial.design), default=None)
        else:
            reference = next((one for one in before if one.number == trial.parent_number), None)
        if reference is None:
            continue
        change: float | None = trial.score - reference.score
        if trial.size is not None and reference.size is not None:
            known = {one.identity: (one.size, one.score) for one in [*before, trial] if one.size is not None}
            change = change_at_equal_size(trial.score - reference.score, reference.size, trial.size, [*known.values()])
        if change is not None and abs(change) >= noise:
            yield reference, trial, change


@dataclass(frozen=True)
class PatternView:
    """A pattern as everybody reads it: what agents said alike, once, with what all tests of it say.

    `names` are `RUN/NUMBER/LINE`, with the trial that each wording led to; `wordings` are as `plain` has them. `claim`
    is in words, empty where nothing of it can be tested. `drawn_from` are trials, `RUN/NUMBER`; `support` and
    `contradiction` count trials.
    """

    names: tuple[str, ...]
    wordings: frozenset[str]
    text: str
    claim: str
    drawn_from: tuple[str, ...]
    support: int
    contradiction: int

    @property
    def state(self) -> State:
        """How it stands; see `state_of`."""
        return state_of(bool(self.claim), self.support, self.contradiction)

    @property
    def standing(self) -> str:
        """The counts in words: `supported by 3 later trials, contradicted by 1`."""
        if not self.claim:
            return "not testable"
        if not self.support and not self.contradiction:
            return "not tested yet"
        trials = "trial" if self.support == 1 else "trials"
        return f"supported by {self.support} later {trials}, contradicted by {self.contradiction}"

    def document(self) -> dict[str, Any]:
        """All of it as plain data."""
        return {
            "names": list(self.names),
            "text": self.text,
            "claim": self.claim or None,
            "drawn_from": list(self.drawn_from),
            "support": self.support,
            "contradiction": self.contradiction,
            "state": self.state,
        }


def merged(
    patterns: Iterable[NumberedPattern], claims: Mapping[PatternPlace, str], tests: Iterable[tuple[int, int, str]]
) -> list[PatternView]:
    """Patterns that claim the same, or in the same words what cannot be tested, as one each, in their order.

    `claims` are theirs in words; `tests` are pattern, trial and verdict. A trial counts once for all wordings.
    """
    verdicts: dict[int, dict[int, str]] = {}
    for pattern_id, trial_id, said in tests:
        verdicts.setdefault(pattern_id, {})[trial_id] = said
    alike: dict[str, list[NumberedPattern]] = {}
    for one in patterns:
        words = claims.get(one.place, "")
        alike.setdefault(f"claim {words}" if words else f"text {plain(one.pattern.text)}", []).append(one)
    return [_merged(group, claims.get(group[0].place, ""), verdicts) for group in alike.values()]


def plain(text: str) -> str:
    """A wording without what makes no difference: capitals and white space."""
    return " ".join(text.lower().split())


def _merged(group: Sequence[NumberedPattern], claim: str, verdicts: Mapping[int, Mapping[int, str]]) -> PatternView:
    by_trial = {trial: said for one in group for trial, said in verdicts.get(one.pattern.id, {}).items()}
    said = list(by_trial.values())
    return PatternView(
        names=tuple(one.name for one in group),
        wordings=frozenset(plain(one.pattern.text) for one in group),
        text=group[0].pattern.text,
        claim=claim,
        drawn_from=tuple(dict.fromkeys(name for one in group for name in one.pattern.drawn_from)),
        support=said.count("support"),
        contradiction=said.count("contradiction"),
    )
