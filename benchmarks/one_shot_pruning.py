"""How good a cut is before any training: kinds of saliency, repair and its damping, FFN alone and all types.

    python -m benchmarks.one_shot_pruning            # 24,576 tokens of WikiText-2 for each figure
    python -m benchmarks.one_shot_pruning --quick    # 8,192

SmolLM2-135M to 114.6M parameters with statistics from 6,144 tokens of modern text (24 blocks of 256, one a
micro-batch). Perplexity on the start of WikiText-2's raw test part, non-overlapping blocks of 256, no BOS,
bfloat16 where the processor has it. The marks are perplexities of a uniform Wanda-sp cut with repair (56.6), a
global Taylor cut (59.2) and the same with repair (55.3), all FFN only, where dense is 38.8: that is the
perplexity of the first 2,048 tokens, so each figure is taken there too (`mark_text`). `holds`: there, the cut
that Penjing makes without being told otherwise (its default saliency and damping), FFN only, is below 55.3.
"""

import argparse
import gzip
import json
import lzma
import math
import random
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
from rich.console import Console
from rich.progress import track
from transformers import PreTrainedModel

from benchmarks.outcome import RESULTS, finish, shared_file
from tools.architecture import Architecture
from tools.evaluation.perplexity import validation_loss
from tools.pretraining.compute import choose_compute
from tools.pruning.criteria.evidence import Calibration
from tools.pruning.greedy import SaliencyDesigner
from tools.pruning.groups import PRUNING_TYPES, PruningType
from tools.pruning.input_statistics import InputStatistics
from tools.pruning.methods import method_named, prune_model
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
MARK_BLOCKS = 8
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


def perplexities(model: PreTrainedModel, test: Tokens) -> dict[str, float]:
    """Perplexity on the blocks of the mark, and on all of `test`, which begins with them."""
    first, rest = (validation_loss(model, part, 4) for part in (test[:MARK_BLOCKS], test[MARK_BLOCKS:]))
    whole = (MARK_BLOCKS * first + (len(test) - MARK_BLOCKS) * rest) / len(test)
    return {"mark_text": round(math.exp(first), 2), "perplexity": round(math.exp(whole), 2)}


def wanda_sp(source: Source, calibration: Tokens) -> PreTrainedModel:
    """The source after a uniform Wanda-sp cut of its FFN with our repair, which the first of the marks is of."""
    model, compute = load_model(source.path), choose_compute()
    micro_batches = tuple(torch.from_numpy(block).long()[None] for block in calibration)
    taken = Calibration(micro_batches, compute.autocast)
    space = SpaceSettings(max_parameters=BUDGET, ffn_multiple=1)
    method = method_named("wanda-sp-repaired", ("ffn",))
    prune_model(model, source.architecture, method, space, taken, Recipe().damping, 0, lambda *_: None)
    return model


def measure(blocks: int) -> dict[str, Any]:
    """All figures, each the perplexities of one cut."""
    source = resolve_source("smollm2-135m")
    with gzip.open(shared_file("wikitext2/wiki.test.raw.gz"), "rt") as file:
        test = blocks_of(source, [file.read()], blocks)
    calibration = blocks_of(source, calibration_texts(), CALIBRATION_BLOCKS)
    saliencies, statistics = statistics_of(source, calibration)

    def cut_model(design: Architecture, saliency: Saliency, damping: float | None) -> PreTrainedModel:
        model = load_model(source.path)
        plan = plan_cut(source.architecture, design, saliency)
        if damping is not None:
            repair(model, plan, statistics, damping)
        cut(model, plan)
        return model

    space = SpaceSettings(max_parameters=BUDGET, ffn_multiple=32)
    repaired = {"types": "ffn", "saliency": "wanda-sp, uniform", "damping": Recipe().damping}
    rows: list[dict[str, Any]] = [{**repaired, **perplexities(wanda_sp(source, calibration), test)}]
    # `token` and `token_sequence` differ in attention alone.
    jobs = [
        (kind, order, damping)
        for kind in ("ffn", "all")
        for order in SALIENCIES
        for damping in DAMPINGS
        if (kind, order) != ("ffn", "token")
    ]
    for kind, order, damping in track(jobs, "cutting and measuring", console=Console(stderr=True)):
        types: tuple[PruningType, ...] = ("ffn",) if kind == "ffn" else PRUNING_TYPES
        design = SaliencyDesigner(source.architecture, saliencies[order], space, types).greedy()
        found = perplexities(cut_model(design, saliencies[order], damping), test)
        rows.append({"types": kind, "saliency": order, "damping": damping, **found})
    return {
        "dense": perplexities(load_model(source.path), test),
        "cuts": rows,
        "tokens": blocks * BLOCK,
        "mark_tokens": MARK_BLOCKS * BLOCK,
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
            if not line:
                continue
            label = f"{'FFN only' if kind == 'ffn' else 'all types'}, {order}"
            axes.plot(names, line, marker="o", label=label)
    axes.axhline(figures["dense"]["perplexity"], color="#6b7280", linestyle="--", label="dense")
    axes.set_xlabel("damping of the second-order repair (none: no repair)")
    axes.set_ylabel(f"perplexity, first {figures['tokens']:,} tokens of WikiText-2")
    axes.set_title("SmolLM2-135M cut to 114.6M parameters, no training")
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small")
    RESULTS.mkdir(exist_ok=True)
    figure.savefig(RESULTS / "one_shot_pruning.png", dpi=150)


def verdict(figures: dict[str, Any]) -> tuple[dict[str, float], bool]:
    """The default's FFN-only cut relative to dense, on both texts, and whether it is below the mark on the mark's."""
    wanted = ("ffn", Recipe().saliency, Recipe().damping)
    [default] = [row for row in figures["cuts"] if (row["types"], row["saliency"], row["damping"]) == wanted]
    ratios = {text: default[text] / dense for text, dense in figures["dense"].items()}
    return {text: round(ratio, 4) for text, ratio in ratios.items()}, ratios["mark_text"] < MARK


def main() -> None:
    """Measure, draw, report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a third of the test tokens")
    figures = measure(32 if parser.parse_args().quick else 96)
    draw(figures)
    ratios, holds = verdict(figures)
    finish("one_shot_pruning", holds, {**figures, "default_ffn_only_over_dense": ratios, "mark": round(MARK, 4)})


if __name__ == "__main__":
    main()
