"""Perplexity in three conventions, each against a computation by hand or lm-eval's own; and what bits per byte are."""

import gzip
import hashlib
import json
import lzma
import math
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional as F
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM, PreTrainedTokenizerFast

from tools.errors import InputError
from tools.evaluate import EvaluateRequest, evaluate
from tools.evaluation.evaluation_text import EvaluationText, limited, read_evaluation_text
from tools.evaluation.results import CONVENTIONS, PerplexityResult
from tools.quiet import quiet_transformers

PLAIN = "The quick brown fox jumps over the lazy dog, and a cut model gives “the same” logits. " * 12

WIKI = (
    " = First page = \n \n The fox @-@ like dog , as it was called , weighed 1 @,@ 200 grams . \n"
    ' It " jumped " over 3 @.@ 5 dogs ( lazy ones ) . \n \n = = Section = = \n \n It \'s small . \n'
    " = Second page = \n \n A cut model ; a masked one . \n"
)


@pytest.fixture
def perplexities(tmp_path: Path, sources: dict[str, Path]) -> Callable[..., tuple[PerplexityResult, ...]]:
    """Evaluates a text by the tiny Llama in float32; the text goes through a file."""

    def take(text: str, *conventions: str, **more: Any) -> tuple[PerplexityResult, ...]:
        file = tmp_path / "text.txt"
        file.write_text(text)
        values = {"model": str(sources["llama-tied"]), "tasks": (), "precision": "float32", "text": file}
        request = {**values, "perplexity": conventions, "cache": tmp_path / "cache", "task_data": None, **more}
        return evaluate(EvaluateRequest.model_validate(request)).perplexities

    return take


def log_probabilities(path: Path, ids: list[int]) -> torch.Tensor:
    """log P of each token but the first, given those before it, in float64."""
    model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32)
    with torch.no_grad():
        scores = F.log_softmax(model(torch.tensor([ids])).logits[0].double(), dim=-1)
    return scores[:-1].gather(1, torch.tensor(ids[1:])[:, None])[:, 0]


def test_windows_of_128_by_hand(
    perplexities: Callable[..., tuple[PerplexityResult, ...]], sources: dict[str, Path]
) -> None:
    (found,) = perplexities(PLAIN, "seq-128")
    tokenizer = AutoTokenizer.from_pretrained(sources["llama-tied"])
    ids = tokenizer(PLAIN)["input_ids"]
    windows = [ids[start : start + 128] for start in range(0, len(ids) - 127, 128)]
    losses = [-log_probabilities(sources["llama-tied"], window) for window in windows]
    mean = float(torch.cat(losses).mean())
    assert found.loss == pytest.approx(mean, rel=1e-5) and found.perplexity == pytest.approx(math.exp(mean), rel=1e-5)
    assert (found.windows, found.tokens) == (len(windows), 127 * len(windows)) and len(windows) > 2
    assert (found.sequence_length, found.stride, found.per, found.bos) == (128, 128, "token", "none")
    covered = len(tokenizer.decode(ids[: 128 * len(windows)]).encode())
    assert found.bits_per_byte == pytest.approx(mean / math.log(2) * 128 * len(windows) / covered, rel=1e-5)
    assert found.text == "text.txt" and found.text_bytes == len(PLAIN.encode()) > len(PLAIN)
    assert found.text_sha256 == hashlib.sha256(PLAIN.encode()).hexdigest() and found.precision == "float32"


def test_word_perplexity_by_hand(
    perplexities: Callable[..., tuple[PerplexityResult, ...]], sources: dict[str, Path]
) -> None:
    """One window: the beginning-of-text token stands before the text, and every token of the text is predicted."""
    text = PLAIN[:300]
    (found,) = perplexities(text, "lm-eval-word")
    tokenizer = AutoTokenizer.from_pretrained(sources["llama-tied"])
    ids = tokenizer(text)["input_ids"]
    total = float(log_probabilities(sources["llama-tied"], [tokenizer.bos_token_id, *ids]).sum())
    words = len(re.split(r"\s+", text))
    assert found.perplexity == pytest.approx(math.exp(-total / words), rel=1e-5) and found.per == "word"
    assert found.bits_per_byte == pytest.approx(-total / math.log(2) / len(text.encode()), rel=1e-5)
    assert found.loss == pytest.approx(-total / len(ids), rel=1e-5)
    assert (found.tokens, found.windows, found.bos) == (len(ids), 1, "<|end|> before each page") and len(ids) < 256


@pytest.mark.parametrize("max_length", [32, 2048])
def test_word_perplexity_of_wikitext_is_lm_evals_own(
    max_length: int, perplexities: Callable[..., tuple[PerplexityResult, ...]], sources: dict[str, Path], tmp_path: Path
) -> None:
    """Against lm-eval's definition of its task, its loading, and pages that were cut by hand."""
    import datasets
    from lm_eval import simple_evaluate
    from lm_eval import tasks as lm_eval_tasks
    from lm_eval.api.task import ConfigurableTask
    from lm_eval.tasks._yaml_loader import load_yaml

    middle = WIKI.index(" = Second page")
    rows = datasets.Dataset.from_list([{"page": WIKI[:middle]}, {"page": WIKI[middle:]}])
    own = load_yaml(Path(lm_eval_tasks.__file__).parent / "wikitext" / "wikitext.yaml", resolve_func=True)
    own = {key: value for key, value in own.items() if not key.startswith("dataset")}
    splits = dict.fromkeys(("train", "validation", "test"), rows)
    context = min(max_length, 256)
    theirs: Any = simple_evaluate(
        model="hf",
        model_args={"pretrained": str(sources["llama-tied"]), "dtype": "float32", "max_length": context},
        tasks=[ConfigurableTask(config={**own, "custom_dataset": lambda **_: splits})],
        device="cpu",
        task_manager=lm_eval_tasks.TaskManager(include_defaults=False),
    )
    (found,) = perplexities(WIKI, "lm-eval-word", max_length=max_length)
    row = theirs["results"]["wikitext"]
    assert found.perplexity == pytest.approx(row["word_perplexity,none"], rel=1e-5)
    assert found.bits_per_byte == pytest.approx(row["bits_per_byte,none"], rel=1e-5)
    assert (found.windows, found.sequence_length) == (2, context)


def test_peers_join_the_rows_of_wikitext_before_they_cut_windows(
    perplexities: Callable[..., tuple[PerplexityResult, ...]], sources: dict[str, Path]
) -> None:
    text = WIKI * 6
    rows = ["" if line == " \n" else line for line in text.splitlines(keepends=True)]  # as the data set has them
    ids = AutoTokenizer.from_pretrained(sources["llama-tied"])("\n\n".join(rows))["input_ids"]
    windows = [ids[start : start + 128] for start in range(0, len(ids) - 127, 128)]
    losses = [-log_probabilities(sources["llama-tied"], window) for window in windows]
    (found,) = perplexities(text, "seq-128")
    assert found.windows == len(windows) and found.loss == pytest.approx(float(torch.cat(losses).mean()), rel=1e-5)


def uniform_model(folder: Path, pieces: list[str], vocabulary: int) -> Path:
    """A model to which all tokens are always alike; its tokenizer cuts text into these pieces, which are equally long.

    The vocabulary is filled with a mark for the beginning of a text and with tokens that no text has.
    """
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig

    mark = "<s>"
    names = [mark, *pieces, *(f"<{number}>" for number in range(vocabulary - len(pieces) - 1))]
    tokenizer = Tokenizer(models.WordLevel({name: index for index, name in enumerate(names)}, unk_token=mark))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(f".{{{len(pieces[0])}}}"), "isolated")
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token=mark, eos_token=mark)
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=4096,
        bos_token_id=0,
        eos_token_id=0,
    )
    model = LlamaForCausalLM(config)
    with torch.no_grad():
        model.lm_head.weight.zero_()
    with quiet_transformers():
        model.save_pretrained(folder)
    fast.save_pretrained(folder)
    return folder


def test_bits_per_byte_do_not_hang_on_the_tokenizer(
    perplexities: Callable[..., tuple[PerplexityResult, ...]], tmp_path: Path
) -> None:
    """Two bits for each letter, be it that a letter is one of 4 tokens, or two letters are one of 16."""
    letters = "".join("ab"[int(bit)] for bit in torch.randint(2, (8192,), generator=torch.Generator().manual_seed(1)))
    single = perplexities(letters, *CONVENTIONS, model=str(uniform_model(tmp_path / "single", ["a", "b"], 4)))
    double = ["aa", "ab", "ba", "bb"]
    pairs = perplexities(letters, *CONVENTIONS, model=str(uniform_model(tmp_path / "pairs", double, 16)))
    for one, two in zip(single, pairs, strict=True):
        assert one.convention == two.convention and one.text_sha256 == two.text_sha256
        assert one.bits_per_byte == pytest.approx(2, rel=1e-6) and two.bits_per_byte == pytest.approx(2, rel=1e-6)
    assert single[0].perplexity == pytest.approx(4) and pairs[0].perplexity == pytest.approx(16), "no comparison"
    assert [result.sequence_length for result in single] == [128, 2048, 2048]
    assert single[2].words == 1 and single[2].tokens == 8192 and pairs[2].tokens == 4096


def test_a_tokenizer_that_adds_a_beginning_marks_the_first_window_only(
    perplexities: Callable[..., tuple[PerplexityResult, ...]], sources: dict[str, Path], tmp_path: Path
) -> None:
    from tokenizers import Tokenizer
    from tokenizers.processors import TemplateProcessing

    model = Path(shutil.copytree(sources["llama-tied"], tmp_path / "model"))
    tokenizer = Tokenizer.from_file(str(model / "tokenizer.json"))
    tokenizer.post_processor = TemplateProcessing(single="<|end|> $A", special_tokens=[("<|end|>", 0)])
    tokenizer.save(str(model / "tokenizer.json"))
    (found,) = perplexities(PLAIN, "seq-128", model=str(model))
    ids = [0, *AutoTokenizer.from_pretrained(sources["llama-tied"])(PLAIN)["input_ids"]]
    windows = [ids[start : start + 128] for start in range(0, len(ids) - 127, 128)]
    losses = [-log_probabilities(model, window) for window in windows]
    assert found.bos == "first window only (<|end|>)"
    assert found.loss == pytest.approx(float(torch.cat(losses).mean()), rel=1e-5)


def test_conventions_that_cannot_be_had_say_why(
    perplexities: Callable[..., tuple[PerplexityResult, ...]],
) -> None:
    wide, long = perplexities(PLAIN[:60], "seq-128", "seq-2048")
    assert wide.perplexity is None and re.fullmatch(r"the text has \d+ tokens, less than one window", wide.note)
    assert long.perplexity is None and long.note == "the model's context is 256 tokens"


def test_a_perplexity_is_paid_for_once(
    perplexities: Callable[..., tuple[PerplexityResult, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = perplexities(PLAIN, "seq-128", "lm-eval-word")

    def refuse(*_: Any) -> None:
        raise AssertionError("the model was loaded")

    with monkeypatch.context() as nothing_loads:
        nothing_loads.setattr("tools.evaluation.loaded_model.load_evaluated", refuse)
        again = perplexities(PLAIN, "seq-128", "lm-eval-word")
    assert all(found.cached for found in again)
    assert [found.perplexity for found in again] == [found.perplexity for found in first]
    assert not perplexities(PLAIN + "!", "seq-128")[0].cached
    assert perplexities(PLAIN, "seq-128", max_length=64)[0].cached, "windows do not hang on lm-eval's context"
    assert not perplexities(PLAIN, "lm-eval-word", max_length=64)[0].cached


def test_the_beginning_of_a_text_ends_between_words(
    perplexities: Callable[..., tuple[PerplexityResult, ...]], sources: dict[str, Path]
) -> None:
    tokenizer = AutoTokenizer.from_pretrained(sources["llama-tied"])
    text = EvaluationText("text", PLAIN)
    part = limited(text, tokenizer, 200)
    assert PLAIN.startswith(part.text) and PLAIN[len(part.text)] == " "
    tokens = len(tokenizer(part.text)["input_ids"])
    assert 180 < tokens <= 200 and part.name == "the beginning of text"
    assert limited(text, tokenizer, None) is text and limited(text, tokenizer, 10**6) is text
    (found,) = perplexities(PLAIN, "seq-128", limit_tokens=200)
    assert found.windows == 1 and found.text_bytes == part.bytes and found.text == "the beginning of text.txt"


def test_dense_figures_stand_beside(
    perplexities: Callable[..., tuple[PerplexityResult, ...]], sources: dict[str, Path], tmp_path: Path
) -> None:
    (alone,) = perplexities(PLAIN, "seq-128", model=str(sources["qwen2"]))
    request = EvaluateRequest(
        model=str(sources["llama-tied"]),
        dense=str(sources["qwen2"]),
        tasks=(),
        perplexity=("seq-128",),
        text=tmp_path / "text.txt",
        precision="float32",
        cache=tmp_path / "cache",
    )
    result = evaluate(request)
    assert result.dense is not None and result.dense.perplexities[0].perplexity == alone.perplexity
    assert result.dense.perplexities[0].cached and result.perplexities[0].perplexity != alone.perplexity


def test_texts_are_read_from_files_and_from_beside_the_task_data(tmp_path: Path) -> None:
    (tmp_path / "wikitext2").mkdir()
    (tmp_path / "benchmarks").mkdir()
    packed = tmp_path / "wikitext2" / "wiki.test.raw.gz"
    packed.write_bytes(gzip.compress(WIKI.encode()))
    found = read_evaluation_text(None, tmp_path / "benchmarks")
    assert (found.name, found.text) == ("wiki.test.raw.gz", WIKI)
    assert found.pages == [WIKI[: WIKI.index(" = Second")], WIKI[WIKI.index(" = Second") :]]
    (tmp_path / "other.txt.xz").write_bytes(lzma.compress(PLAIN.encode()))
    other = read_evaluation_text(tmp_path / "other.txt.xz", tmp_path / "benchmarks")
    assert other.text == PLAIN and other.pages == [PLAIN] and other.joined == PLAIN and not other.is_wikitext


def test_texts_that_cannot_be_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets
    import huggingface_hub.constants

    (tmp_path / "blank.txt").write_text(" \n")
    (tmp_path / "latin.txt").write_bytes("Müller".encode("latin-1"))
    (tmp_path / "damaged.gz").write_bytes(gzip.compress(b"text" * 100)[:20])
    for name, words in (
        ("nowhere.txt", "cannot be read"),
        ("blank.txt", "is empty"),
        ("latin.txt", "give a UTF-8 text file"),
        ("damaged.gz", "cannot be read"),
    ):
        with pytest.raises(InputError, match=words):
            read_evaluation_text(tmp_path / name, None)
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path)
    with pytest.raises(
        InputError, match=r"Salesforce/wikitext cannot be had from the hub \(it cannot be reached.*--text"
    ):
        read_evaluation_text(None, None)


def test_results_have_no_figures_that_json_cannot_hold(
    perplexities: Callable[..., tuple[PerplexityResult, ...]], sources: dict[str, Path], tmp_path: Path
) -> None:
    """A model whose numbers are not finite gives a result that can be written and read."""
    from safetensors.torch import load_file, save_file

    model = Path(shutil.copytree(sources["llama-tied"], tmp_path / "broken"))
    tensors = load_file(model / "model.safetensors")
    tensors["model.norm.weight"].fill_(math.nan)
    save_file(tensors, model / "model.safetensors", metadata={"format": "pt"})
    (found,) = perplexities(PLAIN, "seq-128", model=str(model))
    assert found.perplexity is None and found.note == "the model's loss is not finite"
    assert json.loads(found.model_dump_json())["perplexity"] is None
