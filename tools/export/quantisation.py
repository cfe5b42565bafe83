"""Which type each tensor of a GGUF file gets under a named mix, and how large the file becomes.

A mix is what llama.cpp's own quantising tool calls a file type: most matrices get its base type, and some that matter
more get more bits. K-quants pack 256 weights of a row together and the other types 32, so a row (the inputs of a
projection) that is no multiple of these gets another type, which is larger. Pruned models meet this often. The rules
here are those of llama.cpp (src/llama-quant.cpp, `llama_tensor_get_type_impl` and `tensor_type_fallback`) for models
without experts and without an importance matrix. Where they end, in a row of a 32-block type that is no multiple of 32,
llama.cpp's tool gives up; here the tensor stays float16.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby

from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, LlamaFileType

from tools.architecture import Architecture
from tools.errors import InputError
from tools.export.gguf_layout import FLOAT_MIXES, gguf_name, written_architecture
from tools.families import tensor_shapes

ALIGNMENT = 32


@dataclass(frozen=True)
class Mix:
    """A named mix: the type of most matrices, and the number that says so in the file (general.file_type)."""

    base: str
    file_type: LlamaFileType
    description: str


MIXES: dict[str, Mix] = {
    "f32": Mix("F32", LlamaFileType.ALL_F32, "float32, nothing lost"),
    "bf16": Mix("BF16", LlamaFileType.MOSTLY_BF16, "bfloat16"),
    "f16": Mix("F16", LlamaFileType.MOSTLY_F16, "float16"),
    "q8_0": Mix("Q8_0", LlamaFileType.MOSTLY_Q8_0, "8.5 bits in rows of 32, hardly a loss"),
    "q6_k": Mix("Q6_K", LlamaFileType.MOSTLY_Q6_K, "6.6 bits in rows of 256"),
    "q5_k_m": Mix("Q5_K", LlamaFileType.MOSTLY_Q5_K_M, "5.5 bits in rows of 256, more for sensitive layers"),
    "q5_k_s": Mix("Q5_K", LlamaFileType.MOSTLY_Q5_K_S, "5.5 bits in rows of 256"),
    "q5_0": Mix("Q5_0", LlamaFileType.MOSTLY_Q5_0, "5.5 bits in rows of 32"),
    "q4_k_m": Mix("Q4_K", LlamaFileType.MOSTLY_Q4_K_M, "4.5 bits in rows of 256, more for sensitive layers"),
    "q4_k_s": Mix("Q4_K", LlamaFileType.MOSTLY_Q4_K_S, "4.5 bits in rows of 256"),
    "q4_1": Mix("Q4_1", LlamaFileType.MOSTLY_Q4_1, "5 bits in rows of 32"),
    "iq4_nl": Mix("IQ4_NL", LlamaFileType.MOSTLY_IQ4_NL, "4.5 bits in rows of 32, uneven levels; slow to write"),
    "q4_0": Mix("Q4_0", LlamaFileType.MOSTLY_Q4_0, "4.5 bits in rows of 32"),
    "q3_k_m": Mix("Q3_K", LlamaFileType.MOSTLY_Q3_K_M, "3.4 bits in rows of 256, more for sensitive layers"),
}
FLOAT_TYPES = ("F32", "F16", "BF16")

_FALLBACK = {"Q3_K": "Q4_0", "Q4_K": "Q5_0", "Q5_K": "Q5_1", "Q6_K": "Q8_0"}


@dataclass(frozen=True)
class PredictedTensor:
    """One tensor of the file: llama.cpp's name, shape [out, in], the type that the mix wants and the one it gets."""

    name: str
    shape: tuple[int, ...]
    wanted: str
    written: str

    @property
    def parameters(self) -> int:
        """Numbers in the tensor."""
        return math.prod(self.shape)

    @property
    def fell_back(self) -> bool:
        """Whether the rows do not fit the type that the mix wants."""
        return self.wanted != self.written

    @property
    def bytes(self) -> int:
        """Bytes in the file, without the few that align the next tensor."""
        return math.ceil(self.parameters * bits_per_weight(self.written) / 8)


@dataclass(frozen=True)
class Fallback:
    """Tensors of one type that got another one, because of their rows."""

    wanted: str
    written: str
    tensors: tuple[str, ...]
    parameters: int


@dataclass(frozen=True)
class PredictedFile:
    """What a mix makes of a design. `bytes` is that of all tensors, alignment included, and exact.

    The file has, beside these bytes, its metadata: sizes and the tokenizer (a few MB for a large vocabulary), and, for
    models with llama3 scaling of rotary positions, the head_dim / 2 float32 numbers of that. `parameters` are those in
    the file (with the padding of Qwen3), tied ones once; `bits_per_weight` is over them.
    `bytes_without_fallback` is what the mix would take if every row were a multiple of its block.
    """

    mix: str
    bytes: int
    bytes_without_fallback: int
    parameters: int
    bits_per_weight: float
    tensor_count: int
    fallbacks: tuple[Fallback, ...]

    @property
    def fallback_parameters(self) -> int:
        """Parameters in tensors that fell back."""
        return sum(fallback.parameters for fallback in self.fallbacks)

    @property
    def fallback_tensors(self) -> int:
        """How many tensors fell back."""
        return sum(len(fallback.tensors) for fallback in self.fallbacks)

    @property
    def fallback_share(self) -> float:
        """Share of the parameters, 0 to 1, in tensors that fell back."""
        return self.fallback_parameters / self.parameters

    @property
    def growth(self) -> float:
        """How much larger the fallback makes the tensors: 0.37 is 37 % more bytes."""
        return self.bytes / self.bytes_without_fallback - 1


def checked_mix(mix: str) -> str:
    """`mix` in lower case. Raises InputError with the known names where there is none of that name."""
    if mix.lower() not in MIXES:
        raise InputError(f"There is no quantisation {mix!r}; choose one of {', '.join(MIXES)}.")
    return mix.lower()


def predicted_file(architecture: Architecture, mix: str) -> PredictedFile:
    """The size of a GGUF file of `architecture` under `mix`, and what falls back. Raises InputError for no such mix."""
    tensors = predicted_tensors(architecture, mix)
    parameters = sum(tensor.parameters for tensor in tensors)
    stored = sum(_aligned(tensor.bytes) for tensor in tensors)
    ideal = sum(_aligned(math.ceil(tensor.parameters * bits_per_weight(tensor.wanted) / 8)) for tensor in tensors)
    return PredictedFile(
        mix=checked_mix(mix),
        bytes=stored,
        bytes_without_fallback=ideal,
        parameters=parameters,
        bits_per_weight=8 * stored / parameters,
        tensor_count=len(tensors),
        fallbacks=tuple(_fallbacks(tensors)),
    )


def predicted_tensors(architecture: Architecture, mix: str) -> list[PredictedTensor]:
    """Every tensor of the file with its type, in the order of the file."""
    name, written = checked_mix(mix), written_architecture(architecture)
    tensors: list[PredictedTensor] = []
    for own_name, shape in tensor_shapes(written).items():
        wanted = _wanted(gguf_name(own_name), shape, written, name)
        tensors.append(PredictedTensor(gguf_name(own_name), shape, wanted, _fitting(wanted, shape[-1])))
    return tensors


def bits_per_weight(type_name: str) -> float:
    """Bits that one weight takes in a tensor of this type, its share of scales included."""
    block, size = GGML_QUANT_SIZES[GGMLQuantizationType[type_name]]
    return 8 * size / block


def _wanted(name: str, shape: tuple[int, ...], architecture: Architecture, mix: str) -> str:
    """The type that the mix has for a tensor, whatever its rows."""
    base = MIXES[mix].base
    if len(shape) < 2:
        return "F32"
    if mix in FLOAT_MIXES:
        return base
    kind = name.split(".")[-2]
    if kind == "output" or (kind == "token_embd" and architecture.fixed.tie_word_embeddings):
        return base if base == "Q8_0" else "Q6_K"
    if kind == "attn_v":
        return _for_values(int(name.split(".")[1]), architecture, mix)
    if kind == "ffn_down":
        return _for_down_projection(int(name.split(".")[1]), len(architecture.layers), mix)
    if kind == "attn_output" and mix == "q3_k_m":
        return "Q4_K"
    return base


def _for_values(index: int, architecture: Architecture, mix: str) -> str:
    depth, first = len(architecture.layers), architecture.layers[0]
    group_size = first.num_attention_heads // first.num_key_value_heads
    wanted = MIXES[mix].base
    if mix == "q3_k_m":
        wanted = "Q5_K" if index < 2 else "Q4_K"
    elif mix == "iq4_nl" and group_size >= 4:
        wanted = "Q5_K"
    elif mix in ("q4_k_m", "q5_k_m") and _gets_more_bits(index, depth):
        wanted = "Q6_K"
    elif mix == "q4_k_s" and index < 4:
        wanted = "Q5_K"
    # Grouped models of 80 layers are the 70B ones, whose value projections are small beside the rest.
    return "Q5_K" if depth == 80 and group_size > 1 and wanted in ("Q3_K", "Q4_K") else wanted


def _for_down_projection(index: int, depth: int, mix: str) -> str:
    if mix == "q3_k_m":
        return "Q5_K" if index < depth // 16 else "Q4_K"
    if mix in ("q4_k_m", "q5_k_m") and _gets_more_bits(index, depth):
        return "Q6_K"
    if mix in ("q4_k_s", "iq4_nl") and index < depth // 8:
        return "Q5_K"
    return MIXES[mix].base


def _gets_more_bits(index: int, depth: int) -> bool:
    """The first and last eighth of the layers and every third one between."""
    return index < depth // 8 or index >= 7 * depth // 8 or (index - depth // 8) % 3 == 2


def _fitting(wanted: str, row: int) -> str:
    """`wanted`, or the type that is taken for it where a row of `row` weights is no whole number of its blocks."""
    if row % _block(wanted) == 0:
        return wanted
    other = _FALLBACK.get(wanted, "F16")
    return other if row % _block(other) == 0 else "F16"


def _block(type_name: str) -> int:
    return int(GGML_QUANT_SIZES[GGMLQuantizationType[type_name]][0])


def _aligned(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT


def _fallbacks(tensors: Iterable[PredictedTensor]) -> Iterable[Fallback]:
    def kind(tensor: PredictedTensor) -> tuple[str, str]:
        return tensor.wanted, tensor.written

    fell = sorted((tensor for tensor in tensors if tensor.fell_back), key=kind)
    for (wanted, written), group in groupby(fell, key=kind):
        members = list(group)
        names, parameters = tuple(member.name for member in members), sum(member.parameters for member in members)
        yield Fallback(wanted, written, names, parameters)
