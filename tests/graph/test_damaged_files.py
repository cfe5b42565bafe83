"""Files that are spoilt between two sessions of a search, or under it: made again, or told in one sentence."""

import os
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from graph.config import SearchConfig
from graph.session import SearchSession
from tests.fake_openai import FakeOpenAI
from tests.graph.test_replay import story
from tools.errors import InputError
from tools.requests import Survey
from tools.survey_folder import survey_is_whole
from tools.trial_folder import MEASUREMENT_FILE, MODEL_FOLDER

ConfigOf = Callable[..., SearchConfig]
Spoil = Callable[[SearchSession], None]


def survey_of(session: SearchSession) -> Survey:
    return Survey.model_validate_json(session.folder.survey.read_text())


def cut(path: Path) -> None:
    """Half of it is left."""
    content = path.read_bytes()
    assert len(content) > 1
    path.write_bytes(content[: len(content) // 2])


def half_of_the_checkpoints(session: SearchSession) -> None:
    cut(session.folder.checkpoints)


def checkpoints_cut_inside(session: SearchSession) -> None:
    connection = sqlite3.connect(session.folder.checkpoints)
    connection.execute("UPDATE checkpoints SET checkpoint = substr(checkpoint, 1, 20)")
    connection.commit()
    connection.close()


def no_checkpoints(session: SearchSession) -> None:
    session.folder.checkpoints.unlink()


def of_survey(session: SearchSession) -> None:
    cut(survey_of(session).folder / "warm_state" / "weights.safetensors")


def of_corpus(session: SearchSession) -> None:
    cut(survey_of(session).corpus_path / "train.npy")


def noise_for_vectors(session: SearchSession) -> None:
    (session.config.home / "vectors" / "chroma.sqlite3").write_bytes(os.urandom(50_000))


SPOILT: dict[str, Spoil] = {
    "half of the checkpoints": half_of_the_checkpoints,
    "checkpoints cut inside": checkpoints_cut_inside,
    "no checkpoints": no_checkpoints,
    "weights of the survey": of_survey,
    "the packed corpus": of_corpus,
    "vectors": noise_for_vectors,
}


def paid(session: SearchSession) -> list[str]:
    return [evaluation.key for evaluation in session._records.evaluations(session.run_id)]


def test_a_search_goes_on_whatever_was_spoilt_while_it_stood(
    config_of: ConfigOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One search that is stopped after every trial, each time with something else spoilt."""
    settings = {"trials": len(SPOILT) + 2, "self_evolution": 4, "patience": 50}
    tape = tmp_path / "tape.jsonl"
    with FakeOpenAI(seed=3, models=("fake",)) as server:
        server.set_environment(monkeypatch)
        undisturbed = SearchSession.start(config_of(**settings, record=tape))
        undisturbed.run()
    disturbed = config_of(**settings, replay=tape, home=tmp_path / "other", cache=tmp_path / "other cache")
    session, told = SearchSession.start(disturbed), []
    for name in [*SPOILT, None]:
        last = len(session.trials())
        for event in session.stream():
            if event.kind == "stage" and "damaged" in str(event):
                told.append(str(event))
            if event.kind == "evaluation" and event.trial >= last and name is not None:
                break
        if name is not None:
            SPOILT[name](session)
        session = SearchSession.resume(session.run_id, disturbed.home)
    assert session.record.status == "finished"
    assert story(session) == story(undisturbed)
    assert len(paid(session)) == len(set(paid(session))) == settings["trials"], "each was paid for once"
    of_vectors = [words for words in told if "The vectors were damaged: they are made again" in words]
    of_checkpoints = [words for words in told if "set aside as checkpoints.sqlite.damaged" in words]
    assert (len(of_vectors), len(of_checkpoints), len(told)) == (1, 2, 3)
    assert not any("\n" in words for words in told)


def test_spoilt_under_a_search(
    config_of: ConfigOf, tmp_path: Path, sources: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What trials start from is spoilt while they run: the search stops in one sentence and can go on."""
    source = shutil.copytree(sources["llama-tied"], tmp_path / "source")
    weights = (source / "model.safetensors").read_bytes()
    with FakeOpenAI(seed=3, models=("fake",)) as server:
        server.set_environment(monkeypatch)
        session = SearchSession.start(config_of(trials=3, self_evolution=1, source=str(source)))
        with pytest.raises(InputError, match="What trials start from is damaged or gone: ") as caught:
            for event in session.stream():
                if event.kind == "proposal" and event.trial == 1:
                    cut(source / "model.safetensors")
        assert "\n" not in str(caught.value) and session.record.status == "interrupted"
        assert [trial.measurement is not None for trial in session.trials()] == [True, False]
        with pytest.raises(InputError, match="is cut short; fetch the file again"):
            SearchSession.resume(session.run_id, session.config.home).run()
        (source / "model.safetensors").write_bytes(weights)
        resumed = SearchSession.resume(session.run_id, session.config.home)
        resumed.run()
    assert [trial.succeeded for trial in resumed.trials()] == [True, True, True]


def test_vectors_that_are_spoilt_under_a_search(
    config_of: ConfigOf, survey_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with FakeOpenAI(seed=3, models=("fake",)) as server:
        server.set_environment(monkeypatch)
        session = SearchSession.start(config_of(trials=3, self_evolution=1, cache=survey_cache))
        with pytest.raises(
            InputError, match=r"the vectors in .*: the next start makes again what is damaged"
        ) as caught:
            for event in session.stream():
                if event.kind == "evaluation" and event.trial == 1:
                    cut(session.config.home / "vectors" / "chroma.sqlite3")
        assert "\n" not in str(caught.value)
        resumed = SearchSession.resume(session.run_id, session.config.home)
        resumed.run()
    assert resumed.record.status == "finished" and len(resumed.trials()) == 3
    assert len(paid(resumed)) == 3


def test_kept_weights_and_results_that_are_spoilt_are_grown_again(config_of: ConfigOf, tmp_path: Path) -> None:
    session = SearchSession.start(config_of(trials=1, llm_share=0.0))
    session.run()
    (trial,) = session.trials()
    folder = session.config.home / "evaluations" / str(trial.evaluation_key)
    # Copies: what is loaded is the file itself, mapped.
    whole = {name: value.clone() for name, value in load_file(folder / MODEL_FOLDER / "model.safetensors").items()}
    cut(folder / MODEL_FOLDER / "model.safetensors")
    session.export(trial, tmp_path / "exported")
    again = load_file(folder / MODEL_FOLDER / "model.safetensors")
    assert again.keys() == whole.keys() and all(torch.equal(again[name], whole[name]) for name in whole)
    cut(folder / MEASUREMENT_FILE)
    (tmp_path / "home" / "records.sqlite").unlink()
    second = SearchSession.start(config_of(trials=1, llm_share=0.0))
    second.run()
    assert second.trials()[0].loss == trial.loss
    survey = survey_of(second).folder
    files = [path for path in survey.rglob("*") if path.is_file()]
    assert len(files) == 6 and survey_is_whole(survey)
    for path in files:
        content = path.read_bytes()
        cut(path)
        assert not survey_is_whole(survey), path
        path.write_bytes(content)
