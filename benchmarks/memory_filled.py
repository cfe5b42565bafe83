"""The memory that `benchmarks.memory_speed` measures: filled run by run, and what exact search would find in it."""

import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from benchmarks.past_searches import (
    HOMES,
    SOURCES,
    TRIALS,
    PastRun,
    home_of,
    past_run,
    prompts,
    sentence,
    varied,
)
from graph.folder import Home
from memory.conditions import meets
from memory.embeddings import embed_architecture, embed_texts
from memory.filters import Filter
from memory.indexing import index_prompts, record_trials
from memory.records import Records
from memory.vectors import VectorStore
from tools.architecture import Architecture

PROMPTS_SHARE = 500
"""So many designs come to one prompt template."""

RUNS = 20
"""In each batch."""

(SOURCE, CORPUS), _ = HOMES[0]
BUDGET = (100_000_000, 115_000_000)
"""The sizes in parameters that fit the search which asks."""


def filters(run_id: str) -> dict[str, Filter]:
    """What memory is asked with: as a search asks, and all else that can be asked, down to one run of 50 designs."""
    smallest, largest = BUDGET
    own = Filter(SOURCE, CORPUS, min_parameters=smallest, max_parameters=largest)
    return {
        "as a search asks": own,
        "its failed ones": replace(own, succeeded=False),
        "no condition": Filter(),
        "a rare fidelity": replace(own, fidelity="long_training"),
        "a narrow budget": replace(own, min_parameters=106_000_000, max_parameters=107_000_000),
        "one run": Filter(run_id=run_id),
    }


def own_run(designs: int) -> str:
    """The id of a run with the source and corpus of the search that asks, from the middle of those among so many."""
    own = [number for number in range(designs // TRIALS) if home_of(number) == (SOURCE, CORPUS)]
    return past_run(own[len(own) // 2]).run.id


@dataclass
class Known:
    """What was put in, for exact search: a vector of each design, the text of each lesson, and what filters ask for."""

    vectors: list[Any] = field(default_factory=list)
    facts: list[dict[str, Any]] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    designs: list[int] = field(default_factory=list)
    """Of each text the place of its design."""

    def add(self, past: PastRun) -> None:
        """All trials of a run."""
        for trial in past.trials:
            self.designs += [len(self.facts)] * len(trial.proposal.rationale)
            self.texts += trial.proposal.rationale
            self.vectors.append(embed_architecture(trial.architecture, past.source))
            self.facts.append(
                {
                    "source": past.run.source,
                    "corpus": past.run.corpus,
                    "run_id": past.run.id,
                    "fidelity": trial.evaluation.fidelity,
                    "parameters": trial.architecture.parameters,
                    "succeeded": trial.evaluation.loss is not None,
                }
            )

    def allowed(self, where: Mapping[str, Any]) -> Any:
        """Of each design whether it fits these conditions."""
        return np.array([meets(facts, where) for facts in self.facts], dtype=bool)

    def nearest(self, query: Any, k: int, allowed: Any) -> Any:
        """The `k` smallest distances of allowed designs, ascending."""
        distances = np.linalg.norm(np.stack(self.vectors) - query, axis=1)
        return np.sort(distances[allowed])[:k]


@dataclass
class Filled:
    """Records and vectors in one home, with what is known of them."""

    home: Home
    records: Records
    store: VectorStore
    known: Known = field(default_factory=Known)

    @property
    def size(self) -> int:
        """Designs that it has."""
        return len(self.known.facts)

    def grow(self, designs: int, advance: Callable[[], None]) -> float:
        """Bring it to so many designs, 20 runs of 50 in each batch; the seconds that writing them down took."""
        spent, first = 0.0, self.size
        for start in range(first // TRIALS, designs // TRIALS, RUNS):
            batch = [past_run(number) for number in range(start, min(start + RUNS, designs // TRIALS))]
            for past in batch:
                self.known.add(past)
            started = time.perf_counter()
            for past in batch:
                self.records.create_run(past.run)
            record_trials(self.records, self.store, {past.run.id: past.trials for past in batch})
            spent += time.perf_counter() - started
            advance()
        templates = prompts((designs - first) // PROMPTS_SHARE, first // PROMPTS_SHARE)
        index_prompts(self.store, [self.records.add_prompt(*template) for template in templates])
        return spent


def questions(count: int, first: int = 0) -> list[tuple[Architecture, str]]:
    """Designs within the budget like those that were put in but new, and words to look lessons up by."""
    chance = random.Random(f"questions {first}")  # noqa: S311
    source, (smallest, largest) = SOURCES[SOURCE], BUDGET
    runs = [past_run(number) for number in range(20) if home_of(number)[0] == SOURCE]
    designs = [one.architecture for past in runs for one in past.trials]
    found = list[tuple[Architecture, str]]()
    while len(found) < count:
        design = varied(chance.choice(designs), source, chance)
        if smallest <= design.parameters <= largest:
            found.append((design, f"{sentence(chance)} {sentence(chance)}"))
    return found


def distances_of_texts(known: Known, queries: list[str], k: int, allowed: Any) -> list[Any]:
    """For each query the `k` smallest 1 - cosine over the wordings of lessons of allowed designs, ascending."""
    best = [np.empty(0)] * len(queries)
    asked = embed_texts(queries)
    texts = list(dict.fromkeys(text for text, at in zip(known.texts, known.designs, strict=True) if allowed[at]))
    for start in range(0, len(texts), 20_000):
        for place, row in enumerate(1 - asked @ embed_texts(texts[start : start + 20_000]).T):
            best[place] = np.sort(np.concatenate([best[place], row]))[:k]
    return best
