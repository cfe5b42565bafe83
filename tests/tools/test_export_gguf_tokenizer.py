"""The tokenizers in GGUF exports give the ids in a stock llama.cpp that they give in transformers."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.llama_cpp import exported, fields, run
from tools.errors import InputError
from tools.export.gguf_tokenizer import read_tokenizer
from tools.sources import load_tokenizer

TEXTS = [
    "The lazy dog jumps over 12 brown foxes.",
    "  Two  spaces,\n\nlines\tand tabs 1234567 ",
    "Don't; I'LL: naïve 🙂 日本",
    "A cut<|end|> model",
    "I'LL a's 1234 x5  5 \n\n5 fooBar ...//\n FOOBar",
    "12123\n\n\n  x\n \n",
    "",
]


def tokenizer_source(weights: Path, folder: Path, tokenizer: Any, special: dict[str, str]) -> Path:
    """A copy of the model in `weights` with another tokenizer, made of a tokenizers.Tokenizer."""
    from transformers import PreTrainedTokenizerFast

    folder.mkdir()
    for name in ("config.json", "model.safetensors"):
        (folder / name).write_bytes((weights / name).read_bytes())
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special).save_pretrained(folder)
    return folder


def byte_level_tokenizer(steps: list[Any], ignore_merges: bool) -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE(ignore_merges=ignore_merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(steps)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=318,
        special_tokens=["<|begin|>", "<|end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    # Runs of spaces, digits and line ends that every way of splitting takes apart in its own way.
    tokenizer.train_from_iterator(["12 1234 123 a's I'LL  \n\n  x\n\n\n5  5 fooBar FOOBar . ./ ...//"] * 9, trainer)
    return tokenizer


def test_every_known_way_to_split_gives_the_same_ids(sources: dict[str, Path], tmp_path: Path) -> None:
    from tokenizers import Regex, pre_tokenizers, processors

    contractions, word = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)", r"[^\r\n\p{L}\p{N}]?\p{L}+"
    rest = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    upper, lower = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
    cases = rf"[^\r\n\p{{L}}\p{{N}}]?{upper}*{lower}+|[^\r\n\p{{L}}\p{{N}}]?{upper}+{lower}*|\p{{N}}"
    cases += r"| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"

    def split(pattern: str) -> list[Any]:
        whole = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        return [pre_tokenizers.Split(Regex(pattern), "isolated"), whole]

    words = pre_tokenizers.ByteLevel(add_prefix_space=False)
    three = rf"{contractions}|{word}|\p{{N}}{{1,3}}|{rest}"
    known: dict[str, tuple[list[Any], bool]] = {
        "gpt-2": ([words], False),
        "smollm": ([pre_tokenizers.Digits(individual_digits=True), words], False),
        "llama-bpe": (split(three), True),
        "smaug-bpe": (split(three), False),
        "qwen2": (split(rf"{contractions}|{word}|\p{{N}}|{rest}"), False),
        "tekken": (split(cases), True),
    }
    jobs, expected = [], {}
    for name, (steps, ignore_merges) in known.items():
        tokenizer = byte_level_tokenizer(steps, ignore_merges)
        if name in ("llama-bpe", "tekken"):
            ends = ("<|end|>:0",) if name == "tekken" else ()
            tokenizer.post_processor = processors.TemplateProcessing(
                single=["<|begin|>:0", "$A:0", *ends], special_tokens=[("<|begin|>", 0), ("<|end|>", 1)]
            )
        path = tokenizer_source(
            sources["llama-tied"], tmp_path / name, tokenizer, {"bos_token": "<|begin|>", "eos_token": "<|end|>"}
        )
        _, report = exported(path, tmp_path / name)
        found = fields(report.path)
        assert (found["tokenizer.ggml.pre"], found["tokenizer.ggml.model"]) == (name, "gpt2")
        ids = (found["tokenizer.ggml.bos_token_id"], found["tokenizer.ggml.eos_token_id"])
        added = (found["tokenizer.ggml.add_bos_token"], found["tokenizer.ggml.add_eos_token"])
        assert (ids, added) == ((0, 1), (name in ("llama-bpe", "tekken"), name == "tekken"))
        encode = load_tokenizer(path)
        expected[name] = [encode(text)["input_ids"] for text in TEXTS]
        jobs.append({"file": str(report.path), "texts": TEXTS})
    for name, result in zip(expected, run(jobs, tmp_path), strict=True):
        assert result["ids"] == expected[name], name
    distinct = {json.dumps(ids) for ids in expected.values()}
    assert len(distinct) == len(expected)


@pytest.mark.parametrize("spaces", ["normalizer", "first", "never"])
def test_sentence_piece_tokenizers(sources: dict[str, Path], tmp_path: Path, spaces: str) -> None:
    from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

    tokenizer = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))  # noqa: S106
    if spaces == "normalizer":
        tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    else:
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace("▁", prepend_scheme=spaces, split=False)
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    special = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    trainer = trainers.BpeTrainer(vocab_size=316, special_tokens=special, show_progress=False)
    tokenizer.train_from_iterator(["the quick brown fox", "the lazy dog  and", "quick dogs"] * 3, trainer)
    description = json.loads(tokenizer.to_str())
    description["added_tokens"] = description["added_tokens"][:3]
    # Real ones list every pair that makes a token, in the order of the tokens, as SentencePiece merges by result.
    vocabulary = description["model"]["vocab"]
    description["model"]["merges"] = [
        [token[:at], token[at:]]
        for token in sorted(vocabulary, key=vocabulary.__getitem__)
        for at in range(1, len(token))
        if token[:at] in vocabulary and token[at:] in vocabulary
    ]
    tokenizer = Tokenizer.from_str(json.dumps(description))
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    tokenizer.add_tokens([AddedToken("[tool call]", normalized=False)])
    names = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    path = tokenizer_source(sources["mistral"], tmp_path / "source", tokenizer, names)
    _, report = exported(path, tmp_path / "out", sliding_window=None)
    found = fields(report.path)
    assert (found["tokenizer.ggml.model"], found["tokenizer.ggml.add_space_prefix"]) == ("llama", spaces != "never")
    assert found["tokenizer.ggml.token_type"][:4] == [2, 3, 3, 6]
    texts = ["the quick dog", "and  the\n fox ", "naïve 🙂", "quickly, brown", "the quick [tool call]"]
    (result,) = run([{"file": str(report.path), "texts": texts}], tmp_path)
    assert result["ids"] == [load_tokenizer(path)(text)["input_ids"] for text in texts]


def test_tokenizers_that_llama_cpp_cannot_run_are_refused(sources: dict[str, Path], tmp_path: Path) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers

    path = sources["llama-tied"]
    unigram = Tokenizer(models.Unigram([("a", -1.0)], 0))
    unigram_source = tokenizer_source(path, tmp_path / "unigram", unigram, {"eos_token": "a"})
    with pytest.raises(InputError, match="no Unigram tokenizer"):
        exported(unigram_source, tmp_path / "out")
    spaced = byte_level_tokenizer([pre_tokenizers.Whitespace(), pre_tokenizers.ByteLevel()], False)
    other = tokenizer_source(path, tmp_path / "spaced", spaced, {"eos_token": "<|end|>"})
    with pytest.raises(InputError, match="splits text as this one does"):
        exported(other, tmp_path / "out")
    with pytest.raises(InputError, match="300 tokens but the model only 299"):
        read_tokenizer(path, 299, {})
    (tmp_path / "none").mkdir()
    with pytest.raises(InputError, match="has no tokenizer"):
        read_tokenizer(tmp_path / "none", 320, {})
    assert not (tmp_path / "out").exists()
