"""What the nodes work with: opened once for a run, never checkpointed."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import TYPE_CHECKING

from agents.cassette import Cassette
from agents.chat_team import ChatTeam
from agents.dialects import PrunedLMDialect
from agents.distiller import Distiller
from agents.evolver import Evolver
from agents.outlook import Outlook
from agents.proposers import JUDGES, GreedyProposer, Proposer
from agents.surrogate import Earlier, Surrogate
from graph.asking import ask
from graph.budget import expected_seconds
from graph.config import SearchConfig
from graph.events import AnyEvent
from graph.folder import Home, RunFolder
from graph.prompt_news import PromptNews
from graph.space import make_space
from graph.spending import Spending
from graph.state import Stage
from graph.tracing import Tracing
from graph.under_way import UnderWay
from memory.recollection import Recollection
from memory.records import Records
from memory.stored_library import StoredLibrary
from memory.trial_index import TrialIndex
from memory.trial_sequence import TrialSequence
from memory.vectors import VectorStore
from prompts.library import PromptLibrary
from tools.accuracy import accuracy_request
from tools.architecture import Architecture
from tools.fidelity import Fidelity, fidelity_in_words
from tools.pruning.saliency import Saliency
from tools.requests import AccuracyRequest, Survey, TrialRequest
from tools.spaces import DesignDraft, PrunedLMSpace
from tools.survey_folder import SALIENCY_FILE
from tools.workers import Workers, make_workers

if TYPE_CHECKING:
    from langchain_core.tools import BaseTool

# 2**31 over the golden ratio, odd: its multiples come near each other late, so that no two seeds of a run are equal.
_APART = 1_327_217_885


def workers_of(config: SearchConfig, folder: RunFolder) -> Workers:
    """Those of the settings, with their logs in the run's folder. Raises InputError where they cannot be had."""
    return make_workers(config.workers, folder.logs, config.parallel, config.ray)


@dataclass
class RunContext:
    """What work on a recorded run needs: its settings, records, files and workers."""

    run_id: str
    config: SearchConfig
    records: Records
    workers: Workers
    emit: Callable[[AnyEvent], None]
    tracing: Tracing = field(default_factory=Tracing.off, kw_only=True)

    @property
    def home(self) -> Home:
        return Home(self.config.home)

    @property
    def folder(self) -> RunFolder:
        return self.home.run(self.run_id)

    @cached_property
    def survey(self) -> Survey:
        """The survey of the source; the survey node wrote it down."""
        return Survey.model_validate_json(self.folder.survey.read_text())

    @cached_property
    def space(self) -> PrunedLMSpace:
        """The search space of this run."""
        source = self.survey.architecture
        saliency = Saliency.load(self.survey.folder / SALIENCY_FILE)
        return make_space(self.config, source, saliency)

    @cached_property
    def accuracy(self) -> AccuracyRequest | None:
        """The tasks that decide, if any. Raises InputError where they cannot be scored."""
        return accuracy_request(self.config.goal_settings())

    def trial_request(self, design: Architecture, fidelity: Fidelity | None = None) -> TrialRequest:
        """The request to grow `design`, its files kept under its evaluation key; by default for the first rung."""
        config, ladder = self.config, self.config.ladder
        fidelity = fidelity or ladder.fidelities[0]
        request = TrialRequest(
            survey=self.survey,
            design=design,
            recipe=ladder.recipe_of(fidelity),
            seed=config.seed,
            fidelity=fidelity,
            folder=config.home,
            accuracy=self.accuracy,
            checkpoint_seconds=config.checkpoint_seconds,
        )
        return request.model_copy(update={"folder": self.home.evaluation(request.key)})

    def finished_trials(self) -> TrialSequence:
        """All trials of the run that have a result."""
        return self.records.trials(self.run_id).finished

    @property
    def after_first_rung(self) -> str:
        """` after one-shot repair`, to stand behind what is expected of designs; empty where there is one rung."""
        ladder = self.config.ladder
        return f" after {fidelity_in_words(ladder.fidelities[0])}" if ladder.top else ""

    def evaluation_lengths(self, fidelity: Fidelity | None = None) -> list[float]:
        """Seconds of the evaluations at this fidelity that this run paid for and that came to a result."""
        wanted = fidelity or self.config.ladder.fidelities[0]
        paid = self.records.evaluation_seconds(self.run_id)
        return [took for fidelity, status, took in paid if (fidelity, status) == (wanted, "done")]

    def expected_evaluation(self, fidelity: Fidelity | None = None) -> float:
        """Seconds that the next evaluation at this fidelity, by default that of the first rung, is expected to take."""
        ladder = self.config.ladder
        steps = ladder.steps(fidelity or ladder.fidelities[0])
        recipe = self.config.recipe.model_copy(update={"training_steps": steps})
        return expected_seconds(self.evaluation_lengths(fidelity), self.survey.measurement.seconds, recipe)


@dataclass
class SearchContext(RunContext):
    """What the nodes work with besides: the agents and their memory."""

    vectors: VectorStore
    prompts: PromptLibrary
    chat: ChatTeam | None
    spending: Spending
    cassette: Cassette | None = None
    outlooks: dict[int, Outlook | None] = field(default_factory=dict)
    guidance: dict[int, str] = field(default_factory=dict)
    prompt_news: PromptNews = field(default_factory=PromptNews)
    recollections: dict[int, Recollection] = field(default_factory=dict)
    approvals_told: set[int] = field(default_factory=set)
    under_way: UnderWay = field(default_factory=UnderWay)
    learnt: "tuple[int, Surrogate[Architecture, DesignDraft]] | None" = None
    dropped: set[str] = field(default_factory=set)

    @cached_property
    def index(self) -> TrialIndex:
        """The way of this run's trials into the vector store."""
        return TrialIndex(self.records, self.vectors, self.run_id)

    @property
    def library(self) -> StoredLibrary:
        """The past as the search may see it, with all trials that were noted for the vector store."""
        self.index.write()
        return self._library

    @cached_property
    def _library(self) -> StoredLibrary:
        # What it has read of finished trials it keeps from turn to turn.
        return StoredLibrary(
            records=self.records,
            vectors=self.vectors,
            run_id=self.run_id,
            goal=self.config.goal_settings(),
            reference=self.space.source,
            sizes=(self.space.settings.min_parameters, self.space.most_parameters),
            reach=self.config.past_runs,
        )

    def proposer(self, stage: Stage, candidate: int = 0, tools: "tuple[BaseTool, ...]" = ()) -> Proposer:
        """Whose turn it is in `stage`; each of the designs of a turn is asked for in a conversation of its own.

        An agent may call `tools` before it answers with a design.
        """
        if stage == "greedy":
            return GreedyProposer()
        if stage == "judge":
            return JUDGES[self.config.judge]()
        asks = partial(ask, self, candidate=candidate, tools=tools)
        if stage == "self_evolution":
            return Evolver(asks, self.prompts, self.dialect)
        return Distiller(asks, self.prompts, self.dialect, self.config.top_k, self.config.sample_size)

    @cached_property
    def dialect(self) -> PrunedLMDialect:
        """The words in which the agents speak of the space."""
        return PrunedLMDialect(self.space, self.config.source, self.config.ladder)

    def stage_of(self, stage: Stage, turn: int) -> Stage:
        """Who has this turn while `stage` lasts: of the agents' turns the judge has those that are not their share."""
        agents = stage in ("self_evolution", "knowledge_distillation")
        return "judge" if agents and not self.config.is_agents_turn(turn) else stage

    def turn_seed(self, turn: int, candidate: int = 0) -> int:
        """The seed of one turn, different for each, and for each of the designs that are asked for in it."""
        return (self.config.searcher_seed * 100_003 + turn + candidate * _APART) % 2**31

    @cached_property
    def earlier(self) -> tuple[Earlier, ...]:
        """What other runs measured alike before this one began, for the surrogate; see `Records.comparable_trials`."""
        if not self.config.learns_from_past_runs:
            return ()
        if self.cassette is None:
            return self.measured_alike
        # What decides nothing is not worth a place on the cassette; without one a replay would expect otherwise.
        return self.cassette.earlier(lambda: self.measured_alike) if self.config.uses_surrogate else ()

    @cached_property
    def measured_alike(self) -> tuple[Earlier, ...]:
        """The same as the records have it now; empty where the search learns from its own trials alone."""
        if not self.config.learns_from_past_runs:
            return ()
        return tuple(
            Earlier(one.architecture, one.score, one.evaluation_key or "")
            for one in self.records.comparable_trials(self.run_id)
            if one.score is not None
        )
