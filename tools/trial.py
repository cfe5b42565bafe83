"""One candidate at one fidelity: grow the surveyed source into a design, measure it, keep its weights.

The function that workers run, in this process, a subprocess or on another machine. A result is written to the trial's
folder before it is returned, so that a search killed a moment later finds it there and does not pay again.
"""

import time
from collections.abc import Callable
from statistics import fmean
from typing import Any

from safetensors.torch import load_file

from tools.accuracy import score_live
from tools.checkpoint_pace import CheckpointPace
from tools.evaluation.edge import decode_latency
from tools.evaluation.perplexity import block_losses
from tools.export.compact import save_compact
from tools.freed_memory import freed_memory_kept
from tools.measurement import Measurement
from tools.memory_use import peak_memory_mb
from tools.pretraining.checkpoint import load_training_state
from tools.pretraining.compute import choose_compute
from tools.pretraining.corpus import load_corpus
from tools.pretraining.distillation import freeze
from tools.pretraining.growth import Growth
from tools.pretraining.growth_checkpoint import load_growth, load_model_of_growth, physical_shape, save_growth
from tools.pretraining.trainer import Trainer
from tools.pruning.saliency import Saliency
from tools.requests import Progress, ReportProgress, TrialRequest
from tools.sources import load_model
from tools.staging import settle
from tools.survey_folder import SALIENCY_FILE, STATE_FOLDER, STATISTICS_FILE, require_beginning
from tools.trial_folder import (
    CHECKPOINT_FOLDER,
    MODEL_FOLDER,
    TASKS_FOLDER,
    TrialNotes,
    begun_trial,
    drop_checkpoint,
    has_weights,
    store_measurement,
    stored_measurement,
)


@freed_memory_kept()
def run_trial(request: TrialRequest, report: ReportProgress, stop: Callable[[], bool] = lambda: False) -> Measurement:
    """Grow and measure `request.design`, or go on with it where an interrupted search has left it.

    `stop` is asked after each step: see `tools.stopping`.

    Raises NotFiniteError, MemoryError, OSError, which are results for a worker, and WorkStoppedError.
    """
    if (stored := stored_measurement(request.folder)) is not None and has_weights(request.folder):
        return stored
    require_beginning(request.survey)
    for name in (MODEL_FOLDER, CHECKPOINT_FOLDER):
        # Whoever asks for a trial has its folder alone.
        settle(request.folder / name)
    begun, checkpoint = begun_trial(request.folder), request.folder / CHECKPOINT_FOLDER
    started = time.monotonic() - (0.0 if begun is None else begun.seconds)
    survey, recipe = request.survey, request.recipe
    compute = choose_compute(recipe.precision)
    corpus = load_corpus(survey.corpus_path)
    report(Progress(phase="cutting", done=0, total=1))
    model = load_model(survey.source_path) if begun is None else load_model_of_growth(checkpoint, survey.source_path)
    compute.place(model)
    teacher = None
    if recipe.distillation > 0:
        teacher = freeze(load_model(survey.source_path))
        compute.place(teacher)
    trainer = Trainer(model, corpus.train, recipe, compute, request.seed, teacher=teacher)
    saliency = Saliency.load(survey.folder / SALIENCY_FILE)
    statistics = load_file(survey.folder / STATISTICS_FILE)
    steps = 0 if request.fidelity == "one_shot" else recipe.training_steps
    if steps == 0:
        # Without training there is nothing to spread the cuts over.
        recipe = recipe.model_copy(update={"drops": 1, "update_steps": 1})
    physical = physical_shape(model, survey.architecture)
    growth = Growth.into_design(
        trainer, survey.architecture, request.design, recipe, saliency, statistics, request.seed, physical
    )
    if begun is None:
        load_training_state(trainer, survey.folder / STATE_FOLDER)
        growth.begin()
    else:
        load_growth(checkpoint, trainer, growth)

    def losses_now(phase: str) -> list[float]:
        report(Progress(phase=phase, done=0, total=1))
        found = block_losses(model, corpus.validation, recipe.micro_batch_size)
        return [float(loss) for loss in found]

    def on_step(phase: str, done: int, total: int, step_loss: float) -> None:
        report(Progress(phase=phase, done=trainer.step - recipe.warmup_steps, total=steps, loss=step_loss))

    # With several cuts the first one does not show what the design costs untrained.
    at_once = recipe.drops == recipe.update_steps == 1
    cut = losses_now("measuring, cut") if begun is None and at_once else None
    before = begun.loss_before_training if begun else None if cut is None else fmean(cut)

    def write() -> None:
        notes = TrialNotes(seconds=time.monotonic() - started, loss_before_training=before)
        save_growth(checkpoint, trainer, growth, notes)

    # A cut without training is made again as quickly as it is read.
    pace = CheckpointPace(request.checkpoint_seconds if steps else None, write, stop)
    growth.train(recipe.warmup_steps + steps - trainer.step, on_step, pace.after_step)
    growth.end()
    scored: dict[str, Any] = {}
    with pace.written_where_stopped():
        losses = cut if cut is not None and not steps else losses_now("measuring, grown")
        latency = decode_latency(model)
        report(Progress(phase="saving", done=0, total=1))
        save_compact(model, request.design, request.folder / MODEL_FOLDER)
        if request.accuracy is not None:
            scored = score_live(
                model,
                request.key,
                survey.source_path,
                request.accuracy,
                compute,
                request.seed,
                request.folder / TASKS_FOLDER,
                report,
            )
    measurement = Measurement.of_blocks(
        losses,
        fidelity=request.fidelity,
        parameters=request.design.parameters,
        loss_before_training=before,
        latency_ms=latency.median_ms,
        training_losses=tuple(trainer.losses),
        drops=tuple(growth.events),
        tokens=trainer.tokens,
        seconds=time.monotonic() - started,
        peak_memory_mb=peak_memory_mb(),
        precision=compute.precision,
        **scored,
    )
    store_measurement(request.folder, measurement)
    drop_checkpoint(request.folder)
    return measurement
