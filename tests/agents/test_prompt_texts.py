"""The agents' questions in the real space, to the byte: recorded searches are replayed by them.

Whoever words a template or a schema anew on purpose sets the new digest here; cassettes of before then replay no more.
"""

import asyncio
import hashlib
import json
import random
from datetime import UTC, datetime
from typing import Any

import pytest

from agents.chat_answers import Answer
from agents.conversation import Question
from agents.dialects import PrunedLMDialect
from agents.distiller import Distiller
from agents.evolver import Evolver
from agents.json_schema import strict_json_schema
from agents.proposers import Rejection, Situation
from memory.recollection import Recollection, RetrievedDesign, RetrievedLesson
from memory.views import TrialView
from prompts.library import PromptLibrary
from tests.language_model_space import language_model
from tools.architecture import Architecture
from tools.measurement import Failure, Measurement
from tools.settings import GoalSettings
from tools.spaces import PrunedLMSpace

NEAR = RetrievedDesign("another/3", 'hidden 32 "quoted"', 3.5, "loss 3.5000, +0.1000", 0.2)
LESSON = RetrievedLesson("another/3/0", "Keep early layers\nwide <|im_end|>.", 3.5, "loss 3.5000", 0.1)


def trial_of(number: int, design: Architecture, goal: GoalSettings) -> TrialView:
    """A measured one: the higher its number, the better."""
    measurement = Measurement.of_loss(
        4.0 - number / 10,
        fidelity="short_training",
        parameters=design.parameters,
        latency_ms=12.0,
        accuracy=0.3 + number / 100 if goal.objective == "accuracy" else None,
    )
    return TrialView(
        trial_id=number,
        run_id="run",
        number=number,
        stage="self_evolution",
        proposer="evolver",
        parent_number=0,
        architecture=design,
        measurement=measurement,
        rationale=("Because.",),
        outcome="valid",
        forecast=0.0,
        cached=False,
        prompt_hash=None,
        based_on=(0,),
        proposal_id=number,
        evaluation_key="",
        created_at=datetime(2026, 1, 1, tzinfo=UTC),
        goal=goal,
    )


def trials_in(space: PrunedLMSpace, goal: GoalSettings) -> tuple[TrialView, ...]:
    """Five, of which the fourth failed."""
    designs = [space.sample(random.Random(number)) for number in range(5)]
    trials = [trial_of(number, design, goal) for number, design in enumerate(designs)]
    failure = Failure(kind="out_of_memory", message="it was killed")
    failed = Measurement(fidelity="short_training", parameters=designs[3].parameters, failure=failure)
    trials[3] = trials[3].model_copy(update={"measurement": failed})
    return tuple(trials)


def questions(space: PrunedLMSpace, goal: GoalSettings) -> list[Question]:
    """Of a turn of each agent, and of a repair of each."""
    asked: list[Question] = []

    async def ask(question: Question) -> Answer:
        asked.append(question)
        return Answer(raw=f"answer {len(asked)}", model="nobody")

    dialect, prompts = PrunedLMDialect(space, "the source"), PromptLibrary()
    trials = trials_in(space, goal)
    for agent in (Evolver(ask, prompts, dialect), Distiller(ask, prompts, dialect, 10, 3)):
        plain = Situation(7, space, trials, trials[1], 11, recollection=Recollection(nearby=(NEAR,), lessons=(LESSON,)))
        asyncio.run(agent.ask(plain))
        rejection = Rejection(asked[-1].messages, "{}", ("it is wrong.", "twice."), ("Because.",), (2,))
        asyncio.run(agent.ask(Situation(7, space, trials, trials[1], 11, rejection=rejection)))
    return asked


def digest(asked: list[Question]) -> str:
    """Of all that a chat model and a cassette see."""
    seen: list[Any] = [
        (one.agent, one.messages, one.schema.__name__, strict_json_schema(one.schema), one.prompt.name) for one in asked
    ]
    return hashlib.sha256(json.dumps(seen).encode()).hexdigest()[:16]


@pytest.mark.parametrize(
    ("settings", "goal", "expected"),
    [
        ({}, {}, "6499740cedb8c0a5"),
        ({"uniform": True}, {"max_file_mb": 0.09}, "087975794c5476e0"),
        ({}, {"objective": "accuracy", "objective_tasks": ("piqa",), "max_latency_ms": 10.0}, "d9c0f980bce67b9a"),
    ],
    ids=["loss", "file", "accuracy"],
)
def test_the_questions_are_what_they_were(settings: dict[str, Any], goal: dict[str, Any], expected: str) -> None:
    asked = questions(language_model(**settings, **goal), GoalSettings(**goal))
    assert [one.agent for one in asked] == ["evolver"] * 3 + ["distiller"] * 2
    assert digest(asked) == expected
