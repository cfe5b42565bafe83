"""What agents are shown of a classical searcher's picture, in every space, and in their prompts."""

import asyncio
import random
from typing import Any

import pytest

from agents.chat_answers import Answer
from agents.conversation import Question
from agents.dialects import PrunedLMDialect
from agents.distiller import Distiller
from agents.evolver import Evolver
from agents.outlook import Outlook, Suggestion, look_ahead
from agents.proposers import Situation, Tried
from agents.surrogate import Expectation, Surrogate
from memory.records import Records
from memory.tables import Run
from prompts.library import PromptLibrary
from tests.agents.proposer_contract import MAKERS, PlainStanding, past
from tests.language_model_space import language_model
from tests.memory.conftest import finish
from tools.spaces import SearchSpace


@pytest.fixture(params=sorted(MAKERS))
def space(request: pytest.FixtureRequest) -> SearchSpace[Any, Any]:
    made: SearchSpace[Any, Any] = MAKERS[request.param]()
    return made


def words(expected: Expectation) -> str:
    return f"{expected.score} +- {expected.deviation}"


def looked(space: SearchSpace[Any, Any], history: list[Tried[Any]], seed: int = 3) -> Outlook | None:
    known = [(one.design, one.value) for one in history if one.value is not None]
    return look_ahead(PlainStanding(space, history), Surrogate(space, known), words, seed)


def test_nothing_is_said_before_there_is_something_to_learn_from(space: SearchSpace[Any, Any]) -> None:
    assert looked(space, []) is None and looked(space, past(space, 3)) is None
    assert looked(space, past(space, 12, failing=1)) is None, "only failures teach nothing"
    assert looked(space, past(space, 4)) is not None


def test_the_region_is_where_the_good_designs_are(space: SearchSpace[Any, Any]) -> None:
    history = past(space, 40)
    outlook = looked(space, history)
    assert outlook is not None and outlook.records == 40 and len(outlook.region) == len(space.parts)
    assert all(line.startswith(part.name) for line, part in zip(outlook.region, space.parts, strict=True))
    assert 1 <= len(outlook.suggestions) <= 3
    tried = {space.describe(one.design) for one in history}
    assert not tried & {one.design for one in outlook.suggestions}
    assert looked(space, history) == outlook != looked(space, history, seed=4)
    if space.name == "nasbench201":
        # The value of a cell is its distance from the second operation of each edge.
        assert sum("skip_connect" in line for line in outlook.region) >= 4
        assert sum("skip_connect" in one.design for one in outlook.suggestions) >= 1


def test_few_short_lines(space: SearchSpace[Any, Any]) -> None:
    outlook = looked(space, past(space, 8))
    assert outlook is not None and len(outlook.region) <= 7 and max(map(len, outlook.region)) <= 60


def test_it_stands_in_the_prompts_of_both_agents_where_there_is_one() -> None:
    space, asked = language_model(), list[Question]()

    async def ask(question: Question) -> Answer:
        asked.append(question)
        return Answer(raw="none", model="nobody")

    outlook = Outlook(5, ("hidden: 48-56", "layer 0: kv_heads 2"), "expected loss 3.1 +- 0.2", (Suggestion("S", "E"),))
    rng = random.Random(1)
    with Records.open("sqlite://") as records:
        records.create_run(Run(id="run"))
        trials = tuple(finish(records, "run", number, space.sample(rng), 4.0 - number) for number in range(3))
    dialect = PrunedLMDialect(space, "the source")
    for shown in (outlook, None):
        for agent in (Evolver(ask, PromptLibrary(), dialect), Distiller(ask, PromptLibrary(), dialect, 10, 3)):
            asyncio.run(agent.ask(Situation(7, space, trials, trials[1], 11, outlook=shown)))
    first = [one.messages[1][1] for one in asked if len(one.messages) == 2]
    assert len(first) == 4
    section = (
        "# Forecast\nA statistical model of 5 measured designs, which may be wrong, expects good designs here "
        "(expected loss 3.1 +- 0.2):\n- hidden: 48-56\n- layer 0: kv_heads 2\nIt would try next:\n- S: E\n\n# Answer\n"
    )
    for with_outlook, without in zip(first[:2], first[2:], strict=True):
        assert with_outlook == without.replace("# Answer\n", section) and "# Forecast" not in without
