"""Quantised GGUF files: llama.cpp's own kernels, sizes as predicted, and what a stock llama.cpp makes of them."""

from collections.abc import Callable
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, PreTrainedModel
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from tests.conftest import SIZES
from tests.llama_cpp import losses, run, source_architecture, with_weights
from tools.architecture import Architecture, LayerShape
from tools.errors import InputError
from tools.export.gguf import export_gguf
from tools.export.gguf_kernels import quantised
from tools.export.gguf_layout import FLOAT_MIXES, target_file
from tools.export.quantisation import MIXES, predicted_file, predicted_tensors
from tools.sources import load_model, load_tokenizer

Cut = Callable[[PreTrainedModel, Architecture, Architecture], None]

# Root mean square error over that of the weights, which are normally distributed here.
ERRORS = {
    "Q8_0": 0.01,
    "Q6_K": 0.03,
    "Q5_K": 0.05,
    "Q5_1": 0.06,
    "Q5_0": 0.06,
    "Q4_K": 0.09,
    "IQ4_NL": 0.1,
    "Q4_1": 0.11,
    "Q4_0": 0.12,
    "Q3_K": 0.2,
}


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory, tokenizer_directory: Path) -> Path:
    """A tiny Llama whose rows are multiples of 256, so that every type of the mixes is used."""
    sizes = {"hidden_size": 256, "intermediate_size": 256, "num_attention_heads": 16, "num_hidden_layers": 9}
    config = CONFIG_MAPPING["llama"].from_dict(SIZES | sizes | {"model_type": "llama", "tie_word_embeddings": False})
    torch.manual_seed(3)
    model = AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.06 + (parameter.ndim == 1) * 0.8)
    folder = tmp_path_factory.mktemp("wide")
    model.save_pretrained(folder)
    for file in tokenizer_directory.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    return folder


def test_kernels_keep_the_weights() -> None:
    values = np.random.default_rng(0).standard_normal((7, 512), dtype=np.float32)
    for name, bound in ERRORS.items():
        kind = gguf.GGMLQuantizationType[name]
        found = quantised(values, name)
        assert np.array_equal(found, quantised(values, name, threads=3)), name
        error = np.sqrt(((gguf.quants.dequantize(found, kind) - values) ** 2).mean())
        assert bound / 3 < error < bound, (name, error)
    # The package gguf has the plainest of them too, written in numpy.
    assert np.array_equal(quantised(values, "Q8_0"), gguf.quants.quantize(values, gguf.GGMLQuantizationType.Q8_0))
    with pytest.raises(ValueError, match="no whole number of blocks"):
        quantised(values[:, :511], "Q8_0")
    with pytest.raises(ValueError, match="cannot hold"):
        quantised(values * 1e9, "Q4_0")


def test_files_have_the_predicted_size(sources: dict[str, Path], cut_by_hand: Cut, tmp_path: Path) -> None:
    for family in ("llama-tied", "llama-biases", "mistral", "qwen2", "qwen3"):
        path = sources[family]
        source = source_architecture(path)
        mixed = [LayerShape(num_attention_heads=2, num_key_value_heads=1, intermediate_size=w) for w in (40, 96, 64)]
        design = source.model_copy(update={"hidden_size": 52 if family == "llama-tied" else 64, "layers": tuple(mixed)})
        model = load_model(path)
        cut_by_hand(model, source, design)
        for mix in MIXES:
            if mix == "iq4_nl":  # slow to write, and its sizes are those of q4_0
                continue
            report = export_gguf(model, design, path, tmp_path / f"{family}-{mix}.gguf", dtype=mix)
            reader = gguf.GGUFReader(report.path)
            assert report.prediction == predicted_file(design, mix)
            assert report.bytes - reader.data_offset == report.prediction.bytes, (family, mix)
            predicted = {tensor.name: tensor.written for tensor in predicted_tensors(design, mix)}
            assert {tensor.name: tensor.tensor_type.name for tensor in reader.tensors} == predicted
            assert reader.fields["general.file_type"].contents() == MIXES[mix].file_type
            fell = mix not in FLOAT_MIXES and report.prediction.fallback_tensors > 0
            assert fell == any("fell back to other types" in note for note in report.notes())


def test_llama_cpp_reads_every_mix(wide: Path, tmp_path: Path) -> None:
    model, source = load_model(wide), source_architecture(wide)
    ids = load_tokenizer(wide)("The quick brown fox jumps over the lazy dog.")["input_ids"]
    jobs, expected, plain = [], {}, losses(model, ids)
    for mix in MIXES:
        report = export_gguf(model, source, wide, tmp_path / f"{mix}.gguf", dtype=mix)
        assert report.prediction is not None and report.prediction.fallbacks == () and report.notes() == []
        jobs.append({"file": str(report.path), "prompt": ids, "scored": len(ids)})
        # What transformers makes of the weights as they are in the file.
        expected[mix] = losses(with_weights(model, report.path), ids)
    for mix, result in zip(MIXES, run(jobs, tmp_path), strict=True):
        found = -torch.tensor(result["logprobs"])
        # llama.cpp rounds activations to 8 bits where weights are quantised.
        assert (found - expected[mix]).abs().max() < (0.001 if mix == "f32" else 0.2), mix
        bound = 0.005 if mix in FLOAT_MIXES else 0.02 if mix == "q8_0" else 0.2
        assert abs(float(found.mean() - plain.mean())) < bound, mix


def test_numbers_that_a_type_cannot_hold(wide: Path, tmp_path: Path) -> None:
    model = load_model(wide)
    with torch.no_grad():
        model.get_submodule("model.layers.1.mlp.down_proj").weight[0, 0] = 1e9
    with pytest.raises(InputError, match=r"blk\.1\.ffn_down\.weight holds numbers that q4_0 cannot hold"):
        export_gguf(model, source_architecture(wide), wide, tmp_path / "out", dtype="q4_0")
    assert not (tmp_path / "out").exists()


def test_names_say_the_mix(wide: Path, tmp_path: Path) -> None:
    report = export_gguf(load_model(wide), source_architecture(wide), wide, tmp_path / "out", dtype="Q4_K_M")
    assert report.path == tmp_path / "out" / "model-Q4_K_M.gguf"
    assert (report.weights_file, report.dtype) == ("model-Q4_K_M.gguf", "q4_k_m")
    assert target_file(tmp_path, "bf16") == tmp_path / "model.gguf"
    assert target_file(tmp_path / "x.gguf", "q8_0") == tmp_path / "x.gguf"


def test_perplexity_of_every_family(sources: dict[str, Path], cut_by_hand: Cut, tmp_path: Path) -> None:
    """Half precision costs nothing and eight bits next to nothing, whatever the family and its widths."""
    jobs, expected, bounds = [], [], []
    for family in ("llama-tied", "llama-biases", "mistral", "qwen2", "qwen3"):
        path = sources[family]
        source = source_architecture(path)
        mixed = [LayerShape(num_attention_heads=2, num_key_value_heads=1, intermediate_size=w) for w in (40, 96, 64)]
        design = source.with_layers(mixed)
        model = load_model(path)
        model.config.sliding_window = None
        cut_by_hand(model, source, design)
        with torch.no_grad():
            # Predictions of random weights are wild; these are as flat as those of a model that has learned something.
            model.get_submodule("model.norm").weight.mul_(0.3)
        ids = load_tokenizer(path)("The quick brown fox jumps over the lazy dog.")["input_ids"]
        for mix, bound in (("f16", 0.005), ("q8_0", 0.03)):
            report = export_gguf(model, design, path, tmp_path / f"{family}-{mix}.gguf", dtype=mix)
            jobs.append({"file": str(report.path), "prompt": ids, "scored": len(ids)})
            expected.append(losses(model, ids).mean().exp())
            bounds.append(bound)
    for job, result, perplexity, bound in zip(jobs, run(jobs, tmp_path), expected, bounds, strict=True):
        found = -torch.tensor(result["logprobs"])
        assert abs(float(found.mean().exp() / perplexity) - 1) < bound, job["file"]
