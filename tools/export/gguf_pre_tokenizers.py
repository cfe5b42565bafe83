"""How a tokenizer splits text before it merges, and what llama.cpp calls the same splitting."""

from typing import Any

from tools.errors import InputError

_CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_WORDS = r"[^\r\n\p{L}\p{N}]?\p{L}+"
_OTHERS = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_THREE_DIGITS = rf"{_CONTRACTIONS}|{_WORDS}|\p{{N}}{{1,3}}|{_OTHERS}"
_ONE_DIGIT = rf"{_CONTRACTIONS}|{_WORDS}|\p{{N}}|{_OTHERS}"
_CASES = (
    rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}*{_LOWER}+|[^\r\n\p{{L}}\p{{N}}]?{_UPPER}+{_LOWER}*|\p{{N}}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)

# The steps of splitting, and whether a word that is a token itself is taken before any merge.
_NAMES: dict[tuple[tuple[str, ...], bool], str] = {
    ((_GPT2,), False): "gpt-2",
    (("digits", _GPT2), False): "smollm",
    ((_THREE_DIGITS,), True): "llama-bpe",
    ((_THREE_DIGITS,), False): "smaug-bpe",
    ((_ONE_DIGIT,), False): "qwen2",
    ((_CASES,), True): "tekken",
}


def byte_level_name(description: dict[str, Any]) -> str:
    """tokenizer.ggml.pre for a byte-level BPE tokenizer, given as the contents of its tokenizer.json.

    Raises InputError where llama.cpp splits in no such way.
    """
    model, normalizer = description["model"], description.get("normalizer")
    plain = not any(model.get(key) for key in ("continuing_subword_prefix", "end_of_word_suffix"))
    # llama.cpp leaves out NFC, which changes only text that is not composed yet.
    name = _NAMES.get((_steps(description.get("pre_tokenizer")), bool(model.get("ignore_merges"))))
    if name is None or not plain or (normalizer and normalizer["type"] != "NFC"):
        raise InputError(
            f"llama.cpp knows no tokenizer that splits text as this one does, only {', '.join(_NAMES.values())} and "
            "SentencePiece's; export to the hf format instead."
        )
    return name


def space_prefix(description: dict[str, Any]) -> bool:
    """Whether a SentencePiece-style tokenizer puts a space before a text.

    With a Metaspace that does so, transformers leaves a text that begins with a space as it is, and "first" leaves what
    follows a special token; llama.cpp puts a space there too. Raises InputError where spaces are not turned into
    U+2581, or words are split at them.
    """
    steps = [*_flat(description.get("normalizer"), "normalizers")]
    steps += _flat(description.get("pre_tokenizer"), "pretokenizers")
    prefix = replaced = False
    for step in steps:
        kind = step["type"]
        if kind == "Metaspace" and step["replacement"] == "▁" and not step.get("split", True):
            replaced, prefix = True, prefix or step.get("prepend_scheme", "always") != "never"
        elif kind == "Replace" and step["pattern"] == {"String": " "} and step["content"] == "▁":
            replaced = True
        elif kind == "Prepend" and step["prepend"] == "▁":
            prefix = True
        else:
            replaced = False
            break
    if not replaced:
        raise InputError(
            "llama.cpp knows no SentencePiece tokenizer that treats spaces as this one does; "
            "export to the hf format instead."
        )
    return prefix


def _steps(pre_tokenizer: dict[str, Any] | None) -> tuple[str, ...]:
    """The expressions that text is split by; a step that none of the known ones has is named by its type."""
    steps: list[str] = []
    byte_level = False
    for step in _flat(pre_tokenizer, "pretokenizers"):
        kind = step["type"]
        if kind == "Split" and _isolates(step):
            steps.append(step["pattern"].get("Regex", ""))
        elif kind == "Digits" and step["individual_digits"]:
            steps.append("digits")
        elif kind == "ByteLevel" and not step["add_prefix_space"]:
            byte_level = True
            steps += [_GPT2] if step.get("use_regex", True) else []
        else:
            steps.append(kind)
    return tuple(steps) if byte_level else ()


def _isolates(step: dict[str, Any]) -> bool:
    """Whether a Split keeps all text: what matches apart, or, as these expressions match everything, what is left."""
    return (step["behavior"], step["invert"]) in (("Isolated", False), ("Removed", True))


def _flat(step: dict[str, Any] | None, key: str) -> list[dict[str, Any]]:
    if step is None:
        return []
    if step["type"] == "Sequence":
        return [inner for part in step[key] for inner in _flat(part, key)]
    return [step]
