"""The models of `benchmarks.edge`: each is trained once, kept in the cache folder, and timed from there."""

import gc
import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedModel

from benchmarks.growing import Bars, Job, grow, planned
from tools.architecture import Architecture
from tools.evaluation.edge_subject import open_subject
from tools.evaluation.perplexity import validation_loss
from tools.export.compact_huggingface import export_compact
from tools.pretrain import MODEL_FOLDER, RESULT_FILE, PretrainRequest
from tools.pretraining.compute import Compute, choose_compute
from tools.pretraining.corpus import PackedCorpus, prepare_corpus, training_batches
from tools.pretraining.trainer import Trainer
from tools.pruning.criteria.evidence import Calibration
from tools.pruning.methods import method_named, prune_model
from tools.requests import NUMERICS_VERSION, Progress
from tools.settings import Recipe, SpaceSettings, WidthSettings
from tools.sources import Source, load_model, resolve_source
from tools.staging import staged_directory

ROW_FILE = "row.json"
GROWN = "grown"
WIDTHS = WidthSettings(ffn_multiple=64, hidden_multiple=64)
GROWING_WARMUP_SHARE, WARMUP_SHARE = 0.2, 0.1
RECIPE: Recipe = PretrainRequest.model_fields["recipe"].default

Show = Callable[[Progress], None]


@dataclass(frozen=True)
class Material:
    """What all models share: source, text, compute, and how many training tokens a one-shot method looks at first."""

    job: Job
    source: Source
    corpus: PackedCorpus
    compute: Compute
    calibration_tokens: int

    @classmethod
    def prepare(cls, job: Job, calibration_tokens: int) -> "Material":
        """Source and packed corpus, which growing finds under the same name."""
        source = resolve_source(job.source, cache=job.cache / "sources")
        tokens = max(job.scale.tokens, job.scale.block)
        data = job.scale.data.model_copy(update={"training_tokens": tokens})
        corpus = prepare_corpus(job.corpus, source.path, data, job.cache / "corpora", lambda phase, share: None)
        return cls(job, source, corpus, choose_compute(), calibration_tokens)

    def target(self, share: float) -> int:
        """The most parameters at that share of the source's."""
        return round(share * self.source.architecture.parameters)

    @property
    def steps(self) -> int:
        return self.job.scale.tokens // self.job.scale.step_tokens

    def recipe(self, warmup_share: float) -> Recipe:
        """The default recipe of pretraining at this scale, all of its steps counted."""
        warmup = max(1, round(warmup_share * self.steps))
        scale = self.job.scale
        sizes = {"batch_size": scale.batch, "micro_batch_size": scale.micro_batch, "warmup_steps": warmup}
        return RECIPE.model_copy(update={**sizes, "training_steps": self.steps - warmup})

    def loss(self, model: PreTrainedModel) -> float:
        """Loss on the corpus' held-out part, as growing measures it."""
        return validation_loss(model, self.corpus.validation, 4)

    def calibration(self, seed: int) -> Calibration:
        """The first training tokens, one block a micro-batch."""
        batches = training_batches(self.corpus.train, 1, seed)
        blocks = [next(batches) for _ in range(max(1, self.calibration_tokens // self.job.scale.block))]
        tokens = tuple(torch.from_numpy(block.astype(np.int64)).to(self.compute.device) for block in blocks)
        return Calibration(tokens, self.compute.autocast)

    def facts(self) -> dict[str, Any]:
        """What the losses depend on beside method and size."""
        return {
            **self.job.facts(),
            "corpus_fingerprint": self.corpus.fingerprint,
            "tokens": self.job.scale.tokens,
            "validation_tokens": self.corpus.validation_tokens,
            "calibration_tokens": self.calibration_tokens,
            "precision": self.compute.precision,
            "widths": WIDTHS.model_dump(),
        }


@dataclass(frozen=True)
class Row:
    """One model: its figures so far, and the directory that holds it."""

    figures: dict[str, Any]
    model: Path


def source_row(material: Material, bars: Bars) -> Row:
    """The source as it is."""
    place = _place(material, "source", 1.0, 0)
    with bars.run("source") as show:
        show(Progress(phase="measuring", done=0, total=1))

        def make(staged: Path) -> dict[str, Any]:
            model = load_model(material.source.path)
            material.compute.place(model)
            return _figures("source", 1.0, 0, material.source.architecture, material.loss(model), tokens=0)

        figures = _kept(place, make)
    return Row(figures, material.source.path)


def grown_row(material: Material, share: float, seed: int, bars: Bars) -> Row:
    """Trained and pruned at the same time."""
    place = _place(material, GROWN, share, seed)
    recipe = material.recipe(GROWING_WARMUP_SHARE)
    request = planned(material.job, target_parameters=material.target(share), widths=WIDTHS, recipe=recipe, seed=seed)
    kept = (place / ROW_FILE).is_file() or (request.output / MODEL_FOLDER).is_dir()
    if (request.output / RESULT_FILE).is_file() and not kept:
        # A finished run whose weights are gone must be made anew.
        shutil.rmtree(request.output)
    grown = grow(request, bars, f"grown, {share:.0%}, seed {seed}", keep_model=True).result
    if grown.loss is None:
        raise RuntimeError(f"growing to {share:.0%} failed: {grown.failure}")

    def make(staged: Path) -> dict[str, Any]:
        subject = open_subject(request.output / MODEL_FOLDER)
        _save(subject.load(), grown.architecture, material, staged)
        return _figures(GROWN, share, seed, grown.architecture, float(grown.loss or 0), tokens=grown.tokens)

    figures = _kept(place, make)
    shutil.rmtree(request.output / MODEL_FOLDER, ignore_errors=True)
    return Row(figures, place / MODEL_FOLDER)


def pruned_row(material: Material, method: str, share: float, seed: int, bars: Bars) -> Row:
    """Cut once by a method of the field, then trained on all tokens."""
    place = _place(material, method, share, seed)
    with bars.run(f"{method}, {share:.0%}, seed {seed}") as show:

        def make(staged: Path) -> dict[str, Any]:
            model, design, tokens = _pruned(material, method, share, seed, show)
            figures = _figures(method, share, seed, design, material.loss(model), tokens=tokens)
            _save(model, design, material, staged)
            return figures

        figures = _kept(place, make)
    gc.collect()
    return Row(figures, place / MODEL_FOLDER)


def _pruned(
    material: Material, name: str, share: float, seed: int, show: Show
) -> tuple[PreTrainedModel, Architecture, int]:
    model = load_model(material.source.path)
    material.compute.place(model)
    recipe = material.recipe(WARMUP_SHARE)
    space = SpaceSettings(max_parameters=material.target(share), **WIDTHS.model_dump())

    def report(phase: str, done: int, total: int) -> None:
        show(Progress(phase=phase, done=done, total=total))

    def on_step(phase: str, done: int, total: int, loss: float) -> None:
        show(Progress(phase=phase, done=done, total=total, loss=loss))

    source, calibration = material.source.architecture, material.calibration(seed)
    design = prune_model(model, source, method_named(name), space, calibration, recipe.damping, seed, report)
    trainer = Trainer(model, material.corpus.train, recipe, material.compute, seed)
    trainer.train(material.steps, "training", on_step)
    show(Progress(phase="measuring", done=0, total=1))
    return model, design, trainer.tokens


def _figures(method: str, share: float, seed: int, design: Architecture, loss: float, tokens: int) -> dict[str, Any]:
    return {
        "method": method,
        "share": share,
        "seed": seed,
        "parameters": design.parameters,
        "loss": round(loss, 4),
        "tokens": tokens,
        "design": design.describe(),
    }


def _place(material: Material, method: str, share: float, seed: int) -> Path:
    parts = [NUMERICS_VERSION, method, share, seed, material.recipe(0.0).model_dump(mode="json"), material.facts()]
    key = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]
    return material.job.folder / "models" / key


def _kept(place: Path, make: Callable[[Path], dict[str, Any]]) -> dict[str, Any]:
    """The row in `place`, which `make` fills where it is not there yet."""
    if not (place / ROW_FILE).is_file():
        with staged_directory(place, overwrite=True) as staged:
            (staged / ROW_FILE).write_text(json.dumps(make(staged), indent=1))
    found: dict[str, Any] = json.loads((place / ROW_FILE).read_text())
    return found


def _save(model: PreTrainedModel, design: Architecture, material: Material, folder: Path) -> None:
    """The weights in bfloat16, as the source has them, and in their own shapes."""
    export_compact(model, design, material.source.path, folder / MODEL_FOLDER, dtype=torch.bfloat16)
