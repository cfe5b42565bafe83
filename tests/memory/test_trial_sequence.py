"""What is taken over from one moment of a run to the next is what would be worked out anew."""

import random
from collections.abc import Callable

from hypothesis import given, settings
from hypothesis import strategies as st

from memory.forgetting import forget_run
from memory.records import Records
from memory.retrieval import best
from memory.tables import Evaluation, Proposal, Run
from memory.trial_sequence import TrialSequence
from memory.views import TrialView
from tests.memory.conftest import finish, make_design
from tools.architecture import Architecture
from tools.measurement import Measurement

Finish = Callable[..., TrialView]


def worked_out(trials: TrialSequence) -> dict[str, object]:
    return {
        "finished": tuple(trials.finished),
        "best": [trials.best(k) for k in (1, 3, len(trials) + 1)],
        "by_number": dict(trials.by_number),
        "by_identity": {key: view.number for key, view in trials.by_identity.items()},
        "proposals": trials.proposals,
        "stages": trials.stages,
        "each": trials.each(_parent),
        "best of finished": trials.finished.best(2),
    }


def _parent(trial: TrialView) -> int | None:
    return trial.parent_number


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(st.sampled_from(["add", "finish", "fail", "promote"]), st.integers(0, 5)), max_size=14))
def test_as_if_worked_out_anew(changes: list[tuple[str, int]]) -> None:
    views: list[TrialView] = []
    known = TrialSequence()
    for kind, choice in changes:
        if kind == "add" or not views:
            views.append(plain(len(views)))
        else:
            place = choice % len(views)
            views[place] = measured(views[place], kind, loss=float(choice))
        known = TrialSequence(views, known)
        assert worked_out(known) == worked_out(TrialSequence(views))
        assert known.finished.best(len(views)) == best(views, len(views))


def plain(number: int) -> TrialView:
    rng = random.Random(number // 2)
    return TrialView.model_validate(
        {
            "measurement": None,
            "trial_id": number + 7,
            "run_id": "run-a",
            "number": number,
            "stage": rng.choice(["greedy", "judge"]),
            "proposer": "p",
            "parent_number": rng.choice([None, 0]),
            "architecture": make_design(ffn=(8 * (number // 2 + 1), 8)),
            "rationale": (),
            "outcome": "valid",
            "forecast": None,
            "cached": False,
            "prompt_hash": None,
            "based_on": (),
            "proposal_id": number + 100,
            "evaluation_key": None,
            "created_at": "2026-01-01T00:00:00Z",
        }
    )


def measured(view: TrialView, kind: str, loss: float) -> TrialView:
    failure = {"kind": "not_finite", "message": "NaN"} if kind == "fail" else None
    found = {"fidelity": "quick", "parameters": 1, "loss": None if failure else loss, "failure": failure}
    ladder = ("quick", "short") if kind == "promote" else ()
    return view.model_copy(
        update={
            "measurement": Measurement.model_validate(found),
            "ladder": ladder,
            "evaluation_key": f"k{view.number}{kind}",
        }
    )


def test_only_what_changed_is_read_and_worked_out_again(records: Records) -> None:
    asked: list[int] = []

    def of(view: TrialView) -> int:
        asked.append(view.number)
        return view.number

    for turn in range(3):
        finish(records, "run-a", turn, make_design(ffn=(8 * turn + 8, 8)), loss=4.0 - turn)
    first = records.trials("run-a")
    assert first.each(of) == [0, 1, 2] and records.trials("run-a") is first and first.finished is first
    proposed = Proposal(run_id="run-a", turn=3, raw="{}", stage="judge", proposer="random", outcome="valid")
    design = make_design(hidden=32)
    trial = records.add_trial(records.add_proposal(proposed).id or 0, design)
    second = records.trials("run-a")
    assert second.each(of) == [0, 1, 2, 3] and asked == [0, 1, 2, 3]
    assert second[:3] == first and second.finished == first and second[0] is first[0]
    assert records.trials("run-a") is second, "it is open, and still the same"
    evaluation = records.add_evaluation(paid(design))
    records.finish_trial(trial.id or 0, evaluation.id or 0, cached=False)
    third = records.trials("run-a")
    assert third.each(of) == [0, 1, 2, 3] and asked == [0, 1, 2, 3, 3]
    assert third.finished is third and [view.number for view in third.best(2)] == [3, 2]
    assert [view.number for view in second.best(2)] == [2, 1], "an earlier moment stays as it was"


def test_a_run_that_was_forgotten_is_not_remembered(records: Records) -> None:
    finish(records, "run-a", 0, make_design(), loss=4.0)
    finish(records, "run-a", 1, make_design(hidden=32), loss=3.0)
    assert len(records.trials("run-a")) == 2
    forget_run(records, "run-a")
    assert records.trials("run-a") == ()
    records.create_run(Run(id="run-a", source="tiny", corpus="docs"))
    again = finish(records, "run-a", 0, make_design(hidden=16), loss=2.0)
    assert records.trials("run-a") == (again,) and records.trials("run-a").best(1) == [again]


def paid(design: Architecture) -> Evaluation:
    return Evaluation(
        key="late",
        run_id="run-a",
        architecture_hash=design.hash,
        architecture=design.model_dump(mode="json"),
        fidelity="quick",
        status="done",
        loss=1.0,
        parameters=design.parameters,
        measurement=Measurement(fidelity="quick", parameters=design.parameters, loss=1.0).model_dump(mode="json"),
    )
