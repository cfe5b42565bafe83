"""How much memory growing a candidate takes, from shapes alone: a stated formula, not a measurement.

In bytes, with P parameters of the source, on one device:

- weights, gradients and AdamW's two moments, all float32: 16 P; a teacher for distillation: 4 P more
- input moments (Hessians) of each layer, float32: 4 (ffn^2 + query_width^2 + 2 hidden^2)
- what a trial reads of the survey's state, beside AdamW's moments: the weights once more, 4 P, and its input moments
- what products in bfloat16 read of the weights: rounded, in float32, and autocast's copies in bfloat16: 6 P
- activations of one micro-batch, for each token and layer: 4 (8 hidden + 2 query_width + 2 key_value_width + 4 ffn),
  in bfloat16 half of the matrices' part; with activation checkpointing 4 hidden, and one layer as above
- logits of one micro-batch, float32, three times (values, log-probabilities, gradient): 12 vocabulary for each token
- the program with its libraries: 500 MB of the processor's memory

The largest design is the source itself, where a trial begins, so one figure holds for every trial; the survey takes
less, since there is no earlier state. SmolLM2-135M in float32 with micro-batches of 1 block of 128 tokens: 4,260 MB by
this formula, 4,143 measured.
"""

from dataclasses import asdict, dataclass
from typing import Literal

from tools.architecture import Architecture
from tools.settings import Recipe

_PROGRAM_MB = 500.0


@dataclass(frozen=True)
class TrainingMemory:
    """Megabytes of 10^6 bytes, by what takes them."""

    weights: float
    gradients: float
    optimizer: float
    teacher: float
    input_moments: float
    survey_state: float
    lower_precision: float
    activations: float
    logits: float
    program: float

    @property
    def total(self) -> float:
        """All together."""
        return float(sum(asdict(self).values()))


def training_memory(
    source: Architecture, recipe: Recipe, block_length: int, precision: Literal["bfloat16", "float32"]
) -> TrainingMemory:
    """What one trial takes at most."""
    size, half = source.parameters / 1e6, precision == "bfloat16"
    tokens = min(recipe.micro_batch_size, recipe.batch_size) * block_length / 1e6
    widths = [_widths(source, index) for index in range(len(source.layers))]
    hidden = source.hidden_size
    moments = 4 * sum(ffn**2 + query**2 + 2 * hidden**2 for query, _, ffn in widths) / 1e6
    layers = [4 * (8 * hidden) + (2 if half else 4) * (2 * query + 2 * kv + 4 * ffn) for query, kv, ffn in widths]
    if recipe.activation_checkpointing:
        layers = [4 * hidden] * len(layers) + [max(layers)]
    return TrainingMemory(
        weights=4 * size,
        gradients=4 * size,
        optimizer=8 * size,
        teacher=4 * size if recipe.distillation > 0 else 0.0,
        input_moments=moments,
        survey_state=4 * size + moments,
        lower_precision=6 * size if half else 0.0,
        activations=tokens * sum(layers),
        logits=12 * tokens * source.fixed.vocab_size,
        program=_PROGRAM_MB,
    )


def _widths(source: Architecture, index: int) -> tuple[int, int, int]:
    layer, head_dim = source.layers[index], source.fixed.head_dim
    return layer.num_attention_heads * head_dim, layer.num_key_value_heads * head_dim, layer.intermediate_size


def machine_memory_mb() -> tuple[float, float]:
    """Memory that is free now and memory that there is, where models are trained: of the GPU, else of the machine."""
    import psutil
    import torch

    if torch.cuda.is_available():
        free, whole = torch.cuda.mem_get_info()
        return free / 1e6, whole / 1e6
    memory = psutil.virtual_memory()
    return memory.available / 1e6, memory.total / 1e6
