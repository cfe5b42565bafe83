"""Patterns over the records: noted when their trial is finished, tested by later ones, counted, given out."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import partial

import numpy as np

from memory.claim_words import read_claim
from memory.claims import Claim
from memory.embeddings import embed_architecture
from memory.pattern_records import NumberedPattern, PatternPlace, RecordedTest
from memory.patterns import NOISE, Measured, PatternView, comparisons, merged, verdict
from memory.recollection import RetrievedPattern
from memory.records import Records
from memory.tables import Pattern, Run
from memory.views import TrialView
from tools.architecture import Architecture

DISTILLATION = "knowledge_distillation"
_OF_AGENTS = {"self_evolution", DISTILLATION}


def note_patterns(records: Records, run_id: str, numbers: Collection[int] | None = None) -> list[PatternView]:
    """Write down the patterns of a run and what its finished trials, all or those of these numbers, say of them.

    Tested are the run's own patterns, by the trial that they led to and all later ones, and those of other runs that
    its prompts were given, from then on. What is recorded already stays, so that repeating is harmless; a run of before
    there were patterns gets all of them. Returns the patterns whose state this changed.
    """
    trials = records.trials(run_id)
    if not trials.stages & _OF_AGENTS:
        # Nobody who names patterns, or is given any.
        return []
    recorded, given = records.patterns(run_id), records.patterns_given(run_id)
    if not (recorded or given or DISTILLATION in trials.stages):
        return []
    run = records.run(run_id)
    if run.source_architecture is None:
        return []
    places = {one.place for one in recorded}
    fresh = [one for one in _named(run, trials) if one.place not in places]
    others = [one for one in records.past_patterns(run_id) if one.name in given] if given else []
    since = {one.place: one.number for one in [*recorded, *fresh]} | {one.place: given[one.name] for one in others}
    if not since:
        return []
    claims = _claims([*recorded, *fresh, *others])
    source = Architecture.model_validate(run.source_architecture)
    # To patterns that were not there yet all trials are new.
    tests = _tests(trials, source, claims, since, None if fresh else numbers)
    before = {view.claim: view.state for view in _views([*recorded, *others], records)}
    records.record_patterns([one.pattern for one in fresh], tests)
    after = _views([*records.patterns(run_id), *others], records)
    return [view for view in after if view.claim and view.state != before.get(view.claim, "open")]


def note_missing_patterns(records: Records) -> None:
    """Note the patterns of all runs of before there were any, and what their trials say of them."""
    for run_id in records.runs_without_patterns(DISTILLATION):
        note_patterns(records, run_id)


def patterns_of(records: Records, run_id: str) -> list[PatternView]:
    """The patterns that the agents of a run named, each once, in their order."""
    return _views(records.patterns(run_id), records)


def patterns_within_reach(records: Records, run_id: str, past_runs: bool) -> list[PatternView]:
    """The patterns of a run, and with `past_runs` of the latest others with its source and corpus, each once."""
    past = records.past_patterns(run_id) if past_runs else []
    return _views([*records.patterns(run_id), *past], records)


def best_standing(patterns: Iterable[PatternView], k: int) -> list[PatternView]:
    """The `k` patterns that stand best, those with most support beyond their contradictions first.

    Only such as at least one trial supports, and no more contradict.
    """
    fit = [one for one in patterns if one.support and one.support >= one.contradiction]
    return sorted(fit, key=lambda one: (one.contradiction - one.support, -one.support))[:k]


def as_told(patterns: Iterable[PatternView], run_id: str) -> list[RetrievedPattern]:
    """Patterns as prompts of run `run_id` are given them."""
    return [
        RetrievedPattern(name, one.text, one.standing, "" if name.startswith(f"{run_id}/") else "another run")
        for one in patterns
        for name in one.names[:1]
    ]


def contradicted_wordings(patterns: Iterable[PatternView]) -> set[str]:
    """The wordings, as `memory.patterns.plain` has them, of those that are contradicted."""
    return {wording for one in patterns if one.state == "contradicted" for wording in one.wordings}


def _named(run: Run, trials: Sequence[TrialView]) -> list[NumberedPattern]:
    """What finished trials of the distiller say as patterns; their claims are read by the depth of the source."""
    depth = len((run.source_architecture or {})["layers"])
    return [
        NumberedPattern(
            Pattern(
                run_id=run.id,
                proposal_id=trial.proposal_id,
                line=line,
                text=text,
                claim=None if (claim := read_claim(text, depth)) is None else claim.model_dump(mode="json"),
                drawn_from=[f"{run.id}/{number}" for number in trial.based_on],
                created_at=trial.created_at,
            ),
            trial.number,
        )
        for trial in trials
        if trial.stage == DISTILLATION and trial.measurement is not None
        for line, text in enumerate(trial.rationale)
    ]


def _tests(
    trials: Sequence[TrialView],
    source: Architecture,
    claims: Mapping[PatternPlace, Claim],
    since: Mapping[PatternPlace, int],
    numbers: Collection[int] | None,
) -> list[RecordedTest]:
    views = {view.number: view for view in trials}
    measured = [one for view in trials if (one := _measured(view)) is not None]
    noise = NOISE[trials[0].goal.objective]
    found = []
    for reference, trial, change in comparisons(measured, partial(_distance, source), noise, numbers):
        for place, claim in claims.items():
            if since[place] > trial.number:
                continue
            said = verdict(claim.movement(reference.design, trial.design), change, noise)
            if said is not None:
                found.append(RecordedTest(place, views[trial.number].trial_id, said))
    return found


def _measured(view: TrialView) -> Measured[Architecture] | None:
    # Where all trials are, so that any two compare.
    view = view.on_first_rung()
    if view.measurement is None or view.score is None:
        return None
    design, fidelity = view.architecture, view.measurement.fidelity
    return Measured(view.number, view.parent_number, design, view.identity, design.parameters, view.score, fidelity)


def _distance(source: Architecture, one: Architecture, other: Architecture) -> float:
    return float(np.linalg.norm(embed_architecture(one, source) - embed_architecture(other, source)))


def _claims(patterns: Sequence[NumberedPattern]) -> dict[PatternPlace, Claim]:
    read = {one.place: Claim.of_document(one.pattern.claim) for one in patterns}
    return {place: claim for place, claim in read.items() if claim is not None}


def _views(patterns: Sequence[NumberedPattern], records: Records) -> list[PatternView]:
    tests = records.pattern_tests([one.pattern.id for one in patterns]) if patterns else []
    words = {place: claim.in_words() for place, claim in _claims(patterns).items()}
    return merged(patterns, words, [(test.pattern_id, test.trial_id, test.verdict) for test in tests])
