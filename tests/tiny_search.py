"""A tiny real source, a small corpus, and settings whose whole search takes seconds: fixtures for other tests."""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import tools.survey
import tools.trial
from graph.config import SearchConfig
from tests.postgresql import Server
from tools.evaluation.edge import decode_latency

WORDS = ("pruning", "trains", "a", "small", "tree", "while", "it", "grows", "and", "the", "gardener", "cuts", "least")


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty short documents, all different."""
    folder = tmp_path_factory.mktemp("corpus")
    lines = []
    for number in range(40):
        text = " ".join(WORDS[(number * 7 + place * (number % 5 + 1)) % len(WORDS)] for place in range(60))
        lines.append(f'{{"text": "{number}: {text}"}}')
    path = folder / "corpus.jsonl"
    path.write_text("\n".join(lines))
    return path


@pytest.fixture(scope="session", autouse=True)
def timed_briefly() -> Iterator[None]:
    """Models are timed over four tokens each here, where timing takes a fifth of a search; tests/tools has the rest."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (tools.survey, tools.trial):
            patch.setattr(module, "decode_latency", partial(decode_latency, new_tokens=4, repeats=1))
        yield


@pytest.fixture(scope="session")
def settings_of(sources: dict[str, Path], corpus: Path) -> Callable[..., dict[str, Any]]:
    """Plain settings of a tiny search in a home of its own; keyword arguments override them."""

    def make(folder: Path, **overrides: Any) -> dict[str, Any]:
        plain: dict[str, Any] = {
            "source": str(sources["llama-tied"]),
            "corpus": str(corpus),
            "max_parameters": 80_000,
            "trials": 5,
            "self_evolution": 2,
            "repairs": 1,
            "workers": "local",
            "chat_model": "openai:fake",
            "max_retries": 0,
            "outage_seconds": 0,
            "home": str(folder / "home"),
            "cache": str(folder / "cache"),
            "data": {"block_length": 32, "training_tokens": 4096, "validation_tokens": 256},
            "recipe": {"warmup_steps": 2, "training_steps": 2, "batch_size": 2, "micro_batch_size": 1},
            "space": {"ffn_multiple": 8, "hidden_multiple": 8},
        }
        return plain | overrides

    return make


Places = Callable[[str], dict[str, str]]
"""The settings that say where a home keeps its records, checkpoints, vectors and artifacts."""


@pytest.fixture
def places() -> Places:
    """In the home itself; a module that says `places = both_places` has its searches on servers too."""
    return lambda home: {}


@pytest.fixture(params=["local", "servers"])
def both_places(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Places]:
    """Every test that asks for it runs twice: with all in the home, and with PostgreSQL, Chroma and artifacts."""
    if request.param == "local":
        yield lambda home: {}
        return
    server: Server = request.getfixturevalue("postgresql")
    chroma: str = request.getfixturevalue("chroma_server")
    databases: dict[str, str] = {}

    def of(home: str) -> dict[str, str]:
        if home not in databases:
            databases[home] = server.database()
        places = {"records": databases[home], "checkpoints": databases[home], "vectors": chroma}
        return {**places, "artifacts": f"file://{tmp_path}/artifacts"}

    yield of
    for url in databases.values():
        server.drop(url)


@pytest.fixture
def config_of(
    settings_of: Callable[..., dict[str, Any]], tmp_path: Path, places: Places
) -> Callable[..., SearchConfig]:
    """The same as a SearchConfig, in this test's own folder."""

    def make(**overrides: Any) -> SearchConfig:
        plain = settings_of(tmp_path, **overrides)
        return SearchConfig(**{**places(str(plain["home"])), **plain})

    return make
