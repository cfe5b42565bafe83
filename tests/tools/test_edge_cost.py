"""What measuring says of a model: counts against hand calculations, sizes against real files, engines for real."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import PreTrainedModel

from tools.architecture import Architecture, LayerShape
from tools.errors import InputError
from tools.evaluation.edge_cost import measure_edge
from tools.evaluation.edge_counts import counts_of_any, counts_of_design
from tools.evaluation.edge_figures import EdgeCost, NotMeasured, Speed, Spread
from tools.evaluation.edge_subject import open_subject
from tools.evaluation.speed_process import SpeedRequest, measure_speed
from tools.export.compact_huggingface import export_compact
from tools.export.gguf import export_gguf
from tools.export.huggingface import export_huggingface
from tools.export.quantisation import predicted_file
from tools.quiet import quiet_transformers
from tools.requests import Progress
from tools.sources import architecture_from_config, load_model

Cut = Callable[[PreTrainedModel, Architecture, Architecture], None]

MIXED = [(4, 2, 40), (4, 4, 96), (2, 1, 8)]
FAST: dict[str, Any] = {"threads": 1, "repeats": 2, "prompt_tokens": 12, "new_tokens": 3}


def source_of(path: Path) -> Architecture:
    return architecture_from_config(json.loads((path / "config.json").read_text()))


@pytest.fixture(scope="module")
def mixed(
    sources: dict[str, Path], cut_by_hand: Cut, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Architecture, Path]:
    """Layers that differ: the padded directory, the design, and the GGUF file (f16) of the live model."""
    path, folder = sources["llama-tied"], tmp_path_factory.mktemp("mixed")
    source = source_of(path)
    layers = [
        LayerShape(num_attention_heads=heads, num_key_value_heads=groups, intermediate_size=ffn)
        for heads, groups, ffn in MIXED
    ]
    design = source.with_layers(layers)
    model = load_model(path)
    cut_by_hand(model, source, design)
    export_huggingface(model, design, path, folder / "padded")
    return folder / "padded", design, export_gguf(model, design, path, folder / "f16.gguf").path


@pytest.fixture(scope="module")
def measured(mixed: tuple[Path, Architecture, Path]) -> tuple[EdgeCost, list[Progress]]:
    """The padded model, in every engine."""
    steps: list[Progress] = []
    return measure_edge(mixed[0], **FAST, report=steps.append), steps


def test_counts_are_those_of_a_hand_calculation(sources: dict[str, Path]) -> None:
    counts = open_subject(sources["llama-tied"]).counts(10)
    attention, ffn, embedding = 64 * (128 + 64 + 64 + 128), 3 * 64 * 96, 320 * 64
    assert counts.parameters == embedding + 3 * (attention + ffn + 2 * 64) + 64 == counts.padded_parameters
    assert counts.parameters_without_embeddings == 3 * (attention + ffn + 2 * 64) + 64
    # 8 heads of 16 meet 10 keys and 10 values; the tied head multiplies too.
    assert (counts.macs_per_token, counts.context_length) == (embedding + 3 * (attention + ffn + 2 * 128 * 10), 10)
    # Keys and values of 4 heads of 16, 2 bytes each, 3 layers.
    assert counts.kv_cache_bytes_per_token == 2 * 4 * 16 * 2 * 3
    untied = open_subject(sources["llama-untied"]).counts(1)
    assert untied.parameters - untied.parameters_without_embeddings == 2 * embedding


@pytest.mark.parametrize("family", ["llama-tied", "llama-untied", "llama-biases", "qwen2", "qwen3"])
def test_counts_from_shapes_and_from_the_model_itself_agree(sources: dict[str, Path], family: str) -> None:
    design = source_of(sources[family])
    assert counts_of_any(sources[family], 10) == counts_of_design(design, design, 10)


def test_the_design_is_found_under_its_padding(mixed: tuple[Path, Architecture, Path], tmp_path: Path) -> None:
    padded, design, live = mixed
    subject = open_subject(padded)
    assert subject.design == design != subject.padded
    counts = subject.counts(5)
    assert (counts.parameters, counts.macs_per_token) == (design.parameters, design.macs_per_token(5))
    weights = load_model(padded)
    assert counts.padded_parameters == sum(parameter.numel() for parameter in weights.parameters())
    written = subject.write_ggufs(tmp_path, ["f16"], lambda phase: None)
    # Not a weight is lost or moved.
    assert written.files["f16"].read_bytes() == live.read_bytes()


def test_an_export_with_shapes_per_layer_is_measured_as_it_is(
    mixed: tuple[Path, Architecture, Path], tmp_path: Path
) -> None:
    padded, design, live = mixed
    export_compact(open_subject(padded).load(), design, padded, tmp_path / "compact")
    cost = measure_edge(tmp_path / "compact", **FAST, formats=["float32", "f16"])
    assert [speed.engine for speed in cost.speeds] == ["torch", "llama.cpp"]
    assert cost.counts.parameters == cost.counts.padded_parameters == design.parameters
    found, written = cost.file_size("hf", "float32"), cost.file_size("gguf", "f16")
    assert found is not None and found.bytes == (tmp_path / "compact" / "model.safetensors").stat().st_size
    assert written is not None and written.bytes == live.stat().st_size


@pytest.mark.parametrize("family", ["llama-biases", "qwen2", "mistral"])
def test_padding_is_found_in_every_family(
    sources: dict[str, Path], cut_by_hand: Cut, tmp_path: Path, family: str
) -> None:
    source = source_of(sources[family])
    layers = [
        LayerShape(num_attention_heads=4, num_key_value_heads=2, intermediate_size=40),
        LayerShape(num_attention_heads=8, num_key_value_heads=4, intermediate_size=16),
        LayerShape(num_attention_heads=3, num_key_value_heads=3, intermediate_size=96),
    ]
    design = source.with_layers(layers)
    model = load_model(sources[family])
    cut_by_hand(model, source, design)
    export_huggingface(model, design, sources[family], tmp_path / family)
    assert open_subject(tmp_path / family).design == design


def test_sizes_are_those_of_real_files(
    measured: tuple[EdgeCost, list[Progress]], mixed: tuple[Path, Architecture, Path], tmp_path: Path
) -> None:
    cost, (padded, design, _) = measured[0], mixed
    found = cost.file_size("hf", "float32")
    assert found is not None and found.origin == "found"
    assert found.bytes == (padded / "model.safetensors").stat().st_size
    predicted = cost.file_size("hf", "bfloat16")
    assert predicted is not None and predicted.origin == "predicted"
    with quiet_transformers():
        load_model(padded, torch.bfloat16).save_pretrained(tmp_path / "half")
    real = (tmp_path / "half" / "model.safetensors").stat().st_size
    # The names of the tensors stand before them.
    assert 0 <= real - predicted.bytes < 8192
    written = open_subject(padded).write_ggufs(tmp_path, ["f16", "q8_0", "q4_k_m"], lambda phase: None)
    for name, file in written.files.items():
        size = cost.file_size("gguf", name)
        assert size is not None and (size.origin, size.bytes) == ("written", file.stat().st_size)
    mix = cost.file_size("gguf", "q4_k_m")
    assert mix is not None and mix.fallback_parameters == predicted_file(design, "q4_k_m").fallback_share > 0.5


def test_a_predicted_file_is_as_large_as_the_written_one(mixed: tuple[Path, Architecture, Path]) -> None:
    cost = measure_edge(mixed[0], **FAST, formats=["q8_0"])
    size = cost.file_size("gguf", "f16")
    assert size is not None and size.origin == "predicted"
    # The file type and where tensors begin are all that differs in the metadata.
    assert size.bytes == pytest.approx(mixed[2].stat().st_size, abs=64)
    assert [speed.format for speed in cost.speeds] == ["q8_0"]


def test_every_engine_is_timed(measured: tuple[EdgeCost, list[Progress]]) -> None:
    cost, steps = measured
    assert cost.not_measured == ()
    assert [(speed.engine, speed.format) for speed in cost.speeds] == [
        ("torch", "float32"),
        ("llama.cpp", "f16"),
        ("llama.cpp", "q8_0"),
        ("llama.cpp", "q4_k_m"),
    ]
    for speed in cost.speeds:
        assert (speed.threads, speed.prompt_tokens, speed.new_tokens) == (1, 12, 3)
        for spread in (speed.prefill_ms, speed.decode_ms):
            assert spread.repeats == 2
            assert 0 < spread.minimum <= spread.lower_quartile <= spread.median <= spread.upper_quartile
            assert spread.upper_quartile <= spread.maximum
        assert 0 < speed.engine_memory_mb < speed.peak_memory_mb
    timings = [step for step in steps if step.phase == "timing llama.cpp, q8_0"]
    assert [(step.done, step.total) for step in timings] == [(0, 3), (1, 3), (2, 3), (3, 3)]
    assert EdgeCost.model_validate_json(cost.model_dump_json()) == cost
    first = cost.speeds[0]
    assert first.prefill_ms_per_token * 12 == pytest.approx(first.prefill_ms.median)
    assert cost.machine.cores >= 1 and cost.machine.memory_gb > 0


def test_spread_of_known_values() -> None:
    spread = Spread.of([5.0, 1.0, 4.0, 2.0, 3.0])
    assert spread.model_dump() == {
        "median": 3.0,
        "lower_quartile": 2.0,
        "upper_quartile": 4.0,
        "minimum": 1.0,
        "maximum": 5.0,
        "repeats": 5,
    }
    assert Spread.of([7.0]).upper_quartile == 7.0


# What the server says of a request, and what is made of it.
TIMINGS = """
import json, sys
from tools.evaluation import llama_cpp_speed
from tools.evaluation.speed_process import SpeedRequest
answers, post = [], llama_cpp_speed._post
def kept(url, body):
    answers.append(post(url, body))
    return answers[-1]
llama_cpp_speed._post = kept
repeat = llama_cpp_speed.prepare(SpeedRequest.model_validate_json(sys.argv[1]))
found = [repeat() for _ in range(3)]
print(json.dumps([found, [answer["timings"] for answer in answers]]))
"""


def test_llama_cpp_figures_are_the_servers_own(mixed: tuple[Path, Architecture, Path], tmp_path: Path) -> None:
    request = SpeedRequest(path=mixed[2], format="f16", prompt=(5,) * 40, new_tokens=7, repeats=1, threads=1)
    command = [sys.executable, "-c", TIMINGS, request.model_dump_json()]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=True)
    found, timings = json.loads(done.stdout.splitlines()[-1])
    for (prefill, decode), said in zip(found, timings, strict=True):
        # Every repeat reads the whole prompt: nothing comes from a cache.
        assert (said["prompt_n"], said["cache_n"], said["predicted_n"]) == (40, 0, 8)
        assert prefill == said["prompt_ms"] > 0
        assert decode == pytest.approx(said["predicted_per_token_ms"], rel=1e-6)


def test_memory_is_that_of_the_process_itself(mixed: tuple[Path, Architecture, Path]) -> None:
    request = SpeedRequest(path=mixed[2], format="f16", prompt=(5,) * 4, new_tokens=1, repeats=1, threads=1)
    ballast = torch.ones(150_000_000)
    speed = measure_speed("llama.cpp", request, 60)
    assert ballast.nbytes == 600_000_000
    assert isinstance(speed, Speed) and speed.peak_memory_mb < 300


def test_a_family_that_is_not_ours_is_measured_as_far_as_it_goes(tmp_path: Path, tokenizer_directory: Path) -> None:
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(n_embd=32, n_layer=2, n_head=4, vocab_size=320, n_positions=64, bos_token_id=0, eos_token_id=0)
    with quiet_transformers():
        GPT2LMHeadModel(config).save_pretrained(tmp_path)
    cost = measure_edge(tmp_path, **FAST, formats=["float32", "f16"])
    blocks = 2 * (12 * 32 * 32)
    assert cost.counts.macs_per_token == blocks + 320 * 32 + 2 * (2 * 32 * 12)
    assert cost.counts.kv_cache_bytes_per_token == 2 * 2 * 32 * 2
    assert [speed.engine for speed in cost.speeds] == ["torch"]
    (missing,) = cost.not_measured
    assert (missing.engine, missing.format, missing.kind) == ("llama.cpp", "f16", "unsupported")
    assert "gpt2" in missing.message
    assert {size.container for size in cost.file_sizes} == {"hf"}


def test_what_llama_cpp_has_no_way_to_say_is_a_note(sources: dict[str, Path]) -> None:
    cost = measure_edge(sources["qwen3-biases"], **FAST, formats=["q8_0"])
    (missing,) = cost.not_measured
    assert missing.kind == "unsupported" and "bias" in missing.message
    size = cost.file_size("gguf", "q8_0")
    assert size is not None and size.origin == "predicted" and cost.speeds == ()


def test_a_file_that_llama_cpp_cannot_run_is_a_note(mixed: tuple[Path, Architecture, Path], tmp_path: Path) -> None:
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(mixed[2].read_bytes()[:20_000])
    request = SpeedRequest(path=broken, format="f16", prompt=(5,) * 4, new_tokens=1, repeats=1, threads=1)
    found = measure_speed("llama.cpp", request, 60)
    assert isinstance(found, NotMeasured) and found.kind == "crashed"
    assert "broken.gguf" in found.message or "tensor" in found.message


def test_an_engine_that_takes_too_long_is_ended(sources: dict[str, Path]) -> None:
    request = SpeedRequest(
        path=sources["llama-tied"], format="float32", prompt=(5,) * 4, new_tokens=1, repeats=1, threads=1
    )
    found = measure_speed("torch", request, 0.2)
    assert isinstance(found, NotMeasured) and found.kind == "time_limit"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"formats": ["q4"]}, "no format 'q4'.*q4_k_m"),
        ({"repeats": 0}, "repeats is 0"),
        ({"prompt_tokens": 300}, "at most 256 tokens"),
        ({"threads": -1}, "threads is -1"),
    ],
)
def test_what_cannot_be_measured_is_refused(sources: dict[str, Path], changes: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        measure_edge(sources["llama-tied"], **{**FAST, **changes})


def test_a_directory_without_a_model_is_refused(sources: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no config\.json"):
        measure_edge(tmp_path, **FAST)
    shutil.copyfile(sources["llama-tied"] / "config.json", tmp_path / "config.json")
    with pytest.raises(InputError, match=r"no model\.safetensors"):
        measure_edge(tmp_path, **FAST)


def test_a_model_that_brings_its_own_code_is_refused(sources: dict[str, Path], tmp_path: Path) -> None:
    shutil.copytree(sources["llama-tied"], tmp_path / "own")
    config = json.loads((tmp_path / "own" / "config.json").read_text())
    (tmp_path / "own" / "config.json").write_text(json.dumps(config | {"model_type": "my-own"}))
    with pytest.raises(InputError, match="'my-own', for which transformers has no class"):
        measure_edge(tmp_path / "own", **FAST)
