"""The agents' searches and those of judges with equal seeds, settings and budgets, each paid for once.

All are ordinary runs in one home, so that they share the evaluations: trial 0, and any design that was grown before
with the same seed, comes from the records. A run with the same settings is taken for the search, finished or not.
"""

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path

from agents.proposers import JUDGES, known_judge
from graph.config import SearchConfig
from graph.events import AnyEvent
from graph.folder import Home
from graph.judgement import AGENTS, Judgement, Outcome
from graph.session import SearchSession
from memory.records import Records
from memory.tables import Run
from tools.errors import InputError


@dataclass(frozen=True)
class Entry:
    """One search of a tournament: who proposes, with which seed, all its settings, and its run where that is given."""

    searcher: str
    seed: int
    config: SearchConfig
    run: str | None = None

    def __str__(self) -> str:
        return f"{self.searcher}, seed {self.seed}"


class Tournament:
    """The searches that compare the agents of `config` with `judges`.

    Seeds are that of `config` and those after it. Where it has a `search_seed`, that one rises and `seed` stays, so
    that searches with different seeds share their evaluations too. Each search knows its own trials alone: with what
    the others measured, the later ones would know more.
    """

    def __init__(self, config: SearchConfig, judges: Sequence[str], seeds: int, run: str | None = None) -> None:
        """Nothing is run yet.

        Args:
            run: a search of the agents with exactly `config`, which is taken as it is.

        Raises:
            InputError: for an unknown judge, or settings that leave nothing to compare.
        """
        if not judges or seeds < 1:
            raise InputError("A comparison needs one judge and one seed at least.")
        try:
            self.judges = tuple(dict.fromkeys(known_judge(name) for name in judges))
        except ValueError as error:
            end = "" if str(error).endswith("?") else "."
            raise InputError(f"The judges cannot be used: {error}{end}") from error
        if not config.asks_agents:
            reason = "it has trial 0 alone" if config.trials == 1 else f"its llm_share is {config.llm_share:g}"
            raise InputError(f"The agents of this search have no turn ({reason}), so there is nothing to compare.")
        for name in self.judges:
            JUDGES[name]().prepare()
        self.config = config
        first = config.searcher_seed
        self.entries = tuple(
            self._entry(searcher, seed, run if (searcher, seed) == (AGENTS, first) else None)
            for seed in range(first, first + seeds)
            for searcher in (AGENTS, *self.judges)
        )

    @property
    def seeds(self) -> int:
        """With how many seeds each searcher searches."""
        return len(self.entries) // (1 + len(self.judges))

    def session(self, entry: Entry) -> SearchSession:
        """The search of `entry`: a run that is there already, or a new one. Nothing runs before `stream`."""
        known = entry.run or self._recorded(entry)
        return (
            SearchSession.start(entry.config)
            if known is None
            else SearchSession.resume(known, entry.config.home, entry.config)
        )

    def stream(self, session: SearchSession) -> Generator[AnyEvent, None, None]:
        """Run the search to its end. A search whose trials are all done has ended, also where none could be best.

        Raises InputError and whatever else as `SearchSession.stream` does.
        """
        try:
            yield from session.stream()
        except InputError:
            done = [trial for trial in session.trials() if trial.measurement is not None]
            if len(done) < session.config.trials:
                raise

    def outcome(self, entry: Entry, session: SearchSession) -> Outcome:
        """What the trials of a search are worth; where it measures at several fidelities, after the highest one."""
        trials = [trial for trial in session.trials() if trial.measurement is not None]
        top = session.config.ladder.top
        scores = tuple(trial.score if trial.acceptable and trial.rung == top else None for trial in trials)
        return Outcome(entry.searcher, entry.seed, session.run_id, scores)

    def judgement(self, outcomes: Sequence[Outcome]) -> Judgement:
        """What these searches say."""
        return Judgement(self.config.objective, tuple(outcomes))

    def play(self) -> Judgement:
        """Run all that is left to run, without looking at the events."""
        outcomes = []
        for entry in self.entries:
            session = self.session(entry)
            try:
                for _ in self.stream(session):
                    pass
                outcomes.append(self.outcome(entry, session))
            finally:
                session.close()
        return self.judgement(outcomes)

    def _entry(self, searcher: str, seed: int, run: str | None) -> Entry:
        if run is not None:
            return Entry(searcher, seed, self.config, run)
        rising = "seed" if self.config.search_seed is None else "search_seed"
        settings = {rising: seed, "name": f"{self.config.name} {searcher} {seed}".strip()}
        if searcher != AGENTS:
            settings |= {"llm_share": 0.0, "judge": searcher}
        # A cassette is that of one search, and nobody is asked about the designs of a judge.
        settings |= {"past_runs": "none", "record": None, "replay": None, "approve": False}
        return Entry(searcher, seed, self.config.model_copy(update=settings))

    def _recorded(self, entry: Entry) -> str | None:
        """A run with the settings of `entry`: rather a finished one, and one that its budget did not end."""
        file = Home(entry.config.home).records
        if not file.is_file():
            return None
        with Records.open(file) as records:
            found = [
                run for run in records.runs() if run.fingerprint == entry.config.fingerprint and run.imported_at is None
            ]
        return max(found, key=_progress).id if found else None


def _progress(run: Run) -> tuple[bool, bool]:
    """Of equal ones `max` takes the first, which is the newest."""
    return run.status == "finished" and not (run.result or {}).get("budget_reached"), run.status == "finished"


def judge(
    run: str = "latest", judges: Sequence[str] = ("random",), seeds: int = 1, home: Path | None = None
) -> Judgement:
    """Compare a search of the agents with judges of the same settings, with its seed and the `seeds` - 1 after it.

    What of these searches is not there yet is run; interrupted ones are gone on with.

    Args:
        run: id of the agents' search, the beginning of one, or "latest".
        judges: names in `agents.proposers.JUDGES`: random, evolution, local, tpe, forest.

    Raises:
        InputError: there is no such run or judge, or nothing to compare.
    """
    return tournament_of(run, judges, seeds, home).play()


def tournament_of(run: str, judges: Sequence[str], seeds: int, home: Path | None = None) -> Tournament:
    """The tournament of a recorded search of the agents, as `judge` has it. Raises InputError as that does."""
    session = SearchSession.open(_latest_of_agents(home) if run == "latest" else run, home)
    try:
        if session.record.imported_at is not None:
            raise InputError(
                f"Run {session.run_id} was imported, so nothing can be run beside it; start a search of your own with "
                "its settings."
            )
        return Tournament(session.config, judges, seeds, session.run_id)
    finally:
        session.close()


def _latest_of_agents(home: Path | None) -> str:
    """Searches of judges may have come after it. Where there is none, whatever is the latest."""
    file = Home(home or SearchConfig().home).records
    if file.is_file():
        with Records.open(file) as records:
            for run in records.runs():
                if run.config.get("llm_share", 1.0) > 0 and run.imported_at is None:
                    return run.id
    return "latest"
