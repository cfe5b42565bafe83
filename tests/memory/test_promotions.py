"""Trials that were measured on several rungs: what views tell of them, and that only one fidelity is compared."""

import pytest

from memory.forgetting import forget_run
from memory.objectives import front
from memory.outcomes import change_of_score, describe_outcome
from memory.records import Records
from memory.retrieval import best, sample_best
from memory.tables import FinishedTrialError, Promotion, Proposal, Run
from memory.trial_records import measured_alike
from memory.views import TrialView, ordinal
from tests.memory.conftest import climb, finish, make_design
from tests.postgresql import both_databases

new_database = both_databases

LADDER = ("quick", "short_training", "long_training")


@pytest.fixture
def climbed(records: Records) -> Records:
    """run-l with six trials of falling loss; 5 climbed two rungs, 4 one, and 3 failed on the second."""
    source = make_design().model_dump(mode="json")
    config = {"fidelities": list(LADDER)}
    records.create_run(Run(id="run-l", source="tiny", corpus="docs", source_architecture=source, config=config))
    for turn in range(6):
        parent = {"parent_number": 5} if turn == 3 else {}
        finish(records, "run-l", turn, make_design(ffn=(128, 16 * (turn + 1))), 9.0 - turn, **parent)
    climb(records, records.trial("run-l", 5), 3.5, "short_training")
    climb(records, records.trial("run-l", 5), 3.25, "long_training", rung=2)
    climb(records, records.trial("run-l", 4), 3.0, "short_training")
    climb(records, records.trial("run-l", 3), None, "short_training")
    return records


def view(records: Records, number: int) -> TrialView:
    return records.trial("run-l", number)


def test_a_trial_has_the_figures_of_its_highest_rung(climbed: Records) -> None:
    top = view(climbed, 5)
    assert (top.loss, top.fidelity, top.rung) == (3.25, "long_training", 2)
    assert [(one.fidelity, one.rank, one.rivals) for one in top.rungs] == [
        ("quick", None, None),
        ("short_training", 1, 3),
        ("long_training", 1, 3),
    ]
    assert [one.measurement.loss for one in top.rungs if one.measurement] == [4.0, 3.5, 3.25]
    assert top.evaluation_key == top.rungs[2].evaluation_key != top.rungs[0].evaluation_key
    low = top.on_first_rung()
    assert (low.loss, low.rung, low.evaluation_key) == (4.0, 0, top.rungs[0].evaluation_key)
    assert top.rungs[1].promotion == "promoted to short training: 1st of 3" and not top.rungs[0].promotion
    assert [ordinal(one) for one in (1, 2, 3, 4, 11, 12, 21, 102, 111)] == [
        *("1st", "2nd", "3rd", "4th", "11th", "12th", "21st", "102nd", "111th")
    ]


def test_what_fails_higher_up_keeps_what_it_had(climbed: Records) -> None:
    failed = view(climbed, 3)
    assert (failed.loss, failed.rung, failed.succeeded) == (6.0, 0, True)
    assert failed.rungs[1].measurement is not None and not failed.rungs[1].succeeded
    assert failed.waits_for is None


def test_what_was_worked_out_of_one_rung_is_not_said_of_another(climbed: Records) -> None:
    copies = [(trial, rung) for trial in climbed.trials("run-l") for rung in trial.rungs]
    assert len(copies) == 10
    for trial, rung in copies:
        assert trial.acceptable and trial.rung >= 0, "worked out before it is copied"
        copied, measured = trial.on_rung(rung), rung.measurement
        assert measured is not None and copied.score == measured.loss
        assert copied.succeeded == copied.acceptable == rung.succeeded and copied.rung == rung.rung


def test_the_best_is_the_best_of_the_highest_rung(climbed: Records) -> None:
    trials = climbed.trials("run-l")
    assert [one.number for one in best(trials, 9)] == [5, 4, 3, 2, 1, 0]
    assert best([one.on_first_rung() for one in trials], 1)[0].loss == 4.0
    assert {one.number for one in sample_best(trials, 2, 2, 0)} == {5, 4}


def test_a_front_is_of_one_fidelity(climbed: Records) -> None:
    climb(climbed, view(climbed, 2), 3.4, "short_training")
    climb(climbed, view(climbed, 2), 3.3, "long_training", rung=2)
    # Trial 4 has a lower loss than both, after less training; trials 0 and 1 are smaller.
    assert [one.number for one in front(climbed.trials("run-l"), ("loss", "parameters"))] == [5, 2]


def test_outcomes_compare_at_one_fidelity(climbed: Records) -> None:
    assert describe_outcome(view(climbed, 5), None) == "loss 3.250 after long training"
    # 3 failed above, and its parent 5 was measured higher.
    assert describe_outcome(view(climbed, 3), view(climbed, 5)) == "loss 6.000 after quick, 2.000 above its parent"
    assert change_of_score(view(climbed, 3), view(climbed, 5)) == 2.0
    words = "loss 3.000 after short training, 1.000 above its parent after quick"
    assert describe_outcome(view(climbed, 4), view(climbed, 5)) == words
    assert change_of_score(view(climbed, 4), view(climbed, 5)) == 1.0


def test_a_rung_gets_its_evaluation_once(climbed: Records) -> None:
    trial = view(climbed, 0)
    row = Promotion(
        run_id="run-l", trial_id=trial.trial_id, turn=6, rung=1, fidelity="short_training", rank=2, rivals=6
    )
    first = climbed.add_promotion(row)
    waiting = view(climbed, 0)
    assert waiting.waits_for == waiting.rungs[1] and waiting.loss == 9.0
    again = Promotion(**{**row.model_dump(exclude={"id"}), "rank": 1})
    assert climbed.add_promotion(again) == first
    key = str(view(climbed, 4).evaluation_key)
    done = climbed.finish_promotion(trial.trial_id, 1, key)
    assert climbed.finish_promotion(trial.trial_id, 1, key) == done
    with pytest.raises(FinishedTrialError, match="rung 1"):
        climbed.finish_promotion(trial.trial_id, 1, str(view(climbed, 5).evaluation_key))
    with pytest.raises(KeyError):
        climbed.finish_promotion(trial.trial_id, 2, key)
    with pytest.raises(FinishedTrialError), climbed.writing() as session:
        session.get_one(Promotion, done.id).rank = 7


def test_runs_compare_where_they_have_one_first_rung(climbed: Records) -> None:
    def run(**config: object) -> Run:
        return Run(id="x", source="tiny", corpus="docs", config=config)

    assert measured_alike(run(), run(fidelities=["short_training"]))
    assert measured_alike(run(), run(fidelities=["short_training", "long_training"], long_training_steps=9))
    assert not measured_alike(run(), run(fidelities=["one_shot", "short_training"]))
    long = ["long_training"]
    assert not measured_alike(run(fidelities=long, long_training_steps=9), run(fidelities=long, long_training_steps=8))


def test_what_another_run_climbed_with_stays_when_a_run_is_forgotten(climbed: Records) -> None:
    theirs = str(view(climbed, 5).evaluation_key)
    source = make_design().model_dump(mode="json")
    climbed.create_run(Run(id="run-m", source="tiny", source_architecture=source, config={"fidelities": list(LADDER)}))
    proposal = climbed.add_proposal(
        Proposal(run_id="run-m", turn=0, stage="greedy", proposer="greedy", outcome="valid")
    )
    trial = climbed.add_trial(proposal.id, view(climbed, 5).architecture)
    assert climbed.reuse_evaluation(trial.id, str(view(climbed, 5).rungs[0].evaluation_key))
    for rung in (1, 2):
        row = Promotion(run_id="run-m", trial_id=trial.id, turn=1, rung=rung, fidelity=LADDER[rung], rank=1, rivals=1)
        climbed.add_promotion(row)
        key = str(view(climbed, 5).rungs[rung].evaluation_key)
        assert climbed.finish_promotion(trial.id, rung, key).cached
    gone = forget_run(climbed, "run-l")
    assert (gone.evaluations_kept, gone.evaluations) == (3, 7)
    assert climbed.trial("run-m", 0).evaluation_key == theirs
    assert climbed.promotions("run-l") == []
    forget_run(climbed, "run-m")
    assert climbed.evaluation(theirs) is None


def test_a_branch_takes_what_was_measured_before_it(climbed: Records) -> None:
    climb(climbed, view(climbed, 1), 4.0, "short_training", turn=4)
    branch = Run(
        id="run-n", branch_of="run-l", branch_at=1, first_turn=5, config={"fidelities": list(LADDER)}, source="tiny"
    )
    climbed.begin_branch(branch)
    copies = climbed.trials("run-n")
    assert [len(one.rungs) for one in copies] == [1, 2, 1, 1, 1]
    assert (copies[1].loss, copies[1].cached) == (4.0, True)
