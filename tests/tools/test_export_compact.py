"""Compact exports open in a new process, without Penjing, with the code that lies beside the weights."""

import ast
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import PreTrainedModel

from tests.llama_cpp import source_architecture
from tools.architecture import Architecture, LayerShape
from tools.errors import InputError
from tools.export.compact import load_compact
from tools.export.compact_config import plain_config
from tools.export.compact_huggingface import export_compact
from tools.export.huggingface import export_huggingface
from tools.sources import load_model, load_tokenizer

Cut = Callable[[PreTrainedModel, Architecture, Architecture], None]

PROMPT = torch.arange(24).reshape(2, 12) * 7 % 320

READER = """
import json, sys
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer
torch.set_num_threads(1)
prompt = load_file(sys.argv[1])["prompt"]
found, logits = {}, {}
for directory in sys.argv[3:]:
    model = AutoModelForCausalLM.from_pretrained(directory, trust_remote_code=True)
    tokenizer = AutoTokenizer.from_pretrained(directory, trust_remote_code=True)
    with torch.no_grad():
        logits[directory] = model(prompt).logits
        half = model(prompt[:, :6], use_cache=True)
        cached = model(prompt[:, 6:], past_key_values=half.past_key_values).logits
        assert (cached - logits[directory][:, 6:]).abs().max() < 1e-4, directory
        generated = model.generate(prompt[:1], max_new_tokens=8, min_new_tokens=8, do_sample=False)
        sdpa = model(prompt).logits
        model.set_attn_implementation("eager")
        attention = model(prompt, output_attentions=True).attentions
        assert len(attention) == 3 and all(weights is not None for weights in attention)
    model.save_pretrained(directory + "-again")
    again = AutoModelForCausalLM.from_pretrained(directory + "-again", trust_remote_code=True)
    with torch.no_grad():
        assert torch.equal(again(prompt).logits, sdpa), directory
    # A fresh one, as for training from scratch, has the same shapes.
    fresh = AutoModelForCausalLM.from_config(model.config, trust_remote_code=True)
    assert [p.shape for p in fresh.parameters()] == [p.shape for p in model.parameters()]
    assert all(bool(p.isfinite().all()) for p in fresh.parameters())
    found[directory] = {
        "class": type(model).__name__,
        "parameters": sum(p.numel() for p in model.parameters()),
        "tied": model.lm_head.weight is model.model.embed_tokens.weight,
        "generated": generated[0, 12:].tolist(),
        "heads": [weights.shape[1] for weights in attention],
        "ids": tokenizer("The lazy dog")["input_ids"],
    }
assert not any(name.partition(".")[0] in ("tools", "penjing", "graph") for name in sys.modules)
save_file(logits, sys.argv[2])
print(json.dumps(found))
"""


def mixed(source: Architecture, hidden_size: int) -> Architecture:
    layer = source.layers[0]
    groups, per_group = layer.num_key_value_heads, layer.num_attention_heads // layer.num_key_value_heads
    widths = [(groups, 1, 40), (max(1, groups // 2), per_group, 96), (1, per_group, 8)]
    layers = [LayerShape(num_attention_heads=g * p, num_key_value_heads=g, intermediate_size=w) for g, p, w in widths]
    return source.model_copy(update={"hidden_size": hidden_size, "layers": tuple(layers)})


def opened_in_new_process(
    folder: Path, directories: list[str]
) -> tuple[dict[str, dict[str, object]], dict[str, torch.Tensor]]:
    save_file({"prompt": PROMPT}, folder / "prompt.safetensors")
    arguments = [str(folder / "prompt.safetensors"), str(folder / "logits.safetensors"), *directories]
    # Isolated: neither the folder of the repository nor this test's is on the path.
    done = subprocess.run(
        [sys.executable, "-I", "-c", READER, *arguments],
        capture_output=True,
        text=True,
        cwd=folder,
        check=False,
        env={"HF_HOME": str(folder / "hub"), "HF_HUB_OFFLINE": "1"},
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads(done.stdout.splitlines()[-1]), load_file(folder / "logits.safetensors")


def test_every_family_at_its_own_size(sources: dict[str, Path], cut_by_hand: Cut, tmp_path: Path) -> None:
    expected, padded, designs, families = {}, {}, {}, {}
    for family, path in sources.items():
        source = source_architecture(path)
        for hidden in (64, 44) if family == "llama-tied" else (44,):
            design, model = mixed(source, hidden), load_model(path)
            cut_by_hand(model, source, design)
            label = str(tmp_path / f"{family}-{hidden}")
            report = export_compact(model, design, path, Path(label))
            assert report.remote_code and not report.padded and "trust_remote_code" in report.notes()[0]
            assert report.file_parameters == report.parameters == design.parameters
            with torch.no_grad():
                expected[label] = model(PROMPT).logits
                # Penjing itself reads the directory too, without running the code in it.
                assert torch.equal(load_compact(Path(label), Path(label))(PROMPT).logits, expected[label])
                padded_report = export_huggingface(model, design, path, tmp_path / "padded" / Path(label).name)
                padded[label] = load_model(padded_report.path)(PROMPT).logits
            assert padded_report.bytes > report.bytes
            designs[label], families[label] = design, family
    found, logits = opened_in_new_process(tmp_path, list(expected))
    for label, facts in found.items():
        design = designs[label]
        assert (logits[label] - expected[label]).abs().max() <= 1e-4, label
        assert (padded[label] - logits[label]).abs().max() <= 1e-4, label
        assert facts["parameters"] == design.parameters
        assert facts["heads"] == [layer.num_attention_heads for layer in design.layers]
        assert facts["tied"] == design.fixed.tie_word_embeddings
        assert str(facts["class"]).lower() == f"penjing{design.fixed.model_type}forcausallm"
        assert facts["ids"] == load_tokenizer(sources[families[label]])("The lazy dog")["input_ids"]
        with torch.no_grad():
            own = load_compact(Path(label), Path(label)).generate(
                PROMPT[:1], max_new_tokens=8, min_new_tokens=8, do_sample=False
            )
        assert facts["generated"] == own[0, 12:].tolist()


def test_what_the_directory_holds(sources: dict[str, Path], cut_by_hand: Cut, tmp_path: Path) -> None:
    path = sources["mistral"]
    source = source_architecture(path)
    design, model = mixed(source, 64), load_model(path)
    cut_by_hand(model, source, design)
    export_compact(model, design, path, tmp_path / "out", dtype=torch.bfloat16)
    assert {file.name for file in (tmp_path / "out").iterdir()} == {
        *("architecture.json", "config.json", "model.safetensors", "modeling_penjing.py", "generation_config.json"),
        *("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"),
    }
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["per_layer_config"]["1"] == design.layers[1].model_dump()
    assert config["intermediate_size"] == 96 and config["dtype"] == config["torch_dtype"] == "bfloat16"
    assert config["rope_theta"] == config["rope_parameters"]["rope_theta"] == 5000.0
    assert config["sliding_window"] == 4
    assert {tensor.dtype for tensor in load_file(tmp_path / "out" / "model.safetensors").values()} == {torch.bfloat16}
    # The code needs nothing but transformers, and does nothing but define classes and functions.
    tree = ast.parse((tmp_path / "out" / "modeling_penjing.py").read_text())
    imported = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert imported == {"typing", "transformers"}
    allowed = (ast.Expr, ast.Import, ast.ImportFrom, ast.FunctionDef, ast.ClassDef)
    assert all(isinstance(node, allowed) for node in tree.body)
    with pytest.raises(InputError, match="no compact exports"):
        plain_config({"model_type": "llama"})
    with pytest.raises(InputError, match="source model itself"):
        export_compact(model, design, tmp_path / "out", tmp_path / "out", overwrite=True)
    shutil.rmtree(tmp_path / "out")
