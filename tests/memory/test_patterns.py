"""Patterns: noted with what they were drawn from, tested by later trials, counted, and no longer given out."""

import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memory.pattern_book import (
    best_standing,
    contradicted_wordings,
    note_missing_patterns,
    note_patterns,
    patterns_of,
    patterns_within_reach,
)
from memory.patterns import NOISE, PatternView, change_at_equal_size, state_of, verdict
from memory.records import Records
from memory.tables import Run
from tests.memory.conftest import finish, make_design
from tests.postgresql import NewDatabase, both_databases
from tools.architecture import Architecture

new_database = both_databases

LATE = "Late layers need fewer FFN channels."
AGAIN = "The last layers should have narrower FFN"
BABBLE = "Patterns are what the good designs share."
DISTILLED = {"stage": "knowledge_distillation", "proposer": "distiller"}


def patterns_for(records: Records, run_id: str, k: int, past_runs: bool) -> list[PatternView]:
    return best_standing(patterns_within_reach(records, run_id, past_runs), k)


def contradicted_texts(records: Records, run_id: str, past_runs: bool) -> set[str]:
    return contradicted_wordings(patterns_within_reach(records, run_id, past_runs))


def narrow(late: int, early: int | None = None) -> Architecture:
    """Equal in size to any other such design: what the late layers lose the early ones gain."""
    return make_design(ffn=((256 - late) if early is None else early, late))


@pytest.fixture
def run(records: Records) -> Records:
    """A run of a known source whose distiller, in trial 2, named a pattern and babble, drawn from trials 0 and 1."""
    records.update_run("run-a", source_architecture=make_design().model_dump(mode="json"))
    finish(records, "run-a", 0, narrow(128), 4.0, stage="greedy", proposer="greedy")
    finish(records, "run-a", 1, narrow(112), 3.9, parent_number=0)
    distilled = {"rationale": [LATE, BABBLE], "based_on": [1, 0], "parent_number": 1}
    finish(records, "run-a", 2, narrow(96), 3.8, **DISTILLED, **distilled)
    return records


def test_a_pattern_is_noted_with_its_evidence_and_tested_by_its_own_trial(run: Records) -> None:
    assert note_patterns(run, "run-a") == []
    late, babble = patterns_of(run, "run-a")
    assert (late.text, late.claim, late.names) == (LATE, "fewer FFN channels in late layers", ("run-a/2/0",))
    assert late.drawn_from == ("run-a/1", "run-a/0")
    assert (late.support, late.contradiction, late.state) == (1, 0, "open")
    assert (babble.state, babble.claim, babble.standing) == ("untestable", "", "not testable")
    assert run.patterns("run-a")[0].pattern.created_at == run.trial("run-a", 2).created_at


def test_later_trials_support_and_contradict(run: Records) -> None:
    finish(run, "run-a", 3, narrow(80), 3.7, parent_number=2)  # with it, better
    finish(run, "run-a", 4, narrow(120), 3.95, parent_number=2)  # against it, worse
    finish(run, "run-a", 5, narrow(64), 3.9, parent_number=2)  # with it, worse
    finish(run, "run-a", 6, narrow(88), None, parent_number=2)  # failed
    finish(run, "run-a", 7, narrow(72), 3.801, parent_number=2)  # as good but for the noise
    finish(run, "run-a", 8, narrow(96, early=240), 3.5, parent_number=2)  # did not move
    assert note_patterns(run, "run-a") == []
    late = patterns_of(run, "run-a")[0]
    assert (late.support, late.contradiction, late.state) == (3, 1, "open")
    assert late.standing == "supported by 3 later trials, contradicted by 1"
    for turn in (9, 10, 11):
        finish(run, "run-a", turn, narrow(160 - 8 * turn), 3.6, parent_number=2)
    (changed,) = note_patterns(run, "run-a")
    assert (changed.support, changed.contradiction, changed.state) == (6, 1, "supported")
    assert note_patterns(run, "run-a") == [], "repeating changes nothing"


def test_a_contradicted_pattern_is_given_out_no_longer(run: Records) -> None:
    note_patterns(run, "run-a")
    (given_out,) = patterns_for(run, "run-a", 3, past_runs=True)
    assert given_out.text == LATE
    assert contradicted_texts(run, "run-a", past_runs=True) == set()
    for turn, width in enumerate((88, 80), 3):
        finish(run, "run-a", turn, narrow(width), 4.1, parent_number=2)
        changed = note_patterns(run, "run-a", [turn])
        assert [one.state for one in changed] == ([] if turn == 3 else ["contradicted"])
    assert patterns_for(run, "run-a", 3, past_runs=True) == []
    assert contradicted_texts(run, "run-a", past_runs=True) == {LATE.lower()}


def test_wordings_of_one_claim_are_one_pattern_and_a_trial_counts_once(run: Records) -> None:
    finish(run, "run-a", 3, narrow(88), 3.7, **DISTILLED, rationale=[AGAIN, LATE], based_on=[2], parent_number=2)
    note_patterns(run, "run-a")
    late, _ = patterns_of(run, "run-a")
    assert late.names == ("run-a/2/0", "run-a/3/0", "run-a/3/1")
    assert (late.support, late.contradiction) == (2, 0)
    assert late.drawn_from == ("run-a/1", "run-a/0", "run-a/2")


def test_designs_without_a_parent_are_compared_with_the_nearest(run: Records) -> None:
    """Trial 3 is better than trial 0, its nearest, and worse than all others."""
    finish(run, "run-a", 3, narrow(136), 3.95, stage="judge", proposer="random")
    note_patterns(run, "run-a")
    late, _ = patterns_of(run, "run-a")
    assert (late.support, late.contradiction) == (1, 1)


def test_other_sizes_say_nothing_until_the_slope_is_known(run: Records) -> None:
    smaller = narrow(64, early=160)
    assert 0.9 < smaller.parameters / narrow(96).parameters < 0.99
    finish(run, "run-a", 3, smaller, 3.9, parent_number=2)
    note_patterns(run, "run-a")
    assert patterns_of(run, "run-a")[0].support == 1, "smaller and worse: it may be the size"


def test_other_fidelities_say_nothing(run: Records) -> None:
    trial = finish(run, "run-a", 3, narrow(80), 3.0, parent_number=2)
    evaluation = run.evaluation(trial.evaluation_key or "")
    assert evaluation is not None
    with run.writing() as session:
        session.add(evaluation)
        evaluation.measurement = {**evaluation.measurement, "fidelity": "long"}
    note_patterns(run, "run-a")
    assert patterns_of(run, "run-a")[0].support == 1


def test_patterns_of_other_runs_are_tested_where_they_were_given(run: Records) -> None:
    note_patterns(run, "run-a")
    source = run.run("run-a").source_architecture
    run.create_run(Run(id="run-b", source="tiny", corpus="docs", source_architecture=source))
    run.create_run(Run(id="run-c", source="tiny", corpus="other", source_architecture=source))
    assert [one.text for one in patterns_for(run, "run-b", 3, past_runs=True)] == [LATE]
    assert patterns_for(run, "run-b", 3, past_runs=False) == patterns_for(run, "run-c", 3, past_runs=True) == []
    finish(run, "run-b", 0, narrow(128), 4.0)
    finish(run, "run-b", 1, narrow(100), 3.9, parent_number=0)  # before it was given
    shown = [{"kind": "patterns", "id": "run-a/2/0"}, {"kind": "lessons", "id": "run-a/2/1"}]
    finish(run, "run-b", 2, narrow(80), 3.8, parent_number=0, retrieved=shown)
    note_patterns(run, "run-b")
    assert patterns_of(run, "run-b") == [] and patterns_of(run, "run-a")[0].support == 2


def test_turn_by_turn_and_at_once_are_the_same(new_database: NewDatabase) -> None:
    """A run of before there were patterns gets what it would have got; in any order of remembering."""
    counts = []
    for order in ("each", "at once", "shuffled"):
        with Records.open(new_database()) as records:
            source = make_design().model_dump(mode="json")
            records.create_run(Run(id="run", source="tiny", corpus="docs", source_architecture=source))
            chance = random.Random(5)
            for turn in range(24):
                said = chance.choice([LATE, AGAIN, "Late layers need more FFN channels.", "More heads in late layers"])
                agent = {**DISTILLED, "rationale": [said], "based_on": [0]} if turn % 3 == 2 else {}
                parent = chance.randrange(turn) if turn else None
                design, loss = narrow(chance.randrange(32, 200, 8)), 4 + chance.gauss(0, 0.1)
                finish(records, "run", turn, design, loss, parent_number=parent, **agent)
                if order == "each":
                    note_patterns(records, "run", [turn])
            numbers = list(range(24))
            if order == "shuffled":
                chance.shuffle(numbers)
                for number in numbers:
                    note_patterns(records, "run", [number])
            elif order == "at once":
                note_patterns(records, "run")
            counts.append([one.document() for one in patterns_of(records, "run")])
    assert counts[0] == counts[1] == counts[2]
    assert sum(one["support"] + one["contradiction"] for one in counts[0]) > 10


def test_runs_of_before_there_were_patterns_get_them(run: Records) -> None:
    assert run.runs_without_patterns("knowledge_distillation") == ["run-a"]
    note_missing_patterns(run)
    assert run.runs_without_patterns("knowledge_distillation") == []
    assert [one.support for one in patterns_of(run, "run-a")] == [1, 0]


_KILLED = """
import os, signal, sys
from memory import pattern_book
from memory.records import Records
with Records.open(sys.argv[1]) as records:
    import memory.pattern_records as module
    plain, calls = module.insert_if_new, []
    def dying(session, row, *unique):
        plain(session, row, *unique)
        calls.append(row)
        if len(calls) == int(sys.argv[2]):
            os.kill(os.getpid(), signal.SIGKILL)
    module.insert_if_new = dying
    pattern_book.note_patterns(records, "run-a")
"""


@pytest.mark.parametrize("rows", [1, 2, 3])
def test_a_kill_in_the_middle_is_harmless(run: Records, rows: int) -> None:
    command = [sys.executable, "-c", _KILLED, run.place, str(rows)]
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": str(Path.cwd())}, check=False)
    assert done.returncode == -signal.SIGKILL
    assert run.patterns("run-a") == []
    note_patterns(run, "run-a")
    assert [(one.support, one.contradiction) for one in patterns_of(run, "run-a")] == [(1, 0), (0, 0)]


@given(st.floats(-1, 1), st.floats(-1, 1))
def test_the_verdict_is_antisymmetric(movement: float, change: float) -> None:
    said = verdict(movement, change, NOISE["loss"])
    opposite = {None: None, "support": "contradiction", "contradiction": "support"}[said]
    assert verdict(-movement, change, NOISE["loss"]) == verdict(movement, -change, NOISE["loss"]) == opposite
    assert (said is None) == (movement == 0 or abs(change) < NOISE["loss"])


@given(st.integers(0, 30), st.integers(0, 30))
def test_states_follow_the_rule(support: int, contradiction: int) -> None:
    state = state_of(True, support, contradiction)
    assert (state == "contradicted") == (contradiction >= 2 and contradiction > support)
    assert state != "supported" or support >= contradiction + 4
    assert state != "supported" or state_of(True, support + 1, contradiction) == "supported"
    assert state != "contradicted" or state_of(True, support, contradiction + 1) == "contradicted"
    assert state_of(False, support, contradiction) == "untestable"


def test_so_much_support_is_needed() -> None:
    least = {0: 4, 1: 6, 2: 7, 3: 9}
    for contradiction, support in least.items():
        assert state_of(True, support, contradiction) == "supported"
        assert state_of(True, support - 1, contradiction) == "open"


def test_what_size_does_is_taken_out() -> None:
    """Scores that fall by 3 nats for each e-fold of the size: a design that only grew has not changed."""
    known = [(1000 + 10 * number, 4 - 0.03 * number) for number in range(10)]
    assert change_at_equal_size(-0.15, 1000, 1050, known) == pytest.approx(0, abs=0.01)
    assert change_at_equal_size(-0.15, 1000, 1001, []) == -0.15
    assert change_at_equal_size(-0.15, 1000, 1050, known[:7]) is None
    assert change_at_equal_size(-0.15, 1000, 1200, known) is None
    rising = [(size, -score) for size, score in known]
    assert change_at_equal_size(-0.15, 1000, 1050, rising) is None, "a size that makes worse explains nothing"
