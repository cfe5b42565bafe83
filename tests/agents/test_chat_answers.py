"""Reading answers: good ones in any wrapping, bad ones in words."""

import json
from enum import IntEnum
from typing import Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field

from agents.chat_answers import read_answer


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
    assert read_answer(text, Design) == (GOOD, None)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "empty"),
        (" \n", "empty"),
        ("I like layers.", "no JSON object"),
        ("[1, 2]", "no JSON object"),
        (TEXT[:-3], "broken or incomplete"),
        ("{" * 50_000, "broken or incomplete"),
        ('{"a":' * 20_000, "broken or incomplete"),
        ('{"a":' * 5_000 + "1" + "}" * 5_000, "broken or incomplete"),
        (json.dumps(GOOD | {"kind": "c"}), "kind: Input should be 'a' or 'b' (you answered \"c\")"),
        (json.dumps(GOOD | {"colour": "red"}), "colour: Extra inputs are not permitted"),
        (json.dumps({"kind": "a"}), "parts: Field required"),
        (TEXT.replace("3", "30"), "parts.0.first: Input should be less than or equal to 29 (you answered 30)"),
        (TEXT.replace("3", '"3"'), "parts.0.first: Input should be a valid integer"),
        (TEXT.replace("3", "3.0"), "parts.0.first: Input should be a valid integer"),
        (TEXT.replace("64", "65"), "parts.0.width: Input should be 64 or 128"),
        (TEXT.replace("3", "NaN"), "parts.0.first"),
    ],
)
def test_bad_answers_in_words(text: str, words: str) -> None:
    parsed, error = read_answer(text, Design)
    assert parsed is None
    assert error is not None
    assert words in error
    assert len(error) < 1000


def test_a_cut_off_answer_is_told_as_such() -> None:
    parsed, error = read_answer(TEXT[:-3], Design, cut_off=True)
    assert parsed is None
    assert error is not None
    assert "more briefly" in error
    assert read_answer(TEXT, Design, cut_off=True) == (GOOD, None)


def test_many_faults_are_shortened() -> None:
    text = json.dumps({"x" * 500 + str(number): "y" * 500 for number in range(9)})
    _, error = read_answer(text, Part)
    assert error is not None
    assert error.endswith("and 6 more.")
    assert len(error) < 2000


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet='{}[]",:a1 \n`\\', max_size=200))
def test_babble_never_raises(text: str) -> None:
    parsed, error = read_answer(text, Design)
    assert (parsed is None) != (error is None)


@settings(max_examples=50, deadline=None)
@given(st.text(max_size=40), st.integers(0, 29))
def test_the_object_is_found_in_prose(prose: str, first: int) -> None:
    text = prose.replace("{", "") + json.dumps({"first": first, "width": 128}) + prose.replace("{", "")
    assert read_answer(text, Part) == ({"first": first, "width": 128}, None)
