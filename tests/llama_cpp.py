"""GGUF files in a stock llama.cpp, in a process of its own, and the greedy text they are compared with."""

import copy
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import gguf
import torch
from transformers import PreTrainedModel

from tools.architecture import Architecture
from tools.export.gguf import export_gguf
from tools.export.gguf_layout import gguf_name
from tools.export.gguf_tensors import interleaved
from tools.export.huggingface import ExportReport
from tools.sources import architecture_from_config, load_model

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
    # As in the model that the text is compared with: keys and values are float32, and no product of them is float16.
    parameters.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
    parameters.cache_type_k = parameters.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
    server = xllamacpp.Server(parameters)
    url = server.listening_address
    result = {"ids": [post(url + "/tokenize", {"content": t, "add_special": True})["tokens"] for t in job["texts"]]}
    body = {"temperature": 0, "return_tokens": True, "prompt": job.get("prompt"), "n_predict": job["predict"]}
    if job["predict"]:
        result["tokens"] = post(url + "/completion", body)["tokens"]
    result["logprobs"] = []
    # Without a whole character that is no end of text nothing is told; the bias makes one and leaves what is told.
    letter = post(url + "/tokenize", {"content": "a", "add_special": False})["tokens"][0]
    for end in range(1, job.get("scored", 0)):
        scored = {"prompt": job["prompt"][:end], "n_predict": 1, "n_probs": 1000, "logit_bias": [[letter, 1000.0]]}
        found = post(url + "/completion", body | scored)["completion_probabilities"][0]["top_logprobs"]
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


def losses(model: PreTrainedModel, ids: list[int]) -> torch.Tensor:
    """Cross-entropy of each token after the first, in nats."""
    with torch.no_grad():
        logprobs = model(torch.tensor([ids])).logits[0].log_softmax(-1)
    return -logprobs[:-1].gather(1, torch.tensor(ids[1:])[:, None])[:, 0]


def with_weights(model: PreTrainedModel, path: Path) -> PreTrainedModel:
    """A copy of `model` with the weights of a GGUF file of architecture "llama" or "deci", made float again."""
    reader = gguf.GGUFReader(path)
    head_dim = int(reader.fields[f"{reader.fields['general.architecture'].contents()}.rope.dimension_count"].contents())
    weights = {tensor.name: gguf.quants.dequantize(tensor.data, tensor.tensor_type) for tensor in reader.tensors}
    copied = copy.deepcopy(model)
    with torch.no_grad():
        for name, parameter in copied.named_parameters():
            value = torch.from_numpy(weights[gguf_name(name)].copy()).reshape(parameter.shape)
            if "q_proj" in name or "k_proj" in name:
                # The opposite of the order that pairs stand in there.
                places = interleaved(torch.arange(len(value)), head_dim)
                parameter[places] = value
            else:
                parameter.copy_(value)
    return copied


def source_architecture(path: Path) -> Architecture:
    return architecture_from_config(json.loads((path / "config.json").read_text()))


def fields(path: Path) -> dict[str, Any]:
    return {key: field.contents() for key, field in gguf.GGUFReader(path).fields.items()}


def exported(path: Path, destination: Path, **changes: Any) -> tuple[PreTrainedModel, ExportReport]:
    """The uncut model in `path`, its config changed, and its export."""
    model = load_model(path)
    for key, value in changes.items():
        setattr(model.config, key, value)
    return model, export_gguf(model, source_architecture(path), path, destination, dtype="f32")
