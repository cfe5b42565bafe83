"""Zero-shot accuracy: lm-eval's own figures in lm-eval's own words, paid for once."""

import json
import math
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from lm_eval.api.task import ConfigurableTask
from transformers import LlamaForCausalLM

from tests.tools.evaluation_data import HUB_ROWS, ROWS
from tools.evaluate import EvaluateRequest, EvaluateResult, evaluate
from tools.evaluation.evaluated_model import find_model, load_evaluated
from tools.evaluation.harness import local_task, score, task_of_rows
from tools.evaluation.harness_model import HarnessModel
from tools.evaluation.results import TaskResult, average
from tools.evaluation.task_data import read_task
from tools.evaluation.tasks import SEVEN_TASKS, TASKS
from tools.pretraining.compute import Compute

CPU = Compute("cpu", "float32")


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """The batch sizes of all forward passes of Llama models."""
    seen: list[int] = []
    forward = LlamaForCausalLM.forward

    def counted(model: Any, input_ids: torch.Tensor, *arguments: Any, **named: Any) -> Any:
        seen.append(len(input_ids))
        return forward(model, input_ids, *arguments, **named)

    monkeypatch.setattr(LlamaForCausalLM, "forward", counted)
    return seen


# What the authors of lm-eval's command line would write for our files, independent of our own configurations.
_TEMPLATES: dict[str, dict[str, Any]] = {
    "arc_easy": {"doc_to_text": "Question: {{query}}\nAnswer:", "doc_to_target": "gold", "doc_to_choice": "choices"},
    "boolq": {
        "doc_to_text": "{{passage}}\nQuestion: {{question}}\nAnswer:",
        "doc_to_target": "{{gold}}",
        "doc_to_choice": "{{choices}}",
    },
    "copa": {"doc_to_text": "{{query}}", "doc_to_target": "{{gold}}", "doc_to_choice": "choices"},
}


def test_accuracies_are_those_of_lm_eval_itself(
    tmp_path: Path, task_data: Path, sources: dict[str, Path], request_of: Callable[..., EvaluateRequest]
) -> None:
    """Our way through memory against lm-eval's through `datasets` and its own loading of the model."""
    from lm_eval import simple_evaluate
    from lm_eval.tasks import TaskManager

    metrics = {"arc_easy": ("acc", "acc_norm"), "boolq": ("acc",), "copa": ("acc",)}
    configurations = [
        {
            "task": name,
            "dataset_path": "json",
            "dataset_kwargs": {"data_files": {"test": str(task_data / f"{name}.jsonl")}, "cache_dir": str(tmp_path)},
            "test_split": "test",
            "output_type": "multiple_choice",
            "metric_list": [{"metric": metric} for metric in metrics[name]],
            **template,
        }
        for name, template in _TEMPLATES.items()
    ]
    path = sources["llama-tied"]
    theirs: Any = simple_evaluate(
        model="hf",
        model_args={"pretrained": str(path), "dtype": "float32"},
        tasks=configurations,
        device="cpu",
        batch_size=1,
        limit=4,
        task_manager=TaskManager(include_defaults=False),
    )
    ours = evaluate(request_of("arc_easy", "boolq", "copa", limit=4))
    assert [found.task for found in ours.tasks] == ["arc_easy", "boolq", "copa"]
    for found in ours.tasks:
        row = theirs["results"][found.task]
        assert (found.acc, found.acc_stderr) == (row["acc,none"], row["acc_stderr,none"])
        assert found.acc_norm == row.get("acc_norm,none") and found.acc_norm_stderr == row.get("acc_norm_stderr,none")
        assert found.items == theirs["n-samples"][found.task]["effective"]
        assert found.items_available == theirs["n-samples"][found.task]["original"] == len(ROWS[found.task])
        assert found.lm_eval == theirs["lm_eval_version"] and found.data == f"{found.task}.jsonl"
    assert {found.chance for found in ours.tasks} == {0.25, 0.5}
    assert [found.official for found in ours.tasks] == [True, True, False]
    assert "no public prompt" in ours.tasks[2].note


@pytest.mark.parametrize("name", HUB_ROWS)
def test_local_items_are_asked_in_the_words_of_the_public_task(name: str, task_data: Path) -> None:
    """Strings and verdicts are those of lm-eval's own definition over the hub's rows of the same items."""
    import datasets
    import lm_eval.tasks
    from lm_eval.tasks._yaml_loader import load_yaml

    rows = HUB_ROWS[name]
    file = {
        "arc_easy": "arc/arc_easy.yaml",
        "boolq": "super_glue/boolq/default.yaml",
        "mmlu": "mmlu/default/mmlu_elementary_mathematics.yaml",
        "siqa": "siqa/siqa.yaml",
        "winogrande": "winogrande/default.yaml",
    }.get(name, f"{name}/{name}.yaml")
    own = load_yaml(Path(lm_eval.tasks.__file__).parent / file, resolve_func=True)
    own = {key: value for key, value in own.items() if key not in ("tag", "dataset_path", "dataset_name")}
    splits = dict.fromkeys(("train", "validation", "test", "dev"), datasets.Dataset.from_list(rows))
    public = ConfigurableTask(config={**own, "num_fewshot": 0, "custom_dataset": lambda **_: splits})
    local = local_task(TASKS[name], read_task(task_data, TASKS[name]))
    items = 1 if name == "mmlu" else len(rows)  # the second item is of another subject
    for task in (public, local):
        task.build_all_requests(limit=items)
    assert [request.args for request in local.instances] == [request.args for request in public.instances]
    choices = len(local.instances) // items
    for preferred in range(choices):
        # A made-up verdict for each choice in turn: both must count it as right or wrong alike.
        answers = [(0.0 if index == preferred else -50.0, False) for index in range(choices)]
        for ours, theirs in zip(local.eval_docs, list(public.eval_docs)[:items], strict=False):
            assert local.process_results(ours, answers) == public.process_results(theirs, answers)
    assert set(TASKS[name].metrics) == {metric["metric"] for metric in own["metric_list"]}


def test_tasks_without_choices_and_with_other_chances(request_of: Callable[..., EvaluateRequest]) -> None:
    result = evaluate(request_of("lambada_openai", "winogrande", "mmlu", "siqa"))
    lambada, winogrande, mmlu, siqa = result.tasks
    assert (lambada.chance, winogrande.chance, mmlu.chance, siqa.chance) == (0.0, 0.5, 0.25, pytest.approx(1 / 3))
    assert (lambada.items, mmlu.items, siqa.items) == (2, 2, 1)
    assert siqa.acc_stderr is None, "one item has no standard error"
    assert result.average_acc is not None and result.average_acc.tasks == ("winogrande",), "MMLU is not in the average"


def test_a_result_is_paid_for_once(
    request_of: Callable[..., EvaluateRequest], passes: list[int], task_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = evaluate(request_of("piqa", "copa"))
    paid = len(passes)
    assert paid > 0 and not any(found.cached for found in first.tasks)

    def refuse(*_: Any) -> None:
        raise AssertionError("the model was loaded")

    with monkeypatch.context() as nothing_loads:
        nothing_loads.setattr("tools.evaluation.loaded_model.load_evaluated", refuse)
        shown: list[str] = []
        again = evaluate(request_of("copa", "piqa"), lambda progress: shown.append(progress.phase))
    assert len(passes) == paid and all(found.cached for found in again.tasks)
    figures = [found.model_dump(exclude={"cached"}) for found in first.tasks]
    assert [found.model_dump(exclude={"cached"}) for found in again.tasks] == figures[::-1]
    assert "copa, from the cache" in shown and "piqa, from the cache" in shown
    limited = evaluate(request_of("piqa", limit=2))
    assert len(passes) > paid and limited.tasks[0].items == 2 and limited.tasks[0].limit == 2
    paid = len(passes)
    text = (task_data / "piqa.jsonl").read_text()
    (task_data / "piqa.jsonl").write_text(text.replace("Turn the lid.", "Turn the lid slowly."))
    assert not evaluate(request_of("piqa")).tasks[0].cached and len(passes) > paid, "other items, another result"
    paid = len(passes)
    assert not evaluate(request_of("piqa", precision="bfloat16")).tasks[0].cached and len(passes) > paid


def test_other_weights_and_another_tokenizer_are_another_model(
    request_of: Callable[..., EvaluateRequest], model_copy: Path
) -> None:
    evaluate(request_of("copa", model=str(model_copy)))
    assert evaluate(request_of("copa", model=str(model_copy))).tasks[0].cached
    weights = model_copy / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1  # one bit of the last weight
    weights.write_bytes(bytes(data))
    assert not evaluate(request_of("copa", model=str(model_copy))).tasks[0].cached
    tokenizer = model_copy / "tokenizer.json"
    tokenizer.write_text(tokenizer.read_text() + "\n")
    assert not evaluate(request_of("copa", model=str(model_copy))).tasks[0].cached
    (model_copy / "README.md").write_text("words")
    assert evaluate(request_of("copa", model=str(model_copy))).tasks[0].cached


def test_an_interrupted_evaluation_goes_on(request_of: Callable[..., EvaluateRequest], passes: list[int]) -> None:
    def stop_at_boolq(progress: Any) -> None:
        if progress.phase == "boolq":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        evaluate(request_of("arc_easy", "boolq"), stop_at_boolq)
    passes.clear()
    result = evaluate(request_of("arc_easy", "boolq"))
    assert [found.cached for found in result.tasks] == [True, False] and passes


def test_a_damaged_cache_is_paid_again(request_of: Callable[..., EvaluateRequest], tmp_path: Path) -> None:
    result = evaluate(request_of("copa"))
    for file in (tmp_path / "cache" / "evaluations").glob("*/copa-*.json"):
        file.write_text(file.read_text()[:50])
    again = evaluate(request_of("copa")).tasks[0]
    assert not again.cached and again.acc == result.tasks[0].acc


def test_the_average_says_of_how_many_tasks_it_is(request_of: Callable[..., EvaluateRequest]) -> None:
    result = evaluate(request_of("copa", "piqa", "boolq", "arc_easy"))
    norm, plain = result.average_acc_norm, result.average_acc
    assert norm is not None and plain is not None
    assert norm.label == plain.label == "average of 3 of 7 tasks"
    assert norm.tasks == ("arc_easy", "boolq", "piqa") and set(norm.tasks) | set(norm.missing) == set(SEVEN_TASKS)
    by_name = {found.task: found for found in result.tasks}
    easy, boolq, piqa = by_name["arc_easy"], by_name["boolq"], by_name["piqa"]
    assert easy.acc_norm is not None and piqa.acc_norm is not None and boolq.acc_norm is None
    assert norm.value == pytest.approx((easy.acc_norm + boolq.acc + piqa.acc_norm) / 3)
    assert plain.value == pytest.approx((easy.acc + boolq.acc + piqa.acc) / 3)
    errors = [float(error or 0) for error in (easy.acc_norm_stderr, boolq.acc_stderr, piqa.acc_norm_stderr)]
    assert norm.stderr == pytest.approx(math.sqrt(sum(error**2 for error in errors)) / 3)
    assert evaluate(request_of("copa")).average_acc is None
    assert average((), "acc") is None


def test_default_tasks_are_the_public_ones_of_the_folder(request_of: Callable[..., EvaluateRequest]) -> None:
    result = evaluate(request_of(tasks=None))
    assert {found.task for found in result.tasks} == {name for name in ROWS if TASKS[name].official}
    assert all(found.official for found in result.tasks)


def test_memory_that_does_not_suffice_halves_the_batch(
    request_of: Callable[..., EvaluateRequest], passes: list[int], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    whole = evaluate(request_of("arc_easy"))
    assert max(passes) > 3
    forward = LlamaForCausalLM.forward

    def scarce(model: Any, input_ids: torch.Tensor, *arguments: Any, **named: Any) -> Any:
        if len(input_ids) > 3:
            raise torch.cuda.OutOfMemoryError("out of memory")
        return forward(model, input_ids, *arguments, **named)

    monkeypatch.setattr(LlamaForCausalLM, "forward", scarce)
    halved = evaluate(request_of("arc_easy", cache=tmp_path / "other"))
    assert halved.tasks[0].batch_size in (2, 3) and whole.tasks[0].batch_size > 3
    same = {"batch_size", "seconds"}
    assert halved.tasks[0].model_dump(exclude=same) == whole.tasks[0].model_dump(exclude=same)
    asked = evaluate(request_of("arc_easy", cache=tmp_path / "third", batch_size=2))
    assert asked.tasks[0].batch_size == 2


def test_other_errors_of_a_forward_pass_are_not_taken_for_lack_of_memory(
    request_of: Callable[..., EvaluateRequest], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any, **__: Any) -> Any:
        raise RuntimeError("shapes cannot be multiplied")

    monkeypatch.setattr(LlamaForCausalLM, "forward", broken)
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        evaluate(request_of("copa"))


def test_prompts_beyond_the_context_are_counted(request_of: Callable[..., EvaluateRequest]) -> None:
    result = evaluate(request_of("boolq", max_length=16))
    assert result.tasks[0].truncated == 6
    assert evaluate(request_of("boolq")).tasks[0].truncated == 0


def test_a_group_is_scored_as_one_task(sources: dict[str, Path]) -> None:
    """MMLU is a group of tasks in lm-eval: its accuracy is over all items of all of them."""
    from lm_eval.api.group import Group

    prompt = {"output_type": "multiple_choice", "metric_list": [{"metric": "acc"}], **TASKS["arc_easy"].prompt}
    leaves = [
        task_of_rows("first", ROWS["arc_easy"], prompt),
        task_of_rows("second", ROWS["arc_easy"][:2], prompt),
    ]
    group = Group.from_config(
        {
            "group": "both",
            "task": ["first", "second"],
            "aggregate_metric_list": [{"metric": "acc", "weight_by_size": True}],
            "metadata": {"version": 2},
        }
    )
    for leaf in leaves:
        group.add(leaf)
    judge = HarnessModel(*load_evaluated(find_model(str(sources["llama-tied"]))), CPU, max_length=256)
    loaded = {"tasks": {leaf.task_name: leaf for leaf in leaves}, "groups": {"both": group}}
    both = score(judge, loaded, "both", None, 0)
    single = [score(judge, leaf, leaf.task_name, None, 0) for leaf in leaves]
    assert (both.items, both.items_available, both.version) == (7, 7, "2")
    accuracies = [float(one.metrics["acc"] or 0) for one in single]
    assert both.metrics["acc"] == pytest.approx((5 * accuracies[0] + 2 * accuracies[1]) / 7)
    assert both.metrics["acc_stderr"] is not None


def test_local_data_leaves_the_environment_alone(request_of: Callable[..., EvaluateRequest]) -> None:
    before = dict(os.environ)
    evaluate(request_of("copa"))
    assert dict(os.environ) == before


def test_evaluations_are_written_and_merged(
    request_of: Callable[..., EvaluateRequest], tmp_path: Path, sources: dict[str, Path]
) -> None:
    from tools.evaluation.saved import find_evaluation

    first = evaluate(request_of("copa", "piqa"))
    assert first.file is not None and first.file.name == "evaluation.json"
    second = evaluate(request_of("boolq", limit=2, output=tmp_path / "report", dense=str(sources["qwen2"])))
    assert second.file == tmp_path / "report" / "evaluation.json"
    written = EvaluateResult.model_validate_json(second.file.read_text())
    assert [found.task for found in written.tasks] == ["boolq"] and written.dense is not None
    assert written.dense.request.model == str(sources["qwen2"]) and written.dense.tasks[0].items == 2
    kept = find_evaluation(str(sources["llama-tied"]), tmp_path / "cache")
    assert {found.task for found in kept.tasks} == {"copa", "piqa", "boolq"}
    assert kept.average_acc is not None and kept.average_acc.tasks == ("boolq", "piqa")
    assert find_evaluation(str(tmp_path / "report"), tmp_path / "cache").tasks == written.tasks


@pytest.mark.slow
def test_smollm2_is_as_good_as_lm_evals_own_command_says(tmp_path: Path) -> None:
    """The embedded model on 50 items of OpenBookQA: ours against `python -m lm_eval run --model hf`."""
    import subprocess
    import sys

    from tools.places import cache_folder
    from tools.sources import resolve_source

    data = Path(__file__).parents[3] / "shared" / "data" / "benchmarks"
    if not data.is_dir():
        pytest.skip("the shared benchmark files are not here")
    path = resolve_source("smollm2-135m", cache=cache_folder() / "sources").path
    (tmp_path / "task.yaml").write_text(
        "task: local_openbookqa\ndataset_path: json\ndataset_kwargs:\n  data_files:\n"
        f"    test: {data / 'openbookqa.jsonl.gz'}\n  cache_dir: {tmp_path}\ntest_split: test\n"
        "output_type: multiple_choice\ndoc_to_text: '{{query}}'\ndoc_to_target: gold\ndoc_to_choice: choices\n"
        "metric_list:\n  - {metric: acc, aggregation: mean, higher_is_better: true}\n"
        "  - {metric: acc_norm, aggregation: mean, higher_is_better: true}\n"
    )
    command = [sys.executable, "-m", "lm_eval", "run", "--model", "hf", "--tasks", "local_openbookqa"]
    command += ["--model_args", f"pretrained={path},dtype=float32", "--include_path", str(tmp_path), "--limit", "50"]
    command += ["--batch_size", "8", "--device", "cpu", "--output_path", str(tmp_path / "out")]
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
    subprocess.run(command, check=True, env=environment, cwd=tmp_path, capture_output=True)
    (report,) = (tmp_path / "out").rglob("results_*.json")
    theirs = json.loads(report.read_text())["results"]["local_openbookqa"]
    found = evaluate(
        EvaluateRequest(
            model=str(path),
            tasks=("openbookqa",),
            task_data=data,
            limit=50,
            precision="float32",
            cache=tmp_path / "cache",
        )
    ).tasks[0]
    print(f"ours {found.acc} {found.acc_norm}, lm-eval's command {theirs['acc,none']} {theirs['acc_norm,none']}")
    assert found.items == theirs["sample_len"] == 50
    assert abs(found.acc - theirs["acc,none"]) <= 2 * theirs["acc_stderr,none"]
    assert abs(found.acc_norm - theirs["acc_norm,none"]) <= 2 * theirs["acc_norm_stderr,none"]


def test_results_are_plain_data(request_of: Callable[..., EvaluateRequest]) -> None:
    result = evaluate(request_of("copa"))
    again = EvaluateResult.model_validate_json(result.model_dump_json())
    assert again == result and isinstance(again.tasks[0], TaskResult)
