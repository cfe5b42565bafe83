"""One run of `tools.pretrain`: prepares source and corpus, builds the growth, trains it, writes what comes out."""

import shutil
import time
from collections.abc import Callable
from contextlib import nullcontext
from typing import TYPE_CHECKING

import torch
from pydantic import BaseModel
from transformers import PreTrainedModel

from tools.errors import InputError
from tools.evaluation.paired import paired_difference
from tools.evaluation.perplexity import block_losses
from tools.export.huggingface import export_huggingface
from tools.failures import failure_of
from tools.freed_memory import freed_memory_kept
from tools.measurement import Failure
from tools.pretrain import (
    CHECKPOINT_FOLDER,
    CONFIG_FILE,
    LOG_FILE,
    MODEL_FOLDER,
    PICTURE_FILE,
    RESULT_FILE,
    TRAINING_PICTURE_FILE,
    PretrainingStoppedError,
    PretrainRequest,
    PretrainResult,
    Say,
    finished_result,
    space_of,
    warning_of_target,
)
from tools.pretraining.compute import choose_compute
from tools.pretraining.corpus import PackedCorpus, prepare_corpus
from tools.pretraining.design_picture import draw_design
from tools.pretraining.distillation import freeze
from tools.pretraining.growth import Growth
from tools.pretraining.growth_checkpoint import (
    has_growth,
    load_growth,
    load_model_of_growth,
    notes_of_growth,
    physical_shape,
    resumed_step,
    save_growth,
)
from tools.pretraining.looks import look, loss_of, source_losses, warning_of_outlier
from tools.pretraining.output_lock import output_locked
from tools.pretraining.trainer import Trainer
from tools.pretraining.training_log import TrainingLog
from tools.pretraining.training_picture import draw_training
from tools.pruning.drop_policy import DropPolicy, EveryNSteps, TowardsDesign, TowardsSize, require_reachable
from tools.pruning.input_statistics import InputStatistics
from tools.pruning.legality import require_part
from tools.pruning.pruner import Pruner
from tools.pruning.ranking import make_ranking
from tools.pruning.recording import Recording
from tools.pruning.schedule import DropSchedule
from tools.ranks import any_rank, local_rank, rank, same_on_all, start_ranks, stop_ranks, wait_for_all
from tools.requests import Progress
from tools.settings import Recipe
from tools.sources import Source, load_model, resolve_source
from tools.staging import settle

if TYPE_CHECKING:
    from tools.pruning.compilation import BlockCompiler


@freed_memory_kept()
def run(request: PretrainRequest, report: Say, stop: Callable[[], bool], started: float) -> PretrainResult:
    """Grow, or go on growing; what is finished is given as it is. Raises what `tools.pretrain.pretrain` does."""
    checkpoint = request.output / CHECKPOINT_FOLDER
    start_ranks()
    try:
        stored = finished_result(request)
        if not same_on_all(resumed_step(checkpoint) if has_growth(checkpoint) else -1 if stored is None else -2):
            raise InputError(
                f"{request.output} is not the same folder on all nodes: choose one on a file system that they share."
            )
        if stored is not None:
            return stored
        return _Run(request, report if rank() == 0 else _silent, stop, started).go()
    finally:
        stop_ranks()


class RunNotes(BaseModel):
    """What a checkpoint says beside what trains: the seconds that the run took until then."""

    seconds: float


class _Run:
    """The parts of one run, in the order in which they are made."""

    def __init__(self, request: PretrainRequest, report: Say, stop: Callable[[], bool], started: float) -> None:
        self._request, self._report, self._stop, self._started = request, report, stop, started
        self._source, self._corpus, self._warnings = self._prepare()
        self._space = space_of(request, self._source.architecture)
        require_reachable(self._source.architecture, self._space, request.types)
        if (warning := warning_of_target(self._space.max_parameters, self._source.architecture)) is not None:
            self._warnings.append(warning)
        self._recipe = self._fitted_recipe()
        self._policy = self._make_policy()
        self._compute = choose_compute(request.recipe.precision)
        self._checkpoint = request.output / CHECKPOINT_FOLDER

    def go(self) -> PretrainResult:
        """The result, found where another process has finished it meanwhile."""
        with output_locked(self._request.output):
            if rank() == 0:
                settle(self._checkpoint)
            wait_for_all()
            return finished_result(self._request) or self._grow()

    def _grow(self) -> PretrainResult:
        """Measure the source, train, measure and export the result."""
        request = self._request
        resumed = has_growth(self._checkpoint)
        if resumed:
            self._started -= notes_of_growth(self._checkpoint, RunNotes).seconds
        if rank() == 0:
            (request.output / CONFIG_FILE).write_text(request.model_dump_json(indent=1) + "\n")
        model = load_model_of_growth(self._checkpoint, self._source.path) if resumed else load_model(self._source.path)
        self._compute.place(model)
        before = source_losses(request.output / LOG_FILE) if resumed else self._losses_of(model, "measuring, source")
        with TrainingLog(request.output / LOG_FILE, resumed_step(self._checkpoint) if resumed else 0) as log:
            if not resumed:
                log.event("source", 0, **look(before), parameters=self._source.architecture.parameters)
            trainer, growth, compiler = self._assemble(model, resumed, log)
            failure = self._train(trainer, growth, log)
            if compiler is not None:
                # Measuring has other sizes; compiling for it would take longer than it saves.
                compiler.remove()
            after = None
            if failure is None:
                after = self._losses_of(model, "measuring, grown")
                log.event("grown", trainer.step, **look(after), parameters=growth.design.parameters)
        if failure is None and growth.design.parameters > self._space.max_parameters:
            self._warnings.append(
                f"The tokens ended at {growth.design.parameters:,} parameters, above the target of "
                f"{self._space.max_parameters:,}: give more tokens, or leave out every to arrive in time."
            )
        difference = None if after is None else paired_difference(after, before)
        if difference is not None and (warning := warning_of_outlier(difference, len(before))) is not None:
            self._warnings.append(warning)
        result = PretrainResult(
            status="finished" if failure is None else "failed",
            source_parameters=self._source.architecture.parameters,
            parameters=growth.design.parameters,
            architecture=growth.design,
            source_loss=loss_of(before),
            loss=None if after is None else loss_of(after),
            difference_error=None if difference is None else difference.error,
            tokens=trainer.tokens,
            calibration_tokens=request.calibration_steps * trainer.tokens_per_step,
            events=len(growth.events),
            seconds=time.monotonic() - self._started,
            compilations=0 if compiler is None else compiler.compilations,
            warnings=tuple(self._warnings),
            failure=failure,
            model=None if failure is not None else request.output / MODEL_FOLDER,
        )
        if rank() == 0:
            self._write(model, growth, result)
        wait_for_all()
        return result

    def _prepare(self) -> tuple[Source, PackedCorpus, list[str]]:
        request = self._request
        data = request.data.model_copy(update={"training_tokens": max(request.tokens, request.data.block_length)})

        def say(phase: str, share: float) -> None:
            self._report(Progress(phase=phase, done=round(100 * share), total=100))

        # The first rank converts and packs, then the first one of each other machine; the others find it done.
        own = 0 if rank() == 0 else 1 if local_rank() == 0 else 2
        for turn in range(3):
            if own == turn:
                source = resolve_source(request.source, report=say, cache=request.cache / "sources")
                corpus = prepare_corpus(request.corpus, source.path, data, request.cache / "corpora", report=say)
            wait_for_all()
        warnings = []
        if corpus.train.size < request.steps * request.recipe.batch_size * request.data.block_length:
            times = request.tokens / corpus.train.size
            warnings.append(
                f"The corpus has {corpus.train.size:,} training tokens, fewer than the {request.tokens:,} asked for: "
                f"it is repeated {times:.1f} times."
            )
        return source, corpus, warnings

    def _fitted_recipe(self) -> Recipe:
        """The recipe with as many training steps as the token budget pays for, and its drops."""
        request, recipe = self._request, self._request.recipe
        if request.steps <= recipe.warmup_steps:
            needed = (recipe.warmup_steps + 1) * recipe.batch_size * request.data.block_length
            raise InputError(
                f"{request.tokens:,} tokens are {request.steps} optimiser steps, not more than the "
                f"{recipe.warmup_steps} of the warm-up: give at least {needed:,} tokens or lower warmup_steps."
            )
        training = request.steps - recipe.warmup_steps
        drop_steps = max(1, round(recipe.drop_share * training))
        drops = request.drops if request.drops is not None else drop_steps
        return recipe.model_copy(update={"training_steps": training, "drops": drops})

    def _make_policy(self) -> DropPolicy:
        request, recipe, source = self._request, self._recipe, self._source.architecture
        first = 0 if request.calibration_steps else recipe.warmup_steps
        drop_steps = max(1, round(recipe.drop_share * recipe.training_steps))
        if request.every is not None:
            return EveryNSteps(request.every, self._space, first, request.types)
        if request.target is not None:
            require_part(source, request.target)
            return TowardsDesign(DropSchedule(source, request.target, recipe.drops, drop_steps), first)
        return TowardsSize(source, self._space, recipe.drops, drop_steps, first, request.drop_curve, request.types)

    def _assemble(
        self, model: PreTrainedModel, resumed: bool, log: TrainingLog
    ) -> tuple[Trainer, Growth, "BlockCompiler | None"]:
        recipe, source = self._recipe, self._source.architecture
        teacher = None
        if recipe.distillation > 0:
            teacher = freeze(load_model(self._source.path))
            self._compute.place(teacher)
        trainer = Trainer(
            model, self._corpus.train, recipe, self._compute, self._request.seed, teacher=teacher, log=log.step
        )
        statistics = InputStatistics(model, recipe.moment_decay, recipe.moment_tokens)
        ranking = make_ranking(recipe, model, statistics, self._request.seed)
        shape = physical_shape(model, source) if resumed else source
        pruner = Pruner(model, shape, recipe, ranking, statistics, [trainer.optimizer])
        compiler = None
        if recipe.compile:
            # Dynamo takes a second to import.
            from tools.pruning.compilation import BlockCompiler

            compiler = BlockCompiler(model)
        growth = Growth(
            trainer, pruner, self._policy, Recording(ranking, statistics), source, self._space,
            after_cut=None if compiler is None else compiler.after_cut,
        )  # fmt: skip
        growth.after_event = lambda event: log.event("drop", **event.model_dump(mode="json"))
        if resumed:
            load_growth(self._checkpoint, trainer, growth)
        return trainer, growth, compiler

    def _train(self, trainer: Trainer, growth: Growth, log: TrainingLog) -> Failure | None:
        """Train to the end of the token budget; a loss that is not finite or a lack of memory is a result."""
        steps, every = self._request.steps, self._request.checkpoint_steps

        def on_step(phase: str, done: int, total: int, loss: float) -> None:
            at = trainer.step if phase == "growing" else done
            self._report(Progress(phase=phase, done=at, total=steps if phase == "growing" else total, loss=loss))

        def after_step(done: int) -> None:
            self._look_on_the_way(trainer, growth, log)
            stops = any_rank(self._stop())
            # After the last step too, where one is there already: measuring and writing may still fail.
            if stops or trainer.step % every == 0 or trainer.step == steps > every:
                save_growth(self._checkpoint, trainer, growth, RunNotes(seconds=time.monotonic() - self._started))
            if stops:
                raise PretrainingStoppedError(trainer.step, steps)

        try:
            if trainer.step == 0:
                if self._request.calibration_steps:
                    growth.calibrate(self._request.calibration_steps, on_step)
                growth.begin()
            growth.train(steps - trainer.step, on_step, after_step)
            growth.end()
        except Exception as error:
            failure = failure_of(error)
            if failure is None:
                raise
            return failure
        return None

    def _look_on_the_way(self, trainer: Trainer, growth: Growth, log: TrainingLog) -> None:
        """The validation loss after this step, if it is one that is asked for; what is grown does not hang on it."""
        every = self._request.validation_steps
        if every is None or trainer.step % every or trainer.step == self._request.steps:
            return
        # Compiling for other sizes, and without gradients, would take longer than it saves.
        eager = torch.compiler.set_stance("force_eager") if self._recipe.compile else nullcontext()
        with growth.unrecorded(), eager:
            losses = self._losses_of(trainer.model)
        log.event("validation", trainer.step, tokens=trainer.tokens, **look(losses))

    def _losses_of(self, model: PreTrainedModel, phase: str | None = None) -> list[float]:
        """The loss of each held-out block."""
        if phase is not None:
            self._report(Progress(phase=phase, done=0, total=1))
        return [*map(float, block_losses(model, self._corpus.validation, self._recipe.micro_batch_size))]

    def _write(self, model: PreTrainedModel, growth: Growth, result: PretrainResult) -> None:
        """Model, picture and result; the checkpoint has served where the run is finished."""
        output = self._request.output
        if growth.events:
            draw_design(growth.events, output / PICTURE_FILE)
        draw_training(output / LOG_FILE, result, output / TRAINING_PICTURE_FILE)
        if result.model is not None:
            self._report(Progress(phase="saving", done=0, total=1))
            export_huggingface(model, growth.design, self._source.path, output / MODEL_FOLDER, overwrite=True)
            shutil.rmtree(self._checkpoint, ignore_errors=True)
        beside = output / f".{RESULT_FILE}"
        beside.write_text(result.model_dump_json(indent=1) + "\n")
        beside.replace(output / RESULT_FILE)


def _silent(progress: Progress) -> None:
    """Only the first rank reports."""
