"""Exports a cut model as one GGUF file that a stock llama.cpp runs, tokenizer and chat template included.

Equal layers of the Llama and Mistral families become architecture "llama", layers that differ become "deci", the same
network with head counts and feed-forward lengths per layer. llama.cpp's "qwen2" holds only queries as wide as the stem;
any other Qwen2 is written as "llama" or "deci", which have biases too and compute the same. The norms of queries and
keys in Qwen3 have no such twin; its layers are padded where they differ.
"""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import torch
from transformers import PreTrainedModel
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from tools.architecture import Architecture
from tools.errors import InputError
from tools.export.compact import design_tensors, rms_norm_eps
from tools.export.gguf_layout import target_file, written_architecture
from tools.export.gguf_tensors import prepared, write_tensors
from tools.export.gguf_tokenizer import GgufTokenizer, read_tokenizer
from tools.export.model_card import Origin
from tools.export.quantisation import (
    MIXES,
    PredictedTensor,
    checked_mix,
    predicted_file,
    predicted_tensors,
)
from tools.export.report import ExportReport
from tools.export.staged_file import staged_file
from tools.requests import ReportProgress


def export_gguf(
    model: PreTrainedModel,
    architecture: Architecture,
    source_path: Path,
    destination: Path,
    overwrite: bool = False,
    dtype: str = "f16",
    finish: Callable[[Path, ExportReport], None] | None = None,
    origin: Origin | None = None,
    report: ReportProgress = lambda progress: None,
) -> ExportReport:
    """Write the live, cut `model` of `architecture`, with the tokenizer in `source_path`, as a GGUF file.

    The file is `destination`/model.gguf (quantised model-Q4_K_M.gguf), or `destination` itself where its name ends in
    .gguf; it appears whole or not at all. `dtype` is a mix of `tools.export.quantisation`: "f16", "f32", "bf16", or a
    quantised one; norms and biases are float32 in each. `class_name` in the report is the architecture in the file
    ("llama", "deci", "qwen2", "qwen3"). llama.cpp knows no sliding window in these, so the context length in the file
    ends where the window would begin to forget. `finish` gets the directory and the report, to add files, before the
    file has its name; `origin` goes into the file as its base model and licence. Raises InputError where the file
    exists (unless `overwrite`) or cannot be written, or where llama.cpp has no way to say what the model or its
    tokenizer does; ValueError where the model is not of that architecture.
    """
    mix = checked_mix(dtype)
    rope = _rope(model.config.to_dict())
    name, written = _expressed(architecture, rope["rope_type"])
    makers = prepared(design_tensors(model, architecture), architecture, written, interleave=name in ("llama", "deci"))
    tensors = predicted_tensors(architecture, mix)
    if rope["rope_type"] == "llama3":
        divisors = _rotary_divisors(model, architecture, float(rope["rope_theta"]))
        makers["rope_freqs.weight"] = lambda: divisors
        tensors.insert(0, PredictedTensor("rope_freqs.weight", tuple(divisors.shape), "F32", "F32"))
    tokenizer = read_tokenizer(source_path, architecture.fixed.vocab_size, model.config.to_dict())
    target = target_file(destination, mix)
    title = target.stem if target == destination else target.parent.resolve().name
    with staged_file(target, overwrite) as staged:
        writer = gguf.GGUFWriter(staged, name)
        try:
            _add_general(writer, title, mix, origin or Origin())
            _add_shapes(writer, written, model)
            _add_tokenizer(writer, tokenizer)
            write_tensors(writer, makers, tensors, report)
        finally:
            writer.close()
        written_file = ExportReport(
            path=target,
            class_name=name,
            parameters=architecture.parameters,
            file_parameters=written.parameters,
            padded=written != architecture,
            bytes=staged.stat().st_size,
            weights_file=target.name,
            dtype=mix,
            prediction=predicted_file(architecture, mix),
        )
        if finish is not None:
            finish(target.parent, written_file)
    return written_file


def _expressed(architecture: Architecture, rope_type: str) -> tuple[str, Architecture]:
    """The GGUF architecture that holds the design, and the design as it is written."""
    fixed, heads = architecture.fixed, architecture.layers[0].num_attention_heads
    if fixed.model_type == "qwen3":
        if fixed.attention_output_bias:
            raise InputError("llama.cpp's qwen3 has no bias in its output projection; export to the hf format instead.")
        if rope_type == "llama3":
            raise InputError("llama.cpp's qwen3 has no llama3 scaling of positions; export to the hf format instead.")
        return "qwen3", written_architecture(architecture)
    if not architecture.is_homogeneous:
        return "deci", architecture
    fits_qwen2 = heads * fixed.head_dim == architecture.hidden_size and rope_type != "llama3"
    if fixed.model_type == "qwen2" and fits_qwen2:
        return "qwen2", architecture
    return "llama", architecture


def _add_general(writer: gguf.GGUFWriter, title: str, mix: str, origin: Origin) -> None:
    writer.add_type(gguf.GGUFType.MODEL)
    writer.add_name(title)
    writer.add_file_type(MIXES[mix].file_type)
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    if origin.license:
        writer.add_license(origin.license)
    if origin.name:
        writer.add_base_model_count(1)
        writer.add_base_model_name(0, origin.name)
        if origin.on_hub:
            writer.add_base_model_repo_url(0, f"https://huggingface.co/{origin.name}")


def _add_shapes(writer: gguf.GGUFWriter, written: Architecture, model: PreTrainedModel) -> None:
    fixed, config = written.fixed, model.config.to_dict()
    if config.get("hidden_act", "silu") != "silu":
        raise InputError(
            f"llama.cpp runs no {config['hidden_act']} in these families; export to the hf format instead."
        )
    layers = written.layers[:1] if written.is_homogeneous else written.layers
    lengths = ([s.num_attention_heads, s.num_key_value_heads, s.intermediate_size] for s in layers)
    heads, key_value_heads, feed_forward = (
        list(row) if len(layers) > 1 else row[0] for row in zip(*lengths, strict=True)
    )
    writer.add_block_count(len(written.layers))
    writer.add_context_length(_context_length(config))
    writer.add_embedding_length(written.hidden_size)
    writer.add_vocab_size(fixed.vocab_size)
    writer.add_head_count(heads)
    writer.add_head_count_kv(key_value_heads)
    writer.add_feed_forward_length(feed_forward)
    # Without these llama.cpp divides the hidden size by the heads, which is wrong once either of them has been cut.
    writer.add_key_length(fixed.head_dim)
    writer.add_value_length(fixed.head_dim)
    writer.add_rope_dimension_count(fixed.head_dim)
    writer.add_layer_norm_rms_eps(rms_norm_eps(model))
    rope = _rope(config)
    writer.add_rope_freq_base(float(rope["rope_theta"]))
    if rope["rope_type"] == "linear":
        writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(float(rope["factor"]))


def _context_length(config: dict[str, Any]) -> int:
    length, window = int(config["max_position_embeddings"]), config.get("sliding_window")
    slides = "sliding_attention" in (config.get("layer_types") or ["sliding_attention"])
    return min(length, int(window)) if window and slides else length


def _rope(config: dict[str, Any]) -> dict[str, Any]:
    rope = dict(config.get("rope_parameters") or {})
    kind = rope.setdefault("rope_type", "default")
    if kind not in ("default", "linear", "llama3") or rope.get("partial_rotary_factor", 1.0) != 1.0:
        raise InputError(
            f"Rotary positions of type {kind!r} are not written to GGUF files; export to the hf format instead."
        )
    return rope


def _rotary_divisors(model: PreTrainedModel, architecture: Architecture, theta: float) -> torch.Tensor:
    """What llama3 scaling divides the frequency of each pair by, theta^(-2i/D): float32, head_dim D / 2."""
    config = copy.deepcopy(model.config)
    # The live config may lack an explicit head_dim, and would derive a wrong one from the cut width.
    config.head_dim = head_dim = architecture.fixed.head_dim
    scaled, _ = ROPE_INIT_FUNCTIONS["llama3"](config, torch.device("cpu"))
    plain = theta ** (-torch.arange(0, head_dim, 2, dtype=torch.float64) / head_dim)
    return (plain / scaled.double()).float()


def _add_tokenizer(writer: gguf.GGUFWriter, tokenizer: GgufTokenizer) -> None:
    writer.add_tokenizer_model(tokenizer.model)
    writer.add_tokenizer_pre(tokenizer.pre)
    writer.add_token_list(tokenizer.tokens)
    writer.add_token_types(tokenizer.types)
    if tokenizer.scores:
        writer.add_token_scores(tokenizer.scores)
    if tokenizer.merges:
        writer.add_token_merges(tokenizer.merges)
    writer.add_bos_token_id(tokenizer.bos)
    writer.add_eos_token_id(tokenizer.eos)
    if tokenizer.unknown is not None:
        writer.add_unk_token_id(tokenizer.unknown)
    if tokenizer.padding is not None:
        writer.add_pad_token_id(tokenizer.padding)
    writer.add_add_bos_token(tokenizer.add_bos)
    writer.add_add_eos_token(tokenizer.add_eos)
    writer.add_add_space_prefix(tokenizer.add_space_prefix)
    if tokenizer.chat_template is not None:
        writer.add_chat_template(tokenizer.chat_template)
