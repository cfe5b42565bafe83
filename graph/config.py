"""All settings of a search: one model, composed of what each floor defines for itself.

Read from, later ones winning: defaults, a YAML file, environment variables PENJING_*, and arguments.
"""

import hashlib
import json
import math
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal, Self

from platformdirs import user_cache_path, user_data_path
from pydantic import Field, ValidationInfo, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from agents.model_traits import model_traits
from agents.settings import LOCAL, AgentsSettings, ChatSettings
from graph.budget import BudgetCaps
from graph.sizes import Size
from memory.filters import Reach
from memory.settings import StoreSettings
from tools.embedded import EMBEDDED_NAME
from tools.fidelity import FidelitySettings, Ladder
from tools.requests import CHECKPOINT_SECONDS
from tools.settings import DataSettings, GoalSettings, Recipe, WidthSettings
from tools.workers.choice import RaySettings, WorkersChoice

# These change where things are kept, how they are computed or when the search stops, not what its trials are.
_WITHOUT_EFFECT = {
    "home",
    "cache",
    "workers",
    "ray",
    "keep_models",
    "name",
    "budget",
    "prices",
    "record",
    "replay",
    "vectors",
    "checkpoints",
    "artifacts",
    "approve",
    "mlflow_models",
    "outage_seconds",
    "checkpoint_seconds",
}


MemoryMode = Literal["full", "no_prompts", "no_lessons", "off"]


class SearchConfig(ChatSettings, GoalSettings, FidelitySettings, StoreSettings, BaseSettings):
    """What to search and how. Where no size is limited, `max_parameters` is 85 % of the source's."""

    model_config = SettingsConfigDict(
        frozen=True, extra="forbid", env_prefix="PENJING_", env_nested_delimiter="__", validate_default=True
    )

    name: str = Field("", description="a name of your own for the run")
    source: str = Field("smollm2-135m", description="model to prune: embedded name, directory or hub name")
    corpus: str = Field("python-docs", description="text to train on: embedded name, file, directory or hub data set")
    max_parameters: Size | None = Field(
        None,
        description="largest allowed design, like 115M; default 85 % of source, "
        "or anything below it with max_file_mb or max_memory_mb",
    )
    min_parameters: Size | None = Field(
        None,
        description="smallest allowed design; default 97 % of max_parameters; with max_file_mb or max_memory_mb "
        "90 % of the saliency-greedy design, half where file_format is quantised; with max_latency_ms half of either",
    )
    trials: int = Field(
        51, ge=1, description="designs to grow and measure: the saliency-greedy one, and n turns of the agents (n = 50)"
    )
    self_evolution: int | None = Field(
        None, ge=0, description="turns of self-evolution (lambda); default 60 %; the rest is knowledge distillation"
    )
    top_k: int = Field(10, ge=1, description="knowledge distillation samples from this many best designs (k)")
    sample_size: int = Field(4, ge=1, description="designs shown to the distiller (xi)")
    accept: Literal["always", "not_worse", "annealed"] = Field(
        "not_worse",
        description="when a child of self-evolution becomes the current architecture; annealed: not worse, or worse "
        "by chance, the less likely the worse it is and the later it comes",
    )
    annealing_temperature: float = Field(
        0.02,
        gt=0,
        description="for accept=annealed: a first child that is worse by this many nats is accepted with probability "
        "0.37; it falls evenly to 0 over the turns of self-evolution (a share where objective is accuracy)",
    )
    repairs: int = Field(2, ge=0, description="how often an illegal proposal goes back to its author")
    patience: int = Field(
        3,
        ge=1,
        description="turns without a usable design before the other stage takes over; after as many more the judge has "
        "this many turns",
    )
    judge: str = Field(
        "random",
        description="searcher without a language model that has the turns that llm_share leaves, and takes over where "
        "the agents have no design: random, evolution, local, tpe, forest",
    )
    llm_share: float = Field(
        1.0,
        ge=0,
        le=1,
        description="share of the turns that the agents have, spread evenly; 0: no chat model is needed",
    )
    search_seed: int | None = Field(
        None,
        ge=0,
        lt=2**31,
        description="seed of whoever proposes designs, where it is another than that of training and measuring; "
        "null: seed",
    )
    parallel: int = Field(1, ge=1, description="designs proposed and evaluated at the same time")
    proposals_per_turn: int = Field(
        1,
        ge=1,
        le=64,
        description="designs that are asked for in each turn, of agents and judges alike; only the one is paid for of "
        "which a surrogate model, or before it knows enough the saliency forecast, expects most",
    )
    memory: MemoryMode = Field(
        "full",
        description="what memory gives to the agents: past designs, lessons and patterns, wordings of prompts that did "
        "better; no_prompts: no wordings; no_lessons: neither lessons nor patterns; off: nothing, and the surrogate "
        "learns from this run alone",
    )
    past_runs: Reach = Field(
        "same_source",
        description="which other runs memory looks at: none, those with the same source and corpus, or all; figures "
        "are told, and learnt from by the surrogate, only of those with the same data and recipe too (true and false "
        "are read as same_source and none)",
    )
    show_picture: bool = Field(
        False,
        description="whether the agents are shown the surrogate's picture of the search: where it expects good "
        "designs, how sure it is, and what it would try next",
    )
    tool_calls: int = Field(
        0,
        ge=0,
        le=50,
        description="calls of tools that an agent may make for each design: costs, forecast, tried designs, "
        "sensitivity, or a trial of its own; only where its chat model can call tools, which the embedded one cannot",
    )
    approve: bool = Field(
        False,
        description="whether the search waits before each evaluation but that of trial 0 until you accept, edit or "
        "reject its design: in its terminal, or by penjing approve",
    )
    agents: AgentsSettings = AgentsSettings()
    recall: int = Field(3, ge=0, description="most entries of each kind that memory adds to a prompt")
    budget: BudgetCaps = BudgetCaps()
    prices: Path | None = Field(
        None, description="YAML file of your own prices of chat models, over those in agents/prices.yaml"
    )
    data: DataSettings = DataSettings()
    recipe: Recipe = Recipe()
    space: WidthSettings = WidthSettings()
    workers: str = Field(
        "processes",
        description="where designs are evaluated: processes, a subprocess for each; processes:N, at most N of them at "
        "a time; local, this process; ray, tasks of Ray on this machine; ray:ADDRESS, on the cluster there",
    )
    ray: RaySettings = RaySettings()
    checkpoint_seconds: float | None = Field(
        CHECKPOINT_SECONDS,
        ge=0,
        description="a survey or a trial that trains for longer is written down so often, and a "
        "search that was interrupted goes on in the middle of it; null: never",
    )
    keep_models: int = Field(3, ge=1, description="trained weights are kept for this many best trials and trial 0")
    mlflow_models: bool = Field(
        False, description="whether the exported model goes to MLflow too, where MLFLOW_TRACKING_URI names a store"
    )
    prompt_dir: Path | None = Field(None, description="folder with your own prompt templates")
    record: Path | None = Field(
        None, description="new file (JSON lines) in which every call of a chat model is recorded as it happens"
    )
    replay: Path | None = Field(
        None, description="file that record wrote: the search is run again from it, without any chat model"
    )
    home: Path = Field(
        default_factory=lambda: user_data_path("penjing"), description="where runs, records and vectors are kept"
    )
    cache: Path = Field(
        default_factory=lambda: user_cache_path("penjing"), description="where converted models and surveys are kept"
    )

    @field_validator("past_runs", mode="before")
    @classmethod
    def _as_it_was_written(cls, value: Any) -> Any:
        """The setting was a switch at first."""
        switched = {"true": "same_source", "false": "none"}
        return switched.get(str(value).lower(), value)

    @field_validator("home", "cache", "prompt_dir", "record", "replay", "prices", "task_data")
    @classmethod
    def _absolute(cls, value: Path | None) -> Path | None:
        return None if value is None else value.expanduser().absolute()

    @field_validator("replay")
    @classmethod
    def _either(cls, value: Path | None, info: ValidationInfo) -> Path | None:
        if value is not None and info.data.get("record") is not None:
            raise ValueError("a search is recorded or replayed, not both: leave record or replay out")
        return value

    @field_validator("judge")
    @classmethod
    def _is_there(cls, value: str) -> str:
        # The searchers and their spaces take longer to import than all the rest, and most settings name none.
        if value == "random":
            return value
        from agents.proposers import known_judge

        return known_judge(value)

    @field_validator("workers")
    @classmethod
    def _are_workers(cls, value: str) -> str:
        WorkersChoice.read(value)
        return value

    @field_validator("space")
    @classmethod
    def _designs_can_say_it(cls, value: WidthSettings) -> WidthSettings:
        # A proposal names key/value heads only; query heads that go by themselves would be lost on the way.
        if value.attention_unit != "kv_group":
            raise ValueError("a search moves by key/value heads; query_head is for penjing pretrain")
        return value

    @model_validator(mode="after")
    def _ladder_can_be_climbed(self) -> Self:
        ladder = self.ladder
        fewest = ladder.reduction_factor**ladder.top
        if self.trials < fewest:
            raise ValueError(
                f"with trials = {self.trials} and reduction_factor = {ladder.reduction_factor} no design reaches "
                f"{ladder.fidelities[-1]}: set trials to {fewest} or more, or fewer fidelities"
            )
        return self

    @property
    def ladder(self) -> Ladder:
        """The rungs that designs can climb, with their recipes."""
        return Ladder(recipe=self.recipe, **{name: getattr(self, name) for name in FidelitySettings.model_fields})

    @property
    def stages(self) -> tuple[int, int]:
        """Turns of self-evolution and of knowledge distillation (lambda, gamma)."""
        turns = self.trials - 1
        evolution = round(0.6 * turns) if self.self_evolution is None else min(self.self_evolution, turns)
        return evolution, turns - evolution

    @property
    def turns(self) -> dict[str, int]:
        """Turns of each stage after trial 0, as long as each ends in a design."""
        evolution, _ = self.stages
        found = {"self_evolution": 0, "knowledge_distillation": 0, "judge": 0}
        for turn in range(1, self.trials):
            agents = "self_evolution" if turn <= evolution else "knowledge_distillation"
            found[agents if self.is_agents_turn(turn) else "judge"] += 1
        return found

    @property
    def asks_agents(self) -> bool:
        """Whether any turn is the agents', so that a chat model is needed."""
        return self.trials > 1 and self.llm_share > 0

    def recalls(self, kind: Literal["designs", "lessons", "wordings"]) -> bool:
        """Whether memory gives entries of this kind to the agents; patterns are lessons too."""
        without = {"no_prompts": "wordings", "no_lessons": "lessons"}
        return self.recall > 0 and self.memory != "off" and without.get(self.memory) != kind

    @property
    def learns_from_past_runs(self) -> bool:
        """Whether the surrogate learns from what earlier runs measured."""
        return self.memory != "off" and self.past_runs != "none"

    @property
    def uses_surrogate(self) -> bool:
        """Whether what the surrogate expects decides anything, and is not only recorded."""
        return self.proposals_per_turn > 1 or self.show_picture or self.tool_calls > 0

    def is_agents_turn(self, turn: int) -> bool:
        """Whether `turn`, of those after trial 0, which is turn 0, is the agents' by `llm_share`."""
        # The share as it is written: 0.29 * 100 is less than 29 in binary.
        share = Fraction(str(self.llm_share))
        return math.floor(turn * share) > math.floor((turn - 1) * share)

    @property
    def searcher_seed(self) -> int:
        """The seed of whoever proposes designs."""
        return self.seed if self.search_seed is None else self.search_seed

    def calls_of(self, agent: str) -> int:
        """How many calls of tools an agent may make for each design; none where its chat model can make none."""
        chat_model = self.chat_settings()[agent].chat_model
        name = EMBEDDED_NAME if chat_model == LOCAL else chat_model.partition(":")[2]
        return self.tool_calls if model_traits(name).calls_tools else 0

    def chat_settings(self) -> dict[str, ChatSettings]:
        """The settings of each agent's chat model: the common ones with its own over them."""
        common = ChatSettings(**{name: getattr(self, name) for name in ChatSettings.model_fields})
        return {agent: getattr(self.agents, agent).over(common) for agent in AgentsSettings.model_fields}

    def goal_settings(self) -> GoalSettings:
        """The part of the settings that says what is searched for."""
        return GoalSettings(**{name: getattr(self, name) for name in GoalSettings.model_fields})

    def deciding(self) -> dict[str, Any]:
        """The settings that decide results, as plain JSON values."""
        return self.model_dump(mode="json", exclude=_WITHOUT_EFFECT)

    @property
    def fingerprint(self) -> str:
        """Equal for configurations that give the same search."""
        return hashlib.sha256(json.dumps(self.deciding(), sort_keys=True).encode()).hexdigest()[:16]
