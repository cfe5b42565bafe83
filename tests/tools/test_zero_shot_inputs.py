"""Zero-shot accuracy: where tasks and models come from, and what cannot be evaluated."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.tools.evaluation_data import HUB_ROWS, ROWS, write_tasks
from tools.errors import InputError
from tools.evaluate import EvaluateRequest, evaluate
from tools.evaluation import harness
from tools.evaluation.harness import hub_task
from tools.evaluation.task_data import read_task, task_data_folder, tasks_in
from tools.evaluation.tasks import TASKS, task_named


@pytest.mark.parametrize("name", [task.name for task in TASKS.values() if task.harness_name is not None])
def test_the_hub_cannot_be_reached(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """At once, in one sentence, for every task that lm-eval defines."""
    import datasets
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path)
    with pytest.raises(
        InputError, match=rf"task {name} cannot be had from the hub \(it cannot be reached.*--task-data"
    ):
        hub_task(TASKS[name])
    assert not huggingface_hub.constants.HF_HUB_OFFLINE and not datasets.config.HF_HUB_OFFLINE


def test_tasks_of_the_hub(request_of: Callable[..., EvaluateRequest], monkeypatch: pytest.MonkeyPatch) -> None:
    """lm-eval's own definitions from end to end, MMLU's 57 among them; only the download is replaced, by few rows."""
    import datasets

    asked: list[str] = []

    def rows_in_place_of_a_download(path: str, name: str | None = None, **_: Any) -> dict[str, Any]:
        asked.append(path)
        known = {"allenai/ai2_arc": "arc_easy", "cais/mmlu": "mmlu", "lighteval/siqa": "siqa", "baber/piqa": "piqa"}
        rows = datasets.Dataset.from_list(HUB_ROWS[known[path]])
        return dict.fromkeys(("train", "validation", "test", "dev"), rows)

    monkeypatch.setattr(datasets, "load_dataset", rows_in_place_of_a_download)
    hub = evaluate(request_of("arc_easy", "siqa", "mmlu", task_data=None, limit=4)).tasks
    local = evaluate(request_of("arc_easy", "siqa", limit=4)).tasks
    for one, other in zip(hub, local, strict=False):
        same = {"data", "seconds", "version"}
        assert one.model_dump(exclude=same) == other.model_dump(exclude=same)
    easy, siqa, mmlu = hub
    assert (easy.data, siqa.data, mmlu.data) == ("allenai/ai2_arc", "lighteval/siqa", "cais/mmlu")
    assert (mmlu.items, mmlu.items_available, mmlu.version, mmlu.acc_norm) == (57 * 2, 57 * 2, "2", None)
    assert mmlu.acc_stderr is not None and asked.count("cais/mmlu") == 57


def test_lm_eval_is_asked_for_where_it_is_missing(
    request_of: Callable[..., EvaluateRequest], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(harness, "_PACKAGE", "lm_eval_absent")
    with pytest.raises(InputError, match=r"not installed: run `pip install .*lm-eval>=0\.4\.13,<0\.5"):
        evaluate(request_of("copa"))
    # Perplexity in windows needs nothing but the model.
    text = request_of().cache.parent / "text.txt"
    text.write_text("the quick brown fox " * 200)
    windowed = evaluate(request_of(perplexity=("seq-128",), text=text))
    assert windowed.perplexities[0].perplexity is not None


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("piqqa", "There is no task 'piqqa'; did you mean piqa"),
        ("ARC-Easy", "did you mean arc_easy"),
        ("xyzzy", "the tasks are: arc_easy, arc_challenge"),
    ],
)
def test_no_such_task(name: str, words: str, request_of: Callable[..., EvaluateRequest]) -> None:
    with pytest.raises(InputError, match=words):
        evaluate(request_of(name))


def test_tasks_go_by_lm_evals_names_too(request_of: Callable[..., EvaluateRequest]) -> None:
    assert task_named("social_iqa").name == "siqa"
    assert [found.task for found in evaluate(request_of("social_iqa", "siqa")).tasks] == ["siqa"]


def test_folders_without_the_task(
    task_data: Path, tmp_path: Path, request_of: Callable[..., EvaluateRequest], monkeypatch: pytest.MonkeyPatch
) -> None:
    (task_data / "piqa.jsonl").unlink()
    with pytest.raises(InputError, match=r"has no file for the task piqa, only for arc_easy, "):
        evaluate(request_of("piqa"))
    with pytest.raises(InputError, match="There is no folder"):
        tasks_in(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="holds no task data"):
        tasks_in(tmp_path / "empty")
    only = write_tasks(tmp_path / "only", "copa")
    with pytest.raises(InputError, match="none of the public tasks"):
        evaluate(request_of(tasks=None, task_data=only))
    with pytest.raises(InputError, match=r"copa is not on the hub; give a folder with copa\.jsonl"):
        evaluate(request_of("copa", task_data=None))
    monkeypatch.setenv("PENJING_TASK_DATA", str(only))
    assert task_data_folder() == only and EvaluateRequest(model="m").task_data == only


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("{", "line 2, is no valid JSON"),
        ("[]", "line 2, lacks the field 'query'"),
        ('{"query": "a", "choices": ["b", "c"]}', "lacks the field 'gold'; piqa needs query, choices, gold"),
        ('{"query": 3, "choices": ["b", "c"], "gold": 0}', "holds no text in 'query'"),
        ('{"query": "a", "choices": ["b"], "gold": 0}', "needs a list of two or more texts in 'choices'"),
        ('{"query": "a", "choices": ["b", ""], "gold": 0}', "needs a list of two or more texts"),
        ('{"query": "a", "choices": ["b", "c"], "gold": 2}', "index of the right choice in 'gold', 0 to 1"),
        ('{"query": "a", "choices": ["b", "c"], "gold": true}', "index of the right choice"),
    ],
)
def test_rows_that_cannot_be_used(line: str, words: str, task_data: Path) -> None:
    good = json.dumps(ROWS["piqa"][0])
    (task_data / "piqa.jsonl").write_text(f"{good}\n{line}\n{good}\n")
    with pytest.raises(InputError, match=words):
        read_task(task_data, TASKS["piqa"])


def test_models_that_cannot_be_evaluated(
    model_copy: Path, tmp_path: Path, request_of: Callable[..., EvaluateRequest]
) -> None:
    from safetensors.torch import load_file, save_file

    def refused(words: str) -> None:
        with pytest.raises(InputError, match=words):
            evaluate(request_of("copa", model=str(model_copy)))

    weights = model_copy / "model.safetensors"
    whole = weights.read_bytes()
    tensors = load_file(weights)
    tensors.pop("model.layers.1.mlp.up_proj.weight")
    save_file(tensors, weights, metadata={"format": "pt"})
    refused(r"lacks the weights model\.layers\.1\.mlp\.up_proj\.weight \(1 in all\)")
    weights.write_bytes(whole)
    config = json.loads((model_copy / "config.json").read_text())
    (model_copy / "config.json").write_text(json.dumps(config | {"hidden_size": 32}))
    refused("transformers cannot load the model")
    (model_copy / "config.json").write_text(json.dumps(config | {"vocab_size": 200}))
    tensors = load_file(weights)
    tensors["model.embed_tokens.weight"] = tensors["model.embed_tokens.weight"][:200].clone()
    save_file(tensors, weights, metadata={"format": "pt"})
    refused(r"tokenizer in .* has 300 tokens, but the model's embedding has 200")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"has no config\.json"):
        evaluate(request_of("copa", model=str(tmp_path / "empty")))
    with pytest.raises(InputError, match="There is no directory 'nowhere'"):
        evaluate(request_of("copa", model="nowhere"))


def test_code_of_a_model_runs_only_when_allowed(model_copy: Path, request_of: Callable[..., EvaluateRequest]) -> None:
    config = json.loads((model_copy / "config.json").read_text())
    plain = evaluate(request_of("copa"))
    (model_copy / "modeling_strange.py").write_text(
        "from transformers import LlamaConfig, LlamaForCausalLM\n"
        "class StrangeConfig(LlamaConfig):\n    model_type = 'strange'\n"
        "class StrangeForCausalLM(LlamaForCausalLM):\n    config_class = StrangeConfig\n"
    )
    names = {"AutoConfig": "StrangeConfig", "AutoModelForCausalLM": "StrangeForCausalLM"}
    auto_map = {key: f"modeling_strange.{name}" for key, name in names.items()}
    strange = config | {"model_type": "strange", "architectures": ["StrangeForCausalLM"], "auto_map": auto_map}
    (model_copy / "config.json").write_text(json.dumps(strange))
    with pytest.raises(InputError, match=r"needs Python code that comes with the model.*--trust-remote-code"):
        evaluate(request_of("copa", model=str(model_copy)))
    trusted = evaluate(request_of("copa", model=str(model_copy), trust_remote_code=True))
    assert trusted.ran_own_code and not plain.ran_own_code
    assert (trusted.tasks[0].acc, trusted.parameters) == (plain.tasks[0].acc, plain.parameters)
    # A model whose class is in transformers is loaded with that one, whatever code lies beside it.
    (model_copy / "config.json").write_text(json.dumps(config | {"auto_map": auto_map}))
    assert not evaluate(request_of("copa", model=str(model_copy), trust_remote_code=True)).ran_own_code


def test_gguf_files_are_evaluated(
    sources: dict[str, Path], tmp_path: Path, request_of: Callable[..., EvaluateRequest]
) -> None:
    from tools.export.gguf import export_gguf
    from tools.sources import load_model, resolve_source

    source = resolve_source(str(sources["llama-untied"]))
    export_gguf(load_model(source.path), source.architecture, source.path, tmp_path / "tiny.gguf")
    result = evaluate(request_of("copa", "piqa", model=str(tmp_path / "tiny.gguf")))
    plain = evaluate(request_of("copa", "piqa", model=str(source.path)))
    assert result.path.is_dir() and result.request.model == str(tmp_path / "tiny.gguf")
    assert [found.acc for found in result.tasks] == [found.acc for found in plain.tasks]
    (tmp_path / "broken.gguf").write_bytes(b"GGUF" + bytes(40))
    with pytest.raises(InputError, match="cannot be converted"):
        evaluate(request_of("copa", model=str(tmp_path / "broken.gguf")))
