"""Reading answers: good ones in any wrapping, bad ones in words."""

import json
from enum import IntEnum
from typing import Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field

from agents.chat_answers import Reading, read_answer


class Width(IntEnum):
    narrow = 64
    wide = 128


class Part(BaseModel):
    model_config = ConfigDict(extra="forbid")

    first: int = Field(ge=0, le=29)
    width: Width


class Design(BaseModel):
    model_config = ConfigDict(extra="forbid")

    kind: Literal["a", "b"]
    parts: list[Part] = Field(min_length=1, max_length=2)


GOOD = {"kind": "a", "parts": [{"first": 3, "width": 64}]}
TEXT = json.dumps(GOOD)


@pytest.mark.parametrize(
    "text",
    [
        TEXT,
        f"\n {TEXT}\n",
        f"```json\n{TEXT}\n```",
        f"Here is {{not JSON}} my design:\n```\n{TEXT}\n```\nI hope it helps.",
        f"My design is {TEXT} and nothing else.",
        f'First {{"a": 1}}, no: {TEXT}',
        f'```json\n{{"a": 1}}\n``` or rather {TEXT}',
        f'{{"thought": {TEXT}',
    ],
)
def test_good_answers_in_any_wrapping(text: str) -> None:
    assert read_answer(text, Design) == Reading(GOOD)


@pytest.mark.parametrize(
    ("text", "words", "fault"),
    [
        ("", "empty", "empty"),
        (" \n", "empty", "empty"),
        ("I like layers.", "no JSON object", "no JSON"),
        ("[1, 2]", "no JSON object", "no JSON"),
        (TEXT[:-3], "broken or incomplete", "broken JSON"),
        ("{" * 50_000, "broken or incomplete", "broken JSON"),
        ('{"a":' * 20_000, "broken or incomplete", "broken JSON"),
        ('{"a":' * 5_000 + "1" + "}" * 5_000, "broken or incomplete", "broken JSON"),
        (json.dumps(GOOD | {"kind": "c"}), "kind: Input should be 'a' or 'b' (you answered \"c\")", "wrong schema"),
        (json.dumps(GOOD | {"colour": "red"}), "colour: Extra inputs are not permitted", "wrong schema"),
        (json.dumps({"kind": "a"}), "parts: Field required", "wrong schema"),
        (
            TEXT.replace("3", "30"),
            "parts.0.first: Input should be less than or equal to 29 (you answered 30)",
            "wrong schema",
        ),
        (TEXT.replace("3", '"3"'), "parts.0.first: Input should be a valid integer", "wrong schema"),
        (TEXT.replace("3", "3.0"), "parts.0.first: Input should be a valid integer", "wrong schema"),
        (TEXT.replace("64", "65"), "parts.0.width: Input should be 64 or 128", "wrong schema"),
        (TEXT.replace("3", "NaN"), "parts.0.first", "wrong schema"),
    ],
)
def test_bad_answers_in_words(text: str, words: str, fault: str) -> None:
    parsed, error, found = read_answer(text, Design)
    assert parsed is None
    assert error is not None
    assert words in error
    assert found == fault
    assert len(error) < 1000


def test_a_cut_off_answer_is_told_as_such() -> None:
    parsed, error, fault = read_answer(TEXT[:-3], Design, cut_off=True)
    assert parsed is None
    assert error is not None
    assert fault == "cut off"
    assert "more briefly" in error
    assert read_answer(TEXT, Design, cut_off=True) == Reading(GOOD)


def test_many_faults_are_shortened() -> None:
    text = json.dumps({"x" * 500 + str(number): "y" * 500 for number in range(9)})
    error = read_answer(text, Part).error
    assert error is not None
    assert error.endswith("and 6 more.")
    assert len(error) < 2000


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet='{}[]",:a1 \n`\\', max_size=200))
def test_babble_never_raises(text: str) -> None:
    read = read_answer(text, Design)
    assert (read.parsed is None) == (read.error is not None) == (read.fault is not None)


@settings(max_examples=50, deadline=None)
@given(st.text(max_size=40), st.integers(0, 29))
def test_the_object_is_found_in_prose(prose: str, first: int) -> None:
    text = prose.replace("{", "") + json.dumps({"first": first, "width": 128}) + prose.replace("{", "")
    assert read_answer(text, Part) == Reading({"first": first, "width": 128})
