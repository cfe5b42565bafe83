"""How an LLM agent talks: templates in, a recorded answer out. The recording itself is somebody else's."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from agents.chat_answers import Answer
from agents.proposers.base import Proposed, Rejection, Situation
from agents.quoting import as_answered
from agents.schemas import draft_of
from memory.views import TrialView
from prompts.library import PromptLibrary, RenderedPrompt
from tools.architecture import Architecture
from tools.costs import costs_in_words, limits_in_words
from tools.pruning.groups import ffn_channel_parameters, kv_group_parameters
from tools.settings import GoalSettings
from tools.spaces import PrunedLMSpace

_SENSITIVITY_ROWS = 6


@dataclass(frozen=True)
class Question:
    """One call of a chat model."""

    turn: int
    agent: str
    messages: tuple[tuple[str, str], ...]
    schema: type[BaseModel]
    prompt: RenderedPrompt


Ask = Callable[[Question], Awaitable[Answer]]
"""Asks the chat model and records the call; the same question of the same turn is answered from the record."""


def system_message(prompts: PromptLibrary, space: PrunedLMSpace, source: str) -> tuple[str, str]:
    """The part of every conversation that stays the same during a run."""
    layer, settings = space.source.layers[0], space.settings
    rendered = prompts.render(
        "system",
        source=source,
        aim=aim(settings),
        depth=len(space.source.layers),
        hidden_size=space.source.hidden_size,
        num_key_value_heads=layer.num_key_value_heads,
        intermediate_size=layer.intermediate_size,
        parameters=space.source.parameters,
        min_parameters=settings.min_parameters,
        max_parameters=space.most_parameters,
        limits=limits_in_words(space.source, settings),
        kv_cost=kv_group_parameters(space.source, 0),
        ffn_cost=settings.ffn_multiple * ffn_channel_parameters(space.source),
        ffn_multiple=settings.ffn_multiple,
        uniform=settings.uniform,
        sensitivity=sensitivity(space),
    )
    return ("system", rendered.text)


def sensitivity(space: PrunedLMSpace) -> list[dict[str, Any]]:
    """Saliency of attention and FFN for runs of layers, 1.0 being the average layer."""
    depth = len(space.source.layers)
    attention = [space.designer.kv_saliency(index) for index in range(depth)]
    ffn = [space.designer.ffn_saliency(index) for index in range(depth)]
    rows = []
    count = min(_SENSITIVITY_ROWS, depth)
    for row in range(count):
        layers = range(row * depth // count, (row + 1) * depth // count)
        rows.append(
            {
                "first_layer": layers[0],
                "last_layer": layers[-1],
                "attention": _relative(attention, layers),
                "ffn": _relative(ffn, layers),
            }
        )
    return rows


def _relative(values: list[float], layers: range) -> float:
    mean = sum(values) / len(values)
    part = sum(values[index] for index in layers) / len(layers)
    return part / mean if mean else 1.0


def trial_row(trial: TrialView) -> dict[str, Any]:
    """A trial as the templates show it; a failed one says why instead of a loss."""
    measurement = trial.measurement
    if measurement is None:
        loss = "not measured yet"
    elif measurement.failure is not None:
        loss = f"failed: {measurement.failure.kind}"
    else:
        loss = f"{measurement.loss:.4f}"
    return {
        "number": trial.number,
        "design": trial.architecture.describe(),
        "parameters": trial.architecture.parameters,
        "loss": loss,
        "figures": _figures(trial),
    }


def _figures(trial: TrialView) -> list[str]:
    """What else of a trial counts in its run: accuracy where that decides, costs that are limited.

    A measured time differs from run to run, and with it the answer of the same seed would: it is told where it counts.
    """
    accuracy = [] if trial.accuracy is None else [f"accuracy {trial.accuracy:.3f}"]
    latency = trial.measurement.latency_ms if trial.measurement else None
    return [*accuracy, *costs_in_words(trial.architecture, latency, trial.goal)]


def aim(goal: GoalSettings) -> str:
    """The figure that decides, in words."""
    if goal.objective == "loss":
        return "lowest validation loss"
    return f"highest zero-shot accuracy (mean of {', '.join(goal.objective_tasks)})"


def band(space: PrunedLMSpace) -> dict[str, Any]:
    """The sizes that a design may have, and whether other limits hold, as the templates ask for a design."""
    return {
        "min_parameters": space.settings.min_parameters,
        "max_parameters": space.most_parameters,
        "limited": bool(limits_in_words(space.source, space.settings)),
    }


def proposed_from(
    answer: Answer, question: Question, base: Architecture, rationale: tuple[str, ...], based_on: tuple[int, ...]
) -> Proposed:
    """The proposal in the answer to a question for a design."""
    parsed = answer.parsed
    if parsed is not None:
        reasons = parsed.get("patterns") or parsed.get("strategies_applied") or rationale
        rationale = tuple(reasons)
    return Proposed(
        draft=draft_of(parsed) if parsed is not None else None,
        base=base,
        rationale=rationale,
        based_on=based_on,
        raw=answer.raw,
        parsed=parsed,
        prompt_hash=question.prompt.hash,
        error=answer.error,
        messages=question.messages,
    )


async def ask_again(
    ask: Ask,
    prompts: PromptLibrary,
    situation: Situation,
    rejection: Rejection,
    schema: type[BaseModel],
    agent: str,
    base: Architecture,
) -> Proposed:
    """Give the checker's words back to the author of an illegal answer, and read the next one."""
    prompt = prompts.render("repair", problems=rejection.problems)
    messages = (*rejection.messages, ("assistant", as_answered(rejection.raw)), ("user", prompt.text))
    question = Question(situation.turn, agent, messages, schema, prompt)
    answer = await ask(question)
    return proposed_from(answer, question, base, rejection.rationale, rejection.based_on)
