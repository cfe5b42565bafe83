"""The dialects keep their contract; what is particular to one."""

from typing import Any

import pytest
from pydantic import ValidationError

from agents.dialects import DIALECTS, CellTrial, NASBench201Dialect, PrunedLMDialect
from agents.dialects.nasbench201 import CHANGES, DesignAnswer
from memory.retrieval import sample_best
from tests.agents.dialect_contract import DialectContract
from tests.agents.test_prompt_texts import trial_of
from tests.language_model_space import language_model
from tools.settings import GoalSettings
from tools.spaces import Cell, NASBench201Space


class TestPrunedLM(DialectContract):
    space = language_model()
    dialect = PrunedLMDialect(space, "the source")

    def trial(self, number: int, design: Any) -> Any:
        return trial_of(number, design, GoalSettings())


class TestNASBench201(DialectContract):
    space = NASBench201Space()
    dialect = NASBench201Dialect(space, "CIFAR-10")

    def trial(self, number: int, design: Any) -> Any:
        return CellTrial(number, design, 80.0 + number)

    def test_of_two_changes_of_an_edge_the_later_one_counts(self) -> None:
        base = self.space.decode([0] * 6)
        draft = self.dialect.draft({"changes": ["12 conv3", "12 skip", "03 pool"]})
        cell = self.space.read(draft, base)
        assert cell == Cell.from_string("|none~0|+|none~0|skip_connect~1|+|avg_pool_3x3~0|none~1|none~2|")

    def test_every_edge_can_get_every_operation(self) -> None:
        base = self.space.decode([0] * 6)
        made = {self.space.read(self.dialect.draft({"changes": [change]}), base) for change in CHANGES}
        assert made == {base, *(cell for cell in self.space.neighbours(base))}

    def test_strategies_are_named_by_number(self) -> None:
        written = ("first", "second")
        assert self.dialect.reasons({"strategies_applied": [2, 1, 2]}, written) == written
        assert self.dialect.reasons({"strategies_applied": [2]}, written[:1]) == written[:1]

    @pytest.mark.parametrize("changes", [[], ["12 conv3"] * 4, ["21 conv3"], ["12 nor_conv_3x3"]])
    def test_answers_outside_the_space_do_not_fit(self, changes: list[str]) -> None:
        with pytest.raises(ValidationError):
            DesignAnswer.model_validate({"strategies_applied": [1], "changes": changes})

    def test_the_best_cells_are_sampled_like_the_best_models(self) -> None:
        cells = list(self.space.neighbours(self.space.decode([0] * 6)))[:6]
        trials = [CellTrial(number, cell, 80.0 + number) for number, cell in enumerate([*cells, cells[-1]])]
        assert [trial.number for trial in sample_best(trials, 3, 3, 0)] == [6, 4, 3]


def test_every_registered_dialect_has_its_contract() -> None:
    tested = {type(one.dialect): one.space.name for one in (TestPrunedLM, TestNASBench201)}
    assert {DIALECTS[name]: name for name in DIALECTS} == tested
