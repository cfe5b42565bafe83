"""Corpora: every kind of file gives the same blocks, sides never share a text, the cache and the order of training."""

import gzip
import json
import lzma
import multiprocessing
import random
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
import zstandard
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from tools.errors import InputError
from tools.pretraining.corpus import PackedCorpus, load_corpus, prepare_corpus, training_batches
from tools.pretraining.division import divided_corpus, divided_stream
from tools.pretraining.documents import Document, passages
from tools.settings import DataSettings
from tools.sources import load_tokenizer

SMALL = DataSettings(block_length=16, training_tokens=4000, validation_tokens=320)
SHARED = Path(__file__).parents[2] / ".." / "shared" / "data"


def texts(count: int, seed: int = 0) -> list[str]:
    """Distinct documents of 20 to 60 words; each word carries its document's number."""
    chance = random.Random(seed)
    words = ["fox", "dog", "model", "quick", "logits"]
    return [" ".join(f"{chance.choice(words)}{i}" for _ in range(chance.randint(20, 60))) for i in range(count)]


def rows(values: list[str], **extra: list[str]) -> str:
    lists = {"text": values, **extra}
    return "".join(json.dumps(dict(zip(lists, row, strict=True))) + "\n" for row in zip(*lists.values(), strict=True))


@pytest.fixture
def prepared(tokenizer_directory: Path, tmp_path: Path) -> Any:
    def prepare(corpus: Path | str, settings: DataSettings = SMALL) -> PackedCorpus:
        return prepare_corpus(str(corpus), tokenizer_directory, settings, tmp_path / "cache")

    return prepare


def decoded(blocks: np.ndarray[Any, Any], tokenizer_directory: Path) -> str:
    return str(load_tokenizer(tokenizer_directory).decode(blocks.ravel().tolist()))


def test_every_kind_of_file_gives_the_same_blocks(prepared: Any, tmp_path: Path) -> None:
    documents = texts(60)
    jsonl, text = rows(documents).encode(), "\n\n\n".join(documents).encode()
    table = pyarrow.table({"id": list(range(60)), "text": documents})
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet")
    contents = {
        "a.jsonl": jsonl,
        "b.jsonl.gz": gzip.compress(jsonl),
        "c.jsonl.xz": lzma.compress(jsonl),
        "d.jsonl.zst": zstandard.compress(jsonl),
        "e.txt": b"\xef\xbb\xbf" + text,
        "f.txt.gz": gzip.compress(text.replace(b"\n", b"\r\n")),
        "a.parquet.xz": lzma.compress((tmp_path / "a.parquet").read_bytes()),
        "folder/x/1.jsonl": rows(documents[:30]).encode(),
        "folder/2.jsonl.gz": gzip.compress(rows(documents[30:]).encode()),
        "folder/README.md": b"not a part of it",
    }
    for name, content in contents.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(content)
    first = prepared(tmp_path / "a.jsonl")
    assert first.train.shape[1] == first.validation.shape[1] == 16
    assert (first.train.dtype, len(first.validation)) == (np.int32, 20)
    for name in [*contents, "a.parquet", "folder"]:
        if "folder/" not in name:
            other = prepared(tmp_path / name)
            assert np.array_equal(other.train, first.train), name
            assert np.array_equal(other.validation, first.validation), name


def test_sides_share_no_text_and_duplicates_count_once(
    prepared: Any, tokenizer_directory: Path, tmp_path: Path
) -> None:
    documents = texts(50)
    unlimited = DataSettings(block_length=8, training_tokens=10**6, validation_tokens=10**6, validation_share=0.3)
    (tmp_path / "once.jsonl").write_text(rows(documents))
    (tmp_path / "twice.jsonl").write_text(rows([*documents, *(f"  {document}\n" for document in documents)]))
    once, twice = prepared(tmp_path / "once.jsonl", unlimited), prepared(tmp_path / "twice.jsonl", unlimited)
    assert np.array_equal(once.train, twice.train)
    sides = [decoded(blocks, tokenizer_directory) for blocks in (once.train, once.validation)]
    whole = [{i for i, document in enumerate(documents) if f"{document}<|end|>" in side} for side in sides]
    parts = [{i for i, document in enumerate(documents) if document[:30] in side} for side in sides]
    assert not parts[0] & parts[1]
    assert parts[0] | parts[1] == set(range(50))
    # Every document ends with the end-of-text token; only the last of each side may be cut to whole blocks.
    assert all(len(part - complete) <= 1 for part, complete in zip(parts, whole, strict=True))
    assert 0.2 < once.facts.validation_bytes / sum(map(len, documents)) < 0.4


def test_declared_splits(prepared: Any, tokenizer_directory: Path, tmp_path: Path) -> None:
    documents = texts(40)
    unlimited = DataSettings(block_length=8, training_tokens=10**6, validation_tokens=10**6)

    def sides(split: list[str], extra: str = "") -> tuple[str, str]:
        (tmp_path / "c.jsonl").write_text(rows(documents, split=split) + extra)
        packed = prepared(tmp_path / "c.jsonl", unlimited)
        return decoded(packed.train, tokenizer_directory), decoded(packed.validation, tokenizer_directory)

    # Document 39 is also a training row: it stays with validation. Test rows are left out where validation has its own.
    again = rows([documents[39]], split=["train"])
    train, validation = sides(["train"] * 30 + ["test"] * 5 + ["valid"] * 5, again)
    assert sum(document in train for document in documents[:30]) >= 29  # the last is cut to whole blocks
    assert not any(document in train for document in documents[30:])
    assert sum(document in validation for document in documents[35:]) >= 4
    assert not any(document in validation for document in documents[:35])
    train, validation = sides(["train"] * 30 + ["test"] * 10)
    assert sum(document in validation for document in documents[30:]) >= 9
    train, validation = sides(["train"] * 40)  # nothing is held out by name, so the hash decides
    assert 0 < sum(document in validation for document in documents) < 12


@given(st.lists(st.text(min_size=1).filter(str.strip), min_size=2, max_size=30), st.floats(0.01, 0.99))
@hypothesis_settings(max_examples=60, deadline=None)
def test_division_is_a_partition_that_order_does_not_change(values: list[str], share: float) -> None:
    settings = DataSettings(validation_share=share)

    def division(ordered: list[str]) -> dict[str, str]:
        documents = lambda: iter([Document(value) for value in ordered])  # noqa: E731
        return {document.text.strip(): side for document, side in divided_corpus(documents, settings, "values")}

    if len({value.strip() for value in values}) == 1:
        with pytest.raises(InputError, match="only one document"):
            division(values)
        return
    found = division(values)
    assert found.keys() == {value.strip() for value in values}
    assert set(found.values()) == {"train", "validation"}
    assert division(values[::-1]) == found
    streamed = [document.text.strip() for document, _ in divided_stream(map(Document, values), settings)]
    assert sorted(streamed) == sorted(found)


@given(st.text(alphabet="ab \n", max_size=20), st.integers(0, 3000))
def test_passages_lose_nothing(pattern: str, times: int) -> None:
    text = pattern * times
    pieces = list(passages(Document(text, "train")))
    assert "".join(piece.text for piece in pieces) == text
    assert all(0 < len(piece.text) <= 4000 for piece in pieces[:-1])
    assert [piece.complete for piece in pieces] == [False] * (len(pieces) - 1) + [True]


def test_validation_bytes_are_those_of_the_blocks(prepared: Any, tokenizer_directory: Path, tmp_path: Path) -> None:
    (tmp_path / "c.jsonl").write_text(rows([f"é{text}" for text in texts(60)]))
    packed = prepared(tmp_path / "c.jsonl")
    text = decoded(packed.validation, tokenizer_directory).replace("<|end|>", "")
    assert packed.facts.validation_bytes == len(text.encode())
    assert packed.tokens_per_byte == packed.validation.size / len(text.encode())
    assert packed.validation_tokens == 320


def test_cache_is_by_content(prepared: Any, tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(rows(texts(60)))
    first = prepared(tmp_path / "a.jsonl")
    files = {file.name: file.stat().st_ino for file in first.path.iterdir()}
    assert set(files) == {"train.npy", "validation.npy", "corpus.json"}
    assert (first.path.name, len(first.fingerprint)) == (first.fingerprint, 16)
    again = prepared(tmp_path / "a.jsonl")
    assert {file.name: file.stat().st_ino for file in again.path.iterdir()} == files
    assert isinstance(load_corpus(first.path).train, np.memmap)
    other = prepared(tmp_path / "a.jsonl", SMALL.model_copy(update={"block_length": 32}))
    assert other.fingerprint != first.fingerprint
    (tmp_path / "a.jsonl").write_text(rows(texts(61)))
    assert prepared(tmp_path / "a.jsonl").fingerprint not in (first.fingerprint, other.fingerprint)
    # A damaged cache is made again, and opening it directly says so.
    (tmp_path / "a.jsonl").write_text(rows(texts(60)))
    damaged = (first.path / "train.npy").read_bytes()[:100]
    (first.path / "train.npy").unlink()  # the blocks above are mapped from the old file
    (first.path / "train.npy").write_bytes(damaged)
    with pytest.raises(InputError, match="no whole packed corpus"):
        load_corpus(first.path)
    assert np.array_equal(prepared(tmp_path / "a.jsonl").train, again.train)
    assert [file for file in (tmp_path / "cache").iterdir() if ".partial" in file.name] == []


def test_python_docs_in_two_processes_at_once(tokenizer_directory: Path, tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    settings = SMALL.model_copy(update={"training_tokens": 40_000})
    arguments = ("python-docs", tokenizer_directory, settings, tmp_path)
    processes = [context.Process(target=prepare_corpus, args=arguments) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(timeout=120)
    assert [process.exitcode for process in processes] == [0, 0]
    packed = prepare_corpus(*arguments)
    assert packed.train.shape == (2500, 16)
    assert len(packed.validation) == 20
    assert "Python" in decoded(packed.train, tokenizer_directory)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("c.jsonl", "", "is empty"),
        ("c.jsonl", rows(["  "]), "is empty"),
        ("c.jsonl", rows(["one and only"]), "only one document"),
        ("c.jsonl", json.dumps({"body": "x", "title": "y"}), "no field 'text'; .* its fields: body, title"),
        ("c.jsonl", json.dumps({"text": 7}), "no text in 'text' but int"),
        ("c.jsonl", '{"text": "x"}\n{"text', "line 2, is no valid JSON"),
        ("c.jsonl", "[1]", "is no JSON object"),
        ("c.jsonl", rows(["a", "b"]), "has only .* tokens for training, and one block needs 16"),
        ("c.txt.gz", "plain text", "cannot be read"),
        ("c.txt.xz", "plain text", "cannot be read"),
        ("c.txt.zst", "plain text", "cannot be read"),
        ("c.parquet", "plain text", "cannot be read as Parquet"),
        ("c.pdf", "x", "of unknown kind"),
        ("folder/c.pdf", "x", "holds no corpus"),
    ],
)
def test_bad_corpora(prepared: Any, tmp_path: Path, name: str, content: str, message: str) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text(content)
    with pytest.raises(InputError, match=message) as caught:
        prepared(tmp_path / name.split("/")[0])
    assert "\n" not in str(caught.value)
    assert not [file for file in (tmp_path / "cache").glob("*") if file.suffix != ".lock"]


def test_bad_names_limits_and_tokenizers(
    prepared: Any, sources: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "c.jsonl").write_text(rows(texts(20)))
    pyarrow.parquet.write_table(pyarrow.table({"body": ["x"]}), tmp_path / "c.parquet")
    with pytest.raises(InputError, match=r"no field 'text'; .* its fields: body"):
        prepared(tmp_path / "c.parquet")
    (tmp_path / "cut.txt.gz").write_bytes(gzip.compress(b"text " * 1000)[:-12])
    with pytest.raises(InputError, match=r"cut\.txt\.gz cannot be read"):
        prepared(tmp_path / "cut.txt.gz")
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9")
    with pytest.raises(InputError, match=r"latin\.txt cannot be read"):
        prepared(tmp_path / "latin.txt")
    with pytest.raises(InputError, match="There is no corpus file"):
        prepared(tmp_path / "missing.jsonl")
    with pytest.raises(InputError, match="There is no corpus 'missing'"):
        prepared("missing")
    with pytest.raises(InputError, match="limit of 5 validation tokens is below one block"):
        prepared(tmp_path / "c.jsonl", SMALL.model_copy(update={"validation_tokens": 5}))
    with pytest.raises(InputError, match="has no tokenizer"):
        prepare_corpus("python-docs", tmp_path, SMALL, tmp_path / "cache")
    config = sources["llama-tied"] / "config.json"
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    for file in ("tokenizer.json", "tokenizer_config.json"):
        (foreign / file).write_bytes((sources["llama-tied"] / file).read_bytes())
    (foreign / "config.json").write_text(json.dumps(json.loads(config.read_text()) | {"vocab_size": 100}))
    with pytest.raises(InputError, match="but the model knows only 100"):
        prepare_corpus("python-docs", foreign, SMALL, tmp_path / "cache")
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(InputError, match="no local path nobody/nothing, and the hub cannot be reached"):
        prepared("nobody/nothing")


def test_half_of_a_surrogate_pair_is_replaced(prepared: Any, tmp_path: Path) -> None:
    (tmp_path / "c.jsonl").write_text(rows(texts(40)) + '{"text": "half \\ud800 pair"}\n')
    assert len(prepared(tmp_path / "c.jsonl").train) > 0


@pytest.mark.skipif(not SHARED.is_dir(), reason="the shared data is not on this machine")
@pytest.mark.parametrize("name", ["tinystories_sample/tinystories_sample.jsonl.gz", "wikitext2", "tinyshakespeare"])
def test_real_text(prepared: Any, tokenizer_directory: Path, name: str) -> None:
    packed = prepared(SHARED / name)
    assert packed.train.shape == (250, 16)
    assert len(packed.validation) == 20


@given(st.integers(1, 40), st.integers(1, 9), st.integers(0, 5), st.integers(0, 60))
def test_training_order(count: int, batch_size: int, seed: int, start: int) -> None:
    blocks = np.arange(count, dtype=np.int32)[:, None].repeat(8, axis=1)

    def batches(first: int) -> Iterator[np.ndarray[Any, Any]]:
        return training_batches(blocks, batch_size, seed, start=first)

    whole = np.concatenate(list(islice(batches(0), 3 * count)))[:, 0]
    assert np.array_equal(next(batches(start)), next(islice(batches(0), start, None)))
    for epoch in range(3):
        assert sorted(whole[epoch * count : (epoch + 1) * count]) == list(range(count))
    if count > 20:
        assert not np.array_equal(whole[:count], whole[count : 2 * count])
        assert not np.array_equal(
            whole, np.concatenate(list(islice(training_batches(blocks, batch_size, seed + 1), 3 * count)))[:, 0]
        )
    assert next(batches(0)).dtype == np.int32
