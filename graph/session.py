"""A search as its user holds it: start or resume it, watch its events, take its results."""

import asyncio
import secrets
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from graph.budget import Spent
from graph.config import SearchConfig
from graph.events import AnyEvent
from graph.folder import Home, RunFolder
from graph.live_events import live_events
from graph.setting_changes import setting_changes
from graph.spending import own_calls, spent_of
from memory.objectives import DEFAULT_OBJECTIVES, front, read_objectives
from memory.records import Records
from memory.retrieval import best, nearest_to_limit
from memory.run_lock import run_held
from memory.tables import Call, Proposal, Run, RunEvent, Span
from memory.views import TrialView
from tools.addresses import same_place
from tools.errors import InputError
from tools.imports import uncollected

if TYPE_CHECKING:
    from graph.approval import Waiting
    from graph.story import Story
    from graph.trace import TracedSpan
    from memory.approval_records import Decision
    from memory.patterns import PatternView
    from tools.export.report import ExportReport
    from tools.spaces import DesignDraft


class SearchSession:
    """One search. Make it with `start`, `resume` or `open`; nothing runs before `stream` or `run`.

    A session may be used by one thread at a time. Leaving `stream` early (`break`, Ctrl-C) stops the work and every
    process it started; `resume` goes on from there and repeats no finished evaluation.
    """

    def __init__(self, run_id: str, config: SearchConfig, records: Records) -> None:
        self.run_id, self.config, self._records = run_id, config, records
        self._changed = False

    @classmethod
    def start(cls, config: SearchConfig) -> "SearchSession":
        """Record a new run; no network is asked and no file of a model read.

        Raises InputError where no source, corpus or folder of prompts can be of that name, or the home folder cannot be
        written: nothing is recorded then.
        """
        from prompts.library import PromptLibrary
        from tools.pretraining.corpus import check_corpus_name
        from tools.sources import check_model_name

        check_model_name(config.source)
        check_corpus_name(config.corpus)
        PromptLibrary(config.prompt_dir)
        home = Home(config.home)
        home.create()
        home.records.keep(config.records)
        records = Records.open(home.records)
        run = Run(
            id=f"{datetime.now().astimezone():%Y%m%d-%H%M%S}-{secrets.token_hex(2)}",
            name=config.name,
            status="interrupted",
            config=config.model_dump(mode="json"),
            fingerprint=config.fingerprint,
            source=config.source,
            corpus=config.corpus,
        )
        records.create_run(run)
        home.run(run.id).path.mkdir(parents=True, exist_ok=True)
        return cls(run.id, config, records)

    @classmethod
    def open(cls, run: str, home: Path | None = None) -> "SearchSession":
        """A recorded run, to look at or to export from. Raises InputError where there is none of that name."""
        # Only the place is needed to find the run; everything else is in its record.
        folder = Home(home or SearchConfig().home)
        if not folder.records.is_file():
            raise InputError(f"There is no run {run!r}: nothing was recorded in {folder.path} yet.")
        records = Records.open(folder.records)
        found = records.run(run)
        # Of a run that was last worked on in another home not its cache, which that one has.
        gone = {"cache"} if found.config.get("home") != str(folder.path) else set[str]()
        kept = {key: value for key, value in found.config.items() if key not in gone}
        config = SearchConfig.model_validate({**kept, "home": folder.path})
        return cls(found.id, config, records)

    @classmethod
    def resume(cls, run: str, home: Path | None = None, config: SearchConfig | None = None) -> "SearchSession":
        """A stopped run, to go on with; also one that its budget ended, where `config` gives it another budget.

        Raises InputError where `config` would decide other results.
        """
        session = cls.open(run, home)
        if config is not None:
            session._take(config)
        return session

    def branch(self, at: int, config: SearchConfig | None = None) -> "SearchSession":
        """Another run that goes on from where this one stood after trial `at`, with `config`; this one stays as it is.

        What was asked, answered and measured up to there is copied, and not paid for again.

        Raises InputError where the run never went on from that trial, or `config` would measure otherwise.
        """
        from graph.branching import branch_run

        self._require_own("branched")
        chosen = config or self.config
        return type(self)(branch_run(self._records, self.record, at, chosen), chosen, self._records)

    @property
    def folder(self) -> RunFolder:
        """Where the run keeps its files."""
        return Home(self.config.home).run(self.run_id)

    @property
    def record(self) -> Run:
        """The run as it is recorded now."""
        return self._records.run(self.run_id)

    def stream(self) -> Generator[AnyEvent, None, None]:
        """Run the search to its end and yield its events. A finished search yields nothing and costs nothing.

        Raises InputError for bad input, and whatever else went wrong; the run stays resumable.
        """
        self._require_own("gone on with")
        if self.record.status == "finished" and not self._goes_on:
            return
        with self.folder.lock(), run_held(self._records, self.run_id):
            self._changed = False
            yield from live_events(self.run_id, self.config, self._records)

    def run(self) -> TrialView:
        """Run the search to its end without looking at its events; the best trial."""
        for _ in self.stream():
            pass
        return self.best()

    def trials(self) -> list[TrialView]:
        """All trials so far, by number."""
        return list(self._records.trials(self.run_id))

    def trial(self, number: int) -> TrialView:
        """One trial. Raises InputError where the run has none of this number."""
        return self._records.trial(self.run_id, number)

    def proposals(self) -> list[Proposal]:
        """Every proposal of the agents, illegal ones and repairs included."""
        return self._records.proposals(self.run_id)

    def patterns(self) -> "list[PatternView]":
        """What the agents named as patterns, what it was drawn from, and what later trials say of it."""
        from memory.pattern_book import patterns_of

        return patterns_of(self._records, self.run_id)

    def calls(self) -> list[Call]:
        """Every call of a chat model."""
        return self._records.calls(self.run_id)

    def events(self) -> list[RunEvent]:
        """What happened so far, ticks of progress apart; a step that was interrupted is told again by `resume`."""
        return self._records.events(self.run_id)

    def spans(self) -> list[Span]:
        """What was done when, in the order in which it began."""
        return self._records.spans(self.run_id)

    def trace(self) -> "list[TracedSpan]":
        """The spans as a tree for each time that the run was worked on, with their calls, times, tokens and cost."""
        from graph.trace import trace_of

        return trace_of(self.spans(), self.calls())

    def story(self, trial: int) -> "Story":
        """All that is recorded of one design, from its parent to what was learnt. InputError where there is none."""
        from graph.story import story_of

        return story_of(self._records, self.run_id, trial)

    def spent(self) -> Spent:
        """What the run has spent of its budget so far; a branch without what it was copied from."""
        run, evaluations = self.record, self._records.evaluations(self.run_id)
        return spent_of(own_calls(run, self.calls()), evaluations, run.wall_clock_seconds)

    def shared(self) -> Spent:
        """What a branch did not spend itself: the calls and evaluations that it was copied from."""
        first = self.record.first_turn
        calls = [call for call in self.calls() if call.turn < first] if first else []
        rungs = [rung for trial in self.shared_trials() for rung in trial.rungs or (trial,)]
        measured = [rung.measurement for rung in rungs if rung.measurement is not None]
        return replace(spent_of(calls, (), 0.0), evaluation_seconds=sum(one.seconds for one in measured))

    def shared_trials(self) -> list[TrialView]:
        """The trials that a branch was copied from; none of any other run."""
        first = self.record.first_turn
        turns = {one.id: one.turn for one in self.proposals()} if first else {}
        return [trial for trial in self.trials() if turns[trial.proposal_id] < first] if first else []

    def waiting(self) -> "list[Waiting]":
        """The designs that wait for your decision before they are paid for, where `approve` is set."""
        from graph.approval import waiting_of

        return waiting_of(self._records, self.config, self.run_id)

    def waiting_numbers(self) -> list[int]:
        """The numbers alone, without what each is and costs."""
        return [one.trial for one in self._records.approvals(self.run_id, waiting=True)]

    def decide(
        self,
        trial: int,
        decision: "Decision",
        design: "str | Mapping[str, Any] | DesignDraft | None" = None,
        words: str = "",
    ) -> None:
        """Decide on a design that waits: `accept` it, `edit` it (`design`), or `reject` it (`words` for its author).

        The search goes on by itself where it runs, in whichever process; else `resume` goes on with it. What an edit
        does not name stays as proposed.

        Raises InputError for a trial that does not wait, or any more, and for a design that is illegal or was tried.
        """
        from graph.approval import decide

        self._require_own("decided on")
        decide(self._records, self.config, self.run_id, trial, decision, design, words)

    def draw(self, picture: Path, objectives: Sequence[str] = ()) -> None:
        """Draw the best design and all trials into a PNG or SVG file, and the Pareto front over `objectives` if any.

        Raises InputError where there is no trial yet, and as `pareto` does.
        """
        from graph.artifacts import find_survey
        from graph.picture import draw_search
        from tools.requests import Survey

        self._require_own("drawn")
        winner, chosen = self.best(), read_objectives(objectives) if objectives else ()
        if chosen:
            self.pareto(*chosen)
        if not find_survey(self.config, self.run_id):
            raise InputError(f"Run {self.run_id} has no survey here; `penjing resume {self.run_id}` goes on.")
        survey = Survey.model_validate_json(self.folder.survey.read_text())
        try:
            draw_search(survey.architecture, survey.measurement, self.trials(), winner.number, picture, chosen)
        except (OSError, ValueError) as error:
            raise InputError(f"Cannot draw into {picture}: {error}.") from error

    def best(self) -> TrialView:
        """The trial of lowest loss, or highest accuracy, within the limits. Raises InputError where there is none.

        Where the run measures at several fidelities, it is the best of those on the highest rung that any has reached.
        """
        trials = self.trials()
        leaders = best(trials, 1)
        if not leaders and (nearest := nearest_to_limit(trials, 1)):
            raise InputError(
                f"Run {self.run_id} has no trial within its limits: the nearest, trial {nearest[0].number}, takes "
                f"{nearest[0].over_limit}; name a trial to take it all the same."
            )
        if not leaders:
            raise InputError(f"Run {self.run_id} has no measured design yet; `penjing resume {self.run_id}` goes on.")
        return leaders[0]

    def pareto(self, *objectives: str) -> list[TrialView]:
        """Trials within the limits that no other one beats in two or three objectives, best in the first one first.

        Objectives are parameters (with loss the default), loss, accuracy, latency_ms, memory_mb and file_mb. Equal
        trials stand together. Raises InputError for other objectives or another number of them, and for accuracy where
        the run did not measure it.
        """
        chosen = read_objectives(objectives or DEFAULT_OBJECTIVES)
        if "accuracy" in chosen and self.config.objective != "accuracy":
            raise InputError(f"Run {self.run_id} measured no accuracy: only a search with objective=accuracy does.")
        return front(self.trials(), chosen)

    def export(
        self,
        trial: TrialView | int,
        destination: str | Path,
        format: Literal["hf", "gguf"] | None = None,
        overwrite: bool = False,
        quantise: str | None = None,
        compact: bool = False,
        dtype: str | None = None,
        told: Callable[[AnyEvent], None] = lambda event: None,
    ) -> "ExportReport":
        """Write a trial's model to a new directory, with its model card: `hf` for transformers, `gguf` for llama.cpp.

        Without a `format` it is gguf where `quantise` (q8_0, q4_k_m, ...) or a destination that ends in .gguf says so,
        else hf. `compact` writes layers of different widths at their own size, with code that opens them; without it
        they are padded. `dtype` is float32, float16 or bfloat16. Weights that were not kept are grown again, which
        `told` hears of.

        Raises InputError for a trial without a model, for options that do not go together, and where the directory
        exists or cannot be written.
        """
        with uncollected():
            from graph.exporting import export_recorded
        from tools.export.options import export_options

        self._require_own("exported as a model")
        chosen = self._records.trial(self.run_id, trial) if isinstance(trial, int) else trial
        where = Path(destination).expanduser().absolute()
        options = export_options(where, format, quantise, compact, dtype, overwrite)
        work = export_recorded(self.config, self._records, chosen, where, options, told)
        # In a thread of its own, since a notebook's thread has a loop that runs already.
        with ThreadPoolExecutor(max_workers=1) as threads:
            return threads.submit(asyncio.run, work).result()

    def close(self) -> None:
        """Close the records."""
        self._records.close()

    def _require_own(self, what: str) -> None:
        """Raises InputError for a run of another home: its files are not here, and its settings name others' places."""
        if self.record.imported_at is not None:
            raise InputError(
                f"Run {self.run_id} was imported, so it can be looked at but not {what}; what it measured is known to "
                "searches of your own."
            )

    @property
    def _goes_on(self) -> bool:
        """Whether a run that is finished has a new budget to go on with."""
        result = self.record.result or {}
        return self._changed and result.get("budget_reached") is not None

    def _take(self, config: SearchConfig) -> None:
        """Go on with the settings of `config` that decide no results."""
        if not same_place(config.checkpoints, self.config.checkpoints):
            raise InputError(f"Run {self.run_id} keeps to the place of its checkpoints: resume it without checkpoints.")
        old, new = self.config.deciding(), config.deciding()
        if config.home != self.config.home:
            old, new = {**old, "home": str(self.config.home)}, {**new, "home": str(config.home)}
        if changed := setting_changes(old, new):
            raise InputError(
                f"Run {self.run_id} was started with other settings ({'; '.join(changed)}); resume it without a "
                f"config, or let another run go on from it: penjing branch {self.run_id} --at TRIAL."
            )
        self._changed = config.budget != self.config.budget
        self.config = config
