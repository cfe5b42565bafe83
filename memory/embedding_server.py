"""Text embeddings by a server that speaks OpenAI's protocol: POST /embeddings, the key from OPENAI_API_KEY alone."""

import hashlib
import json
import os
import re
import time
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from memory.text_embedding import HASHED, OPENAI, TextEmbedding
from tools.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    from httpx2 import Response
    from numpy.typing import NDArray

OFFICIAL = "https://api.openai.com/v1"
_BATCH = 128  # texts in one request
_MOST_LETTERS = 20_000  # of one text; longer ones are cut, since models refuse them
_ATTEMPTS = 4
_TIMEOUT_SECONDS = 30.0
_LONGEST_WAIT = 20.0
_PASSING = {408, 409, 429, 500, 502, 503, 504}


class EmbeddingError(InputError):
    """The server of the text embedding gave none."""


def text_embedding_of(setting: str, base_url: str | None = None) -> TextEmbedding:
    """The embedding that the settings name: `hashed`, or `openai:MODEL` at `base_url` (OPENAI_BASE_URL, OpenAI).

    Raises:
        InputError: it is no name of one.
    """
    if setting == "hashed":
        return HASHED
    provider, _, model = setting.partition(":")
    if provider != "openai" or not model:
        raise InputError(f"text_embedding is hashed or openai:MODEL, not {setting!r}")
    return ServedTextEmbedding(model, (base_url or os.environ.get("OPENAI_BASE_URL") or OFFICIAL).rstrip("/"))


class ServedTextEmbedding:
    """Embeddings of one model at one address. Its first use asks the server how long its vectors are."""

    def __init__(self, model: str, base_url: str) -> None:
        self.model, self.base_url = model, base_url

    @cached_property
    def dimensions(self) -> int:
        """As the server's first answer has it. Raises `EmbeddingError`."""
        return int(self.embed(["length"]).shape[1])

    @cached_property
    def name(self) -> str:
        """Of the model, its address and the length of its vectors. Raises `EmbeddingError`."""
        place = hashlib.sha256(f"{self.base_url} {self.model}".encode()).hexdigest()[:8]
        plain = re.sub(r"[^a-zA-Z0-9]+", "-", self.model).strip("-")[:80]
        return f"{OPENAI}{plain}-{place}-{self.dimensions}"

    def embed(self, texts: Sequence[str]) -> "NDArray[np.float32]":
        """Vectors [texts, dimensions] as the server gives them. Raises `EmbeddingError` where it gives none."""
        import numpy as np

        rows: list[Any] = []
        for start in range(0, len(texts), _BATCH):
            rows += self._asked([text[:_MOST_LETTERS] or " " for text in texts[start : start + _BATCH]])
        try:
            vectors = np.asarray(rows, dtype=np.float32)
        except (TypeError, ValueError) as error:
            raise self._failed("its answer holds no vectors") from error
        if vectors.ndim != 2 or len(vectors) != len(texts) or not np.isfinite(vectors).all():
            raise self._failed("its answer holds no vectors of one length for all texts")
        return vectors

    def _asked(self, texts: list[str]) -> list[Any]:
        response = self._post({"model": self.model, "input": texts, "encoding_format": "float"})
        try:
            rows = {row["index"]: row["embedding"] for row in response.json()["data"]}
            return [rows[place] for place in range(len(texts))]
        except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError) as error:
            raise self._failed("its answer is no list of embeddings") from error

    def _post(self, body: dict[str, Any]) -> "Response":
        from httpx2 import Client, TransportError

        key = os.environ.get("OPENAI_API_KEY")
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        trouble, wait = "", 0.5
        with Client(timeout=_TIMEOUT_SECONDS, headers=headers) as client:
            for attempt in range(_ATTEMPTS):
                if attempt:
                    time.sleep(min(wait, _LONGEST_WAIT))
                    wait = 2 ** (attempt - 1)
                try:
                    response = client.post(f"{self.base_url}/embeddings", json=body)
                except TransportError as error:
                    trouble = str(error) or type(error).__name__
                    continue
                if response.is_success:
                    return response
                trouble = f"HTTP {response.status_code}{_reason(response)}"
                if response.status_code not in _PASSING:
                    break
                wait = _seconds(response.headers.get("Retry-After")) or wait
        raise self._failed(trouble)

    def _failed(self, trouble: str) -> EmbeddingError:
        return EmbeddingError(
            f"texts cannot be embedded with {self.model} at {self.base_url} ({trouble}); "
            "check OPENAI_API_KEY, the address and the model, or set text_embedding to hashed"
        )


def _reason(response: "Response") -> str:
    try:
        return f": {response.json()['error']['message']}"
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError):
        return ""


def _seconds(header: str | None) -> float:
    try:
        return float(header or 0)
    except ValueError:
        return 0.0
