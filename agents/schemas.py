"""The agents' structured answers: field descriptions are the format instructions, bounds come from the space."""

from enum import IntEnum
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, create_model

from tools.spaces import DesignDraft, PrunedLMSpace, SpanDraft

_Sentence = Annotated[str, Field(min_length=8, max_length=120)]
# Few, so that a small model completes its answer within max_tokens.
_MOST_SPANS = 5


class StrategiesAnswer(BaseModel):
    """The first half of self-evolution."""

    model_config = ConfigDict(extra="forbid")

    strategies: list[_Sentence] = Field(
        min_length=1, max_length=3, description="each one sentence: which layers to widen or narrow, and why"
    )


class AnswerSchemas:
    """The answers that name a design, with the legal widths of one space written into their JSON schema."""

    def __init__(self, space: PrunedLMSpace) -> None:
        last = len(space.source.layers) - 1
        forbid = ConfigDict(extra="forbid")
        width = _choice("IntermediateSize", space.intermediate_sizes)
        hidden = _choice("HiddenSize", space.hidden_sizes)
        span: Any = create_model(
            "Span",
            __config__=forbid,
            first_layer=(int, Field(ge=0, le=last)),
            last_layer=(int, Field(ge=0, le=last, description="included")),
            num_key_value_heads=(int, Field(ge=1, le=space.largest_kv_heads)),
            intermediate_size=(width, Field()),
        )
        # Reasons come before the numbers: a model that writes left to right should think first.
        design: dict[str, Any] = {
            "hidden_size": (hidden, Field(description="one width for all layers")),
            "spans": (
                list[span],
                Field(min_length=1, max_length=_MOST_SPANS, description="runs of layers, in order"),
            ),
        }
        reasons = Field(min_length=1, max_length=2, description="the strategies that this design applies")
        patterns = Field(min_length=1, max_length=2, description="design principles that the good designs share")
        self.design: type[BaseModel] = create_model(
            "DesignAnswer", __config__=forbid, strategies_applied=(list[_Sentence], reasons), **design
        )
        self.inspiration: type[BaseModel] = create_model(
            "InspirationAnswer", __config__=forbid, patterns=(list[_Sentence], patterns), **design
        )


def _choice(name: str, sizes: list[int]) -> Any:
    """A type whose values are `sizes`; in the JSON schema an enum of integers."""
    members = {f"of_{size}": size for size in sizes}
    return IntEnum(name, members)


def draft_of(parsed: dict[str, Any]) -> DesignDraft:
    """The design in a valid DesignAnswer or InspirationAnswer."""
    spans = tuple(SpanDraft.model_validate(span) for span in parsed["spans"])
    return DesignDraft(hidden_size=parsed["hidden_size"], spans=spans)
