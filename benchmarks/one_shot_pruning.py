"""How good a cut is before any training: kinds of saliency, repair and its damping, FFN alone and all types.

    python -m benchmarks.one_shot_pruning            # 24,576 tokens of WikiText-2 for each figure
    python -m benchmarks.one_shot_pruning --quick    # 8,192

SmolLM2-135M to 114.6M parameters with statistics from 6,144 tokens of modern text (24 blocks of 256, one a
micro-batch). Perplexity on the start of WikiText-2's raw test part, non-overlapping blocks of 256, no BOS,
bfloat16 where the processor has it. `holds`: the best FFN-only cut, relative to dense, is below 55.3 / 38.8,
the mark of a global Taylor cut with repair.
"""

import argparse
import gzip
import json
import lzma
import random
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
from rich.console import Console
from rich.progress import track

from benchmarks.outcome import RESULTS, finish, shared_file
from tools.architecture import Architecture
from tools.evaluation.perplexity import validation_loss
from tools.pretraining.compute import choose_compute
from tools.pruning.greedy import SaliencyDesigner
from tools.pruning.groups import PRUNING_TYPES, PruningType
from tools.pruning.input_statistics import InputStatistics
from tools.pruning.ranking import make_ranking
from tools.pruning.saliency import Saliency
from tools.pruning.second_order import repair
from tools.pruning.selection import plan_cut
from tools.pruning.surgery import cut
from tools.settings import Recipe, SaliencyName, SpaceSettings
from tools.sources import Source, load_model, load_tokenizer, resolve_source

BLOCK = 256
BUDGET = 114_600_000
CALIBRATION_BLOCKS = 24
MARK = 55.3 / 38.8
SALIENCIES: tuple[SaliencyName, ...] = ("first", "second", "token", "token_sequence")
DAMPINGS = (None, 0.01, 0.1, 0.3, 1.0)
Tokens = npt.NDArray[np.int32]


def blocks_of(source: Source, texts: list[str], count: int) -> Tokens:
    """The first `count` blocks of the tokens of `texts`, joined: int32 [count, BLOCK]."""
    tokenizer = load_tokenizer(source.path)
    ids: list[int] = []
    for text in texts:
        ids += cast(list[int], tokenizer(text, add_special_tokens=False)["input_ids"])
        if len(ids) >= count * BLOCK:
            return np.asarray(ids[: count * BLOCK], dtype=np.int32).reshape(count, BLOCK)
    raise ValueError(f"{len(ids)} tokens are too few for {count} blocks")


def calibration_texts() -> list[str]:
    """Training documents of the modern mix in a fixed random order, at most 3,000 characters of each."""
    with lzma.open(shared_file("modern_mix/modern_mix.jsonl.xz"), "rt") as lines:
        rows = [json.loads(line) for line in lines]
    texts = [row["text"][:3000] for row in rows if row["split"] == "train"]
    random.Random(0).shuffle(texts)  # noqa: S311 - a repeatable order
    return texts


def statistics_of(source: Source, blocks: Tokens) -> tuple[dict[SaliencyName, Saliency], dict[str, torch.Tensor]]:
    """Saliency of every kind and input statistics, from one pass over `blocks`."""
    model, compute = load_model(source.path), choose_compute()
    statistics = InputStatistics(model)
    rankings = {name: make_ranking(Recipe(saliency=name), model, statistics, seed=0) for name in SALIENCIES}
    ends = [statistics.attach(), *(ranking.attach() for ranking in rankings.values())]
    for block in track(blocks, "calibrating", console=Console(stderr=True)):
        tokens = torch.from_numpy(np.array(block)).long()[None]
        with compute.autocast():
            loss = model(input_ids=tokens, labels=tokens, use_cache=False).loss
        loss.backward()
        for ranking in rankings.values():
            ranking.observe()
            ranking.end_step()
        model.zero_grad()
    for end in ends:
        end()
    return {name: ranking.saliency() for name, ranking in rankings.items()}, statistics.state()


def measure(blocks: int) -> dict[str, Any]:
    """All figures, each the perplexity of one cut."""
    source = resolve_source("smollm2-135m")
    with gzip.open(shared_file("wikitext2/wiki.test.raw.gz"), "rt") as file:
        test = blocks_of(source, [file.read()], blocks)
    saliencies, statistics = statistics_of(source, blocks_of(source, calibration_texts(), CALIBRATION_BLOCKS))
    precision = choose_compute().precision

    def perplexity(design: Architecture | None, saliency: Saliency | None, damping: float | None) -> float:
        model = load_model(source.path)
        if design is not None and saliency is not None:
            plan = plan_cut(source.architecture, design, saliency)
            if damping is not None:
                repair(model, plan, statistics, damping)
            cut(model, plan)
        return round(float(np.exp(validation_loss(model, test, 4, precision))), 2)

    space = SpaceSettings(max_parameters=BUDGET, ffn_multiple=32)
    rows: list[dict[str, Any]] = []
    jobs = [(kind, order, damping) for kind in ("ffn", "all") for order in saliencies for damping in DAMPINGS]
    for kind, order, damping in track(jobs, "cutting and measuring", console=Console(stderr=True)):
        types: tuple[PruningType, ...] = ("ffn",) if kind == "ffn" else PRUNING_TYPES
        design = SaliencyDesigner(source.architecture, saliencies[order], space, types).greedy()
        figure = perplexity(design, saliencies[order], damping)
        rows.append({"types": kind, "saliency": order, "damping": damping, "perplexity": figure})
    return {
        "dense": perplexity(None, None, None),
        "cuts": rows,
        "tokens": blocks * BLOCK,
        "calibration_tokens": CALIBRATION_BLOCKS * BLOCK,
        "block_length": BLOCK,
        "parameters": BUDGET,
        "source": source.name,
    }


def draw(figures: dict[str, Any]) -> None:
    """Perplexity against damping, one line for each kind of saliency and set of types."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    names = ["none" if damping is None else str(damping) for damping in DAMPINGS]
    for kind in ("ffn", "all"):
        for order in SALIENCIES:
            line = [row["perplexity"] for row in figures["cuts"] if (row["types"], row["saliency"]) == (kind, order)]
            label = f"{'FFN only' if kind == 'ffn' else 'all types'}, {order}"
            axes.plot(names, line, marker="o", label=label)
    axes.axhline(figures["dense"], color="#6b7280", linestyle="--", label="dense")
    axes.set_xlabel("damping of the second-order repair (none: no repair)")
    axes.set_ylabel("WikiText-2 perplexity, blocks of 256")
    axes.set_title("SmolLM2-135M cut to 114.6M parameters, no training")
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small")
    RESULTS.mkdir(exist_ok=True)
    figure.savefig(RESULTS / "one_shot_pruning.png", dpi=150)


def main() -> None:
    """Measure, draw, report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a third of the test tokens")
    figures = measure(32 if parser.parse_args().quick else 96)
    draw(figures)
    best = min(row["perplexity"] for row in figures["cuts"] if row["types"] == "ffn")
    figures["best_ffn_only_over_dense"] = round(best / figures["dense"], 4)
    figures["mark"] = round(MARK, 4)
    finish("one_shot_pruning", best / figures["dense"] < MARK, figures)


if __name__ == "__main__":
    main()
