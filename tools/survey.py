"""The survey of a source model: its own figures, and the warm-up whose gradients give the saliency of every group.

The warm-up's end state (weights, optimiser moments, input statistics) is where every trial starts, so its tokens are
paid for once. Everything is kept in the cache folder under the survey's key and reused by later runs.
"""

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from safetensors.torch import save_file

from tools.accuracy import score_directory
from tools.artifacts import Artifacts
from tools.checkpoint_pace import CheckpointPace
from tools.evaluation.edge import decode_latency
from tools.evaluation.perplexity import validation_loss
from tools.freed_memory import freed_memory_kept
from tools.measurement import Measurement
from tools.memory_use import peak_memory_mb
from tools.pretraining.checkpoint import save_training_state
from tools.pretraining.compute import Compute, choose_compute
from tools.pretraining.corpus import PackedCorpus, prepare_corpus
from tools.pretraining.trainer import Trainer
from tools.pruning.input_statistics import InputStatistics
from tools.pruning.ranking import make_ranking
from tools.pruning.recording import Recording
from tools.requests import Progress, ReportProgress, Survey, SurveyRequest
from tools.sources import Source, load_model, resolve_source
from tools.staging import settle, staged_directory
from tools.survey_at_hand import kept_survey, key_of_survey
from tools.survey_checkpoint import SurveyNotes, begun_survey, load_begun_survey, save_begun_survey
from tools.survey_folder import (
    SALIENCY_FILE,
    STATE_FOLDER,
    STATISTICS_FILE,
    SURVEY_FILE,
    name_of_survey,
    survey_is_whole,
)

_WAIT_SECONDS = 0.5


def run_survey(request: SurveyRequest, report: ReportProgress, stop: Callable[[], bool] = lambda: False) -> Survey:
    """Measure the source and record its saliency, or return the survey that an earlier run left in the cache.

    `stop` is asked after each step: see `tools.stopping`. Raises WorkStoppedError.
    """

    def say(phase: str, share: float) -> None:
        report(Progress(phase=phase, done=round(100 * share), total=100))

    say("reading the source", 0.0)
    source = resolve_source(request.source, report=say, cache=request.cache / "sources")
    corpus = prepare_corpus(request.corpus, source.path, request.data, request.cache / "corpora", report=say)
    compute = choose_compute(request.recipe.precision)
    key = key_of_survey(source, corpus, request)
    folder = request.cache / "surveys" / key
    if request.accuracy is None:
        scored: dict[str, Any] = {}
    else:
        # First, since it fails at once where a data set cannot be had.
        scored = score_directory(source.path, request.accuracy, compute, request.seed, request.cache, report)
    elsewhere = None if request.artifacts is None else Artifacts.open(request.artifacts)
    with _alone(folder, partial(say, "waiting for another search, which takes this survey", 0.0)):
        if elsewhere is not None and not survey_is_whole(folder):
            say("fetching the survey", 0.0)
            elsewhere.fetch(name_of_survey(key), folder)
        found = kept_survey(folder, source, corpus)
        if found is None:
            found = _survey(request, source, corpus, compute, key, folder, report, stop)
    if elsewhere is not None:
        say("keeping the survey", 0.0)
        elsewhere.keep(folder, name_of_survey(key))
    return found.model_copy(update={"measurement": found.measurement.model_copy(update=scored)})


@contextmanager
def _alone(folder: Path, waiting: Callable[[], None]) -> Iterator[None]:
    """The right to put a survey into `folder`: one process has it at a time, at most until it ends."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder.with_name(f"{folder.name}.lock"), blocking=False)
    while not lock.is_locked:
        try:
            lock.acquire()
        except Timeout:
            waiting()
            time.sleep(_WAIT_SECONDS)
    try:
        settle(folder)
        yield
    finally:
        lock.release()


@freed_memory_kept()
def _survey(
    request: SurveyRequest,
    source: Source,
    corpus: PackedCorpus,
    compute: Compute,
    key: str,
    folder: Path,
    report: ReportProgress,
    stop: Callable[[], bool],
) -> Survey:
    recipe, checkpoint = request.recipe, folder.with_name(f"{folder.name}.begun")
    settle(checkpoint)
    begun = begun_survey(checkpoint)
    started = time.monotonic() - (0.0 if begun is None else begun.seconds)
    model = load_model(source.path)
    compute.place(model)
    if begun is None:
        report(Progress(phase="measuring, source", done=0, total=1))
        loss = validation_loss(model, corpus.validation, recipe.micro_batch_size)
        latency_ms = decode_latency(model).median_ms
    else:
        loss, latency_ms = begun.loss, begun.latency_ms
    # The source would be its own teacher.
    plain = recipe.model_copy(update={"distillation": 0.0})
    trainer = Trainer(model, corpus.train, plain, compute, request.seed)
    statistics = InputStatistics(model, recipe.moment_decay, recipe.moment_tokens)
    recording = Recording(make_ranking(recipe, model, statistics, request.seed), statistics)
    if begun is not None:
        load_begun_survey(checkpoint, trainer, recording)

    def on_step(phase: str, done: int, total: int, step_loss: float) -> None:
        report(Progress(phase=phase, done=trainer.step, total=recipe.warmup_steps, loss=step_loss))

    def write() -> None:
        notes = SurveyNotes(seconds=time.monotonic() - started, loss=loss, latency_ms=latency_ms)
        save_begun_survey(checkpoint, trainer, recording, notes)

    recording.start()
    try:
        steps = recipe.warmup_steps - trainer.step
        pace = CheckpointPace(request.checkpoint_seconds, write, stop)
        trainer.train(steps, "taking saliency", on_step, recording, pace.after_step)
    finally:
        recording.stop()
    survey = Survey(
        key=key,
        source_path=source.path,
        source_fingerprint=source.fingerprint,
        architecture=source.architecture,
        corpus_path=corpus.path,
        corpus_fingerprint=corpus.fingerprint,
        folder=folder,
        precision=compute.precision,
        compute=compute.describe(),
        measurement=Measurement.of_loss(
            loss,
            fidelity="source",
            parameters=source.architecture.parameters,
            latency_ms=latency_ms,
            seconds=time.monotonic() - started,
            peak_memory_mb=peak_memory_mb(),
            precision=compute.precision,
        ),
    )
    _store(survey, trainer, recording, folder)
    shutil.rmtree(checkpoint, ignore_errors=True)
    return survey


def _store(survey: Survey, trainer: Trainer, recording: Recording, folder: Path) -> None:
    """A survey folder is whole or not there."""
    with staged_directory(folder, overwrite=True) as staged:
        recording.ranking.saliency().save(staged / SALIENCY_FILE)
        save_file(recording.statistics.state(), staged / STATISTICS_FILE)
        save_training_state(trainer, staged / STATE_FOLDER)
        (staged / SURVEY_FILE).write_text(survey.model_dump_json(indent=1))
