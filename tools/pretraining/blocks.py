"""Packed blocks of tokens: their files, and the order in which training sees them."""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tools.errors import InputError

Blocks = npt.NDArray[np.int32]


@dataclass(frozen=True)
class CorpusFacts:
    """What is known of a packed corpus. `validation_bytes` is the UTF-8 length of the text in the validation blocks."""

    name: str
    fingerprint: str
    request: str
    block_length: int
    train_passages: int
    validation_passages: int
    train_blocks: int
    validation_blocks: int
    validation_bytes: int


@dataclass(frozen=True)
class PackedCorpus:
    """Blocks of token ids, int32 [blocks, block_length], for training and for validation; mapped from `path`."""

    path: Path
    facts: CorpusFacts
    train: Blocks
    validation: Blocks

    @property
    def fingerprint(self) -> str:
        """16 hexadecimal digits: equal for equal text, tokenizer and settings."""
        return self.facts.fingerprint

    @property
    def validation_tokens(self) -> int:
        return int(self.validation.size)

    @property
    def tokens_per_byte(self) -> float:
        """Validation tokens for each byte of text: bits per byte = loss in nats per token x this / ln 2."""
        return self.validation_tokens / max(1, self.facts.validation_bytes)


def save_corpus(directory: Path, corpus: PackedCorpus) -> None:
    """Write train.npy, validation.npy and corpus.json."""
    np.save(directory / "train.npy", corpus.train, allow_pickle=False)
    np.save(directory / "validation.npy", corpus.validation, allow_pickle=False)
    (directory / "corpus.json").write_text(json.dumps(asdict(corpus.facts), indent=1) + "\n", encoding="utf-8")


def load_corpus(directory: Path) -> PackedCorpus:
    """Map a packed corpus from its files. Raises InputError where they are missing or damaged."""
    found = find_corpus(directory)
    if found is None:
        raise InputError(f"There is no whole packed corpus in {directory}; prepare the corpus again.")
    return found


def find_corpus(directory: Path) -> PackedCorpus | None:
    """Map a packed corpus from its files, or None where they are missing or damaged."""
    try:
        facts = CorpusFacts(**json.loads((directory / "corpus.json").read_text(encoding="utf-8")))
        train = np.load(directory / "train.npy", mmap_mode="r", allow_pickle=False)
        validation = np.load(directory / "validation.npy", mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, TypeError, EOFError):
        return None
    shapes = ((facts.train_blocks, facts.block_length), (facts.validation_blocks, facts.block_length))
    return PackedCorpus(directory, facts, train, validation) if (train.shape, validation.shape) == shapes else None


def training_batches(blocks: Blocks, batch_size: int, seed: int, start: int = 0) -> Iterator[Blocks]:
    """Batches int32 [batch_size, block_length] from step `start` on, without end.

    Every epoch sees each block once, in an order that `seed` and the epoch's number decide. Batch k does not depend on
    `start`, so training goes on exactly where it stopped; a batch may reach over the end of an epoch.
    """
    epoch, order = -1, np.empty(0, dtype=np.int64)
    step = start
    while True:
        rows = []
        for position in range(step * batch_size, (step + 1) * batch_size):
            if position // len(blocks) != epoch:
                epoch = position // len(blocks)
                order = np.random.default_rng([seed, epoch]).permutation(len(blocks))
            rows.append(order[position % len(blocks)])
        yield np.asarray(blocks[rows])
        step += 1
