"""Made-up past searches for `benchmarks.memory_speed`: many runs of 50 designs each, in the shapes that real ones have.

Sources are SmolLM2-135M, SmolLM2-360M and Qwen2.5-0.5B by their shapes, on two corpora. Half of all runs have the first
source and corpus. A run begins with a design cut at random; each later one redraws a few widths of an earlier one, or
is cut anew. Rationales are one or two sentences of an agent's kind, with numbers in them; losses fall with size, with
noise; one in thirty designs failed. One run in four was measured at another fidelity. Everything follows from the seed.
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256

from memory.bulk_records import FinishedTrial
from memory.tables import Evaluation, Proposal, Run
from tools.architecture import Architecture, FixedShape, LayerShape
from tools.measurement import Failure, Measurement

TRIALS = 50  # of each run

Home = tuple[str, str]
"""A source and a corpus."""

SMALL = "HuggingFaceTB/SmolLM2-135M"
HOMES: tuple[tuple[Home, float], ...] = (
    ((SMALL, "python-docs"), 0.5),
    ((SMALL, "HuggingFaceFW/fineweb-edu"), 0.2),
    (("HuggingFaceTB/SmolLM2-360M", "HuggingFaceFW/fineweb-edu"), 0.2),
    (("Qwen/Qwen2.5-0.5B", "python-docs"), 0.1),
)
"""With the share of the runs that each has; the first is that of the search which asks."""


def _shape(
    model_type: str, vocabulary: int, head: int, hidden: int, layers: int, heads: int, kv: int, ffn: int
) -> Architecture:
    fixed = FixedShape(model_type=model_type, vocab_size=vocabulary, head_dim=head, tie_word_embeddings=True)
    layer = LayerShape(num_attention_heads=heads, num_key_value_heads=kv, intermediate_size=ffn)
    return Architecture(fixed=fixed, hidden_size=hidden, layers=(layer,) * layers)


SOURCES = {
    SMALL: _shape("llama", 49_152, 64, 576, 30, 9, 3, 1536),
    "HuggingFaceTB/SmolLM2-360M": _shape("llama", 49_152, 64, 960, 32, 15, 5, 2560),
    "Qwen/Qwen2.5-0.5B": _shape("qwen2", 151_936, 64, 896, 24, 14, 2, 4864),
}

_DO = ("Keep more", "Use fewer", "Narrow the", "Widen the", "Restore", "Cut the")
_WHAT = ("FFN channels", "key/value heads", "query groups", "attention heads", "FFN widths", "stem channels")
_WHY = (
    "because they are the most sensitive",
    "since their saliency per parameter is the lowest",
    "which frees parameters for the early layers",
    "as the best designs so far have in common",
    "because the last layers hardly change the loss",
    "to make up for the narrower hidden size",
    "since the parent lost {loss:.3f} nats there",
)
_PROMPT = (
    "You design compact language models by pruning {source}. Revision {number}. Think about which layers have too many "
    "and which too few key/value heads or FFN channels. Say what {topic} is worth, then write {count} strategies that "
    "would lower the loss at the same size, each one English sentence."
)


@dataclass(frozen=True)
class PastRun:
    """A run, its trials in order, and the source that their designs were cut from."""

    run: Run
    trials: list[FinishedTrial]
    source: Architecture


def past_runs(designs: int, first: int = 0) -> Iterator[PastRun]:
    """Runs number `first` and on, with so many designs together."""
    for number in range(first, first + designs // TRIALS):
        yield past_run(number)


def home_of(number: int) -> Home:
    """Source and corpus of the run of this number."""
    chance = random.Random(f"home {number}")  # noqa: S311
    return chance.choices([home for home, _ in HOMES], [share for _, share in HOMES])[0]


def past_run(number: int) -> PastRun:
    """The run of this number; the same at each call."""
    chance = random.Random(f"run {number}")  # noqa: S311
    name, corpus = home_of(number)
    source, fidelity = SOURCES[name], "short_training" if number % 4 else "long_training"
    run = Run(
        id=f"{number:06d}-past", status="finished", source=name, corpus=corpus, source_architecture=source.model_dump()
    )
    trials: list[FinishedTrial] = []
    for turn in range(TRIALS):
        fresh = not trials or chance.random() < 0.3
        design = cut(source, chance) if fresh else varied(chance.choice(trials).architecture, source, chance)
        trials.append(_finished(run.id, turn, design, source, fidelity, chance))
    return PastRun(run, trials, source)


def cut(source: Architecture, chance: random.Random) -> Architecture:
    """A design of 60 to 100 % of the source's widths, which differ by runs of layers."""
    layers: list[LayerShape] = []
    while len(layers) < len(source.layers):
        shape = _layer(source, chance)
        layers += [shape] * chance.randint(1, 8)
    hidden = round(source.hidden_size * chance.uniform(0.75, 1.0) / 32) * 32
    depth = len(source.layers)
    return Architecture(fixed=source.fixed, hidden_size=hidden, layers=tuple(layers[:depth]))


def varied(design: Architecture, source: Architecture, chance: random.Random) -> Architecture:
    """`design` with the widths of one to three layers drawn anew."""
    layers = list(design.layers)
    for place in chance.sample(range(len(layers)), chance.randint(1, 3)):
        layers[place] = _layer(source, chance)
    return design.with_layers(layers)


def prompts(count: int, first: int = 0) -> Iterator[tuple[str, str, str]]:
    """Hash, name and text of prompt templates number `first` and on."""
    for number in range(first, first + count):
        chance = random.Random(f"prompt {number}")  # noqa: S311
        text = _PROMPT.format(
            source=SMALL, number=number, topic=chance.choice(_WHAT), count=chance.randint(1, 3)
        ) + " ".join(sentence(chance) for _ in range(chance.randint(3, 12)))
        yield sha256(text.encode()).hexdigest()[:16], chance.choice(("strategies", "design", "inspiration")), text


def sentence(chance: random.Random) -> str:
    """A strategy as an agent words it."""
    first = chance.randint(0, 24)
    why = chance.choice(_WHY).format(loss=chance.uniform(0.001, 0.3))
    width = 64 * chance.randint(6, 24)
    where = f"in layers {first}-{first + chance.randint(1, 7)}"
    return f"{chance.choice(_DO)} {chance.choice(_WHAT)} {where}, about {width}, {why}."


def _layer(source: Architecture, chance: random.Random) -> LayerShape:
    widest = source.layers[0]
    group = widest.num_attention_heads // widest.num_key_value_heads
    kept = chance.randint(max(1, widest.num_key_value_heads - 2), widest.num_key_value_heads)
    ffn = round(widest.intermediate_size * chance.uniform(0.5, 1.0) / 64) * 64
    return LayerShape(num_attention_heads=kept * group, num_key_value_heads=kept, intermediate_size=ffn)


def _finished(
    run_id: str, turn: int, design: Architecture, source: Architecture, fidelity: str, chance: random.Random
) -> FinishedTrial:
    loss = 3.4 - 0.6 * design.parameters / source.parameters + chance.gauss(0, 0.02)
    failed = chance.random() < 1 / 30
    measurement = Measurement(
        fidelity=fidelity,
        parameters=design.parameters,
        loss=None if failed else loss,
        latency_ms=None if failed else 45.0 * design.parameters / source.parameters,
        training_losses=() if failed else tuple(loss + 0.5 / (1 + step) for step in range(24)),
        tokens=36_864,
        seconds=20.0,
        failure=Failure(kind="out_of_memory", message="4.1 GB were asked for, 2.0 GB are there") if failed else None,
    )
    greedy = turn == 0
    stage = "greedy" if greedy else ("self_evolution" if turn <= 30 else "knowledge_distillation")
    shape = design.model_dump(mode="json")
    proposal = Proposal(
        run_id=run_id,
        turn=turn,
        stage=stage,
        proposer="greedy" if greedy else ("evolver" if turn <= 30 else "distiller"),
        parent_number=None if greedy else chance.randrange(turn),
        raw=f'{{"hidden_size": {design.hidden_size}, "spans": []}}',
        rationale=[sentence(chance) for _ in range(chance.randint(1, 2))],
        outcome="valid",
        architecture=shape,
    )
    evaluation = Evaluation(
        key=sha256(f"{run_id} {turn} {design.hash}".encode()).hexdigest()[:16],
        run_id=run_id,
        architecture_hash=design.hash,
        architecture=shape,
        fidelity=fidelity,
        status="failed" if failed else "done",
        loss=measurement.loss,
        parameters=design.parameters,
        measurement=measurement.model_dump(mode="json"),
    )
    return FinishedTrial(proposal, design, evaluation)


def designs_of(runs: Sequence[PastRun]) -> list[Architecture]:
    """All designs, in order."""
    return [trial.architecture for one in runs for trial in one.trials]
