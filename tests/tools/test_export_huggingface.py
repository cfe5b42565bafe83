"""Exports open in stock classes, in a new process, with the logits of the live model."""

import json
import os
import resource
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from transformers import PreTrainedModel

from tools.architecture import Architecture, FixedShape, LayerShape
from tools.errors import InputError
from tools.export.compact import load_compact, save_compact
from tools.export.huggingface import ExportReport, export_huggingface
from tools.export.padded_shapes import padded_architecture
from tools.families import tensor_shapes
from tools.rounding import in_dtype
from tools.sources import architecture_from_config, load_model, load_tokenizer

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
    model = AutoModelForCausalLM.from_pretrained(directory)
    assert not any(name.startswith(("tools", "penjing")) for name in sys.modules)
    with torch.no_grad():
        logits[directory] = model(prompt).logits
    found[directory] = {
        "class": type(model).__name__,
        "parameters": sum(p.numel() for p in model.parameters()),
        "tied": model.lm_head.weight is model.model.embed_tokens.weight,
        "dtype": str(model.dtype),
        "sliding_window": getattr(model.config, "sliding_window", None),
        "ids": AutoTokenizer.from_pretrained(directory)("The lazy dog")["input_ids"],
    }
save_file(logits, sys.argv[2])
print(json.dumps(found))
"""


def shape(groups: int, per_group: int, ffn: int) -> LayerShape:
    return LayerShape(num_attention_heads=groups * per_group, num_key_value_heads=groups, intermediate_size=ffn)


def designs(source: Architecture) -> dict[str, Architecture]:
    """Four ways to cut: equal layers, unequal ones, a stem that the heads do not divide, and all of it at once."""
    layer = source.layers[0]
    groups, per_group = layer.num_key_value_heads, layer.num_attention_heads // layer.num_key_value_heads
    fewer = max(1, groups // 2)
    mixed = [shape(groups, 1, 40), shape(fewer, per_group, 96), shape(1, per_group, 8)]
    odd = shape(min(groups, 3), per_group, 64)
    return {
        "homogeneous": source.with_layers([shape(fewer, per_group, 48)] * 3),
        "mixed": source.with_layers(mixed),
        "stem": source.model_copy(update={"hidden_size": 52, "layers": (odd,) * 3}),
        "all": source.model_copy(update={"hidden_size": 44, "layers": tuple(mixed)}),
    }


def test_every_family_opens_in_a_new_process(sources: dict[str, Path], cut_by_hand: Cut, tmp_path: Path) -> None:
    reports: dict[str, ExportReport] = {}
    expected: dict[str, torch.Tensor] = {}
    for family, path in sources.items():
        source = architecture_from_config(json.loads((path / "config.json").read_text()))
        for name, design in designs(source).items():
            model = load_model(path)
            cut_by_hand(model, source, design)
            with torch.no_grad():
                logits = model(PROMPT).logits
            destination = tmp_path / f"{family}-{name}"
            reports[str(destination)] = export_huggingface(model, design, path, destination)
            expected[str(destination)] = logits
            # The compact form gives the same model without any padding.
            save_compact(model, design, tmp_path / "compact" / destination.name)
            with torch.no_grad():
                again = load_compact(path, tmp_path / "compact" / destination.name)(PROMPT).logits
            assert torch.equal(again, logits), destination.name
    found, logits_found = read_in_new_process(tmp_path, list(reports))
    for directory, report in reports.items():
        assert (logits_found[directory] - expected[directory]).abs().max() <= 1e-5, directory
        assert found[directory]["class"] == report.class_name
        assert found[directory]["parameters"] == report.file_parameters >= report.parameters
        assert (report.file_parameters > report.parameters) == report.padded
        assert found[directory]["dtype"] == "torch.float32"
        family = Path(directory).name.rpartition("-")[0]
        assert found[directory]["tied"] == ("lm_head.weight" not in load_file(Path(directory) / "model.safetensors"))
        assert found[directory]["ids"] == load_tokenizer(sources[family])("The lazy dog")["input_ids"]
        assert found[directory]["sliding_window"] == (4 if family == "mistral" else None)
    classes = {Path(directory).name: facts["class"] for directory, facts in found.items()}
    assert classes["llama-tied-homogeneous"] == "LlamaForCausalLM"
    assert classes["llama-tied-stem"] == "MistralForCausalLM"
    assert classes["llama-biases-stem"] == "LlamaForCausalLM"
    assert classes["qwen3-all"] == "Qwen3ForCausalLM"
    assert not reports[str(tmp_path / "llama-tied-stem")].padded


def read_in_new_process(
    tmp_path: Path, directories: list[str]
) -> tuple[dict[str, dict[str, object]], dict[str, torch.Tensor]]:
    save_file({"prompt": PROMPT}, tmp_path / "prompt.safetensors")
    arguments = [str(tmp_path / "prompt.safetensors"), str(tmp_path / "logits.safetensors"), *directories]
    done = subprocess.run(
        [sys.executable, "-c", READER, *arguments], capture_output=True, text=True, cwd=tmp_path, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1]), load_file(tmp_path / "logits.safetensors")


@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_padding_never_shrinks_and_counts_stay_exact(data: st.DataObject) -> None:
    layer = st.builds(shape, st.integers(1, 5), st.integers(1, 4), st.integers(1, 50))
    biased = data.draw(st.booleans())
    fixed = FixedShape(
        model_type=data.draw(st.sampled_from(["llama", "mistral", "qwen2", "qwen3"])),
        vocab_size=11,
        head_dim=2 * data.draw(st.integers(1, 4)),
        tie_word_embeddings=data.draw(st.booleans()),
        qkv_bias=biased,
        attention_output_bias=biased,
        mlp_bias=data.draw(st.booleans()),
        qk_norm=data.draw(st.booleans()),
    )
    layers = tuple(data.draw(st.lists(layer, min_size=1, max_size=4)))
    design = Architecture(fixed=fixed, hidden_size=8 * data.draw(st.integers(3, 20)), layers=layers)
    assert sum(torch.Size(s).numel() for s in tensor_shapes(design).values()) == design.parameters
    padded = padded_architecture(design)
    assert padded.is_homogeneous
    for before, after in zip(design.layers, padded.layers, strict=True):
        assert after.num_key_value_heads >= before.num_key_value_heads
        assert after.intermediate_size >= before.intermediate_size
        ratio = after.num_attention_heads // after.num_key_value_heads
        assert ratio >= before.num_attention_heads // before.num_key_value_heads
    if fixed.model_type == "llama" and (biased or fixed.mlp_bias):
        assert design.hidden_size % padded.layers[0].num_attention_heads == 0
    elif design.is_homogeneous:
        assert padded == design


def test_a_hidden_size_that_no_stock_class_takes_with_biases() -> None:
    fixed = FixedShape(model_type="llama", vocab_size=11, head_dim=4, tie_word_embeddings=True, mlp_bias=True)
    with pytest.raises(InputError, match="hidden size 113 and 4 query heads"):
        padded_architecture(Architecture(fixed=fixed, hidden_size=113, layers=(shape(2, 2, 8),)))


def test_text_files_come_along_and_bfloat16_is_written(sources: dict[str, Path], tmp_path: Path) -> None:
    path = sources["llama-tied"]
    source = architecture_from_config(json.loads((path / "config.json").read_text()))
    model = load_model(path)
    report = export_huggingface(model, source, path, tmp_path / "out", dtype=torch.bfloat16)
    for name, tensor in load_file(tmp_path / "out" / "model.safetensors").items():
        assert torch.equal(tensor, in_dtype(name, model.get_parameter(name).detach(), torch.bfloat16)), name
    assert report.bytes == (tmp_path / "out" / "model.safetensors").stat().st_size < 2.2 * source.parameters
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert (config["head_dim"], config["dtype"], config["tie_word_embeddings"]) == (16, "bfloat16", True)
    for name in ("tokenizer.json", "chat_template.jinja", "generation_config.json"):
        assert (tmp_path / "out" / name).read_bytes() == (path / name).read_bytes()
    before, after = (json.loads((folder / "tokenizer_config.json").read_text()) for folder in (path, tmp_path / "out"))
    # Versions of transformers before 5 know the class by its older name only, and nothing of rope_parameters.
    assert before["tokenizer_class"] == "TokenizersBackend"
    assert after == before | {"tokenizer_class": "PreTrainedTokenizerFast"}
    assert (config["rope_theta"], config["torch_dtype"]) == (5000.0, "bfloat16")
    umask = os.umask(0)
    os.umask(umask)
    modes = {stat.S_IMODE(file.stat().st_mode) for file in (tmp_path / "out").iterdir()}
    assert modes == {0o666 & ~umask}


def test_places_that_are_taken(sources: dict[str, Path], tmp_path: Path) -> None:
    path = sources["qwen2"]
    source = architecture_from_config(json.loads((path / "config.json").read_text()))
    model = load_model(path)
    destination = tmp_path / "out"
    export_huggingface(model, source, path, destination)
    first = (destination / "model.safetensors").stat().st_ino
    with pytest.raises(InputError, match="exists already"):
        export_huggingface(model, source, path, destination)
    assert (destination / "model.safetensors").stat().st_ino == first
    export_huggingface(model, source, path, destination, overwrite=True)
    assert (destination / "model.safetensors").stat().st_ino != first
    with pytest.raises(InputError, match="source model itself"):
        export_huggingface(model, source, path, path, overwrite=True)
    (tmp_path / "diary").mkdir()
    (tmp_path / "diary" / "monday.txt").write_text("dear diary")
    with pytest.raises(InputError, match="other files"):
        export_huggingface(model, source, path, tmp_path / "diary", overwrite=True)
    with pytest.raises(InputError, match="is a file"):
        export_huggingface(model, source, path, tmp_path / "diary" / "monday.txt", overwrite=True)
    with pytest.raises(InputError, match="Cannot write"):
        export_huggingface(model, source, path, tmp_path / "diary" / "monday.txt" / "out")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["diary", "out"]
    assert [file.name for file in (tmp_path / "diary").iterdir()] == ["monday.txt"]


def test_a_model_of_another_shape_is_refused(sources: dict[str, Path], tmp_path: Path) -> None:
    path = sources["llama-tied"]
    source = architecture_from_config(json.loads((path / "config.json").read_text()))
    wrong = source.with_layers([shape(2, 2, 96)] * 3)
    with pytest.raises(ValueError, match="but the architecture says"):
        export_huggingface(load_model(path), wrong, path, tmp_path / "out")
    with pytest.raises(ValueError, match="but the architecture says"):
        save_compact(load_model(path), wrong, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_disk_that_takes_no_more_leaves_nothing_behind(sources: dict[str, Path], tmp_path: Path) -> None:
    path = sources["llama-untied"]
    source = architecture_from_config(json.loads((path / "config.json").read_text()))
    model = load_model(path)
    # A limit on the size of files stands for the full disk: the system refuses in the middle of the weights.
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        for write in (
            lambda: export_huggingface(model, source, path, tmp_path / "out"),
            lambda: save_compact(model, source, tmp_path / "compact"),
        ):
            with pytest.raises(InputError, match=r"Cannot write .*enough space"):
                write()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list(tmp_path.iterdir()) == []


def test_damaged_compact_models(sources: dict[str, Path], tmp_path: Path) -> None:
    path = sources["mistral"]
    source = architecture_from_config(json.loads((path / "config.json").read_text()))
    with pytest.raises(InputError, match="no whole compact model"):
        load_compact(path, tmp_path / "none")
    save_compact(load_model(path), source, tmp_path / "c")
    weights = tmp_path / "c" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(InputError, match="no whole compact model"):
        load_compact(path, tmp_path / "c")
