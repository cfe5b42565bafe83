"""The cassette alone: what is written is read, whatever ended the writing."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from agents.cassette import Cassette
from agents.chat_answers import Answer
from agents.conversation import Question
from agents.settings import ChatSettings
from memory.recollection import Recollection, RetrievedDesign, RetrievedLesson
from prompts.library import RenderedPrompt
from tools.errors import InputError

ROOT = Path(__file__).parents[2]
SETTINGS = ChatSettings(temperature=0.3, seed=7)


class Word(BaseModel):
    """A word."""

    word: str


def question(text: str = "Say.", turn: int = 1) -> Question:
    messages = (("system", "You speak."), ("user", text))
    return Question(turn, "evolver", messages, Word, RenderedPrompt("design", "hash", text, text))


def answered(raw: str = '{"word": "tree"}', **more: Any) -> Answer:
    return Answer(raw=raw, parsed={"word": "tree"}, model="large", input_tokens=5, **more)


def ask(cassette: Cassette, asked: Question, answer: Answer | None = None) -> Answer:
    async def model() -> Answer:
        assert answer is not None, "the model was asked"
        return answer

    return asyncio.run(cassette.ask(asked, SETTINGS, model))[0]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "folder" / "tape.jsonl"


def test_all_of_an_answer_comes_back(path: Path) -> None:
    good = answered(output_tokens=3, cached_tokens=2, seconds=0.25, finish_reason="stop", faults=("HTTP 429",))
    strange = Answer(
        raw='{"word": "\u2028 \ufffd \U0001f333 \\ud83d', error="It is broken.", model="large", faults=("broken JSON",)
    )
    with Cassette.record(path, "run", {}) as cassette:
        assert ask(cassette, question("a"), good) == good
        assert ask(cassette, question("b"), strange) == strange
        assert ask(cassette, question("a")) == good, "asked again, it is not recorded twice"
    assert len(path.read_bytes().split(b"\n")) == 4
    with Cassette.replay(path, "other", {}) as cassette:
        assert not cassette.recording
        assert [ask(cassette, question(text)) for text in "ba"] == [strange, good]


def test_memory_comes_back_with_the_trials_of_the_new_run(path: Path) -> None:
    designs = (RetrievedDesign("run/3", "d", 2.5, "loss 2.5", 0.1), RetrievedDesign("runs/3", "e", None, "failed", 0.2))
    lessons = (RetrievedLesson("run/3/0", "Keep more.", 2.5, "loss 2.5", 0.0),)
    with Cassette.record(path, "run", {}) as cassette:
        found = Recollection(nearby=designs, lessons=lessons)
        assert cassette.recall(1, lambda: found) == found
    with Cassette.replay(path, "new", {}) as cassette:
        found = cassette.recall(1, Recollection)
        assert [note.id for note in (*found.nearby, *found.lessons)] == ["new/3", "runs/3", "new/3/0"]
        assert (found.nearby[1], found.lessons[0].text) == (designs[1], "Keep more.")
        with pytest.raises(InputError, match="it has nothing of turn 2, it ends with turn 1"):
            cassette.recall(2, Recollection)


def test_a_line_that_was_cut_is_passed_over_and_taken_off(path: Path) -> None:
    with Cassette.record(path, "run", {}) as cassette:
        ask(cassette, question("a"), answered())
        ask(cassette, question("b"), answered())
    whole = path.read_bytes()
    ends = [index for index, byte in enumerate(whole) if byte == ord("\n")]
    for length in sorted({*range(0, len(whole), 97), *(end + beside for end in ends for beside in (-1, 0, 1))}):
        path.write_bytes(whole[:length])
        with Cassette.record(path, "run", {}) as cassette:
            ask(cassette, question("a"), answered())
            ask(cassette, question("b"), answered())
        assert path.read_bytes() == whole, length
    path.write_bytes(whole[:-1])
    with Cassette.replay(path, "new", {}) as cassette:
        assert ask(cassette, question("a")) == answered()
        with pytest.raises(InputError, match=r'message 2 \(user\) differs at character 1, now "b", recorded "a"'):
            ask(cassette, question("b"))


def test_what_was_recorded_outlives_a_kill(path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from agents.cassette import Cassette\n"
        "from memory.recollection import Recollection\n"
        "cassette = Cassette.record(Path(sys.argv[1]), 'run', {})\n"
        "for turn in range(10**6):\n"
        "    cassette.recall(turn, Recollection)\n"
        "    print(turn, flush=True)\n"
    )
    command = [sys.executable, "-c", program, str(path)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        told = [process.stdout.readline() for _ in range(20)]
        os.kill(process.pid, signal.SIGKILL)
        told += process.stdout.read().splitlines(keepends=True)
    last = max(int(line) for line in told if line.endswith("\n"))
    with Cassette.replay(path, "run", {}) as cassette:
        for turn in range(last + 1):
            assert cassette.recall(turn, Recollection) == Recollection()


def test_differences_in_words(path: Path) -> None:
    with Cassette.record(path, "run", {"trials": 5, "temperature": 0.1}) as cassette:
        ask(cassette, question("the loss is 2.6625 today"), answered())
    with Cassette.replay(path, "new", {"trials": 6, "temperature": 0.2}) as cassette:

        def words(asked: Question) -> str:
            with pytest.raises(InputError) as caught:
                ask(cassette, asked)
            return str(caught.value)

        told = words(question("the loss is 2.6631 today"))
        assert told == (
            f"Cannot replay {path}: evolver in turn 1 asks what was not recorded: message 2 (user) differs at "
            'character 17, now "the loss is 2.6631 today", recorded "the loss is 2.6625 today" '
            "(settings that differ from the recorded ones: trials)."
        )
        assert "it has no call of evolver in turn 4, it ends with turn 1" in words(question(turn=4))
        plain = question("the loss is 2.6625 today")
        longer = Question(1, "evolver", (*plain.messages, ("assistant", "x")), Word, plain.prompt)
        assert "it has 3 messages, the recorded call 2" in words(longer)

        class Other(BaseModel):
            """Another."""

        assert "a Other is asked for, recorded is a Word" in words(
            Question(1, "evolver", plain.messages, Other, plain.prompt)
        )
        spoken = Question(1, "evolver", (("user", "You speak."),), Word, plain.prompt)
        assert "message 1 is the user's, recorded is the system's" in words(spoken)


def test_bad_files_in_one_sentence(path: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"Cannot replay .*No such file"):
        Cassette.replay(path, "run", {})
    with pytest.raises(InputError, match=r"Cannot replay .*Is a directory"):
        Cassette.replay(tmp_path, "run", {})
    with pytest.raises(InputError, match=r"Cannot record into .*Is a directory"):
        Cassette.record(tmp_path, "run", {})
    Cassette.record(path, "run", {}).close()
    with pytest.raises(InputError, match="exists and is no recording of this run"):
        Cassette.record(path, "another", {})
    for text, words in (("", "no recorded search"), ("prose\n", "line 1 cannot"), ('{"kind": "search"}\n', "line 1")):
        path.write_text(text)
        with pytest.raises(InputError, match=words):
            Cassette.replay(path, "run", {})
    path.write_text('{"turn": 1}\n{}\n')
    with pytest.raises(InputError, match=r"tape\.jsonl is no cassette, or damaged: line 1"):
        Cassette.record(path, "run", {})
    assert json.loads(path.read_text().splitlines()[0]) == {"turn": 1}, "it is left as it was"
