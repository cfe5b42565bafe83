"""The text embedding in the form that Chroma stores by name with a collection and makes again when it is opened."""

from typing import Any

import numpy as np
from chromadb.api.types import Documents, EmbeddingFunction, Embeddings, Space
from chromadb.utils.embedding_functions import register_embedding_function

from memory.embeddings import embed_texts


@register_embedding_function
class HashedTextEmbedding(EmbeddingFunction[Documents]):
    """Hashed words and runs of letters; computed here, nothing is downloaded."""

    def __init__(self) -> None:
        pass

    def __call__(self, input: Documents) -> Embeddings:
        return [np.asarray(vector, dtype=np.float32) for vector in embed_texts(input)]

    @staticmethod
    def name() -> str:
        """The name under which Chroma finds this class again."""
        return "penjing_hashed_text"

    def default_space(self) -> Space:
        """Cosine: the length of a text does not matter."""
        return "cosine"

    def supported_spaces(self) -> list[Space]:
        """Vectors have unit length, so all spaces rank alike."""
        return ["cosine", "l2", "ip"]

    def get_config(self) -> dict[str, Any]:
        """There is nothing to configure."""
        return {}

    @staticmethod
    def build_from_config(config: dict[str, Any]) -> "HashedTextEmbedding":
        """The same embedding again."""
        return HashedTextEmbedding()
