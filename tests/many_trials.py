"""A finished search of many trials, written through the real records: for pictures and the page."""

import math
import random
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from graph.config import SearchConfig
from graph.folder import Home
from memory.bulk_records import FinishedTrial
from memory.records import Records
from memory.tables import Call, Evaluation, Proposal, Run, Span
from tools.architecture import Architecture, FixedShape, LayerShape
from tools.measurement import Failure, Measurement
from tools.pruning.drop_event import DropEvent, pruned_share, removed_between

HOSTILE = "<script>document.title='owned'</script> **bold** ![x](http://evil.example/x.png) $a$ :smile: " + "long" * 60
"""What a language model might write."""
STARTED = datetime(2026, 3, 1, 9, tzinfo=UTC)


def source_design(layers: int = 30) -> Architecture:
    """The shapes of SmolLM2-135M."""
    fixed = FixedShape(model_type="llama", vocab_size=49152, head_dim=64, tie_word_embeddings=True)
    shape = LayerShape(num_attention_heads=9, num_key_value_heads=3, intermediate_size=1536)
    return Architecture(fixed=fixed, hidden_size=576, layers=(shape,) * layers)


def write_run(
    home: Path,
    trials: int,
    run_id: str = "20260301-090000-0001",
    spans: bool = True,
    calls: int = 2,
    trials_asked: int | None = None,
    **settings: Any,
) -> str:
    """A run with `trials` trials, their proposals, calls and spans; its id. Two runs of one id are the same run.

    `trials_asked` is its setting, by default as many. The designs get better now and then; one in twenty failed. Every
    agent's answer has HOSTILE in it.
    """
    rng, source = random.Random(run_id), source_design()
    config = SearchConfig(home=home, trials=trials_asked or max(1, trials), chat_model="openai:fake", **settings)
    Home(home).create()
    Home(home).run(run_id).path.mkdir(parents=True, exist_ok=True)
    with Records.open(Home(home).records) as records:
        records.create_run(
            Run(
                id=run_id,
                name=config.name,
                status="finished",
                config=config.model_dump(mode="json"),
                fingerprint=config.fingerprint,
                source=config.source,
                corpus=config.corpus,
                source_architecture=source.model_dump(mode="json"),
                message="all trials are done",
                wall_clock_seconds=12.5 * trials,
                created_at=STARTED,
                finished_at=STARTED + timedelta(seconds=12.5 * trials),
            )
        )
        survey = {"kind": "survey", "run": run_id, "parameters": source.parameters, "loss": 2.8352, "latency_ms": 45.6}
        records.add_event(run_id, "survey", {**survey, "compute": "float32", "budget": 115_000_000})
        spent = {"input_tokens": 900 * trials, "output_tokens": 120 * trials, "wall_clock_seconds": 12.5 * trials}
        budget = {"kind": "budget", "run": run_id, "trials_done": trials, "trials": trials, "usd": 0.0004 * trials}
        records.add_event(run_id, "budget", {**budget, **spent, "evaluation_seconds": 11.0 * trials})
        hash = "0123456789abcdef"
        records.add_prompt(hash, "strategies", "---\nname: strategies\n---\nRefine it.")
        finished: list[FinishedTrial] = []
        current, losses, rows = 0, list[float]([]), list[Any]()
        for number in range(trials):
            stage = _stage(number, trials, config)
            parent = None if number == 0 else current
            loss = 2.66 - 0.12 * math.log1p(number / 25) + rng.expovariate(18.0)
            design = _design(rng, source)
            failed = number > 0 and rng.random() < 0.05
            finished.append(
                _finished(run_id, number, stage, parent, design, None if failed else loss, source, rng, hash)
            )
            if not failed and (not losses or loss < min(losses)):
                current = number
            if not failed:
                losses.append(loss)
            if stage in ("greedy", "judge"):
                continue
            for part in range(calls):
                messages = [
                    {"role": "system", "content": "You design."},
                    {"role": "user", "content": f"Turn {number}."},
                ]
                rows.append(
                    Call(
                        run_id=run_id,
                        turn=number,
                        agent="evolver" if stage == "self_evolution" else "distiller",
                        prompt_hash=hash,
                        model="fake",
                        messages=messages * (part + 1),
                        answer=f'{{"strategies": ["{HOSTILE}"]}}',
                        schema_name="StrategiesAnswer",
                        input_tokens=900,
                        output_tokens=120,
                        cost_usd=0.0004,
                        seconds=1.5,
                    )
                )
        records.add_finished_trials(run_id, finished)
        with records.writing() as session:
            for row in rows:
                session.add(row)
            session.flush()
            if spans:
                session.add_all(_spans(run_id, trials, rows))
        best = records.trials(run_id)[current] if trials else None
        if best is not None:
            table = [
                _row("parent, not trained further", None, source, 2.8352),
                _row("saliency-greedy design", 0, records.trial(run_id, 0).architecture, records.trial(run_id, 0).loss),
                _row("best of the search", best.number, best.architecture, best.loss),
            ]
            records.update_run(
                run_id, result={"best": best.number, "table": table, "export": "", "budget_reached": None}
            )
    return run_id


def _stage(number: int, trials: int, config: SearchConfig) -> str:
    if number == 0:
        return "greedy"
    if config.llm_share == 0:
        return "judge"
    return "self_evolution" if number <= 0.6 * trials else "knowledge_distillation"


def _design(rng: random.Random, source: Architecture) -> Architecture:
    def shape() -> LayerShape:
        heads = rng.choice((2, 3, 3))
        return LayerShape(
            num_attention_heads=3 * heads, num_key_value_heads=heads, intermediate_size=64 * rng.randint(14, 24)
        )

    design = source.with_layers([shape() for _ in source.layers])
    return design.model_copy(update={"hidden_size": rng.choice((512, 544, 576))})


def _finished(
    run_id: str,
    number: int,
    stage: str,
    parent: int | None,
    design: Architecture,
    loss: float | None,
    source: Architecture,
    rng: random.Random,
    hash: str,
) -> FinishedTrial:
    agents = stage in ("self_evolution", "knowledge_distillation")
    shown = sorted({parent or 0, *(rng.randrange(number) for _ in range(2))}) if parent is not None else []
    proposal = Proposal(
        run_id=run_id,
        turn=number,
        stage=stage,
        proposer={"greedy": "saliency-greedy", "self_evolution": "evolver", "judge": "random"}.get(stage, "distiller"),
        parent_number=parent,
        based_on=shown if stage == "knowledge_distillation" else [] if parent is None else [parent],
        prompt_hash=hash if agents else None,
        raw=HOSTILE if agents else "",
        rationale=[HOSTILE] if agents else [],
        outcome=rng.choice(("valid", "valid", "repaired", "projected")) if agents else "valid",
        architecture=design.model_dump(mode="json"),
        forecast=rng.random(),
    )
    drops = (
        DropEvent(
            number=1,
            step=12,
            tokens=12288,
            least_saliency={"attention": 2e-9, "ffn": 4e-10, "stem": None},
            removed=removed_between(source, design),
            pruned_share=pruned_share(source, design),
            parameters=design.parameters,
            hidden_size=design.hidden_size,
        ),
    )
    figures: dict[str, Any] = {"fidelity": "short_training", "parameters": design.parameters, "seconds": 11.0}
    if loss is None:
        failure = Failure(kind="out_of_memory", message="the model did not fit")
        measurement = Measurement(failure=failure, **figures)
    else:
        training = tuple(loss + 1.5 / (1 + step / 3) + 0.02 * rng.random() for step in range(24))
        latency = design.parameters / 2.9e6 + rng.random()
        measurement = Measurement.of_loss(
            loss,
            loss_before_training=loss + 1.1,
            latency_ms=latency,
            training_losses=training,
            tokens=36864,
            drops=drops,
            **figures,
        )
    evaluation = Evaluation(
        key=f"{run_id}-{number}",
        run_id=run_id,
        architecture_hash=design.hash,
        architecture=design.model_dump(mode="json"),
        fidelity="short_training",
        status="failed" if loss is None else "done",
        loss=loss,
        parameters=design.parameters,
        measurement=measurement.model_dump(mode="json"),
    )
    return FinishedTrial(proposal, design, evaluation)


def _spans(run_id: str, trials: int, calls: list[Call]) -> list[Span]:
    """A search with a turn for each trial, and its calls and evaluation below it."""
    root = Span(
        id=f"{run_id}-root",
        run_id=run_id,
        name="search",
        kind="CHAIN",
        status="done",
        started_at=STARTED,
        ended_at=STARTED + timedelta(seconds=12.5 * trials),
    )
    found = [root]
    of_turn: dict[int, list[Call]] = {}
    for call in calls:
        of_turn.setdefault(call.turn, []).append(call)
    for number in range(trials):
        at = STARTED + timedelta(seconds=12.5 * number)
        turn = f"{run_id}-turn-{number}"
        common: dict[str, Any] = {"run_id": run_id, "status": "done", "turn": number}
        if number in of_turn:
            agent = of_turn[number][0].agent
            found.append(
                Span(
                    id=turn,
                    parent_id=root.id,
                    name=agent,
                    kind="AGENT",
                    attributes={"gen_ai.agent.name": agent},
                    started_at=at,
                    ended_at=at + timedelta(seconds=1.5),
                    **common,
                )
            )
        for place, call in enumerate(of_turn.get(number, [])):
            found.append(
                Span(
                    id=f"{turn}-call-{place}",
                    parent_id=turn,
                    name="chat fake",
                    kind="LLM",
                    call_id=call.id,
                    attributes={"penjing.prompt.name": "strategies"},
                    started_at=at,
                    ended_at=at + timedelta(seconds=1.5),
                    **common,
                )
            )
        found.append(
            Span(
                id=f"{run_id}-evaluation-{number}",
                parent_id=root.id,
                name="evaluation",
                kind="EVALUATOR",
                trial=number,
                started_at=at + timedelta(seconds=1.5),
                ended_at=at + timedelta(seconds=12.5),
                **common,
            )
        )
    return found


def _row(name: str, trial: int | None, design: Architecture, loss: float | None) -> dict[str, Any]:
    return {
        "name": name,
        "trial": trial,
        "parameters": design.parameters,
        "loss": loss,
        "perplexity": None if loss is None else math.exp(loss),
        "latency_ms": design.parameters / 2.9e6,
        "design": design.describe(),
        "over_limit": None,
        "stage": None,
        "accuracy": None,
        "accuracy_stderr": None,
    }
