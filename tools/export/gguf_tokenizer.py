"""What a GGUF file says of a tokenizer, read from the tokenizer that transformers runs.

llama.cpp has two tokenizers for these families: "gpt2", byte-level BPE with merges, whose splitting into words must be
one that it knows by name, and "llama", SentencePiece's BPE, which merges by the score of the result.
"""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gguf
from transformers import PreTrainedTokenizerBase

from tools.errors import InputError
from tools.export.gguf_pre_tokenizers import byte_level_name, space_prefix
from tools.sources import load_tokenizer

_BYTE = re.compile(r"<0x[0-9A-F]{2}>")


@dataclass(frozen=True)
class GgufTokenizer:
    """The tokenizer.* entries of a GGUF file. `model` is "gpt2" (with merges) or "llama" (with scores)."""

    model: str
    pre: str
    tokens: list[str]
    types: list[int]
    merges: list[str]
    scores: list[float]
    bos: int
    eos: int
    unknown: int | None
    padding: int | None
    add_bos: bool
    add_eos: bool
    add_space_prefix: bool
    chat_template: str | list[dict[str, str]] | None


def read_tokenizer(source_path: Path, vocab_size: int, config: dict[str, Any]) -> GgufTokenizer:
    """The tokenizer in `source_path`, filled up with unused tokens to the `vocab_size` of the model's embedding.

    `config` gives the special ids that the tokenizer leaves out. A beginning that neither names is the end: llama.cpp
    would take token 11 for it. Raises InputError where there is no tokenizer, or llama.cpp cannot run its like.
    """
    tokenizer = load_tokenizer(source_path)
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise InputError(f"The tokenizer in {source_path} has no tokenizer.json; save it as a fast tokenizer first.")
    description = json.loads(backend.to_str())
    model = description["model"]
    if model["type"] != "BPE":
        raise InputError(
            f"GGUF files hold no {model['type']} tokenizer for this family; export to the hf format instead."
        )
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in model["merges"]]
    tokens, types = _tokens(description, vocab_size)
    eos = _first_id(tokenizer.eos_token_id, config.get("eos_token_id"))
    if eos is None:
        raise InputError(
            f"The tokenizer in {source_path} names no end of text; set eos_token in tokenizer_config.json."
        )
    add_bos, add_eos, bos = _added(tokenizer, _first_id(tokenizer.bos_token_id, config.get("bos_token_id"), eos), eos)
    sentence_piece = bool(model.get("byte_fallback"))
    return GgufTokenizer(
        model="llama" if sentence_piece else "gpt2",
        pre="default" if sentence_piece else byte_level_name(description),
        tokens=tokens,
        types=types,
        merges=[] if sentence_piece else merges,
        scores=_scores(tokens, merges) if sentence_piece else [],
        bos=bos,
        eos=eos,
        unknown=_first_id(tokenizer.unk_token_id),
        padding=_first_id(tokenizer.pad_token_id),
        add_bos=add_bos,
        add_eos=add_eos,
        add_space_prefix=space_prefix(description) if sentence_piece else False,
        chat_template=_chat_template(tokenizer),
    )


def _tokens(description: dict[str, Any], vocab_size: int) -> tuple[list[str], list[int]]:
    """Texts and types of all ids. Ids without a token are unused, and named so that no two are the same."""
    model, added = description["model"], description["added_tokens"]
    highest = max([*model["vocab"].values(), *(token["id"] for token in added)])
    if highest >= vocab_size:
        raise InputError(
            f"The tokenizer has {highest + 1} tokens but the model only {vocab_size}; use the model's own."
        )
    tokens = [f"[PAD{index}]" for index in range(vocab_size)]
    types = [int(gguf.TokenType.UNUSED)] * vocab_size
    for text, index in model["vocab"].items():
        is_byte = model.get("byte_fallback") and _BYTE.fullmatch(text)
        tokens[index], types[index] = text, int(gguf.TokenType.BYTE if is_byte else gguf.TokenType.NORMAL)
    for token in added:
        kind = gguf.TokenType.CONTROL if token["special"] else gguf.TokenType.USER_DEFINED
        tokens[token["id"]], types[token["id"]] = token["content"], int(kind)
    if model.get("byte_fallback") and model.get("unk_token") in model["vocab"]:
        types[model["vocab"][model["unk_token"]]] = int(gguf.TokenType.UNKNOWN)
    return tokens, types


def _scores(tokens: list[str], merges: list[str]) -> list[float]:
    """Scores that merge in the order of `merges`; the sooner a token comes out of one, the higher its score."""
    ranks: dict[str, int] = {}
    for rank, merge in enumerate(merges):
        ranks.setdefault(merge.replace(" ", ""), rank)
    return [float(-ranks.get(token, len(merges))) for token in tokens]


def _added(tokenizer: PreTrainedTokenizerBase, bos: int | None, eos: int) -> tuple[bool, bool, int]:
    """Whether a text gets the token of the beginning and of the end, and the former's id, as the tokenizer does it."""
    plain = tokenizer.encode("a", add_special_tokens=False)
    whole = tokenizer.encode("a")
    start = next((at for at in range(len(whole)) if whole[at : at + len(plain)] == plain), None)
    if start is not None:
        before, after = whole[:start], whole[start + len(plain) :]
        if len(before) <= 1 and after in ([], [eos]):
            return bool(before), bool(after), before[0] if before else (eos if bos is None else bos)
    raise InputError(
        "The tokenizer puts other tokens around a text than llama.cpp can; export to the hf format instead."
    )


def _first_id(*candidates: Any) -> int | None:
    for candidate in candidates:
        value = candidate[0] if isinstance(candidate, list) and candidate else candidate
        if isinstance(value, int):
            return value
    return None


def _chat_template(tokenizer: PreTrainedTokenizerBase) -> str | list[dict[str, str]] | None:
    template = tokenizer.chat_template
    if isinstance(template, dict):
        return [{"name": name, "template": text} for name, text in template.items()]
    return template or None
