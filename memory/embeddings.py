"""How designs and texts become vectors, without any model and without any download.

Designs: their widths relative to the source's, layer by layer, so that near means similar in shape.
Texts: hashed words, pairs of words and runs of letters, so that near means similar in wording.
"""

import re
from collections.abc import Sequence
from functools import cache, lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from tools.architecture import Architecture, LayerShape

if TYPE_CHECKING:
    from numpy.typing import NDArray

POSITIONS = 32  # depths to which every design is resampled
ARCHITECTURE_DIMENSIONS = 2 + 3 * POSITIONS
TEXT_DIMENSIONS = 256  # half of them for words, half for runs of letters
# Names of both embeddings. Whoever changes what vectors they give changes the name, and stores are made again.
ARCHITECTURE_EMBEDDING = f"widths{ARCHITECTURE_DIMENSIONS}"
TEXT_EMBEDDING = f"hashed{TEXT_DIMENSIONS}"
_HALF = TEXT_DIMENSIONS // 2
# One-letter words are kept: designs are written in numbers.
_WORD = re.compile(r"\b\w+\b")
_RUNS = range(3, 6)
_KEPT = 100_000  # words and pairs


def embed_architecture(architecture: Architecture, reference: Architecture) -> "NDArray[np.float32]":
    """The vector of a design, 2 + 3 * 32 float32 values; `reference` is the source model that it was cut from.

    The squared Euclidean distance of two vectors is the sum of five squared differences relative to the source: of the
    hidden sizes, of the depths, and, in the mean over 32 positions along the depth, of the key/value heads, the query
    heads and the FFN widths. The source itself becomes 1 at each width that all of its layers have.
    """
    ratios = architecture.hidden_size / reference.hidden_size, len(architecture.layers) / len(reference.layers)
    widths = np.array([_widths(layer) for layer in architecture.layers], dtype=np.float64)
    widest = np.max([_widths(layer) for layer in reference.layers], axis=0)
    resampled = (widths / widest).T @ _resampling(len(architecture.layers))
    return np.concatenate([ratios, resampled.ravel()]).astype(np.float32)


def _widths(layer: LayerShape) -> tuple[int, int, int]:
    return layer.num_key_value_heads, layer.num_attention_heads, layer.intermediate_size


@cache
def _resampling(layers: int) -> "NDArray[np.float64]":
    """Takes values per layer [layers] to values per position [32] over the root of 32.

    The value at a position is the mean over the stretch of layers that it covers.
    """
    edges = np.linspace(0, layers, POSITIONS + 1)
    integrals = np.tri(layers + 1, layers, -1)
    at_edges = np.stack([np.interp(edges, np.arange(layers + 1), column) for column in integrals.T])
    return np.asarray(np.diff(at_edges) * np.sqrt(POSITIONS) / layers, dtype=np.float64)


def embed_texts(texts: Sequence[str]) -> "NDArray[np.float32]":
    """Unit vectors of texts, shape (texts, 256), float32; an empty text gets an arbitrary fixed one."""
    if not texts:
        return np.zeros((0, TEXT_DIMENSIONS), dtype=np.float32)
    slots, lengths = list[int](), list[int]()
    for text in texts:
        before, lowered = len(slots), text.lower()
        words = _WORD.findall(lowered)
        slots += map(_slot, words)
        slots += map(_slot, map(" ".join, pairwise(words)))
        for part in lowered.split():
            slots += _slots_of_letters(part)
        lengths.append(len(slots) - before)
    rows = np.repeat(np.arange(len(texts)), lengths)
    places = rows * (2 * TEXT_DIMENSIONS) + np.array(slots, dtype=np.int64)
    counts = np.bincount(places, minlength=2 * TEXT_DIMENSIONS * len(texts)).reshape(len(texts), 2, 2, -1)
    halves = (counts[:, :, 0] - counts[:, :, 1]).astype(np.float64)
    halves /= _or_one(np.linalg.norm(halves, axis=2, keepdims=True))
    vectors = halves.reshape(len(texts), TEXT_DIMENSIONS).astype(np.float32)
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    # The cosine with a zero vector is not a number.
    vectors[norms[:, 0] == 0, 0] = 1
    return np.asarray(vectors / _or_one(norms), dtype=np.float32)


def _or_one(lengths: "NDArray[np.floating]") -> "NDArray[np.floating]":
    return np.where(lengths == 0, 1, lengths)


@lru_cache(maxsize=_KEPT)
def _slot(gram: str) -> int:
    """Where a word or pair of words counts: in the first half of the vector by its hash, upwards or downwards."""
    place, is_negative = _hashed(gram)
    return place + _HALF * is_negative


@lru_cache(maxsize=_KEPT)
def _slots_of_letters(part: str) -> list[int]:
    """The same of the runs of letters of a part between white space, in the second half; its ends count as letters."""
    padded = f" {part} "
    found = list[int]()
    for length in _RUNS:
        # What is shorter counts once.
        for start in range(max(1, len(padded) - length + 1)):
            place, is_negative = _hashed(padded[start : start + length])
            found.append(place + _HALF * (2 + is_negative))
        if len(padded) <= length:
            break
    return found


def _hashed(gram: str) -> tuple[int, bool]:
    """The place and the sign that scikit-learn's `HashingVectorizer` gives it (Weinberger et al. 2009)."""
    from mmh3 import hash as murmurhash3

    value = murmurhash3(gram, 0)
    return abs(value) % _HALF, value < 0
