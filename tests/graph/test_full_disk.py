"""A real disk that fills up in the middle of a search: one sentence, nothing lost, and with room it goes on."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from graph.config import SearchConfig
from graph.session import SearchSession
from tests.fake_openai import FakeOpenAI
from tests.graph.test_replay import story
from tests.small_disk import small_disk
from tools.errors import InputError

SETTINGS = {"trials": 3, "self_evolution": 1}


@pytest.fixture(scope="module")
def undisturbed(
    settings_of: Callable[..., dict[str, Any]], survey_cache: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[list[Any], Path]:
    """What a search without faults comes to, and its recording."""
    folder = tmp_path_factory.mktemp("undisturbed")
    tape = folder / "tape.jsonl"
    with FakeOpenAI(seed=3, models=("fake",)) as server, pytest.MonkeyPatch.context() as patch:
        server.set_environment(patch)
        session = SearchSession.start(SearchConfig(**settings_of(folder, **SETTINGS, cache=survey_cache, record=tape)))
        session.run()
    return story(session), tape


@pytest.mark.parametrize(
    ("full", "moment", "sentence"),
    [
        ("", "proposal", "The disk is full: .* The records .* have all that was said to be done"),
        ("runs", "evaluation", "The disk is full: .* The checkpoints .* stand at the last step that was finished"),
        ("vectors", "evaluation", "The disk is full: .* What the vectors in .* lack is put in then"),
        ("evaluations", "proposal", "Cannot write .*: No space left on device; choose a directory"),
    ],
)
def test_a_disk_that_fills_up(
    full: str,
    moment: str,
    sentence: str,
    undisturbed: tuple[list[Any], Path],
    config_of: Callable[..., SearchConfig],
    survey_cache: Path,
    tmp_path: Path,
) -> None:
    """All of the home, or only where checkpoints, vectors or weights are, is on a disk of its own."""
    expected, tape = undisturbed
    config = config_of(**SETTINGS, cache=survey_cache, replay=tape, home=tmp_path / "small")
    with small_disk(config.home / full, 32) as disk:
        session = SearchSession.start(config)
        filled = False
        with pytest.raises(InputError, match=sentence) as caught:
            for event in session.stream():
                if not filled and event.kind == moment and getattr(event, "trial", None) == 1:
                    disk.fill()
                    filled = True
        assert "\n" not in str(caught.value)
        acknowledged = [trial.loss for trial in session.trials() if trial.measurement is not None]
        assert acknowledged == [row[1] for row in expected[0][: len(acknowledged)]], "what was finished is there"
        disk.free()
        resumed = SearchSession.resume(session.run_id, config.home)
        resumed.run()
        assert story(resumed) == expected
        assert len(resumed._records.evaluations(resumed.run_id)) == len(resumed.trials()), "nothing was paid for twice"
        session.close()
        resumed.close()
