"""What the losses of a search tell apart: the best against its greedy design, and the trials beside it."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from agents.dialects import PrunedLMDialect
from graph.config import SearchConfig
from graph.session import SearchSession
from graph.standing import rivals_of_best
from memory.outcomes import compared, describe_outcome, relative_outcome
from memory.records import Records
from memory.tables import Run
from memory.views import TrialView
from penjing.documents import show_document
from penjing.tables import rival_lines, verdict
from tests.language_model_space import language_model
from tests.memory.conftest import finish, make_design

ConfigOf = Callable[..., SearchConfig]

HARD = np.random.default_rng(5).uniform(1.0, 6.0, 64)
NOISE = np.random.default_rng(6).normal(0.0, 0.05, (6, 64))


def trials_of(shifts: Sequence[float | None], goal: str = "loss") -> list[TrialView]:
    """One trial for each shift, which is its loss above the others' but for noise of each block; None failed."""
    with Records.open("sqlite://") as records:
        records.create_run(Run(id="run", config={"objective": goal}))
        for turn, shift in enumerate(shifts):
            blocks = None if shift is None else HARD + NOISE[turn] - NOISE[turn].mean() + shift
            figures = {} if blocks is None else {"block_losses": tuple(blocks.tolist())}
            loss = None if blocks is None else float(blocks.mean())
            accuracy = {"accuracy": 0.5} if goal == "accuracy" else {}
            finish(records, "run", turn, make_design(hidden=8 * (turn + 1)), loss, {**figures, **accuracy})
        return records.trials("run")


def test_trials_within_two_standard_errors_of_the_best_are_named() -> None:
    trials = trials_of([0.02, 0.0, 0.004, None, 0.2, 0.008])
    error = compared(trials[2], trials[1])
    assert error is not None and error.error == pytest.approx((NOISE[2] - NOISE[1]).std(ddof=1) / 8)
    rivals = rivals_of_best(trials)
    assert [rival.trial for rival in rivals] == [2, 5] and rivals[0].difference == pytest.approx(0.004)
    [line] = rival_lines([rival.model_dump() for rival in rivals])
    words = [f"{one.trial} ({one.difference:+.4f}, standard error {one.error:.4f})" for one in rivals]
    assert line == f"not told apart from the best by the validation text: trials {', '.join(words)}"
    many = [rivals[0].model_dump()] * 7
    assert rival_lines(many)[0].endswith(" and 2 more") and rival_lines(many[:1])[0].count("trial ") == 1
    assert rival_lines([]) == []


def test_agents_are_told_which_differences_are_within_the_error() -> None:
    first, near, far = trials_of([0.0, 0.004, 0.2])
    assert describe_outcome(near, first) == f"loss {near.loss:.3f}, 0.004 above its parent, within the error"
    assert describe_outcome(first, near) == f"loss {first.loss:.3f}, 0.004 below its parent, within the error"
    assert describe_outcome(far, first) == f"loss {far.loss:.3f}, 0.200 above its parent"
    assert relative_outcome(near, first) == "worse than its parent, within the error"
    assert relative_outcome(far, first) == "worse than its parent"
    sample = PrunedLMDialect(language_model(), "tiny").about_sample([first, near, far])["sample"]
    assert [row["figures"] for row in sample] == [[], ["as good as the first of these within the error"], []]


def test_where_accuracy_decides_the_error_of_losses_says_nothing() -> None:
    first, near = trials_of([0.0, 0.004], goal="accuracy")
    assert describe_outcome(near, first).endswith("accuracy 0.000 above its parent's")
    assert PrunedLMDialect(language_model(), "tiny").about_sample([first, near])["sample"][1]["figures"] == [
        "accuracy 0.500"
    ]


def test_what_was_not_measured_on_the_same_blocks_does_not_compare() -> None:
    trials = trials_of([0.0, 0.001])
    old = trials[1].measurement
    assert old is not None
    without = trials[1].model_copy(update={"measurement": old.model_copy(update={"block_losses": ()})})
    other = trials[1].model_copy(update={"measurement": old.model_copy(update={"fidelity": "other"})})
    assert compared(trials[1], trials[0]) is not None
    assert compared(without, trials[0]) is compared(other, trials[0]) is None
    assert rivals_of_best([trials[0], without]) == rivals_of_best([trials[0], other]) == rivals_of_best([]) == []


def test_the_verdict_says_how_sure_it_is() -> None:
    def said(difference: float, error: float | None) -> str:
        greedy = {"name": "saliency-greedy design", "trial": 0, "loss": 3.0}
        best = {"name": "best of the search", "trial": 4, "loss": 3.0 + difference, "difference_error": error}
        return verdict([greedy, best])

    assert said(-0.1, None) == "Best against saliency-greedy design: loss -0.1000 (one seed, same tokens)."
    assert said(-0.1, 0.049) == (
        "Best against saliency-greedy design: loss -0.1000, standard error 0.0490 (one seed, same tokens)."
    )
    assert said(-0.1, 0.051) == (
        "Best against saliency-greedy design: loss -0.1000, standard error 0.0510 (one seed, same tokens). "
        "The validation text does not tell them apart: more of it would (data.validation_tokens)."
    )


def test_where_accuracy_decides_losses_name_nobody() -> None:
    assert rivals_of_best(trials_of([0.0, 0.001])) != []
    assert rivals_of_best(trials_of([0.0, 0.001], goal="accuracy")) == []


def test_a_search_measures_each_block(config_of: ConfigOf, survey_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    config = config_of(trials=3, llm_share=0, judge="local", cache=survey_cache)
    session = SearchSession.start(config)
    blocks = config.data.validation_tokens // config.data.block_length
    list(session.stream())
    trials = session.trials()
    for trial in trials:
        found = trial.measurement
        assert found is not None and len(found.block_losses) == blocks > 1
        assert found.loss == pytest.approx(np.mean(found.block_losses))
    document = show_document(session)
    assert document["not_told_apart"] == [rival.model_dump() for rival in rivals_of_best(trials)]
    best = next(row for row in document["result"]["table"] if row["name"] == "best of the search")
    if best["trial"] != 0:
        greedy = compared(trials[best["trial"] - trials[0].number], trials[0])
        assert greedy is not None and best["difference_error"] == pytest.approx(greedy.error)
