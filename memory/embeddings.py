"""How designs and texts become vectors, without any model and without any download.

Designs: their widths relative to the source's, layer by layer, so that near means similar in shape.
Texts: hashed words, pairs of words and runs of letters, so that near means similar in wording.
"""

from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from tools.architecture import Architecture, LayerShape

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from sklearn.feature_extraction.text import HashingVectorizer

POSITIONS = 32  # depths to which every design is resampled
ARCHITECTURE_DIMENSIONS = 2 + 3 * POSITIONS
TEXT_DIMENSIONS = 256  # half of them for words, half for runs of letters
# Names of both embeddings. Whoever changes what vectors they give changes the name, and stores are made again.
ARCHITECTURE_EMBEDDING = f"widths{ARCHITECTURE_DIMENSIONS}"
TEXT_EMBEDDING = f"hashed{TEXT_DIMENSIONS}"


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
    halves = [np.asarray(vectorizer.transform(texts).todense()) for vectorizer in _vectorizers()]
    vectors = np.concatenate(halves, axis=1).astype(np.float32)
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    # The cosine with a zero vector is not a number.
    vectors[lengths[:, 0] == 0, 0] = 1
    return np.asarray(vectors / np.where(lengths == 0, 1, lengths), dtype=np.float32)


@cache
def _vectorizers() -> "tuple[HashingVectorizer, ...]":
    from sklearn.feature_extraction.text import HashingVectorizer

    half = TEXT_DIMENSIONS // 2
    return (
        # One-letter words are kept: designs are written in numbers.
        HashingVectorizer(n_features=half, ngram_range=(1, 2), token_pattern=r"(?u)\b\w+\b", norm="l2"),  # noqa: S106
        HashingVectorizer(n_features=half, analyzer="char_wb", ngram_range=(3, 5), norm="l2"),
    )
