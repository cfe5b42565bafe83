"""How lessons and prompts become vectors: hashed here, or by a server that speaks OpenAI's protocol."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from memory.embeddings import TEXT_DIMENSIONS, TEXT_EMBEDDING, embed_texts

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

OPENAI = "openai-"
"""How the names of embeddings by a server begin."""


class TextEmbedding(Protocol):
    """Texts -> vectors [texts, dimensions], float32. Vectors compare only where the names are the same."""

    @property
    def name(self) -> str:
        """Letters, digits, dots, dashes and underscores; it is part of the names of collections."""

    @property
    def dimensions(self) -> int:
        """Length of the vectors."""

    def embed(self, texts: Sequence[str]) -> "NDArray[np.float32]":
        """One vector for each text. Raises `EmbeddingError` where it cannot be made."""


class HashedTextEmbedding:
    """Hashed words and runs of letters; computed here, nothing is downloaded."""

    name = TEXT_EMBEDDING
    dimensions = TEXT_DIMENSIONS

    def embed(self, texts: Sequence[str]) -> "NDArray[np.float32]":
        """Unit vectors."""
        return embed_texts(texts)


HASHED = HashedTextEmbedding()
