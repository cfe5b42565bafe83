"""What the agents' questions of a search may cost, before any is asked: their real prompts, measured and not sent."""

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from itertools import cycle, islice

from agents.chat_answers import Answer
from agents.conversation import Question
from agents.dialects import PrunedLMDialect
from agents.distiller import Distiller
from agents.evolver import Evolver
from agents.outlook import look_ahead
from agents.proposers import Proposer, Rejection, Situation
from agents.surrogate import Surrogate
from agents.token_bounds import most_input_tokens
from agents.tool_use import LONGEST_RESULT
from graph.config import SearchConfig
from graph.findings import MOST_FINDINGS
from graph.screening import expectation_in_words
from memory.recollection import (
    Recollection,
    RetrievedDesign,
    RetrievedFinding,
    RetrievedLesson,
    RetrievedPattern,
    RetrievedWording,
)
from memory.views import TrialView
from memory.wordings import MOST_LINES
from prompts.library import PromptLibrary
from tools.architecture import Architecture
from tools.measurement import Measurement
from tools.spaces import PrunedLMSpace

# Prompts with many figures, read by common tokenizers: 2.6 to 3.4 bytes a token.
BYTES_PER_TOKEN = 3
# What endpoints are told of the tools, with room to spare.
_TOOLS_BYTES = 6000
_SENTENCE = (
    "Keep more FFN channels in layers 0-4, because they are the most sensitive of all, and cut attention in later ones."
)


@dataclass(frozen=True)
class TurnCost:
    """Tokens of one turn of an agent: read and written, likely (no repair) and at most (every repair used)."""

    agent: str
    likely_input: int
    likely_output: int
    most_input: int
    most_output: int
    most_calls: int


class _Gauge:
    """Stands in for the chat model: keeps the questions and answers nothing."""

    def __init__(self) -> None:
        self.questions: list[Question] = []

    async def __call__(self, question: Question) -> Answer:
        self.questions.append(question)
        return Answer(raw="", model="nobody")


async def turn_costs(
    config: SearchConfig, prompts: PromptLibrary, space: PrunedLMSpace, designs: list[Architecture]
) -> list[TurnCost]:
    """One turn of the evolver and one of the distiller, when memory is full; `designs` are some that may be shown."""
    asked = await full_questions(config, prompts, space, designs)
    return [_cost(config, agent, plain, repair) for agent, (plain, repair) in asked.items()]


async def full_questions(
    config: SearchConfig, prompts: PromptLibrary, space: PrunedLMSpace, designs: list[Architecture]
) -> dict[str, tuple[list[Question], Question]]:
    """By agent, the questions of one turn when memory is full, and the one that asks for a repair."""
    gauge, dialect, trials = _Gauge(), PrunedLMDialect(space, config.source, config.ladder), _trials(config, designs)
    agents: tuple[Proposer, ...] = (
        Evolver(gauge, prompts, dialect),
        Distiller(gauge, prompts, dialect, config.top_k, config.sample_size),
    )
    found = {}
    for agent in agents:
        gauge.questions.clear()
        situation = _situation(config, space, trials, None)
        await agent.ask(situation)
        plain = list(gauge.questions)
        rejection = Rejection(plain[-1].messages, "", (_SENTENCE * 2,) * 2, (_SENTENCE,) * 2, (0,))
        await agent.ask(_situation(config, space, trials, rejection))
        found[agent.name] = (plain, gauge.questions[-1])
    return found


def _cost(config: SearchConfig, agent: str, plain: list[Question], repair: Question) -> TurnCost:
    longest, repairs = config.chat_settings()[agent].max_tokens, config.repairs
    # Each answer so far stands in the next question.
    bounds = [
        most_input_tokens(question.messages, question.schema) + index * longest for index, question in enumerate(plain)
    ]
    bytes_read = [_bytes(question) for question in plain]
    more, calls = _bytes(repair) - bytes_read[-1] + longest, config.calls_of(agent)
    # A call of a tool at a time; each answer so far, and what came of it, stands in the next question.
    steps = [bounds[-1] + _TOOLS_BYTES + step * (longest + LONGEST_RESULT) for step in range(calls)]
    bounds[-1:] = [*steps, bounds[-1] + calls * (longest + LONGEST_RESULT)]
    bounds += [bounds[-1] + (count + 1) * more for count in range(repairs)]
    half = longest // 2
    bytes_read += [bytes_read[-1] + _TOOLS_BYTES + step * LONGEST_RESULT // 2 for step in range(calls)]
    likely = sum(read // BYTES_PER_TOKEN + index * half for index, read in enumerate(bytes_read))
    return TurnCost(agent, likely, (len(plain) + calls) * half, sum(bounds), len(bounds) * longest, len(bounds))


def _bytes(question: Question) -> int:
    return sum(len(text.encode()) for _, text in question.messages)


def _situation(
    config: SearchConfig, space: PrunedLMSpace, trials: list[TrialView], rejection: Rejection | None
) -> Situation:
    situation = Situation(
        turn=1,
        space=space,
        trials=tuple(trials),
        parent=max(trials, key=lambda trial: len(trial.architecture.describe())),
        seed=0,
        recollection=_recollection(config, trials),
        running=tuple(islice(cycle(trials), config.parallel - 1)),
        rejection=rejection,
    )
    if not config.show_picture:
        return situation
    records = [(trial.architecture, 10.0 + trial.number) for trial in trials]
    surrogate = Surrogate(space, records, space.designer.forecast)
    words = partial(expectation_in_words, objective=config.objective)
    return replace(situation, outlook=look_ahead(situation, surrogate, words, seed=0))


def _recollection(config: SearchConfig, trials: list[TrialView]) -> Recollection:
    """As much as memory gives by the settings, with words as long as any."""
    outcome, origin = "loss 10.000, 0.100 below its parent; 1 of 2 such designs were better", "of another source model"
    widest = max((trial.architecture.describe() for trial in trials), key=len)
    design = RetrievedDesign("another/1", widest, 10.0, outcome, 0.1, origin)
    lesson = RetrievedLesson("another/1/0", _SENTENCE, 10.0, outcome, 0.1, origin)
    wording = RetrievedWording("another", "strategies", _SENTENCE * 2, outcome)
    pattern = RetrievedPattern("another/1/1", _SENTENCE, outcome, origin)
    finding = RetrievedFinding("another", _SENTENCE * 2)
    designs = (design,) * config.recall if config.recalls("designs") else ()
    return Recollection(
        nearby=designs,
        best=designs,
        failed=designs,
        lessons=(lesson,) * config.recall if config.recalls("lessons") else (),
        wordings=(wording,) * MOST_LINES if config.recalls("wordings") else (),
        patterns=(pattern,) * config.recall if config.recalls("lessons") else (),
        evidence=(finding,) * MOST_FINDINGS if config.recalls("lessons") else (),
    )


def _trials(config: SearchConfig, designs: list[Architecture]) -> list[TrialView]:
    """Trials as there might be, with figures as long as any."""
    goal = config.goal_settings()
    accuracy = 0.123 if goal.objective == "accuracy" else None
    return [
        TrialView(
            trial_id=number,
            run_id="dry-run",
            number=number,
            stage="self_evolution",
            proposer="evolver",
            parent_number=0,
            architecture=design,
            measurement=Measurement.of_loss(
                10.0, fidelity="short_training", parameters=design.parameters, latency_ms=10.0, accuracy=accuracy
            ),
            rationale=(_SENTENCE,) * 2,
            outcome="valid",
            forecast=0.000123,
            expected_score=10.0,
            expected_deviation=0.1,
            cached=False,
            prompt_hash=None,
            based_on=(0,),
            proposal_id=number,
            evaluation_key="",
            created_at=datetime.now(UTC),
            goal=goal,
        )
        for number, design in enumerate(designs)
    ]
