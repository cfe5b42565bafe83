"""The contract of every dialect: subclass `DialectContract`, say how its parts are made, and run."""

import asyncio
import json
import random
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import pytest

from agents.chat_answers import Answer, read_answer
from agents.conversation import Question
from agents.dialects import Dialect
from agents.distiller import Distiller
from agents.evolver import Evolver
from agents.json_schema import strict_json_schema
from agents.outlook import Outlook
from agents.proposers import Proposed, Rejection
from memory.recollection import NOTHING, Recollection, RetrievedDesign, RetrievedLesson
from prompts.library import PromptLibrary
from tools.spaces import SearchSpace

REASONS = ["Cut what the loss hardly feels.", "Keep what it feels most."]
NEAR = RetrievedDesign("another/3", "a design nearby", 3.5, "it was worse", 0.2)
LESSON = RetrievedLesson("another/3/0", "A lesson that was learnt.", 3.5, "it was worse", 0.1)


@dataclass
class PlainStanding:
    """A search at one of its turns."""

    trials: tuple[Any, ...]
    parent: Any
    turn: int = 7
    seed: int = 11
    recollection: Recollection = NOTHING
    guidance: str = ""
    running: tuple[Any, ...] = ()
    outlook: Outlook | None = None
    rejection: Rejection | None = None

    def trial(self, number: int) -> Any:
        return self.trials[number]


class DialectContract(ABC):
    """Tests of one dialect; its attributes say what is tested."""

    space: SearchSpace[Any, Any]
    dialect: Dialect[Any, Any, Any]

    @abstractmethod
    def trial(self, number: int, design: Any) -> Any:
        """A measured trial of the space; the higher its number, the better."""

    def pair(self, seed: int) -> tuple[Any, Any]:
        """A design, and another one that is made out of it by a few changes."""
        rng = random.Random(seed)
        base = self.space.sample(rng)
        return base, self.space.mutate(base, rng)

    def standing(self, **settings: Any) -> PlainStanding:
        rng = random.Random(3)
        trials = tuple(self.trial(number, self.space.sample(rng)) for number in range(5))
        return PlainStanding(trials, trials[3], **settings)

    def answer(self, question: Question, fields: dict[str, Any]) -> Answer:
        """A valid answer with these fields for the design."""
        asked = question.schema.model_json_schema()["properties"]
        numbered = "integer" in json.dumps(asked.get("strategies_applied", {}))
        reasons: dict[str, Any] = {
            "strategies": REASONS,
            "strategies_applied": [2] if numbered else REASONS[1:],
            "patterns": REASONS[1:],
        }
        text = json.dumps({name: reasons.get(name, fields.get(name)) for name in asked})
        reading = read_answer(text, question.schema)
        assert reading.error is None, reading.error
        return Answer(raw=text, parsed=reading.parsed, model="nobody")

    def propose(self, agent: str, standing: PlainStanding, design_of: Any) -> tuple[Proposed[Any, Any], list[Question]]:
        """What an agent makes of answers that name `design_of(base)`, and what it asked."""
        asked: list[Question] = []

        async def ask(question: Question) -> Answer:
            asked.append(question)
            base = standing.parent if agent == "evolver" else max(standing.trials, key=lambda trial: -trial.score)
            if standing.rejection is not None and agent == "distiller":
                base = standing.trial(standing.rejection.based_on[0])
            return self.answer(question, self.dialect.fields(design_of(base.architecture), base.architecture))

        prompts = PromptLibrary()
        if agent == "evolver":
            return asyncio.run(Evolver(ask, prompts, self.dialect).ask(standing)), asked
        return asyncio.run(Distiller(ask, prompts, self.dialect, 1, 1).ask(standing)), asked

    @pytest.mark.parametrize("seed", range(6))
    def test_an_answer_says_the_design(self, seed: int) -> None:
        base, design = self.pair(seed)
        draft = self.dialect.draft(self.dialect.fields(design, base))
        assert self.space.problems(draft, base) == []
        assert self.space.read(draft, base) == design

    @pytest.mark.parametrize("seed", range(6))
    def test_a_draft_as_it_is_recorded_says_the_same(self, seed: int) -> None:
        """Judges' proposals are recorded as drafts and read as answers."""
        base, design = self.pair(seed)
        recorded = self.space.draft(design).model_dump(mode="json")
        assert self.space.read(self.dialect.draft(json.loads(json.dumps(recorded))), base) == design

    def test_schemas_can_be_sent_and_name_their_reasons(self) -> None:
        for schema, reasons in (
            (self.dialect.strategies, "strategies"),
            (self.dialect.design, "strategies_applied"),
            (self.dialect.inspiration, "patterns"),
        ):
            sent = strict_json_schema(schema)
            assert next(iter(sent["properties"])) == reasons, "a model should think before it names a design"
            assert sent["required"] == list(sent["properties"]) and sent["additionalProperties"] is False
            assert "$ref" not in json.dumps(sent)

    @pytest.mark.parametrize("agent", ["evolver", "distiller"])
    def test_agents_propose_what_was_answered(self, agent: str) -> None:
        rng = random.Random(1)
        made: list[Any] = []

        def design_of(base: Any) -> Any:
            made.append(self.space.mutate(base, rng))
            return made[-1]

        standing = self.standing(recollection=Recollection(nearby=(NEAR,), lessons=(LESSON,)))
        proposed, asked = self.propose(agent, standing, design_of)
        assert self.space.read(proposed.draft, proposed.base) == made[-1]
        assert proposed.rationale == (REASONS[1],)
        assert proposed.based_on == ((3,) if agent == "evolver" else (4,))
        assert len(asked) == (2 if agent == "evolver" else 1)
        first = asked[0].messages[-1][1]
        assert NEAR.design in first and LESSON.text in first
        assert proposed.shown == standing.recollection
        assert asked[0].messages[0][0] == "system"
        assert {question.messages[0] for question in asked} == {asked[0].messages[0]}

        rejection = Rejection(asked[-1].messages, "{}", ("it is wrong.",), proposed.rationale, proposed.based_on)
        again, asked_again = self.propose(agent, self.standing(rejection=rejection), design_of)
        (repair,) = asked_again
        assert repair.messages[: len(asked[-1].messages)] == asked[-1].messages
        assert "it is wrong." in repair.messages[-1][1]
        assert again.based_on == proposed.based_on and again.base == proposed.base
        assert self.space.read(again.draft, again.base) == made[-1]

    def test_templates_are_of_this_space_and_answers_of_their_headers(self) -> None:
        prompts = PromptLibrary()
        own = {name: prompts.header(self.dialect.prefix + name).answer for name in ("strategies", "design")}
        assert own == {"strategies": self.dialect.strategies.__name__, "design": self.dialect.design.__name__}
        assert prompts.header(self.dialect.prefix + "inspiration").answer == self.dialect.inspiration.__name__
