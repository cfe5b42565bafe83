"""The model card of a trial tells its way through the search, and nothing of the machine."""

from collections.abc import Callable, Iterator
from pathlib import Path

import gguf
import pytest
import torch

from graph.config import SearchConfig
from graph.session import SearchSession
from tests.fake_openai import FakeOpenAI
from tools.export.card_files import read_card
from tools.export.compact import load_compact
from tools.export.quantisation import predicted_file
from tools.sources import load_model

ConfigOf = Callable[..., SearchConfig]

PROMPT = torch.arange(3, 35)[None]


@pytest.fixture
def endpoint(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeOpenAI]:
    with FakeOpenAI(seed=3, models=["fake"]) as server:
        server.set_environment(monkeypatch)
        yield server


def test_every_export_of_a_trial(config_of: ConfigOf, endpoint: FakeOpenAI, tmp_path: Path) -> None:
    session = SearchSession.start(config_of(trials=4, self_evolution=2))
    session.run()
    trial = next(trial for trial in reversed(session.trials()) if trial.based_on)
    padded = session.export(trial, tmp_path / "padded")
    compact = session.export(trial, tmp_path / "compact", compact=True)
    small = session.export(trial, tmp_path / "padded", quantise="q4_k_m")
    single = session.export(trial, tmp_path / "single.gguf", dtype="float32")
    assert compact.remote_code == padded.padded and small.path == tmp_path / "padded" / "model-Q4_K_M.gguf"
    assert small.prediction == predicted_file(trial.architecture, "q4_k_m") and single.dtype == "f32"
    with torch.no_grad():
        expected = load_model(tmp_path / "padded")(PROMPT).logits
        if compact.remote_code:
            found = load_compact(tmp_path / "compact", tmp_path / "compact")(PROMPT).logits
            torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)

    card = read_card(tmp_path / "padded")
    assert card is not None and card.search is not None and card.training is not None and card.measurement is not None
    assert [file.name for file in card.files] == ["model.safetensors", "model-Q4_K_M.gguf"]
    assert (card.search.run, card.search.trial, card.search.trials) == (session.run_id, trial.number, 4)
    lineage = {one.trial: one for one in card.search.lineage}
    assert {trial.number, *trial.based_on} <= set(lineage) and lineage[trial.number].prompt_hash == trial.prompt_hash
    assert {prompt.hash for prompt in card.search.prompts} >= {call.prompt_hash for call in session.calls()}
    assert all(prompt.name for prompt in card.search.prompts)
    assert card.training.corpus == "corpus.jsonl" and card.training.tokens == card.measurement.tokens
    assert card.origin.name == "llama-tied" and card.origin.architecture is not None
    figures = {figure.name: figure for figure in card.figures}
    assert figures["validation loss"].value == trial.loss and figures["validation loss"].origin is not None

    text = (tmp_path / "padded" / "README.md").read_text()
    for words in (session.run_id, "## Search and lineage", "fell back to other types", f"{trial.loss:.4f}"):
        assert words in text
    for private in (str(tmp_path), str(session.config.home), "/tmp"):  # noqa: S108
        assert private not in text + card.model_dump_json()
    best = read_card(session.folder.export)
    assert best is not None and best.search is not None and best.search.trial == session.best().number
    assert gguf.GGUFReader(single.path).fields["general.base_model.0.name"].contents() == "llama-tied"
