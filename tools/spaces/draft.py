"""A design as an agent writes it: spans of equal layers, legal or not."""

from pydantic import BaseModel, ConfigDict

from tools.architecture import Architecture


class SpanDraft(BaseModel):
    """Layers first_layer to last_layer, both included, with one shape."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    first_layer: int
    last_layer: int
    num_key_value_heads: int
    intermediate_size: int


class DesignDraft(BaseModel):
    """A proposed design.

    Layers that no span names keep their shape in the design it is based on; of two that overlap the later one counts.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    hidden_size: int
    spans: tuple[SpanDraft, ...]

    @classmethod
    def of(cls, design: Architecture) -> "DesignDraft":
        """The draft that says exactly `design`."""
        spans = [
            SpanDraft(
                first_layer=span.first_layer,
                last_layer=span.last_layer,
                num_key_value_heads=span.shape.num_key_value_heads,
                intermediate_size=span.shape.intermediate_size,
            )
            for span in design.spans()
        ]
        return cls(hidden_size=design.hidden_size, spans=tuple(spans))
