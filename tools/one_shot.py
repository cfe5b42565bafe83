"""Post-training pruning from start to end: a source, a method and a target size in, a model directory out."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field
from transformers import PreTrainedModel

from tools.architecture import Architecture
from tools.errors import InputError
from tools.evaluation.perplexity import validation_loss
from tools.export.huggingface import export_huggingface
from tools.freed_memory import freed_memory_kept
from tools.measurement import Measurement
from tools.memory_use import peak_memory_mb
from tools.places import cache_folder
from tools.pretraining.compute import Compute, choose_compute
from tools.pretraining.corpus import PackedCorpus, prepare_corpus, training_batches
from tools.pruning.criteria.evidence import Calibration
from tools.pruning.groups import PruningType
from tools.pruning.methods import Method, method_named, prune_model, require_reachable
from tools.requests import Progress, ReportProgress
from tools.settings import DataSettings, SpaceSettings, WidthSettings
from tools.sources import Source, load_model, resolve_source
from tools.staging import staged_directory

PRUNE_FILE = "prune.json"

# Blocks in one forward pass when the loss is measured; it changes no result but rounding.
_MEASURED_AT_ONCE = 4


class PruneRequest(BaseModel):
    """What to prune, how, to which size, and where the result goes.

    `source` is resolved by `tools.sources.resolve_source` and `corpus` by `prepare_corpus`; `method` is a name in
    `tools.pruning.methods.METHODS`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: str
    corpus: str
    method: str
    target_parameters: int = Field(ge=1, description="the most parameters that may be left, tied ones once")
    output: Path = Field(description="the directory to write; it must be new or empty")
    cache: Path = Field(default_factory=cache_folder, description="folder for converted sources and packed corpora")
    types: tuple[PruningType, ...] | None = Field(None, min_length=1, description="what to cut; null: the method's own")
    calibration_tokens: int = Field(6144, ge=1, description="training tokens that saliency and moments are taken from")
    micro_batch_size: int = Field(1, ge=1, description="blocks whose gradients are read together")
    damping: float = Field(0.3, gt=0, description="share of the Hessian's mean diagonal added to its diagonal")
    data: DataSettings = DataSettings()
    widths: WidthSettings = WidthSettings()
    precision: Literal["auto", "bfloat16", "float32"] = "auto"
    seed: int = 0


class PruneResult(BaseModel):
    """What came out. `seconds` is the time to take evidence and cut; the measurements are of the validation text.

    `path` is the model directory, which `class_name` of transformers opens; layers of different widths are padded with
    zeros there, so that it holds `file_parameters`.
    """

    model_config = ConfigDict(frozen=True)

    request: PruneRequest
    method: str
    description: str
    source_fingerprint: str
    corpus_fingerprint: str
    architecture: Architecture
    before: Measurement
    after: Measurement
    calibration_tokens: int
    validation_tokens: int
    seconds: float
    compute: str
    path: Path
    class_name: str
    file_parameters: int


@freed_memory_kept()
def prune(request: PruneRequest, report: ReportProgress = lambda progress: None) -> PruneResult:
    """Prune a model without training it, measure it before and after, and write it for transformers, with prune.json.

    Raises InputError for an unknown method, a target that is not below the source or cannot be reached, an output
    directory that is not empty, and what `resolve_source` and `prepare_corpus` raise it for.
    """

    def say(phase: str, share: float) -> None:
        report(Progress(phase=phase, done=round(100 * share), total=100))

    method = method_named(request.method, request.types)
    _require_free(request.output)
    say("reading the source", 0.0)
    source = resolve_source(request.source, report=say, cache=request.cache / "sources")
    space = SpaceSettings(**request.widths.model_dump(), max_parameters=request.target_parameters)
    _require_smaller(source, method, space)
    corpus = prepare_corpus(request.corpus, source.path, request.data, request.cache / "corpora", report=say)
    compute = choose_compute(request.precision)
    calibration = _calibration(request, corpus, compute)
    model = load_model(source.path)
    compute.place(model)

    def measure(fidelity: str, parameters: int) -> Measurement:
        report(Progress(phase=f"measuring, {fidelity}", done=0, total=1))
        started = time.monotonic()
        loss = validation_loss(model, corpus.validation, _MEASURED_AT_ONCE)
        return Measurement.of_loss(
            loss,
            fidelity=fidelity,
            parameters=parameters,
            seconds=time.monotonic() - started,
            peak_memory_mb=peak_memory_mb(),
            precision=compute.precision,
        )

    def on_step(phase: str, done: int, total: int) -> None:
        report(Progress(phase=phase, done=done, total=total))

    before = measure("source", source.architecture.parameters)
    started = time.monotonic()
    design = prune_model(model, source.architecture, method, space, calibration, request.damping, request.seed, on_step)
    seconds = time.monotonic() - started
    after = measure("pruned", design.parameters)
    report(Progress(phase="saving", done=0, total=1))
    return _written(
        model,
        source,
        PruneResult(
            request=request,
            method=request.method,
            description=method.description,
            source_fingerprint=source.fingerprint,
            corpus_fingerprint=corpus.fingerprint,
            architecture=design,
            before=before,
            after=after,
            calibration_tokens=calibration.tokens,
            validation_tokens=corpus.validation_tokens,
            seconds=seconds,
            compute=compute.describe(),
            path=request.output,
            class_name="",
            file_parameters=0,
        ),
    )


def _written(model: PreTrainedModel, source: Source, result: PruneResult) -> PruneResult:
    """Model and result, in a directory that appears whole or not at all."""
    with staged_directory(result.path) as staged:
        export = export_huggingface(model, result.architecture, source.path, staged)
        written = {"class_name": export.class_name, "file_parameters": export.file_parameters}
        result = result.model_copy(update=written)
        (staged / PRUNE_FILE).write_text(result.model_dump_json(indent=1) + "\n", encoding="utf-8")
    return result


def _require_free(output: Path) -> None:
    """Refuse a taken place before hours of work, not after."""
    if output.is_dir() and any(output.iterdir()):
        raise InputError(f"The output directory {output} is not empty: choose another one, or empty it.")
    if output.exists() and not output.is_dir():
        raise InputError(f"{output} is a file: choose another output directory.")


def _require_smaller(source: Source, method: Method, space: SpaceSettings) -> None:
    size = source.architecture.parameters
    if space.max_parameters >= size:
        raise InputError(
            f"The target of {space.max_parameters:,} parameters is not below the source, which has {size:,}: lower "
            "target_parameters."
        )
    require_reachable(source.architecture, method, space)


def _calibration(request: PruneRequest, corpus: PackedCorpus, compute: Compute) -> Calibration:
    """Blocks of the training text in the order that the seed decides, none twice."""
    blocks = min(request.calibration_tokens // corpus.facts.block_length, len(corpus.train))
    if blocks == 0:
        raise InputError(
            f"{request.calibration_tokens} calibration tokens are less than one block of {corpus.facts.block_length}: "
            "raise calibration_tokens."
        )
    order: Iterator[np.ndarray] = training_batches(corpus.train, 1, request.seed)
    chosen = np.concatenate([next(order) for _ in range(blocks)])
    pieces = torch.from_numpy(chosen).long().to(compute.device).split(request.micro_batch_size)
    return Calibration(micro_batches=pieces, autocast=compute.autocast)
