"""What a comparison of searches says: how good each searcher's designs are, and the lift of the LLM over each judge."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import mean
from typing import Any, Literal

from agents.lift import Lift, lift
from tools.errors import InputError

AGENTS = "agents"
GREEDY = "saliency-greedy"
"""The searcher that makes trial 0 of every search."""


@dataclass(frozen=True)
class Outcome:
    """One search: who proposed, with which seed, its run, and the score of each trial in their order.

    A score is the lower the better: a loss, or an accuracy with its sign turned; None where the design failed or is
    over a limit.
    """

    searcher: str
    seed: int
    run: str
    scores: tuple[float | None, ...]

    def best(self, trials: int) -> float | None:
        """The best score of the first `trials`."""
        return min((score for score in self.scores[:trials] if score is not None), default=None)


@dataclass(frozen=True)
class Verdict:
    """The lift over one judge, and that in a sentence; without a lift the sentence says why there is none."""

    judge: str
    lift: Lift | None
    sentence: str


@dataclass(frozen=True)
class Row:
    """One searcher: `best` is the mean over its seeds of the best value after equal trials, as people read it."""

    searcher: str
    seeds: int
    best: float | None
    lift: Lift | None


@dataclass(frozen=True)
class Judgement:
    """Searches of the agents and of judges with equal seeds, compared after as many trials as all of them have."""

    objective: Literal["loss", "accuracy"]
    outcomes: tuple[Outcome, ...]

    @property
    def trials(self) -> int:
        """After how many trials they are compared."""
        return min(len(outcome.scores) for outcome in self.outcomes)

    @property
    def searchers(self) -> list[str]:
        """The agents first, then the judges."""
        return list(dict.fromkeys([AGENTS, *(outcome.searcher for outcome in self.outcomes)]))

    @property
    def verdicts(self) -> list[Verdict]:
        """The lift of the LLM over each judge."""
        return [self._verdict(judge) for judge in self.searchers if judge != AGENTS]

    @property
    def rows(self) -> list[Row]:
        """Trial 0 of the searches, the agents, the judges."""
        lifts = {verdict.judge: verdict.lift for verdict in self.verdicts}
        greedy = self._row(GREEDY, [outcome.best(1) for outcome in self.of(AGENTS)], None)
        return [
            greedy,
            *(
                self._row(name, [outcome.best(self.trials) for outcome in self.of(name)], lifts.get(name))
                for name in self.searchers
            ),
        ]

    @property
    def best(self) -> Outcome | None:
        """The search with the best design of all; the first of equals."""
        found = [(score, place) for place, one in enumerate(self.outcomes) if (score := one.best(len(one.scores)))]
        return self.outcomes[min(found)[1]] if found else None

    def of(self, searcher: str) -> list[Outcome]:
        """The searches of one searcher."""
        return [outcome for outcome in self.outcomes if outcome.searcher == searcher]

    def document(self) -> dict[str, Any]:
        """All of it as plain data."""
        return {
            "objective": self.objective,
            "trials": self.trials,
            "searchers": [{"searcher": row.searcher, "seeds": row.seeds, "mean_best": row.best} for row in self.rows],
            "lifts": [
                {
                    "judge": verdict.judge,
                    "sentence": verdict.sentence,
                    **({} if verdict.lift is None else _plain(verdict.lift)),
                }
                for verdict in self.verdicts
            ],
            "searches": [
                {
                    "searcher": outcome.searcher,
                    "seed": outcome.seed,
                    "run": outcome.run,
                    "best": self._read(outcome.best(len(outcome.scores))),
                    "values": [self._read(score) for score in outcome.scores],
                }
                for outcome in self.outcomes
            ],
        }

    def draw(self, picture: Path) -> None:
        """Draw the best so far over the trials into a PNG or SVG file. Raises InputError where that cannot be."""
        from graph.judgement_picture import draw_curves

        curves = {name: [self._values(outcome) for outcome in self.of(name)] for name in self.searchers}
        label = "validation loss, nats per token" if self.objective == "loss" else "mean zero-shot accuracy"
        try:
            draw_curves(curves, label, picture, rising=self.objective == "accuracy")
        except (OSError, ValueError) as error:
            raise InputError(f"Cannot draw into {picture}: {error}.") from error

    def _verdict(self, judge: str) -> Verdict:
        ours, theirs = ({one.seed: one.scores for one in self.of(name)} for name in (AGENTS, judge))
        try:
            found = lift(ours, theirs, judge, self.trials)
        except InputError as error:
            return Verdict(judge, None, str(error))
        return Verdict(judge, found, found.sentence(self.objective, rising=self.objective == "accuracy"))

    def _row(self, name: str, scores: Sequence[float | None], found: Lift | None) -> Row:
        known = [score for score in scores if score is not None]
        return Row(name, len(known), self._read(mean(known)) if known else None, found)

    def _values(self, outcome: Outcome) -> list[float | None]:
        return [self._read(score) for score in outcome.scores[: self.trials]]

    def _read(self, score: float | None) -> float | None:
        """A score as people read it: an accuracy has its own sign."""
        return score if score is None or self.objective == "loss" else -score


def _plain(found: Lift) -> dict[str, Any]:
    values = asdict(found)
    del values["judge"]
    return {**values, "positive": found.positive, "negative": found.negative, "conclusive": found.conclusive}
