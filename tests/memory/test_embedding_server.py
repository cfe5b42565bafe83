"""Text embeddings by a real HTTP server: batches, retries, one sentence for failures, never two in one collection."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from memory.embedding_server import EmbeddingError, ServedTextEmbedding, text_embedding_of
from memory.rebuild import index_trials, open_vectors, reconcile_vectors
from memory.records import Records
from memory.text_embedding import HASHED
from tests.fake_openai import KEY, FakeOpenAI, Garbage, Status
from tools.errors import InputError


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeOpenAI]:
    with FakeOpenAI(key=KEY, models=("small",)) as running:
        running.set_environment(monkeypatch)
        yield running


def scripted(monkeypatch: pytest.MonkeyPatch, *script: object) -> FakeOpenAI:
    running = FakeOpenAI(script)  # type: ignore[arg-type]
    running.set_environment(monkeypatch)
    return running


def test_texts_go_out_in_batches_and_come_back_in_order(server: FakeOpenAI) -> None:
    texts = ["a" * (place % 7) + "b" for place in range(300)]
    vectors = text_embedding_of("openai:small").embed(texts)
    assert vectors.shape == (300, 26) and vectors.dtype == np.float32
    assert vectors[:, 0].tolist() == [1 + place % 7 for place in range(300)]
    assert [len(request.body["input"]) for request in server.requests] == [128, 128, 44]
    assert server.requests[0].headers["authorization"] == f"Bearer {KEY}"


def test_what_passes_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    with scripted(monkeypatch, Status(429, headers=(("Retry-After", "0.01"),)), Status(503)) as server:
        assert text_embedding_of("openai:any").embed(["ab"])[0, :3].tolist() == [2, 2, 1]
        assert len(server.requests) == 3


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (Status(400, "too long"), "HTTP 400: too long"),
        (Garbage(), "no list of embeddings"),
        ({"data": [{"index": 1, "embedding": [1.0]}]}, "no list of embeddings"),
        ({"data": [{"index": 0, "embedding": ["x"]}]}, "no vectors"),
    ],
)
def test_what_fails_is_one_sentence(monkeypatch: pytest.MonkeyPatch, fault: object, words: str) -> None:
    with scripted(monkeypatch, fault), pytest.raises(EmbeddingError, match=rf"{words}.*set text_embedding to hashed"):
        text_embedding_of("openai:any").embed(["x"])


def test_an_address_where_nobody_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.sleep", lambda _: None)
    with pytest.raises(EmbeddingError, match=r"small at http://127\.0\.0\.1:9/v1"):
        text_embedding_of("openai:small", "http://127.0.0.1:9/v1").embed(["x"])
    with pytest.raises(InputError, match="hashed or openai:MODEL"):
        text_embedding_of("sentence-transformers")


def test_each_embedding_has_collections_of_its_own(
    server: FakeOpenAI, filled: Records, places: tuple[Path, Path]
) -> None:
    served = text_embedding_of("openai:small")
    assert served.name != HASHED.name and served.name.endswith("-26")
    assert ServedTextEmbedding("small", f"{server.url}/").name != served.name
    with open_vectors(*places, filled) as store:
        assert store.lessons("keep the early layers wide", 1)[0].text == "keep the early layers wide"
    with open_vectors(*places, filled, embedding=served) as store:
        assert store.counts() == filled.indexed_counts()
        assert store.lessons("keep the early layers wide", 1)[0].text == "keep the early layers wide"
    asked = len(server.requests)
    # Both are still there, and nothing is embedded twice.
    for embedding in (HASHED, served):
        with open_vectors(*places, filled, embedding=embedding) as store:
            assert not reconcile_vectors(filled, store)
    assert len(server.requests) == asked


def test_a_server_that_fails_in_a_search_costs_lessons_and_nothing_else(
    server: FakeOpenAI, filled: Records, places: tuple[Path, Path]
) -> None:
    served, told = text_embedding_of("openai:small"), list[str]()
    with open_vectors(*places, filled, embedding=served) as store:
        store.delete("architectures", ["run-a/7"])
        store.delete("lessons", ["run-a/7/0", "run-a/7/1"])
        store.on_trouble = told.append
        server.key = "another"
        index_trials(filled, store, "run-a", [7])
        assert store.lessons("early layers", 3) == []
        assert store.counts() == {"architectures": 7, "failures": 1, "lessons": 14, "prompts": 2}, "it is marked"
        assert len(told) == 2 and "HTTP 401" in told[0]
        store.on_trouble = None
        with pytest.raises(EmbeddingError, match="HTTP 401"):
            store.lessons("early layers", 3)
    with pytest.raises(EmbeddingError):
        open_vectors(*places, filled, embedding=served)
    server.key = KEY
    with open_vectors(*places, filled, embedding=served) as store:
        assert store.counts() == filled.indexed_counts()
