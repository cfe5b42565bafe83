"""A model card as the README.md that people and the hub read."""

from functools import cache
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template

from tools.architecture import Architecture
from tools.export.model_card import Ancestor, ModelCard
from tools.export.running import Tool, tools_for

_TEMPLATE = "model_card.md.jinja"


def rendered(card: ModelCard, has_window: bool = False) -> str:
    """The whole README.md. `has_window` says that the model's attention slides, which few tools know."""
    origin = card.origin.architecture
    base = origin if origin is not None and origin != card.architecture else None
    return _template().render(
        card=card,
        header=_header(card),
        summary=_summary(card),
        remote_code=any(file.remote_code for file in card.files),
        base=base is not None,
        architecture_rows=_architecture_rows(card.architecture, base),
        design_spans=card.architecture.spans(),
        tools=_tools(card, has_window),
        figures_of_base=any(figure.origin is not None for figure in card.figures),
        training_rows=_training_rows(card),
        number=_number,
        parents=_parents,
    )


def _header(card: ModelCard) -> str:
    formats = {file.format for file in card.files}
    origin = card.origin.architecture
    is_cut = origin is not None and origin != card.architecture
    tags = ["penjing", *(["structured-pruning"] if is_cut else []), card.architecture.fixed.model_type]
    tags += ["gguf"] if "gguf" in formats else []
    tags += ["custom_code"] if any(file.remote_code for file in card.files) else []
    values: dict[str, Any] = {
        "library_name": "transformers" if "safetensors" in formats else "gguf",
        "pipeline_tag": "text-generation",
        "tags": tags,
    }
    if card.origin.on_hub:
        values = {"base_model": card.origin.name, **values}
    if card.origin.license:
        values = {"license": card.origin.license, **values}
    return yaml.safe_dump(values, sort_keys=False)


def _summary(card: ModelCard) -> str:
    design, origin = card.architecture, card.origin
    size = f"{design.parameters / 1e6:,.1f}M parameters"
    kind = f"A language model of the {design.fixed.model_type} family with {size}"
    if origin.name is None:
        return f"{kind}."
    named = f"[{origin.name}](https://huggingface.co/{origin.name})" if origin.on_hub else f"`{origin.name}`"
    if origin.architecture is not None and origin.architecture != design:
        before = origin.architecture.parameters
        return f"{kind}, cut from {named} ({before / 1e6:,.1f}M) and trained on."
    return f"{kind}, from {named}."


def _architecture_rows(design: Architecture, base: Architecture | None) -> list[dict[str, str]]:
    def row(name: str, own: str, other: str) -> dict[str, str]:
        return {"name": name, "own": own, "base": other}

    def figures(architecture: Architecture) -> dict[str, str]:
        layers, fixed = architecture.layers, architecture.fixed
        return {
            "parameters": f"{architecture.parameters:,}",
            "of these in the embedding": f"{architecture.embedding_parameters:,}",
            "layers": str(len(layers)),
            "hidden size": str(architecture.hidden_size),
            "query heads": _range([layer.num_attention_heads for layer in layers]),
            "KV heads": _range([layer.num_key_value_heads for layer in layers]),
            "head dimension": str(fixed.head_dim),
            "FFN channels": _range([layer.intermediate_size for layer in layers]),
            "vocabulary": f"{fixed.vocab_size:,}",
            "tied embedding": "yes" if fixed.tie_word_embeddings else "no",
            "MACs per token": f"{architecture.macs_per_token() / 1e6:,.1f}M",
            "KV cache per token, 16 bits": f"{architecture.kv_cache_bytes_per_token():,} bytes",
        }

    own, other = figures(design), figures(base) if base is not None else {}
    return [row(name, value, other.get(name, "")) for name, value in own.items()]


def _tools(card: ModelCard, has_window: bool) -> list[Tool]:
    """For the first file of each format, so that the page stays short."""
    chosen = {file.format: file for file in reversed(card.files)}
    tools: dict[tuple[str, str], Tool] = {}
    for file in chosen.values():
        for tool in tools_for(card.name, file, card.architecture, has_window):
            tools.setdefault((tool.name, file.format), tool)
    if len(chosen) > 1:
        # The file is there already, so nobody need write one first.
        tools.pop(("llama.cpp", "safetensors"), None)
        tools.pop(("transformers", "gguf"), None)
    return list(tools.values())


def _training_rows(card: ModelCard) -> list[tuple[str, str]]:
    facts = card.training
    if facts is None:
        return []
    values = {
        "corpus": facts.corpus,
        "corpus, fingerprint": facts.corpus_fingerprint,
        "training tokens": f"{facts.tokens:,}",
        "block length": facts.block_length,
        "batch size, blocks": facts.batch_size,
        "peak learning rate": facts.learning_rate,
        "weight of distillation": facts.distillation or None,
        "compute type": facts.precision,
        "on": facts.hardware,
        "seed": facts.seed,
        "seconds": None if facts.seconds is None else f"{facts.seconds:,.0f}",
    }
    return [(name, str(value)) for name, value in values.items() if value is not None]


def _parents(one: Ancestor) -> str:
    if one.based_on:
        return ", ".join(map(str, one.based_on))
    return "" if one.parent is None else str(one.parent)


def _range(values: list[int]) -> str:
    return str(min(values)) if min(values) == max(values) else f"{min(values)} to {max(values)}"


def _number(value: float) -> str:
    return f"{value:,.4f}" if abs(value) < 10 else f"{value:,.2f}"


def _one_line(text: str) -> str:
    """Text of a chat model or a user on one line, so that it cannot become a heading or an end of a table."""
    return " ".join(str(text).split())


def _cell(text: str) -> str:
    return _one_line(text).replace("|", "\\|")


@cache
def _template() -> Template:
    # Markdown, no HTML: what could break a table or a line is taken care of by the filters below.
    environment = Environment(  # noqa: S701
        loader=FileSystemLoader(Path(__file__).parent),
        undefined=StrictUndefined,
        trim_blocks=False,
        keep_trailing_newline=True,
    )
    environment.filters |= {"one_line": _one_line, "cell": _cell, "words": lambda text: str(text).replace("_", " ")}
    return environment.get_template(_TEMPLATE)
