"""The rows of `benchmarks.pruning_quality`: each takes the same source, tokens and size, and gives its figures."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from benchmarks.growing import Device, Scale, key_of
from tools.architecture import Architecture
from tools.evaluation.perplexity import block_losses
from tools.places import cache_folder
from tools.pretrain import PretrainRequest, pretrain
from tools.pretraining.compute import Compute, choose_compute
from tools.pretraining.corpus import PackedCorpus, prepare_corpus, training_batches
from tools.pretraining.trainer import Trainer
from tools.pruning.criteria.evidence import Calibration
from tools.pruning.methods import method_named, prune_model
from tools.pruning.saliency import no_saliency
from tools.pruning.selection import plan_cut
from tools.pruning.surgery import cut
from tools.requests import Progress
from tools.settings import DataSettings, Recipe, SpaceSettings, WidthSettings
from tools.sources import Source, load_model, load_tokenizer, resolve_source


@dataclass(frozen=True)
class QualityScale(Scale):
    """The same, and what is looked at: training tokens before a cut, and tokens of WikiText-2."""

    calibration_tokens: int = 6144
    wikitext_tokens: int = 16_384
    learning_rate: float = 1e-4

    @property
    def recipe(self) -> Recipe:
        """What all rows train with."""
        sizes = {"batch_size": self.batch, "micro_batch_size": self.micro_batch}
        return Recipe(**sizes, learning_rate=self.learning_rate, damping=0.3)

    @property
    def data(self) -> DataSettings:
        """The corpus as packed; `tokens` is the most that a row may take."""
        return DataSettings(
            block_length=self.block, training_tokens=self.tokens, validation_tokens=self.validation_tokens
        )


SCALES: dict[Device, QualityScale] = {
    "cpu": QualityScale(tokens=400_000, batch=4, micro_batch=1, block=256, validation_tokens=16_384),
    "cuda": QualityScale(
        tokens=2_700_000,
        batch=16,
        micro_batch=16,
        block=512,
        validation_tokens=131_072,
        calibration_tokens=65_536,
        wikitext_tokens=262_144,
        learning_rate=2e-4,
    ),
}
WIDTHS = WidthSettings(ffn_multiple=16, hidden_multiple=16)
WARMUP_SHARE, GROWING_WARMUP_SHARE, DROP_SHARE = 0.1, 0.2, 0.25
SCRATCH_FACTOR = 10

Show = Callable[[Progress], None]


@dataclass(frozen=True)
class Comparison:
    """What all rows of one panel share."""

    source: Source
    corpus: PackedCorpus
    corpus_path: Path
    wikitext: npt.NDArray[np.int32]
    compute: Compute
    cache: Path
    scale: QualityScale
    share: float = 1.0
    tokens: int = 0
    seed: int = 0
    show: Show = lambda progress: None

    @classmethod
    def prepare(
        cls, source: str, corpus: Path, wikitext: str, scale: QualityScale, compute: Compute | None = None
    ) -> "Comparison":
        """Source, packed corpus and test tokens; without `compute`, what the hardware is best at."""
        cache = cache_folder()
        found = resolve_source(source, cache=cache / "sources")
        count = scale.wikitext_tokens
        ids = load_tokenizer(found.path)(wikitext[: count * 12], add_special_tokens=False)["input_ids"]
        test = np.asarray(ids[:count], dtype=np.int32).reshape(-1, scale.block)
        folder = cache / "corpora"
        packed = prepare_corpus(str(corpus), found.path, scale.data, folder, report=lambda phase, share: None)
        return cls(found, packed, corpus, test, compute or choose_compute(), cache, scale)

    def of(self, share: float, tokens: int, seed: int) -> "Comparison":
        """The comparison at one size and budget; without a budget nothing is trained."""
        # Growing packs no more text than it trains on, so the others must not have more to draw from.
        train = self.corpus.train[: tokens // self.scale.block] if tokens else self.corpus.train
        return replace(self, corpus=replace(self.corpus, train=train), share=share, tokens=tokens, seed=seed)

    def reporting(self, show: Show) -> "Comparison":
        """The same, with progress told to `show`."""
        return replace(self, show=show)

    @property
    def target_parameters(self) -> int:
        return round(self.share * self.source.architecture.parameters)

    @property
    def steps(self) -> int:
        return self.tokens // self.scale.step_tokens

    @property
    def recipe(self) -> Recipe:
        """What every row trains with."""
        return self.scale.recipe.model_copy(update={"precision": self.compute.precision})

    def facts(self) -> dict[str, Any]:
        """What the figures depend on beside method, size and budget."""
        return {
            "source": self.source.name,
            "corpus": Path(self.corpus.facts.name).name,
            "corpus_fingerprint": self.corpus.fingerprint,
            "block_length": self.scale.block,
            "batch_size": self.scale.batch,
            "micro_batch_size": self.scale.micro_batch,
            "learning_rate": self.scale.learning_rate,
            "calibration_tokens": self.scale.calibration_tokens,
            "text": "the first tokens of the corpus, as many as the budget, for every row",
            "validation_tokens": self.corpus.validation_tokens,
            "wikitext2_tokens": int(self.wikitext.size),
            "precision": self.compute.precision,
            "device": self.compute.device,
            "ffn_multiple": WIDTHS.ffn_multiple,
            "hidden_multiple": WIDTHS.hidden_multiple,
        }

    def loss(self, model: PreTrainedModel) -> float:
        """Loss on the corpus' held-out part."""
        return float(np.mean(self._block_losses(model, self.corpus.validation)))

    def figures(self, model: PreTrainedModel, parameters: int, started: float, **more: Any) -> dict[str, Any]:
        """The row of a model that is ready, with the loss on each block: so rows are compared block by block."""
        seconds = time.monotonic() - started
        self.show(Progress(phase="measuring", done=0, total=1))
        held_out, wikitext = (self._block_losses(model, part) for part in (self.corpus.validation, self.wikitext))
        return {
            "parameters": parameters,
            "loss": round(float(np.mean(held_out)), 4),
            "wikitext2": round(math.exp(float(np.mean(wikitext))), 3),
            "block_losses": {"loss": _kept(held_out), "wikitext2": _kept(wikitext)},
            "seconds": round(seconds, 1),
            "threads": torch.get_num_threads(),
            **more,
        }

    def _block_losses(self, model: PreTrainedModel, blocks: npt.NDArray[np.int32]) -> npt.NDArray[np.float64]:
        return block_losses(model, blocks, self.scale.batch)

    def calibration(self) -> Calibration:
        """The first training tokens, one block a micro-batch: a Fisher estimate squares each block's gradient."""
        batches = training_batches(self.corpus.train, 1, self.seed)
        blocks = [next(batches) for _ in range(self.scale.calibration_tokens // self.scale.block)]
        tokens = tuple(torch.from_numpy(block.astype(np.int64)).to(self.compute.device) for block in blocks)
        return Calibration(tokens, self.compute.autocast)


def dense_row(comparison: Comparison) -> dict[str, Any]:
    """The source as it is."""
    model = _placed(comparison, load_model(comparison.source.path))
    return comparison.figures(model, comparison.source.architecture.parameters, time.monotonic())


def trained_dense_row(comparison: Comparison) -> dict[str, Any]:
    """The source, trained like all others but not cut: what of a figure's change is the training text's doing."""
    started = time.monotonic()
    model = _placed(comparison, load_model(comparison.source.path))
    return _recovered(comparison, model, comparison.source.architecture, started)


def grown_row(comparison: Comparison, changes: dict[str, Any]) -> dict[str, Any]:
    """Trained and pruned at the same time."""
    started = time.monotonic()
    request = growing_request(comparison, changes)
    result = pretrain(request, comparison.show)
    if result.failure is not None:
        return {"parameters": result.parameters, "loss": math.inf, "wikitext2": math.inf, "seconds": 0.0}
    model = _placed(comparison, load_model(request.output / "model"))
    facts = {"events": result.events, "design": result.architecture.describe(), "tokens": result.tokens}
    # A folder that was finished before is only read here.
    facts["seconds"] = round(result.seconds, 1)
    return comparison.figures(model, result.parameters, started, **facts)


def growing_request(comparison: Comparison, changes: dict[str, Any]) -> PretrainRequest:
    """The request behind `grown_row`."""
    warmup = max(1, round(GROWING_WARMUP_SHARE * comparison.steps))
    update = {"warmup_steps": warmup, "drop_share": DROP_SHARE, **changes}
    folder = comparison.cache / "benchmarks" / "pruning_quality"
    request = PretrainRequest(
        source=comparison.source.name,
        corpus=str(comparison.corpus_path),
        output=folder,
        tokens=comparison.tokens,
        target_parameters=comparison.target_parameters,
        widths=WIDTHS,
        recipe=comparison.recipe.model_copy(update=update),
        data=comparison.scale.data,
        seed=comparison.seed,
        cache=comparison.cache,
    )
    return request.model_copy(update={"output": folder / key_of(request)})


def pruned_row(comparison: Comparison, name: str) -> dict[str, Any]:
    """Cut once by a method of the field, then trained."""
    started = time.monotonic()
    model = _placed(comparison, load_model(comparison.source.path))
    method = method_named(name)
    if method.scope == "uniform":
        # A uniform share of three key/value heads is nothing or a third; FFN channels are what these methods cut best.
        method = replace(method, types=("ffn",))
    space = SpaceSettings(max_parameters=comparison.target_parameters, **WIDTHS.model_dump())

    def report(phase: str, done: int, total: int) -> None:
        comparison.show(Progress(phase=phase, done=done, total=total))

    source = comparison.source.architecture
    design = prune_model(
        model, source, method, space, comparison.calibration(), comparison.recipe.damping, comparison.seed, report
    )
    return _recovered(comparison, model, design, started)


def torch_pruning_row(comparison: Comparison) -> dict[str, Any]:
    """Cut by the package torch-pruning: group Taylor importance of FFN channels over all layers, then trained."""
    from benchmarks.torch_pruning_peer import prune_ffn

    started = time.monotonic()
    model = _placed(comparison, load_model(comparison.source.path))
    design = prune_ffn(model, comparison.source.architecture, comparison.target_parameters, comparison.calibration())
    return _recovered(comparison, model, design, started)


def from_scratch_row(comparison: Comparison) -> dict[str, Any]:
    """Random weights in the shape that growing found, trained with ten times the learning rate."""
    started = time.monotonic()
    design = pretrain(growing_request(comparison, {}), comparison.show).architecture
    config = AutoConfig.from_pretrained(comparison.source.path, local_files_only=True)
    torch.manual_seed(comparison.seed)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)  # type: ignore[no-untyped-call]
    source = comparison.source.architecture
    cut(model, plan_cut(source, design, no_saliency(source)))
    recipe = comparison.recipe
    recipe = recipe.model_copy(update={"learning_rate": SCRATCH_FACTOR * recipe.learning_rate})
    return _recovered(comparison, _placed(comparison, model), design, started, recipe)


def _recovered(
    comparison: Comparison, model: PreTrainedModel, design: Architecture, started: float, recipe: Recipe | None = None
) -> dict[str, Any]:
    """Train a model that is small already on the whole budget, and measure it before and after."""
    recipe = recipe or comparison.recipe
    comparison.show(Progress(phase="measuring, cut", done=0, total=1))
    untrained = comparison.loss(model)
    warmup = max(1, round(WARMUP_SHARE * comparison.steps))
    recipe = recipe.model_copy(update={"warmup_steps": warmup, "training_steps": comparison.steps - warmup})
    trainer = Trainer(model, comparison.corpus.train, recipe, comparison.compute, comparison.seed)

    def on_step(phase: str, done: int, total: int, loss: float) -> None:
        comparison.show(Progress(phase=phase, done=done, total=total, loss=loss))

    trainer.train(comparison.steps, "training", on_step)
    facts = {"loss_untrained": round(untrained, 4), "design": design.describe(), "tokens": trainer.tokens}
    return comparison.figures(model, design.parameters, started, **facts)


def _kept(losses: npt.NDArray[np.float64]) -> list[float]:
    return [round(float(loss), 5) for loss in losses]


def _placed(comparison: Comparison, model: PreTrainedModel) -> PreTrainedModel:
    comparison.compute.place(model)
    return model
