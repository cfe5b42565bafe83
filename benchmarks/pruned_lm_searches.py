"""Whole searches on a real model for `benchmarks.search_pruned_lm`: all sides through the product, one after the other.

They are ordinary runs in one home in the cache folder, so that they draw from one table of evaluations. The seed of
training and measuring is fixed, that of the searchers varies. What is finished is read from there, and a search that
was interrupted goes on.
"""

import gc
import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

from agents.proposers import JUDGES
from benchmarks.growing import Bars, Job
from graph.config import MemoryMode, SearchConfig
from graph.folder import Home
from graph.judgement import Judgement, Outcome
from graph.session import SearchSession
from graph.tournament import Entry, Tournament
from memory.ledger import Ledger, ledger_of
from memory.records import Records
from memory.views import TrialView
from tools.requests import Progress, Survey
from tools.settings import Recipe, WidthSettings
from tools.sources import resolve_source
from tools.trial_folder import MODEL_FOLDER

HELD_OUT_FILE = "held_out.json"


@dataclass(frozen=True)
class Plan:
    """How much each search and each evaluation takes: optimiser steps before the cut and after, tokens held out."""

    trials: int
    seeds: int
    warmup_steps: int
    training_steps: int
    held_out_tokens: int


@dataclass(frozen=True)
class Searched:
    """All searches, and the held-out loss of the best design of each, by run; that of trial 0 is `greedy`."""

    judgement: Judgement
    held_out: dict[str, float]
    greedy: float
    ledger: Ledger
    seconds: tuple[float, ...]
    """Of each evaluation that was paid for."""


class Searches:
    """The agents and all judges on the source of `job`, at `share` of its parameters."""

    def __init__(
        self,
        job: Job,
        plan: Plan,
        share: float,
        chat_model: str,
        judges: Sequence[str] = tuple(JUDGES),
        space: WidthSettings | None = None,
        memory: MemoryMode = "full",
    ) -> None:
        self.job, self.plan = job, plan
        self.source = resolve_source(job.source, cache=job.cache / "sources")
        scale = job.scale
        self.config = SearchConfig(
            source=job.source,
            corpus=job.corpus,
            max_parameters=round(share * self.source.architecture.parameters),
            trials=plan.trials,
            chat_model=chat_model,
            memory=memory,
            judge="random",
            llm_share=1.0,
            seed=0,
            search_seed=0,
            parallel=1,
            data=scale.data,
            recipe=Recipe(
                warmup_steps=plan.warmup_steps,
                training_steps=plan.training_steps,
                batch_size=scale.batch,
                micro_batch_size=scale.micro_batch,
                precision="float32",
            ),
            space=space or WidthSettings(),
            # Half a gigabyte each: of every search the best one, to be measured on the held-out part.
            keep_models=1,
            # A process for each evaluation would take seconds to start.
            workers="local",
            home=job.folder,
            cache=job.cache,
        )
        self.tournament = Tournament(self.config, judges, plan.seeds)

    def run(self, bars: Bars, only: str | None = None) -> Searched:
        """Run what is missing, of all searchers or of one only."""
        outcomes, held_out, ledgers, greedy = list[Outcome](), dict[str, float](), list[Ledger](), 0.0
        for entry in self.entries(only):
            session = self.tournament.session(entry)
            try:
                with bars.run(str(entry)):
                    self._search(entry, session, bars)
                outcomes.append(self.tournament.outcome(entry, session))
                held_out[session.run_id] = self.held_out(session, session.best())
                greedy = self.held_out(session, session.trial(0))
                # The padded export of the best design is as large as the source, and nobody asks for it.
                shutil.rmtree(session.folder.export, ignore_errors=True)
                if session.config.asks_agents:
                    ledgers.append(ledger_of(session.proposals(), session.calls()))
            finally:
                session.close()
        return Searched(
            judgement=self.tournament.judgement(outcomes),
            held_out=held_out,
            greedy=greedy,
            ledger=added(ledgers),
            seconds=self._seconds([outcome.run for outcome in outcomes]),
        )

    def entries(self, only: str | None = None) -> list[Entry]:
        """The searches of all searchers or of one only, seed by seed."""
        return [entry for entry in self.tournament.entries if only in (None, entry.searcher)]

    def held_out(self, session: SearchSession, trial: TrialView) -> float:
        """Loss of a trial's model on text that neither training nor any search saw; measured once."""
        from tools.evaluation.perplexity import validation_loss
        from tools.export.compact import load_compact
        from tools.pretraining.compute import choose_compute

        file = self.job.folder / HELD_OUT_FILE
        known: dict[str, float] = json.loads(file.read_text()) if file.is_file() else {}
        key = f"{trial.evaluation_key} {self.plan.held_out_tokens}"
        if key not in known:
            survey = Survey.model_validate_json(session.folder.survey.read_text())
            folder = Home(self.config.home).evaluation(str(trial.evaluation_key)) / MODEL_FOLDER
            model = load_compact(survey.source_path, folder)
            choose_compute("float32").place(model)
            known[key] = validation_loss(model, self._held_out_blocks, self.job.scale.micro_batch)
            beside = file.with_suffix(".partial")
            beside.write_text(json.dumps(known, indent=1))
            beside.replace(file)
        return known[key]

    @cached_property
    def _held_out_blocks(self) -> Any:
        """The validation blocks that come after those of the searches [blocks, block_length]."""
        from tools.pretraining.corpus import prepare_corpus

        data, folder = self.config.data, self.job.cache / "corpora"
        seen = prepare_corpus(self.job.corpus, self.source.path, data, folder).validation
        more = data.model_copy(update={"validation_tokens": data.validation_tokens + self.plan.held_out_tokens})
        blocks = prepare_corpus(self.job.corpus, self.source.path, more, folder).validation
        if not (blocks[: len(seen)] == seen).all():
            raise RuntimeError("the validation part of the searches is not the beginning of the longer one")
        return blocks[len(seen) :]

    def _search(self, entry: Entry, session: SearchSession, bars: Bars) -> None:
        for event in self.tournament.stream(session):
            if event.kind == "progress":
                where = "survey" if event.trial is None else f"trial {event.trial}"
                bars.show(
                    Progress(phase=f"{where}, {event.phase}", done=event.done, total=event.total, loss=event.loss)
                )
            elif event.kind == "evaluation":
                # Models are left in reference cycles, and the next one must not stand beside them.
                gc.collect()

    def _seconds(self, runs: Sequence[str]) -> tuple[float, ...]:
        with Records.open(Home(self.config.home).records) as records:
            paid = [evaluation for run in runs for evaluation in records.evaluations(run)]
        return tuple(float(evaluation.measurement["seconds"]) for evaluation in paid)

    def facts(self) -> dict[str, Any]:
        """What the report states of the setting."""
        scale = self.job.scale
        return {
            **self.job.facts(),
            **asdict(self.plan),
            "chat_model": self.config.chat_model,
            "max_parameters": self.config.max_parameters,
            "source_parameters": self.source.architecture.parameters,
            "survey_tokens": self.plan.warmup_steps * scale.step_tokens,
            "training_tokens": self.plan.training_steps * scale.step_tokens,
            "validation_tokens": scale.validation_tokens,
        }


def added(ledgers: Sequence[Ledger]) -> Ledger:
    """The counts of several searches together."""
    counts = {
        name: sum(getattr(ledger, name) for ledger in ledgers) for name in Ledger.model_fields if name != "faults"
    }
    kinds = sorted({kind for ledger in ledgers for kind in ledger.faults})
    return Ledger(**counts, faults={kind: sum(ledger.faults.get(kind, 0) for ledger in ledgers) for kind in kinds})
