"""What a design is: a hidden size and a list of per-layer shapes, with its costs and its hash.

An `Architecture` is plain, immutable data. It knows nothing of weights. Shapes follow the Llama family: grouped-query
attention, a gated feed-forward network, RMSNorm, rotary positions.
"""

import hashlib
import json
from collections.abc import Sequence
from functools import cached_property, lru_cache
from itertools import pairwise

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator


class LayerShape(BaseModel):
    """Widths of one transformer block; query head h reads key/value head h // (query heads / key/value heads)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    num_attention_heads: int = Field(ge=1)
    num_key_value_heads: int = Field(ge=1)
    intermediate_size: int = Field(ge=1)

    @model_validator(mode="after")
    def _heads_divide(self) -> "LayerShape":
        if self.num_attention_heads % self.num_key_value_heads:
            raise ValueError(
                f"{self.num_attention_heads} query heads cannot be shared evenly "
                f"by {self.num_key_value_heads} key/value heads"
            )
        return self


@lru_cache(maxsize=65_536)
def _shared(shape: LayerShape) -> LayerShape:
    """The same object for equal shapes."""
    return shape


class FixedShape(BaseModel):
    """What pruning never changes: taken from the source model once."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model_type: str
    vocab_size: int = Field(ge=1)
    head_dim: int = Field(ge=2)
    tie_word_embeddings: bool
    qkv_bias: bool = False
    attention_output_bias: bool = False
    mlp_bias: bool = False
    qk_norm: bool = False


class Span(BaseModel):
    """A run of equal layers, both ends included: how designs are written for people and for agents."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    first_layer: int
    last_layer: int
    shape: LayerShape


class Architecture(BaseModel):
    """A design: one hidden size for the whole network and a shape for each layer.

    Costs count multiply-accumulates (MACs) and parameters exactly as the exported `transformers` model has them,
    tied embeddings once.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    fixed: FixedShape
    hidden_size: int = Field(ge=1)
    layers: tuple[LayerShape, ...] = Field(min_length=1)

    @field_validator("layers", mode="after")
    @classmethod
    def _share_equal_shapes(cls, layers: tuple[LayerShape, ...]) -> tuple[LayerShape, ...]:
        # A search holds all its designs, whose layers are of few shapes: one object each takes a hundredth.
        return tuple(map(_shared, layers))

    def layer_parameters(self, index: int) -> int:
        """Parameters of block `index`, its two (with QK-norm four) norms included."""
        return self.attention_parameters(index) + self.ffn_parameters(index) + 2 * self.hidden_size

    def attention_parameters(self, index: int) -> int:
        """Parameters of the attention of block `index`: q, k, v and output projections, biases, QK-norm gains."""
        layer, fixed = self.layers[index], self.fixed
        query_width = layer.num_attention_heads * fixed.head_dim
        key_value_width = layer.num_key_value_heads * fixed.head_dim
        weights = self.hidden_size * (2 * query_width + 2 * key_value_width)
        biases = (query_width + 2 * key_value_width) * fixed.qkv_bias + self.hidden_size * fixed.attention_output_bias
        return weights + biases + 2 * fixed.head_dim * fixed.qk_norm

    def ffn_parameters(self, index: int) -> int:
        """Parameters of the gated feed-forward network of block `index`."""
        width = self.layers[index].intermediate_size
        return 3 * self.hidden_size * width + (2 * width + self.hidden_size) * self.fixed.mlp_bias

    @cached_property
    def embedding_parameters(self) -> int:
        """Parameters of the embedding and, where it is not tied, of the output head."""
        return self.fixed.vocab_size * self.hidden_size * (1 if self.fixed.tie_word_embeddings else 2)

    @cached_property
    def parameters(self) -> int:
        """All parameters, tied ones once."""
        blocks = sum(self.layer_parameters(index) for index in range(len(self.layers)))
        return self.embedding_parameters + blocks + self.hidden_size

    def macs_per_token(self, context_length: int = 0) -> int:
        """Multiply-accumulates to decode one token that attends to `context_length` earlier ones."""
        total = self.fixed.vocab_size * self.hidden_size
        for layer in self.layers:
            query_width = layer.num_attention_heads * self.fixed.head_dim
            key_value_width = layer.num_key_value_heads * self.fixed.head_dim
            total += self.hidden_size * (2 * query_width + 2 * key_value_width + 3 * layer.intermediate_size)
            total += 2 * query_width * context_length
        return total

    def kv_cache_bytes_per_token(self, bytes_per_value: int = 2) -> int:
        """Bytes that the key/value cache grows by with each token."""
        return sum(2 * layer.num_key_value_heads * self.fixed.head_dim * bytes_per_value for layer in self.layers)

    @cached_property
    def is_homogeneous(self) -> bool:
        """Whether every layer has the same shape, so that stock model classes express it without padding."""
        return len(set(self.layers)) == 1

    @cached_property
    def hash(self) -> str:
        """Canonical identity: 16 hexadecimal digits, equal for equal designs in every process."""
        canonical = json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()[:16]

    def spans(self) -> list[Span]:
        """The layers as runs of equal shapes, first to last."""
        return [Span(first_layer=first, last_layer=last, shape=self.layers[first]) for first, last in self._runs()]

    def _runs(self) -> list[tuple[int, int]]:
        """First and last layer of each run of equal shapes."""
        # Plain numbers compare many times as quickly as models do.
        widths = [(one.num_attention_heads, one.num_key_value_heads, one.intermediate_size) for one in self.layers]
        starts = [at for at, width in enumerate(widths) if at == 0 or width != widths[at - 1]]
        return [(first, after - 1) for first, after in pairwise([*starts, len(widths)])]

    def with_layers(self, layers: Sequence[LayerShape]) -> "Architecture":
        """The same network with other layer shapes."""
        return Architecture(fixed=self.fixed, hidden_size=self.hidden_size, layers=tuple(layers))

    def describe(self, most_runs: int = 6) -> str:
        """One line for people and prompts: `hidden 576; layers 0-9: kv_heads 3, ffn 1280; ...`.

        A design of more than `most_runs` runs of equal layers is told in that many parts, widths as ranges:
        `layers 0-4: kv_heads 2-3, ffn 1152-1536`.
        """
        spans = self._runs()
        if len(spans) > most_runs:
            depth = len(self.layers)
            edges = [part * depth // most_runs for part in range(most_runs + 1)]
            spans = [(first, end - 1) for first, end in pairwise(edges)]
        return "; ".join([f"hidden {self.hidden_size}", *(self._describe_layers(*span) for span in spans)])

    def _describe_layers(self, first: int, last: int) -> str:
        layers = self.layers[first : last + 1]
        where = f"layers {first}-{last}" if last > first else f"layer {first}"
        heads = _range([layer.num_key_value_heads for layer in layers])
        ffn = _range([layer.intermediate_size for layer in layers])
        return f"{where}: kv_heads {heads}, ffn {ffn}"


def _range(values: list[int]) -> str:
    smallest, largest = min(values), max(values)
    return str(smallest) if smallest == largest else f"{smallest}-{largest}"
