"""What a search would cost and whether it can be done: nothing is trained, no chat model is asked, no run is recorded.

Source and corpus are looked up as far as that takes seconds: weights are neither downloaded nor converted, text is not
packed. A survey that an earlier run left in the cache is used; without one its figures are not known.
"""

import random
from dataclasses import asdict
from typing import Any

from agents.chat_team import open_chat_team
from agents.prices import Price
from graph.agents_estimate import TurnCost, turn_costs
from graph.at_hand import Known, what_is_known
from graph.budget import expected_seconds
from graph.config import SearchConfig
from graph.context import workers_of
from graph.drive import prices_of, require_judge
from graph.folder import Home
from graph.space import make_space
from prompts.library import PromptLibrary
from tools.accuracy import accuracy_request
from tools.architecture import Architecture
from tools.errors import InputError
from tools.fidelity import Fidelity
from tools.pretraining.compute import choose_compute
from tools.spaces import PrunedLMSpace
from tools.spaces.extremes import largest_legal, narrowest, smallest_legal
from tools.training_memory import machine_memory_mb, training_memory
from tools.workers import WorkersChoice


async def dry_run(config: SearchConfig) -> dict[str, Any]:
    """The estimate as a plain document. Raises the InputError that the search would end with before its first trial."""
    prices, prompts = prices_of(config), PromptLibrary(config.prompt_dir)
    accuracy_request(config.goal_settings())
    require_judge(config)
    workers_of(config, Home(config.home).run("dry-run"))
    if config.asks_agents and config.replay is None:
        open_chat_team(config.chat_settings()).close()
    known = what_is_known(config)
    space = space_before(config, known)
    greedy = space.designer.greedy()
    stages, count = config.turns, config.proposals_per_turn
    asked = {"evolver": count * stages["self_evolution"], "distiller": count * stages["knowledge_distillation"]}
    costs = [
        cost for cost in await turn_costs(config, prompts, space, shown_designs(space, greedy)) if asked[cost.agent]
    ]
    agents = _agents(asked, costs, prices)
    time = _time(config, known)
    return {
        "source": {"name": config.source, "parameters": known.source.parameters},
        "corpus": config.corpus,
        "survey_cached": known.survey is not None,
        "trials": config.trials,
        "turns": {"greedy": 1, **stages},
        "judge": config.judge,
        "agents": agents,
        "training_tokens": _training_tokens(config, known),
        "time": time,
        "memory": _memory(config, known),
        "designs": _designs(config, space, known, greedy),
        "budget": config.budget.model_dump(),
        "notes": [*known.notes, *_early_ends(config, agents, time)],
    }


def space_before(config: SearchConfig, known: Known) -> PrunedLMSpace:
    """The search's own space.

    Without a survey nobody knows the saliency-greedy design, nor whether `min_parameters` is above it.
    """
    try:
        return make_space(config, known.source, known.saliency)
    except InputError:
        if known.survey is not None or config.min_parameters is None:
            raise
        return make_space(config.model_copy(update={"min_parameters": None}), known.source, known.saliency)


def shown_designs(space: PrunedLMSpace, greedy: Architecture) -> list[Architecture]:
    """Some designs as prompts may show them: different ones, so that each takes its line."""
    rng, designs = random.Random(0), [greedy]  # noqa: S311 - nothing here is secret
    for _ in range(9):
        designs.append(space.vary(designs[-1], rng))
    return list(dict.fromkeys(designs))


def _agents(asked: dict[str, int], costs: list[TurnCost], prices: dict[str, Price | None]) -> dict[str, Any]:
    """Tokens and money of all designs that each agent is asked for; every turn is taken to end in one."""
    document: dict[str, Any] = {
        "calls": {"most": 0},
        "tokens": {"likely": 0, "most": 0},
        "usd": {"likely": 0.0, "most": 0.0},
    }
    for cost in costs:
        count, price = asked[cost.agent], prices[cost.agent]
        document["calls"]["most"] += count * cost.most_calls
        for kind, read, written in (
            ("likely", cost.likely_input, cost.likely_output),
            ("most", cost.most_input, cost.most_output),
        ):
            document["tokens"][kind] += count * (read + written)
            before = document["usd"][kind]
            if price is None or before is None:
                document["usd"][kind] = None
            else:
                document["usd"][kind] = before + count * price.usd(read, written)
    return document


def _training_tokens(config: SearchConfig, known: Known) -> dict[str, int]:
    step = config.recipe.batch_size * config.data.block_length
    survey = 0 if known.survey is not None else config.recipe.warmup_steps * step
    trials = [(count, config.ladder.steps(fidelity) * step) for fidelity, count in _climbs(config)]
    return {"survey": survey, "trial": trials[0][1], "all": survey + sum(count * tokens for count, tokens in trials)}


def _time(config: SearchConfig, known: Known) -> dict[str, float] | None:
    """Seconds, from the survey's; None where there is none. The chat model's time is not in it."""
    if known.survey is None:
        return None
    survey, found = known.survey.measurement.seconds, list[tuple[int, float]]()
    for fidelity, count in _climbs(config):
        recipe = config.recipe.model_copy(update={"training_steps": config.ladder.steps(fidelity)})
        found.append((count, expected_seconds([], survey, recipe)))
    (_, trial), *above = found
    side_by_side = -(-(config.trials - 1) // config.parallel)
    wall_clock = (1 + side_by_side) * trial + sum(-(-count // config.parallel) * seconds for count, seconds in above)
    evaluations = sum(count * seconds for count, seconds in found)
    return {"trial": trial, "evaluations": evaluations, "wall_clock": wall_clock}


def _climbs(config: SearchConfig) -> list[tuple[Fidelity, int]]:
    """How many designs come to each rung, where the best ones come first; a few more may."""
    eta = config.reduction_factor
    return [(fidelity, config.trials // eta**rung) for rung, fidelity in enumerate(config.fidelities)]


def _memory(config: SearchConfig, known: Known) -> dict[str, Any]:
    precision = known.survey.precision if known.survey else choose_compute(config.recipe.precision).precision
    parts = training_memory(known.source, config.recipe, config.data.block_length, precision)
    free, whole = machine_memory_mb()
    together = parts.total * trials_here(config)
    return {
        "parts_mb": asdict(parts),
        "needed_mb": together,
        "free_mb": free,
        "machine_mb": whole,
        "fits": together <= free,
    }


def trials_here(config: SearchConfig) -> int:
    """How many trials this machine works on at a time; with Ray one, since nobody knows which nodes there are."""
    choice = WorkersChoice.read(config.workers)
    return min(config.parallel, choice.places or config.parallel) if choice.kind == "processes" else 1


def _designs(config: SearchConfig, space: PrunedLMSpace, known: Known, greedy: Architecture) -> dict[str, Any]:
    settings = space.settings
    found = {"smallest": smallest_legal(space, known.saliency), "largest": largest_legal(space, known.saliency)}
    return {
        "min_parameters": settings.min_parameters,
        "max_parameters": space.most_parameters,
        **{name: None if design is None else _design(design) for name, design in found.items()},
        "saliency_greedy": _design(greedy) if known.survey is not None else None,
        "narrowest": _design(narrowest(known.source, config.space)),
        "hidden_sizes": space.hidden_sizes,
        "intermediate_sizes": space.intermediate_sizes,
        "key_value_heads": list(range(1, space.largest_kv_heads + 1)),
    }


def _design(design: Architecture) -> dict[str, Any]:
    return {"parameters": design.parameters, "design": design.describe()}


def _early_ends(config: SearchConfig, agents: dict[str, Any], time: dict[str, float] | None) -> list[str]:
    """Caps of the budget that are likely to end the search before its last trial, or before its first."""
    caps, seconds = config.budget, time or {}
    likely = {
        "llm_tokens": agents["tokens"]["likely"],
        "usd": agents["usd"]["likely"],
        "evaluation_seconds": seconds.get("evaluations"),
        "wall_clock_seconds": seconds.get("wall_clock"),
    }
    found = []
    for name, value in likely.items():
        cap = getattr(caps, name)
        if cap is not None and value is not None and value > cap:
            when = "before the first trial" if name.endswith("seconds") and seconds["trial"] > cap else "early"
            found.append(
                f"budget.{name} is likely to end the search {when}: about {value:,.4g} of {cap:,.10g} would be needed."
            )
    return found
