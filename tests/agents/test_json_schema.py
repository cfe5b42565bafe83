"""Schemas for endpoints, and the table of what models accept."""

import json
import random
from enum import IntEnum
from typing import Annotated, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field

from agents.json_schema import strict_json_schema
from agents.model_traits import OPENAI_REFUSES, model_traits
from tests.fake_openai import sample


class Width(IntEnum):
    narrow = 64
    wide = 128


class Part(BaseModel):
    """A part."""

    width: Width
    note: Annotated[str, Field(max_length=20)] = "none"


class Whole(BaseModel):
    """The whole."""

    title: Literal["one", "two"]
    default: int = Field(3, ge=1, le=9)
    parts: list[Part] = Field(min_length=1, max_length=3)
    main: Part = Field(description="the main part")
    other: Part | None = None


class Node(BaseModel):
    children: "list[Node]"


def keywords(node: object) -> set[str]:
    """All keywords of a schema, names of properties left out."""
    if isinstance(node, list):
        return set().union(*(keywords(part) for part in node))
    if not isinstance(node, dict):
        return set()
    found = set(node)
    for key, value in node.items():
        found |= set().union(*(keywords(v) for v in value.values())) if key == "properties" else keywords(value)
    return found


def test_form_of_strict_mode() -> None:
    schema = strict_json_schema(Whole, OPENAI_REFUSES)
    assert schema["title"] == "Whole"
    assert schema["description"] == "The whole."
    assert schema["required"] == ["title", "default", "parts", "main", "other"]
    assert schema["additionalProperties"] is False
    assert schema["properties"]["main"]["description"] == "the main part"
    assert schema["properties"]["parts"]["items"]["required"] == ["width", "note"]
    inner = keywords(schema["properties"]["parts"])
    assert not inner & ({"$ref", "$defs", "title", "default", "oneOf"} | OPENAI_REFUSES)
    assert "maxLength" in keywords(strict_json_schema(Whole))
    assert "maxItems" in inner


@given(st.integers())
def test_every_legal_answer_fits_the_model(seed: int) -> None:
    value = sample(strict_json_schema(Whole), random.Random(seed))
    Whole.model_validate_json(json.dumps(value), strict=True)


def test_recursion_is_refused() -> None:
    with pytest.raises(ValueError, match="refers to itself"):
        strict_json_schema(Node)


@pytest.mark.parametrize(
    ("name", "method", "strips", "temperature"),
    [
        ("gpt-4", "function_calling", True, True),
        ("gpt-4-turbo-2024-04-09", "function_calling", True, True),
        ("gpt-3.5-turbo", "function_calling", True, True),
        ("gpt-4o-mini", "json_schema", True, True),
        ("gpt-4.1", "json_schema", True, True),
        ("gpt-5-mini", "json_schema", True, False),
        ("openai/gpt-5-mini", "json_schema", True, False),
        ("gpt-5-chat-latest", "json_schema", True, True),
        ("o3-mini", "json_schema", True, False),
        ("gpt-oss-20b", "json_schema", False, True),
        ("smollm2-135m", "json_schema", False, True),
        ("Qwen/Qwen3-8B", "json_schema", False, True),
        ("olmo-2", "json_schema", False, True),
    ],
)
def test_table_of_models(name: str, method: str, strips: bool, temperature: bool) -> None:
    traits = model_traits(name)
    assert traits.method == method
    assert bool(traits.refused_keywords) == strips
    assert traits.takes_temperature == temperature
