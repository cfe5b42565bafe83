"""GGUF exports run in a stock llama.cpp, in a process of its own, with the greedy text of the live model."""

import json
import resource
from collections.abc import Callable
from pathlib import Path

import gguf
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import PreTrainedModel

from tests.llama_cpp import assert_same_text, exported, fields, greedy, run, source_architecture
from tools.architecture import Architecture, LayerShape
from tools.embedded import EMBEDDED_NAME, embedded_model_file
from tools.errors import InputError
from tools.export.gguf import export_gguf
from tools.export.gguf_tensors import interleaved
from tools.sources import load_model, load_tokenizer, resolve_source

Cut = Callable[[PreTrainedModel, Architecture, Architecture], None]

TEXTS = [
    "The lazy dog jumps over 12 brown foxes.",
    "  Two  spaces,\n\nlines\tand tabs 1234567 ",
    "Don't; I'LL: naïve 🙂 日本",
    "A cut<|end|> model  5\n\n5",
]

LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 5000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}


def shape(groups: int, per_group: int, ffn: int) -> LayerShape:
    return LayerShape(num_attention_heads=groups * per_group, num_key_value_heads=groups, intermediate_size=ffn)


def designs(source: Architecture) -> dict[str, Architecture]:
    """Uncut, equal layers, unequal ones, a stem that the heads do not divide, and all of it at once."""
    layer = source.layers[0]
    groups, per_group = layer.num_key_value_heads, layer.num_attention_heads // layer.num_key_value_heads
    fewer = max(1, groups // 2)
    mixed = (shape(groups, 1, 40), shape(fewer, per_group, 96), shape(1, per_group, 8))
    odd = shape(min(groups, 3), per_group, 64)
    return {
        "uncut": source,
        "homogeneous": source.with_layers([shape(fewer, per_group, 48)] * 3),
        "mixed": source.with_layers(mixed),
        "stem": source.model_copy(update={"hidden_size": 52, "layers": (odd,) * 3}),
        "all": source.model_copy(update={"hidden_size": 44, "layers": mixed}),
    }


def test_every_family_writes_the_same_text(sources: dict[str, Path], cut_by_hand: Cut, tmp_path: Path) -> None:
    prompt = load_tokenizer(sources["qwen2"])("The quick brown fox")["input_ids"]
    jobs, expected, reports = [], {}, {}
    for family, path in sources.items():
        if family == "qwen3-biases":
            continue
        source = source_architecture(path)
        for name, design in designs(source).items():
            model = load_model(path)
            model.config.sliding_window = None
            cut_by_hand(model, source, design)
            label = f"{family}-{name}"
            reports[label] = export_gguf(model, design, path, tmp_path / label, dtype="f32")
            expected[label] = greedy(model, prompt, 64)
            jobs.append({"file": str(reports[label].path), "prompt": prompt, "predict": 64, "texts": TEXTS})
    ids = [load_tokenizer(sources["qwen2"])(text)["input_ids"] for text in TEXTS]
    compared = 0
    for (label, report), result in zip(reports.items(), run(jobs, tmp_path), strict=True):
        assert_same_text(result["tokens"], expected[label], {0}, label)
        assert result["ids"] == ids
        assert report.bytes == report.path.stat().st_size > 4 * report.file_parameters
        assert (report.file_parameters > report.parameters) == report.padded
        compared += len(result["tokens"])
    assert compared > 40 * len(reports)
    classes = {label: (report.class_name, report.padded) for label, report in reports.items()}
    assert classes["llama-tied-stem"] == classes["llama-biases-stem"] == ("llama", False)
    assert classes["mistral-mixed"] == classes["llama-mqa-all"] == ("deci", False)
    assert (classes["qwen2-homogeneous"], classes["qwen2-stem"]) == (("qwen2", False), ("llama", False))
    assert classes["qwen2-mixed"] == ("deci", False)
    assert classes["qwen3-all"] == ("qwen3", True)


def test_rotary_scaling_and_precisions(sources: dict[str, Path], cut_by_hand: Cut, tmp_path: Path) -> None:
    prompt = load_tokenizer(sources["qwen2"])("The quick brown fox jumps over the lazy dog.")["input_ids"]
    linear = {"rope_type": "linear", "rope_theta": 5000.0, "factor": 4.0}
    cases = {
        "llama": ("llama-untied", "homogeneous", LLAMA3, "f32"),
        "deci": ("llama-untied", "mixed", LLAMA3, "f32"),
        "qwen2": ("qwen2", "all", LLAMA3, "f32"),
        "linear": ("qwen3", "uncut", linear, "f32"),
        "f16": ("llama-tied", "uncut", None, "f16"),
        "bf16": ("mistral", "mixed", None, "bf16"),
    }
    jobs, expected = [], {}
    for label, (family, design_name, rope, precision) in cases.items():
        folder = tmp_path / f"source-{label}"
        folder.mkdir()
        for file in sources[family].iterdir():
            (folder / file.name).write_bytes(file.read_bytes())
        config = json.loads((folder / "config.json").read_text())
        config |= {"rope_parameters": rope} if rope else {}
        (folder / "config.json").write_text(json.dumps(config | {"sliding_window": None}))
        source = source_architecture(folder)
        design = designs(source)[design_name]
        model = load_model(folder)
        cut_by_hand(model, source, design)
        with torch.no_grad():
            for parameter in model.parameters():
                # What float32 adds to the precision of the file is taken away, so that texts can be equal.
                if parameter.ndim > 1 and precision != "f32":
                    kept = torch.float16 if precision == "f16" else torch.bfloat16
                    parameter.copy_(parameter.to(kept).float())
        report = export_gguf(model, design, folder, tmp_path / f"{label}.gguf", dtype=precision)
        assert report.path == tmp_path / f"{label}.gguf"
        types = {tensor.tensor_type.name for tensor in gguf.GGUFReader(report.path).tensors}
        assert types == {"F32", precision.upper()}
        expected[label] = greedy(model, prompt, 64)
        jobs.append({"file": str(report.path), "prompt": prompt, "predict": 64})
    for label, result in zip(expected, run(jobs, tmp_path), strict=True):
        count = 64 if cases[label][3] == "f32" else 8  # llama.cpp rounds activations to the precision of weights
        assert_same_text(result["tokens"][:count], expected[label][:count], {0}, label)


def test_a_sliding_window_ends_the_context(sources: dict[str, Path], tmp_path: Path) -> None:
    _, report = exported(sources["mistral"], tmp_path / "windowed")
    assert fields(report.path)["llama.context_length"] == 4
    _, report = exported(sources["mistral"], tmp_path / "whole", sliding_window=None)
    found = fields(report.path)
    assert found["llama.context_length"] == 256
    assert found["general.name"] == "whole"
    assert found["llama.rope.freq_base"] == 5000.0


def test_what_llama_cpp_cannot_run_is_refused(sources: dict[str, Path], tmp_path: Path) -> None:
    for family, changes, words in (
        ("qwen3-biases", {}, "no bias in its output"),
        ("llama-tied", {"hidden_act": "gelu"}, "runs no gelu"),
        ("llama-tied", {"rope_parameters": {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0}}, "'dynamic'"),
        ("qwen3", {"rope_parameters": LLAMA3}, "qwen3 has no llama3"),
    ):
        with pytest.raises(InputError, match=words):
            exported(sources[family], tmp_path / "out", **changes)
    path, source = sources["llama-tied"], source_architecture(sources["llama-tied"])
    with pytest.raises(InputError, match="no quantisation 'q4'"):
        export_gguf(load_model(path), source, path, tmp_path / "out", dtype="q4")
    with pytest.raises(ValueError, match="but the architecture says"):
        export_gguf(load_model(path), source.with_layers([shape(2, 2, 96)] * 3), path, tmp_path / "out")
    model = load_model(path)
    with torch.no_grad():
        model.get_submodule("model.layers.1.mlp.down_proj").weight[0, 0] = 1e6
    with pytest.raises(InputError, match=r"model\.layers\.1\.mlp\.down_proj|blk\.1\.ffn_down.*f16 cannot hold"):
        export_gguf(model, source, path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_places_that_are_taken(sources: dict[str, Path], tmp_path: Path) -> None:
    path, source = sources["qwen3"], source_architecture(sources["qwen3"])
    model = load_model(path)
    export_gguf(model, source, path, tmp_path / "a" / "b")
    written = tmp_path / "a" / "b" / "model.gguf"
    first = written.stat().st_ino
    with pytest.raises(InputError, match="exists already"):
        export_gguf(model, source, path, tmp_path / "a" / "b")
    with pytest.raises(InputError, match="exists already"):
        export_gguf(model, source, path, written)
    assert written.stat().st_ino == first
    export_gguf(model, source, path, written, overwrite=True)
    assert written.stat().st_ino != first
    (tmp_path / "folder.gguf").mkdir()
    with pytest.raises(InputError, match="is a directory"):
        export_gguf(model, source, path, tmp_path / "folder.gguf", overwrite=True)
    with pytest.raises(InputError, match="Cannot write"):
        export_gguf(model, source, path, written / "out")
    # A limit on the size of files stands for the full disk: the system refuses in the middle of the weights.
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        with pytest.raises(InputError, match=r"Cannot write .*enough space"):
            export_gguf(model, source, path, tmp_path / "new" / "deep")
        with pytest.raises(InputError, match=r"Cannot write .*enough space"):
            export_gguf(model, source, path, written, overwrite=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a", "folder.gguf"]
    assert [file.name for file in written.parent.iterdir()] == ["model.gguf"]


@given(heads=st.integers(1, 4), half=st.integers(1, 5), seed=st.integers(0, 99))
@settings(max_examples=30, deadline=None)
def test_interleaving_moves_pairs_side_by_side(heads: int, half: int, seed: int) -> None:
    torch.manual_seed(seed)
    weight = torch.randn(heads * 2 * half, 3)
    moved = interleaved(weight, 2 * half)
    for head in range(heads):
        for pair in range(half):
            start = head * 2 * half
            assert torch.equal(moved[start + 2 * pair], weight[start + pair])
            assert torch.equal(moved[start + 2 * pair + 1], weight[start + pair + half])
    assert torch.equal(interleaved(weight[:, 0], 2 * half), moved[:, 0])


@pytest.mark.slow
def test_the_embedded_model_cut_four_ways(cut_by_hand: Cut, tmp_path: Path) -> None:
    path = resolve_source(EMBEDDED_NAME).path
    source, tokenizer = source_architecture(path), load_tokenizer(path)
    mixed = tuple(shape(3 - at % 3, 3 if at % 2 else 2, 1536 - 32 * (at % 5)) for at in range(30))
    ways = {
        "uncut": source,
        "homogeneous": source.with_layers([shape(2, 3, 1280)] * 30),
        "mixed": source.with_layers(mixed),
        "stem": source.model_copy(update={"hidden_size": 544}),
    }
    prompt = tokenizer("Gravity is a force by which")["input_ids"]
    messages = [{"role": "user", "content": "Say hello."}]
    jobs, expected = [], {}
    for name, design in ways.items():
        model = load_model(path)
        cut_by_hand(model, source, design)
        report = export_gguf(model, design, path, tmp_path / name, dtype="f32")
        assert report.class_name == ("deci" if name == "mixed" else "llama")
        expected[name] = greedy(model, prompt, 64)
        jobs.append({"file": str(report.path), "prompt": prompt, "predict": 64, "texts": TEXTS, "messages": messages})
    for name, result in zip(ways, run(jobs, tmp_path), strict=True):
        assert result["tokens"] == expected[name], name
        assert result["ids"] == [tokenizer(text)["input_ids"] for text in TEXTS]
        chat = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        assert result["chat"] == chat
    original, ours = fields(embedded_model_file()), fields(tmp_path / "uncut" / "model.gguf")
    for key in ("tokens", "token_type", "merges", "bos_token_id", "eos_token_id", "unknown_token_id", "add_bos_token"):
        assert ours[f"tokenizer.ggml.{key}"] == original[f"tokenizer.ggml.{key}"], key
    assert ours["tokenizer.ggml.padding_token_id"] == original["tokenizer.ggml.padding_token_id"]
    assert ours["tokenizer.chat_template"].strip() == original["tokenizer.chat_template"].strip()
    for key, value in original.items():
        if key.startswith("llama."):
            assert ours[key] == value, key


@pytest.mark.slow
def test_half_precision_keeps_the_perplexity(tmp_path: Path) -> None:
    path = resolve_source(EMBEDDED_NAME).path
    model = load_model(path)
    report = export_gguf(model, source_architecture(path), path, tmp_path, dtype="f16")
    assert report.bytes < 2.05 * report.parameters + 5e6
    ids = load_tokenizer(path)((Path(__file__).parents[2] / "LICENSE").read_text())["input_ids"][100:228]
    (result,) = run([{"file": str(report.path), "prompt": ids, "scored": len(ids)}], tmp_path)
    with torch.no_grad():
        logprobs = model(torch.tensor([ids])).logits[0].log_softmax(-1)
    # llama.cpp tells the likeliest thousand, so both perplexities are over the tokens among these.
    pairs = [
        (found, float(logprobs[at, ids[at + 1]])) for at, found in enumerate(result["logprobs"]) if found is not None
    ]
    assert len(pairs) > 0.9 * len(ids)
    found, expected = (torch.tensor(column).mean().neg().exp() for column in zip(*pairs, strict=True))
    assert abs(found / expected - 1) < 0.005
