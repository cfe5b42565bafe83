"""Sources: architectures of real models, fingerprints, names that are no model, and the conversion of GGUF files."""

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import LlamaConfig, MistralConfig, Qwen2Config, Qwen3Config

from tools.embedded import EMBEDDED_NAME
from tools.errors import InputError
from tools.families import tensor_shapes
from tools.gguf_source import converted
from tools.sources import architecture_from_config, load_model, load_tokenizer, resolve_source


@pytest.fixture
def model_copy(sources: dict[str, Path], tmp_path: Path) -> Path:
    return Path(shutil.copytree(sources["llama-untied"], tmp_path / "model"))


def test_parameters_and_tensors_equal_those_of_real_models(sources: dict[str, Path]) -> None:
    for family, path in sources.items():
        source = resolve_source(str(path))
        model = load_model(source.path)
        assert source.architecture.parameters == sum(p.numel() for p in model.parameters()), family
        assert tensor_shapes(source.architecture) == {name: tuple(p.shape) for name, p in model.named_parameters()}
        assert architecture_from_config(model.config) == source.architecture
        assert model.dtype == torch.float32
        assert not model.training


@pytest.mark.parametrize("config_class", [LlamaConfig, MistralConfig, Qwen2Config, Qwen3Config])
def test_left_out_keys_mean_what_transformers_takes_them_for(config_class: type[Any]) -> None:
    bare = {"model_type": config_class.model_type}
    assert architecture_from_config(bare) == architecture_from_config(config_class())
    bare |= {"num_attention_heads": 64, "hidden_size": 512}
    assert architecture_from_config(bare) == architecture_from_config(config_class(**bare))


def test_fingerprint_is_of_content_alone(model_copy: Path) -> None:
    first = resolve_source(str(model_copy)).fingerprint
    config = json.loads((model_copy / "config.json").read_text())
    (model_copy / "config.json").write_text(json.dumps(config | {"transformers_version": "9.9.9"}, indent=7))
    tensors = load_file(model_copy / "model.safetensors")
    (model_copy / "model.safetensors").unlink()
    names = sorted(tensors)
    shards = {"a.safetensors": names[: len(names) // 2], "b.safetensors": names[len(names) // 2 :]}
    for file, part in shards.items():
        save_file({name: tensors[name] for name in part}, model_copy / file, metadata={"format": "pt"})
    index = {"weight_map": {name: file for file, part in shards.items() for name in part}}
    (model_copy / "model.safetensors.index.json").write_text(json.dumps(index))
    assert resolve_source(str(model_copy)).fingerprint == first
    tensors[names[-1]][..., -1] += 1e-6
    save_file({name: tensors[name] for name in shards["b.safetensors"]}, model_copy / "b.safetensors")
    assert resolve_source(str(model_copy)).fingerprint != first
    (model_copy / "b.safetensors").unlink()
    with pytest.raises(InputError, match=r"lacks b\.safetensors"):
        resolve_source(str(model_copy))


def test_large_tensors_are_sampled_to_their_ends(model_copy: Path) -> None:
    tensors = load_file(model_copy / "model.safetensors")
    prints = set()
    for change in (None, 0, -1):
        large = torch.zeros(3_000_000)
        if change is not None:
            large[change] = 1.0
        save_file(tensors | {"large": large}, model_copy / "model.safetensors")
        prints.add(resolve_source(str(model_copy)).fingerprint)
    assert len(prints) == 3


def test_directories_that_are_no_model(model_copy: Path, tmp_path: Path) -> None:
    def refused(match: str) -> None:
        with pytest.raises(InputError, match=match) as caught:
            resolve_source(str(model_copy))
        assert "\n" not in str(caught.value)

    weights, config = model_copy / "model.safetensors", model_copy / "config.json"
    whole, values = weights.read_bytes(), json.loads(config.read_text())
    weights.write_bytes(whole[:-1])
    refused("is cut short")
    weights.write_bytes(b"junk")
    refused("damaged or cut short")
    weights.unlink()
    refused(r"has no model\.safetensors")
    (model_copy / "pytorch_model.bin").write_bytes(b"\x80\x04.")
    refused("pickled weights, which can run code and are refused; convert")
    weights.write_bytes(whole)
    for changes, match in (
        ({"model_type": "mixtral"}, "'mixtral' cannot be cut; choose one of the families Llama"),
        ({"model_type": "qwen3_moe"}, "'qwen3_moe' cannot be cut"),
        ({"model_type": None}, "without a model_type cannot be cut"),
        ({"quantization_config": {"quant_method": "gptq"}}, "Quantised"),
        ({"num_key_value_heads": 3}, "describes no usable model"),
        ({"hidden_size": "wide"}, "describes no usable model"),
    ):
        config.write_text(json.dumps(values | changes))
        refused(match)
    config.write_text("{")
    refused("no valid JSON")
    config.unlink()
    refused(r"has no config\.json")
    with pytest.raises(InputError, match="is a file; give the directory"):
        resolve_source(str(weights))
    with pytest.raises(InputError, match="There is no directory 'no-such-model'"):
        resolve_source("no-such-model")
    (model_copy / "tokenizer.json").write_text("{}")
    with pytest.raises(InputError, match=r"tokenizer in .* cannot be read"):
        load_tokenizer(model_copy)
    (model_copy / "tokenizer.json").unlink()
    with pytest.raises(InputError, match="has no tokenizer"):
        load_tokenizer(model_copy)


def test_hub_models_without_a_network(
    sources: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    # Nothing listens there, so every request fails as it does without a network.
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")
    started = time.monotonic()
    with pytest.raises(InputError, match="hub cannot be reached for the model nobody/nothing; check the network"):
        resolve_source("nobody/nothing")
    assert time.monotonic() - started < 30
    repository = tmp_path / "models--somebody--tiny"
    snapshot = repository / "snapshots" / ("0" * 40)
    shutil.copytree(sources["qwen3"], snapshot)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("0" * 40)
    source = resolve_source("somebody/tiny")
    assert source.path == snapshot
    assert source.fingerprint == resolve_source(str(sources["qwen3"])).fingerprint
    (snapshot / "model.safetensors").unlink()
    with pytest.raises(InputError, match="hub cannot be reached"):
        resolve_source("somebody/tiny")


def test_loading_is_quiet(sources: dict[str, Path], capfd: pytest.CaptureFixture[str]) -> None:
    load_model(sources["mistral"])
    load_tokenizer(sources["mistral"])
    assert capfd.readouterr() == ("", "")


def write_gguf(path: Path, source: Path) -> None:
    """A Llama model as llama.cpp stores it: interleaved rotary rows, its own tensor names, tokenizer inside."""
    config = json.loads((source / "config.json").read_text())
    tensors = load_file(source / "model.safetensors")
    tokenizer = json.loads((source / "tokenizer.json").read_text())
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("tiny")
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_rope_freq_base(5000.0)
    writer.add_key_length(config["head_dim"])
    writer.add_vocab_size(config["vocab_size"])
    vocabulary = sorted(tokenizer["model"]["vocab"], key=tokenizer["model"]["vocab"].get)
    vocabulary += [f"<unused{index}>" for index in range(config["vocab_size"] - len(vocabulary))]
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(vocabulary)
    writer.add_token_types([gguf.TokenType.CONTROL if token[0] == "<" and token[1:] else 1 for token in vocabulary])
    writer.add_token_merges([" ".join(merge) for merge in tokenizer["model"]["merges"]])
    writer.add_eos_token_id(0)
    writer.add_bos_token_id(0)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config["num_hidden_layers"])
    for name, tensor in tensors.items():
        values = tensor.float().numpy()
        if name.endswith(("q_proj.weight", "k_proj.weight")):
            heads = config["num_attention_heads" if "q_proj" in name else "num_key_value_heads"]
            halves = values.reshape(heads, 2, config["head_dim"] // 2, -1)
            values = np.ascontiguousarray(halves.swapaxes(1, 2).reshape(values.shape))
        stored = names.get_name(name, try_suffixes=(".weight",))
        assert stored is not None
        writer.add_tensor(stored, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


CONVERTER = """
import sys
from pathlib import Path
from tools.gguf_source import converted
shares = []
print(converted(Path(sys.argv[1]), "tiny", Path(sys.argv[2]), lambda message, share: shares.append(share)))
print(len(shares))
"""


def test_gguf_is_converted_once_by_processes_that_start_together(sources: dict[str, Path], tmp_path: Path) -> None:
    write_gguf(tmp_path / "tiny.gguf", sources["llama-untied"])
    arguments = [sys.executable, "-c", CONVERTER, str(tmp_path / "tiny.gguf"), str(tmp_path / "cache")]
    root = Path(__file__).parents[2]
    workers = [
        subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=root)
        for _ in range(2)
    ]
    outputs = [worker.communicate(timeout=120) for worker in workers]
    for _, error in outputs:
        assert error == ""
    paths, reports = zip(*(output.split() for output, _ in outputs), strict=True)
    assert len(set(paths)) == 1
    assert sorted(int(count) > 0 for count in reports) == [False, True]
    path = Path(paths[0])
    assert sorted(entry.suffix for entry in path.parent.iterdir()) == ["", ".lock"]
    original, plain = load_file(sources["llama-untied"] / "model.safetensors"), load_file(path / "model.safetensors")
    assert original.keys() == plain.keys()
    for name, tensor in original.items():
        assert torch.equal(tensor.to(torch.bfloat16), plain[name]), name
    source = resolve_source(str(path))
    assert source.architecture == resolve_source(str(sources["llama-untied"])).architecture
    text = "The lazy dog <- fox."
    expected = load_tokenizer(sources["llama-untied"])(text)["input_ids"]
    assert load_tokenizer(path)(text)["input_ids"] == expected
    assert converted(tmp_path / "tiny.gguf", "tiny", tmp_path / "cache") == path


def test_a_cache_that_cannot_be_written(sources: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "tiny.gguf").write_bytes(b"GGUF")
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="Cannot write the model cache"):
        converted(tmp_path / "tiny.gguf", "tiny", tmp_path / "file" / "cache")


@pytest.mark.slow
def test_the_embedded_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    source = resolve_source(EMBEDDED_NAME)
    assert source.architecture.parameters == 134_515_008
    assert sum(p.numel() for p in load_model(source.path).parameters()) == 134_515_008
    assert resolve_source(EMBEDDED_NAME) == source


def test_threads_that_load_at_once_get_whole_models(sources: dict[str, Path]) -> None:
    """transformers itself is not safe for threads here: without our lock every one of these models lacks weights."""
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(max_workers=3) as threads:
        models = list(threads.map(load_model, [sources["llama-tied"]] * 9))
    assert not any(parameter.is_meta for model in models for parameter in model.parameters())
