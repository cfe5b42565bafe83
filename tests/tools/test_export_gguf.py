"""GGUF exports run in a stock llama.cpp, in a process of its own, with the greedy text of the live model."""

import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from tools.architecture import Architecture, LayerShape
from tools.embedded import EMBEDDED_NAME, embedded_model_file
from tools.errors import InputError
from tools.export.gguf import export_gguf
from tools.export.gguf_pre_tokenizers import byte_level_name
from tools.export.gguf_tensors import interleaved
from tools.export.gguf_tokenizer import read_tokenizer
from tools.export.huggingface import ExportReport
from tools.sources import architecture_from_config, load_model, load_tokenizer, resolve_source

Cut = Callable[[PreTrainedModel, Architecture, Architecture], None]

TEXTS = [
    "The lazy dog jumps over 12 brown foxes.",
    "  Two  spaces,\n\nlines\tand tabs 1234567 ",
    "Don't; I'LL: naïve 🙂 日本",
    "A cut<|end|> model",
]

# Runs files one after another, each in a server: greedy tokens after the prompt, and the ids of texts.
RUNNER = """
import json, os, sys, urllib.request
import xllamacpp
direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
def post(url, body):
    headers = {"Content-Type": "application/json"}
    return json.loads(direct.open(urllib.request.Request(url, json.dumps(body).encode(), headers), timeout=120).read())
jobs = json.loads(open(sys.argv[1]).read())
results = []
for job in jobs:
    parameters = xllamacpp.CommonParams()
    parameters.model.path = job["file"]
    parameters.hostnames, parameters.port, parameters.ui, parameters.verbosity = ["127.0.0.1"], 0, False, 2
    parameters.n_ctx, parameters.n_parallel, parameters.warmup = 512, 1, False
    parameters.cpuparams.n_threads = parameters.cpuparams_batch.n_threads = 1
    # Keys and values are float32 in the model that the text is compared with.
    parameters.cache_type_k = parameters.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
    server = xllamacpp.Server(parameters)
    url = server.listening_address
    result = {"ids": [post(url + "/tokenize", {"content": t, "add_special": True})["tokens"] for t in job["texts"]]}
    body = {"temperature": 0, "return_tokens": True}
    if job["predict"]:
        result["tokens"] = post(url + "/completion", body | {"prompt": job["prompt"], "n_predict": job["predict"]})["tokens"]
    result["logprobs"] = []
    for end in range(1, job.get("scored", 0)):
        scored = {"prompt": job["prompt"][:end], "n_predict": 1, "n_probs": 1000, "temperature": 0}
        found = post(url + "/completion", scored)["completion_probabilities"][0]["top_logprobs"]
        known = {entry["id"]: entry["logprob"] for entry in found}
        result["logprobs"].append(known.get(job["prompt"][end]))
    if job.get("messages"):
        result["chat"] = post(url + "/apply-template", {"messages": job["messages"]})["prompt"]
    results.append(result)
    del server
open(sys.argv[2], "w").write(json.dumps(results))
"""


def run(jobs: list[dict[str, Any]], folder: Path) -> list[dict[str, Any]]:
    """What llama.cpp makes of the jobs; a crash of it is a failure with its last words, not the end of pytest."""
    (folder / "jobs.json").write_text(json.dumps([{"texts": [], "predict": 0} | job for job in jobs]))
    command = [sys.executable, "-c", RUNNER, str(folder / "jobs.json"), str(folder / "results.json")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder, check=False, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    results: list[dict[str, Any]] = json.loads((folder / "results.json").read_text())
    return results


def greedy(model: PreTrainedModel, prompt: list[int], count: int) -> list[int]:
    """The tokens with the highest logits, one after another, through ends of text too."""
    tokens, ids, past = [], torch.tensor([prompt]), None
    with torch.no_grad():
        for _ in range(count):
            out = model(ids, past_key_values=past, use_cache=True)
            past, ids = out.past_key_values, out.logits[:, -1:].argmax(-1)
            tokens.append(int(ids))
    return tokens


def assert_same_text(found: list[int], expected: list[int], ends: set[int], label: str) -> None:
    """llama.cpp stops at an end of generation and leaves it out or in."""
    stop = next((at for at, token in enumerate(expected) if token in ends), len(expected))
    assert found[:stop] == expected[:stop], label
    assert len(found) <= stop + 1, label


def shape(groups: int, per_group: int, ffn: int) -> LayerShape:
    return LayerShape(num_attention_heads=groups * per_group, num_key_value_heads=groups, intermediate_size=ffn)


def source_architecture(path: Path) -> Architecture:
    return architecture_from_config(json.loads((path / "config.json").read_text()))


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


def fields(path: Path) -> dict[str, Any]:
    return {key: field.contents() for key, field in gguf.GGUFReader(path).fields.items()}


def exported(path: Path, destination: Path, **changes: Any) -> tuple[PreTrainedModel, ExportReport]:
    """The uncut model in `path`, its config changed, and its export."""
    model = load_model(path)
    for key, value in changes.items():
        setattr(model.config, key, value)
    return model, export_gguf(model, source_architecture(path), path, destination, dtype="f32")


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
