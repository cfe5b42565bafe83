"""The agents on a table: the pipeline of a whole search, on cells whose worth is looked up.

What is the product's own: evolver, distiller, their templates and schemas, the chat model, the checker's rule
(`graph.examination`), the rule of acceptance, the split of the stages, the ledger, and by the setting `memory` what the
search remembers of itself (`benchmarks.table_memory`). What is not there: memory of other runs, since nothing of one
search may reach another one. Turn 0 is a cell drawn at random (SEKI names no start).
"""

import asyncio
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from agents.chat_answers import Answer
from agents.chat_team import ChatTeam
from agents.conversation import Ask, Question
from agents.dialects import CellTrial, NASBench201Dialect
from agents.dialects.nasbench201 import CHANGES, MOST_CHANGES
from agents.distiller import Distiller
from agents.evolver import Evolver
from agents.outlook import Outlook
from agents.proposers import Proposed, Rejection, Tried
from agents.proposers.random_search import RandomSearch
from benchmarks.table_memory import CellMemory
from benchmarks.table_search import Searched, turn_seed
from graph.acceptance import accepted
from graph.config import MemoryMode, SearchConfig
from graph.examination import Examiner
from memory.ledger import DUPLICATE, Ledger, ledger_of
from memory.recollection import NOTHING, Recollection
from memory.tables import Call, Proposal
from prompts.library import PromptLibrary
from tools.spaces import Cell, CellDraft, NASBench201Space
from tools.spaces.nasbench201_table import NASBench201Table

TASK = "CIFAR-10"
# One answer is at most two sentences of 48 characters, or one and three changes; the rest is room for white space.
_LONGEST_ANSWER = 256


def agents_config(trials: int, memory: MemoryMode = "off") -> SearchConfig:
    """The settings of one search: the product's defaults, written down so that no environment variable changes them."""
    return SearchConfig(
        trials=trials,
        memory=memory,
        recall=3,
        self_evolution=None,
        top_k=10,
        sample_size=4,
        accept="not_worse",
        repairs=2,
        patience=3,
        chat_model="local",
        temperature=0.7,
        max_tokens=_LONGEST_ANSWER,
        timeout_seconds=600,
    )


def chat_ask(team: ChatTeam, seed: int) -> Ask:
    """Asks the chat models, each turn with its own seed."""

    async def ask(question: Question) -> Answer:
        model = team.model(question.agent)
        return await model.aask(question.messages, question.schema, seed=turn_seed(seed, question.turn))

    return ask


def random_ask(seed: int) -> Ask:
    """Answers every question with a legal answer drawn at random: as many and as free changes as an agent may make."""

    async def ask(question: Question) -> Answer:
        rng = random.Random(f"{seed} {question.turn} {len(question.messages)}")  # noqa: S311
        return _made_up(question, rng.choices(CHANGES, k=rng.randint(1, MOST_CHANGES)))

    return ask


def copying_ask(seed: int) -> Ask:
    """Answers every question with the design that stands in it: all that is new then comes from the checker."""

    async def ask(question: Question) -> Answer:
        return _made_up(question, [])

    return ask


def _made_up(question: Question, changes: list[str]) -> Answer:
    words = ["made without a language model"]
    reasons: dict[str, Any] = {"strategies": words, "strategies_applied": [1], "patterns": words, "changes": changes}
    parsed = {name: reasons[name] for name in question.schema.model_fields}
    return Answer(raw="{}", parsed=parsed, model="nobody")


@dataclass(frozen=True)
class AgentsContender:
    """One line of the comparison: the pipeline with whoever answers. `kept`: see `Contender`."""

    ask_of: Callable[[int], Ask]
    config: SearchConfig
    searches_per_seed: int = 1
    kept: Mapping[str, Any] | None = None

    def search(self, table: NASBench201Table, trials: int, seed: int) -> Searched:
        """One search; `trials` are those of the settings, which decide the stages."""
        if trials != self.config.trials:
            raise ValueError(f"the stages are those of {self.config.trials} trials, not of {trials}")
        return asyncio.run(AgentsSearch(self.ask_of(seed), self.config, table, seed).run())


@dataclass(frozen=True)
class TableSituation:
    """The search at one of its turns: what agents see, and what judges see."""

    turn: int
    space: NASBench201Space
    trials: tuple[CellTrial, ...]
    parent: CellTrial
    seed: int
    rejection: Rejection | None = None
    recollection: Recollection = NOTHING
    guidance: str = ""
    running: tuple[CellTrial, ...] = ()
    outlook: Outlook | None = None

    @property
    def history(self) -> Sequence[Tried[Cell]]:
        """The trials as judges see them."""
        return tuple(Tried(trial.number, trial.architecture, trial.score) for trial in self.trials)

    def trial(self, number: int) -> CellTrial:
        """The trial of that number."""
        return self.trials[number]


@dataclass
class AgentsSearch:
    """One search with its state."""

    ask: Ask
    config: SearchConfig
    table: NASBench201Table
    seed: int
    trials: list[CellTrial] = field(default_factory=list)
    proposals: list[Proposal] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    memory: CellMemory = field(default_factory=CellMemory)

    async def run(self) -> Searched:
        """All trials of the settings."""
        space, prompts = NASBench201Space(), PromptLibrary()
        dialect = NASBench201Dialect(space, TASK)
        agents = {
            "self_evolution": Evolver(self._recorded, prompts, dialect),
            "knowledge_distillation": Distiller(
                self._recorded, prompts, dialect, self.config.top_k, self.config.sample_size
            ),
        }
        parent = self._measure(space.sample(random.Random(f"first {self.seed}")), "start")  # noqa: S311
        self.memory.remember(parent, None, [])
        turn = barren = relief = 0
        while len(self.trials) < self.config.trials:
            turn += 1
            stage, relief = self._stage(barren, relief)
            situation = TableSituation(turn, space, tuple(self.trials), parent, turn_seed(self.seed, turn))
            if stage != "judge":
                situation = replace(situation, recollection=self.memory.recollect(parent, self.config))
            if stage == "judge":
                proposed = await RandomSearch().ask(situation)
                assert proposed.draft is not None  # noqa: S101 - a judge's is legal
                cell: Cell | None = space.read(proposed.draft, proposed.base)
                self.proposals.append(_row(situation, 0, stage, "random", proposed, "valid"))
            else:
                cell = await self._turn(agents[stage], situation, stage)
            barren = barren + 1 if cell is None else 0
            if cell is not None:
                child = self._measure(cell, stage)
                made_of, words = self.proposals[-1].based_on[:1], self.proposals[-1].rationale
                self.memory.remember(child, self.trials[made_of[0]] if made_of else None, words)
                if stage == "self_evolution" and accepted(self.config, child, parent, self.trials, situation.seed):
                    parent = child
        history = tuple(Tried(trial.number, trial.architecture, trial.score) for trial in self.trials)
        read, written = (sum(getattr(call, name) for call in self.calls) for name in ("input_tokens", "output_tokens"))
        return Searched(history, ledger_of(self.proposals, self.calls), (read, written))

    def _stage(self, barren: int, relief: int) -> tuple[str, int]:
        """Whose turn it is, as in a search, and how many turns a judge then has."""
        if relief > 1:
            return "judge", relief - 1
        if barren >= 2 * self.config.patience:
            return "judge", self.config.patience
        stages = ["self_evolution", "knowledge_distillation"]
        if len(self.trials) - 1 >= self.config.stages[0]:
            stages.reverse()
        return stages[barren >= self.config.patience], 0

    async def _turn(
        self,
        agent: Evolver[Cell, CellDraft, CellTrial] | Distiller[Cell, CellDraft, CellTrial],
        situation: TableSituation,
        stage: str,
    ) -> Cell | None:
        """The cell of one turn, asked for again as often as the settings say; None where nothing could be read."""
        repairs = self.config.repairs
        seen = {trial.identity: trial for trial in self.trials}

        def tried(identity: str) -> str | None:
            known = seen.get(identity)
            return known and f"{DUPLICATE} {known.number} ({known.accuracy:.1f} %): change other edges."

        examiner = Examiner(
            situation.space, tried, situation.space.mutate, "an edge changed, since it was tried before"
        )
        for attempt in range(repairs + 1):
            proposed = await agent.ask(situation)
            if proposed.draft is None:
                outcome, problems = ("rejected" if attempt == repairs else "unparsed"), (proposed.error or "",)
                cell = None
            else:
                found = examiner.examine(proposed.draft, proposed.base, attempt, attempt == repairs, situation.seed)
                outcome, problems, cell = found.outcome, found.problems, found.design
            self.proposals.append(_row(situation, attempt, stage, agent.name, proposed, outcome, problems))
            if cell is not None:
                return cell
            rejection = Rejection(proposed.messages, proposed.raw, problems, proposed.rationale, proposed.based_on)
            situation = TableSituation(
                situation.turn, situation.space, situation.trials, situation.parent, situation.seed, rejection
            )
        return None

    def _measure(self, cell: Cell, stage: str) -> CellTrial:
        trial = CellTrial(len(self.trials), cell, self.table.validation(cell), stage)
        self.trials.append(trial)
        return trial

    async def _recorded(self, question: Question) -> Answer:
        answer = await self.ask(question)
        self.calls.append(
            Call(
                run_id="",
                turn=question.turn,
                agent=question.agent,
                model=answer.model,
                input_tokens=answer.input_tokens,
                output_tokens=answer.output_tokens,
                faults=list(answer.faults),
            )
        )
        return answer


def _row(
    situation: TableSituation,
    attempt: int,
    stage: str,
    proposer: str,
    proposed: Proposed[Cell, CellDraft],
    outcome: str,
    problems: Sequence[str] = (),
) -> Proposal:
    """A proposal as the ledger counts it."""
    return Proposal(
        run_id="",
        turn=situation.turn,
        attempt=attempt,
        stage=stage,
        proposer=proposer,
        prompt_hash=proposed.prompt_hash,
        raw=proposed.raw,
        parsed=proposed.parsed,
        rationale=list(proposed.rationale),
        based_on=list(proposed.based_on),
        retrieved=proposed.shown.listed(),
        problems=list(problems),
        outcome=outcome,
    )


def total(ledgers: Sequence[Ledger]) -> Ledger:
    """All of them in one."""
    counts: dict[str, int] = {}
    faults: dict[str, int] = {}
    for ledger in ledgers:
        for name, value in ledger.model_dump(exclude={"faults"}).items():
            counts[name] = counts.get(name, 0) + value
        for kind, value in ledger.faults.items():
            faults[kind] = faults.get(kind, 0) + value
    return Ledger.model_validate({**counts, "faults": faults})
