"""Evaluation of one model: zero-shot accuracy, perplexity, cost on a small device.

From Python: `penjing.evaluate(EvaluateRequest(...))`; from the shell: `penjing evaluate`. Any causal language model in
transformers' format will do, ours or not. Whatever is finished is kept in the cache and never paid for twice.
"""

import time
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from tools.evaluation.edge_figures import EdgeCost
from tools.evaluation.evaluated_model import EvaluatedModel, find_model, unpadded_parameters
from tools.evaluation.evaluation_text import EvaluationText, limited, read_evaluation_text
from tools.evaluation.result_cache import ResultCache
from tools.evaluation.results import Convention, PerplexityResult, Precision, TaskAverage, TaskResult, average
from tools.evaluation.saved import evaluations_folder, save, save_merged
from tools.evaluation.task_data import task_data_folder
from tools.freed_memory import freed_memory_kept
from tools.places import cache_folder
from tools.requests import Progress, ReportProgress


class EvaluateRequest(BaseModel):
    """What to evaluate, and how.

    `model` is found by `tools.sources.locate_model`. Tasks come from files in `task_data`, without it from the hub.
    Code that comes with a model is only run where `trust_remote_code` allows it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str = Field(description="embedded name, directory, GGUF file or hub name")
    tasks: tuple[str, ...] | None = Field(None, description="task names; null: the seven of EfficientLLM's average")
    task_data: Path | None = Field(default_factory=task_data_folder, description="folder of local JSON-lines files")
    limit: int | None = Field(None, ge=1, description="only the first items of each task")
    perplexity: tuple[Convention, ...] = Field((), description="conventions of perplexity to take")
    text: Path | None = Field(None, description="text for the perplexity; null: WikiText-2 raw test")
    limit_tokens: int | None = Field(None, ge=2, description="only the beginning of the text")
    edge: bool = Field(False, description="measure what the model costs on this machine")
    dense: str | None = Field(None, description="another model, like the source, whose figures stand beside")
    trust_remote_code: bool = Field(False, description="run Python code that comes with the model")
    precision: Literal["auto", "bfloat16", "float32"] = "auto"
    batch_size: int | None = Field(None, ge=1, description="sequences at once; null: as many as fit the memory")
    max_length: int = Field(2048, ge=2, description="context of lm-eval's tasks, in tokens")
    seed: int = 0
    cache: Path = Field(default_factory=cache_folder, description="folder for converted models and paid results")
    output: Path | None = Field(None, description="folder for evaluation.json, beside the one in the cache")


class EvaluateResult(BaseModel):
    """What was found. `parameters` are those of the model, tied ones once, `file_parameters` those in its files, which
    may be padded with zeros; `names` are all under which these very files were evaluated.

    Both averages are over those of the seven tasks that are there: their `label` says how many. `dense` holds the same
    figures of the model that was named to stand beside.
    """

    model_config = ConfigDict(frozen=True)

    request: EvaluateRequest
    names: tuple[str, ...]
    path: Path
    digest: str
    parameters: int
    file_parameters: int
    ran_own_code: bool
    precision: Precision
    compute: str
    tasks: tuple[TaskResult, ...] = ()
    average_acc_norm: TaskAverage | None = None
    average_acc: TaskAverage | None = None
    perplexities: tuple[PerplexityResult, ...] = ()
    edge: EdgeCost | None = None
    dense: "EvaluateResult | None" = None
    seconds: float = 0.0
    file: Path | None = None

    def with_averages(self) -> "EvaluateResult":
        """The same with averages that go with its tasks."""
        return self.model_copy(
            update={
                "average_acc_norm": average(self.tasks, "acc_norm"),
                "average_acc": average(self.tasks, "acc"),
            }
        )


def evaluate(request: EvaluateRequest, report: ReportProgress = lambda progress: None) -> EvaluateResult:
    """Evaluate a model, and the one beside it, and write evaluation.json.

    Each task and each perplexity is kept in the cache as soon as it is there, so an interrupted evaluation goes on.
    Raises InputError for a model, task, text or folder that cannot be used, and where lm-eval is needed and missing.
    """

    def say(phase: str, share: float) -> None:
        report(Progress(phase=phase, done=round(100 * share), total=100))

    from tools.evaluation.zero_shot import chosen_tasks

    # What is wrong with the request shows before anything is computed.
    chosen_tasks(request.tasks, request.task_data)
    text = read_evaluation_text(request.text, request.task_data) if request.perplexity else None
    sources = request.cache / "sources"
    names = [request.model] if request.dense is None else [request.model, request.dense]
    models = [find_model(name, request.trust_remote_code, say, sources) for name in names]
    results = [_evaluated(request, model, text, report) for model in models]
    result = results[0] if len(results) == 1 else results[0].model_copy(update={"dense": results[1]})
    kept = save_merged(result, evaluations_folder(request.cache, result.digest))
    if request.output is not None:
        return save(result, request.output)
    return result.model_copy(update={"file": kept})


@freed_memory_kept()
def _evaluated(
    request: EvaluateRequest, model: EvaluatedModel, text: EvaluationText | None, report: ReportProgress
) -> EvaluateResult:
    from tools.evaluation.loaded_model import LoadedModel
    from tools.evaluation.perplexity_conventions import PerplexitySettings, perplexities
    from tools.evaluation.zero_shot import ZeroShotSettings, chosen_tasks, zero_shot
    from tools.pretraining.compute import choose_compute
    from tools.sources import load_tokenizer

    started = time.monotonic()
    edge = None
    if request.edge:
        from tools.evaluation.edge_cost import measure_edge

        # Before this process holds weights too, which would take memory from the processes that are measured.
        edge = measure_edge(model.path, report=report)
    compute = choose_compute(request.precision)
    loaded = LoadedModel(model, compute)
    cache = ResultCache(evaluations_folder(request.cache, model.digest))
    zero = ZeroShotSettings(request.limit, request.max_length, request.batch_size, request.seed)
    tasks = zero_shot(loaded, chosen_tasks(request.tasks, request.task_data), zero, cache, report)
    found: tuple[PerplexityResult, ...] = ()
    if text is not None:
        part = limited(text, load_tokenizer(model.path), request.limit_tokens)
        settings = PerplexitySettings(request.max_length, request.batch_size, request.seed)
        found = perplexities(loaded, part, request.perplexity, settings, cache, report)
    return EvaluateResult(
        request=request.model_copy(update={"model": model.name, "dense": None}),
        names=(model.name,),
        path=model.path,
        digest=model.digest,
        parameters=unpadded_parameters(model),
        file_parameters=model.parameters,
        ran_own_code=model.runs_own_code,
        precision=compute.precision,
        compute=compute.describe(),
        tasks=tasks,
        perplexities=found,
        edge=edge,
        seconds=time.monotonic() - started,
    ).with_averages()
