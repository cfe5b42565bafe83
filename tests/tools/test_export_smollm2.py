"""The embedded model cut three ways, exported in every form, and read again in new processes."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import gguf
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import PreTrainedModel

from tests.llama_cpp import assert_same_text, greedy, losses, run, source_architecture, with_weights
from tools.architecture import Architecture, LayerShape
from tools.embedded import EMBEDDED_NAME
from tools.export.compact_huggingface import export_compact
from tools.export.gguf import export_gguf
from tools.export.huggingface import export_huggingface
from tools.sources import load_model, load_tokenizer, resolve_source

Cut = Callable[[PreTrainedModel, Architecture, Architecture], None]

pytestmark = pytest.mark.slow


def shape(groups: int, per_group: int, ffn: int) -> LayerShape:
    return LayerShape(num_attention_heads=groups * per_group, num_key_value_heads=groups, intermediate_size=ffn)


def three_ways(source: Architecture) -> dict[str, Architecture]:
    mixed = tuple(shape(3 - (at % 7 == 3), 3 - (at % 5 == 2), 1536 - 32 * (at % 4)) for at in range(30))
    return {
        "homogeneous": source.with_layers([shape(3, 3, 1472)] * 30),
        "heterogeneous": source.with_layers(mixed),
        # 544 is no multiple of the nine heads, which Llama's class refuses.
        "stem": source.model_copy(update={"hidden_size": 544}),
    }


@pytest.fixture(scope="module")
def cut_models(cut_by_hand: Cut) -> dict[str, tuple[PreTrainedModel, Architecture]]:
    path = resolve_source(EMBEDDED_NAME).path
    source, models = source_architecture(path), {}
    for name, design in three_ways(source).items():
        model = load_model(path)
        cut_by_hand(model, source, design)
        models[name] = model, design
    return models


READER = """
import json, sys
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM
torch.set_num_threads(1)
prompt, classes, logits = load_file(sys.argv[1])["prompt"], {}, {}
for directory in sys.argv[3:]:
    model = AutoModelForCausalLM.from_pretrained(directory, trust_remote_code=True)
    with torch.no_grad():
        logits[directory] = model(prompt).logits
    classes[directory] = type(model).__name__
assert not any(name.partition(".")[0] in ("tools", "penjing", "graph") for name in sys.modules)
save_file(logits, sys.argv[2])
print(json.dumps(classes))
"""


def test_directories_give_the_same_logits(
    cut_models: dict[str, tuple[PreTrainedModel, Architecture]], tmp_path: Path
) -> None:
    path = resolve_source(EMBEDDED_NAME).path
    prompt = torch.tensor(
        [load_tokenizer(path)("Gravity is a force by which all things with mass attract.")["input_ids"]]
    )
    expected, classes = {}, {}
    for name, (model, design) in cut_models.items():
        reports = [export_huggingface(model, design, path, tmp_path / f"{name}-hf")]
        if name == "heterogeneous":
            reports.append(export_compact(model, design, path, tmp_path / f"{name}-compact"))
            assert reports[1].bytes < reports[0].bytes and reports[0].padded
        with torch.no_grad():
            logits = model(prompt).logits
        for report in reports:
            expected[str(report.path)], classes[str(report.path)] = logits, report.class_name
    save_file({"prompt": prompt}, tmp_path / "prompt.safetensors")
    # Isolated: the repository is not on the path.
    command = [
        sys.executable,
        "-I",
        "-c",
        READER,
        str(tmp_path / "prompt.safetensors"),
        str(tmp_path / "logits"),
        *expected,
    ]
    environment = {"HF_HOME": str(tmp_path / "hub"), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    assert json.loads(done.stdout.splitlines()[-1]) == classes
    found = load_file(tmp_path / "logits")
    for directory, logits in expected.items():
        difference = float((found[directory] - logits).abs().max())
        print(f"{Path(directory).name}: {classes[directory]}, logits differ by {difference:.1e} at most")
        assert difference <= 1e-4, directory
    padded, small = (str(tmp_path / f"heterogeneous-{kind}") for kind in ("hf", "compact"))
    assert (found[padded] - found[small]).abs().max() <= 1e-4
    kinds = {Path(directory).name: kind for directory, kind in classes.items()}
    assert kinds["stem-hf"] == "MistralForCausalLM" and kinds["homogeneous-hf"] == "LlamaForCausalLM"


def test_gguf_files_give_the_same_text_and_perplexity(
    cut_models: dict[str, tuple[PreTrainedModel, Architecture]], tmp_path: Path
) -> None:
    path = resolve_source(EMBEDDED_NAME).path
    tokenizer = load_tokenizer(path)
    prompt = tokenizer("Gravity is a force by which")["input_ids"]
    ids = tokenizer((Path(__file__).parents[2] / "LICENSE").read_text())["input_ids"][100:196]
    # Quantised weights are compared with themselves, made float again; llama.cpp rounds activations beside them too.
    bounds = {"f16": 0.005, "q8_0": 0.02}
    jobs, files = [], {}
    for name, (model, design) in cut_models.items():
        for mix in ("f32", *bounds):
            report = export_gguf(model, design, path, tmp_path / f"{name}-{mix}.gguf", dtype=mix)
            assert report.prediction is not None
            assert report.bytes - gguf.GGUFReader(report.path).data_offset == report.prediction.bytes
            work = {"prompt": prompt, "predict": 64} if mix == "f32" else {"prompt": ids, "scored": len(ids)}
            jobs.append({"file": str(report.path)} | work)
            files[name, mix] = report.path
    for (name, mix), result in zip(files, run(jobs, tmp_path), strict=True):
        model, _ = cut_models[name]
        if mix == "f32":
            assert_same_text(result["tokens"], greedy(model, prompt, 64), {tokenizer.eos_token_id}, name)
            continue
        # llama.cpp tells the likeliest thousand tokens, so perplexities are over those among these.
        told = [at for at, value in enumerate(result["logprobs"]) if value is not None]
        found = torch.tensor([result["logprobs"][at] for at in told]).mean().neg().exp()
        original = losses(model, ids)[told].mean().exp()
        same = model if mix == "f16" else with_weights(model, files[name, mix])
        expected = losses(same, ids)[told].mean().exp()
        difference = float(found / expected) - 1
        print(
            f"{name} {mix}: perplexity {found:.3f} over {len(told)} tokens, {difference:+.3%} beside transformers "
            f"with the same weights, {float(found / original) - 1:+.3%} beside it with the original ones"
        )
        assert len(told) > 0.6 * len(ids)
        assert abs(difference) < bounds[mix], (name, mix)
