"""Settings of the lowest floor: the data that models are trained and measured on, the recipe of growth, the space."""

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from tools.evaluation.tasks import SEVEN_TASKS, task_named

SaliencyName = Literal["first", "second", "mixed", "token", "token_sequence", "magnitude", "activation", "random"]
"""How groups are ranked. first: |dL/dgate|; second: half its square (diagonal Fisher); mixed: |first - second|; all per
micro-batch. token: second with each token's own gate. token_sequence: the same, and for attention with the gate of each
sequence where that is larger. For comparison: magnitude (squared weights), activation (weights times input norms,
Wanda), random."""

FileFormat = Literal[
    "f32",
    "bf16",
    "f16",
    "q8_0",
    "q6_k",
    "q5_k_m",
    "q5_k_s",
    "q5_0",
    "q4_k_m",
    "q4_k_s",
    "q4_1",
    "iq4_nl",
    "q4_0",
    "q3_k_m",
]
"""GGUF files by the type of most of their weights: the mixes of `tools.export.quantisation`."""


class DataSettings(BaseModel):
    """How text becomes blocks of tokens."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    block_length: int = Field(256, ge=8, description="tokens in one training or validation block")
    training_tokens: int = Field(2_000_000, ge=1, description="prepare at most this many tokens for training")
    validation_tokens: int = Field(8192, ge=1, description="tokens of every measurement, rounded down to whole blocks")
    validation_share: float = Field(0.1, gt=0, lt=1, description="share of the text that only validation sees")
    text_field: str = Field("text", description="name of the text column in jsonl, parquet and hub data sets")
    split: str = Field("train", description="split of a hub data set")


class Recipe(BaseModel):
    """How a candidate is grown: warm-up of the source with statistics, one cut with repair, training of the rest."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    warmup_steps: int = Field(
        12, ge=1, description="optimiser steps on the uncut source, shared by all trials; statistics come from them"
    )
    training_steps: int = Field(24, ge=0, description="optimiser steps after the cut")
    drops: int = Field(1, ge=1, description="cuts on the way to the design; 1: all at once; more: while it trains")
    drop_share: float = Field(0.5, gt=0, le=1, description="share of training_steps in which the cuts are spread")
    batch_size: int = Field(4, ge=1, description="blocks per optimiser step")
    micro_batch_size: int = Field(4, ge=1, description="blocks per backward pass; saliency is read after each")
    learning_rate: float = Field(1e-4, gt=0, description="peak of AdamW's cosine, which ends at a tenth of it")
    weight_decay: float = Field(0.0, ge=0, description="decoupled weight decay of AdamW")
    gradient_clipping: float = Field(1.0, gt=0, description="largest gradient norm")
    learning_rate_schedule: Literal["cosine", "wsd"] = Field(
        "cosine", description="after the warm-up: cosine to a tenth, or stable and then a linear decay to zero (WSD)"
    )
    decay_share: float = Field(0.2, gt=0, le=1, description="share of training_steps in which WSD decays")
    saliency: SaliencyName = Field(
        "token_sequence",
        description="how groups are ranked; token_sequence, token, first, second and mixed read the training's own "
        "gradients",
    )
    saliency_decay: float = Field(
        1.0, gt=0, le=1, description="weight that earlier saliency keeps per optimiser step; 1: plain mean over all"
    )
    second_order_update: bool = Field(True, description="repair the readers of removed channels for what they lose")
    damping: float = Field(0.3, gt=0, description="share of the Hessian's mean diagonal added to its diagonal")
    moment_decay: float = Field(
        1.0, gt=0, le=1, description="weight that earlier input moments keep per optimiser step; 1: plain mean over all"
    )
    moment_tokens: int | None = Field(
        None,
        ge=1,
        description="tokens of each micro-batch that statistics read; null: all at first, later a quarter of those of "
        "every fourth step",
    )
    refresh_removals: int = Field(
        64, ge=1, description="an inverse Hessian is made anew after so many removals from its layer"
    )
    update_steps: int = Field(1, ge=1, description="optimiser steps over which each repair and its removal are spread")
    compact_every: int | None = Field(
        None,
        ge=1,
        description="cuts after which the model is made physically smaller; zeros stand in between. "
        "null: when these are a hundredth of it",
    )
    distillation: float = Field(
        0.0, ge=0, le=1, description="weight of the divergence from the source's predictions in the loss"
    )
    distillation_temperature: float = Field(1.0, gt=0, description="temperature of both sides of that divergence")
    activation_checkpointing: bool = Field(False, description="recompute activations in the backward pass: less memory")
    compile: bool = Field(False, description="compile the blocks with torch.compile")
    precision: Literal["auto", "bfloat16", "float32"] = Field(
        "auto", description="compute type over float32 weights; auto: bfloat16 where the processor has it"
    )
    time_limit_seconds: float = Field(3600.0, gt=0, description="an evaluation that takes longer is a failure")


class WidthSettings(BaseModel):
    """In which steps widths may vary."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    ffn_multiple: int = Field(64, ge=1, description="intermediate sizes are multiples of this")
    hidden_multiple: int = Field(32, ge=1, description="hidden sizes are multiples of this")
    uniform: bool = Field(False, description="all layers alike, as in the EfficientLLM paper")
    attention_unit: Literal["kv_group", "query_head"] = Field(
        "kv_group",
        description="what attention loses: a key/value head with its query heads, or one query head from every group",
    )


class GoalSettings(BaseModel):
    """What a search is after: the figure that decides, and what a design may cost beside its parameters.

    MB are 10^6 bytes.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    objective: Literal["loss", "accuracy"] = Field(
        "loss", description="what decides: validation loss, or mean zero-shot accuracy (needs lm-eval, and time)"
    )
    objective_tasks: tuple[str, ...] = Field(
        SEVEN_TASKS,
        min_length=1,
        description="tasks of that accuracy; of each acc_norm where lm-eval gives it, else acc",
    )
    objective_limit: int | None = Field(
        200, ge=1, description="only the first items of each task; null: all; the fewer, the more chance decides"
    )
    task_data: Path | None = Field(
        None, description="folder of local JSON-lines files for these tasks; without it they come from the hub"
    )
    max_latency_ms: float | None = Field(
        None,
        gt=0,
        description="slowest allowed decoding, in ms per token as measured here; designs above it are kept but "
        "never best. Only with this limit do agents see measured times, and answers differ as these do from run to run",
    )
    max_memory_mb: float | None = Field(
        None,
        gt=0,
        description="largest memory at inference: weights as file_format + KV cache of memory_context tokens",
    )
    max_file_mb: float | None = Field(
        None,
        gt=0,
        description="largest tensors of the gguf file of file_format; header and tokenizer come on top: SmolLM2 1.8 MB",
    )
    file_format: FileFormat = Field("f16", description="gguf file that max_file_mb and max_memory_mb mean")
    memory_context: int = Field(2048, ge=0, description="tokens in the f16 KV cache that max_memory_mb counts")

    @field_validator("objective_tasks")
    @classmethod
    def _tasks_exist(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(dict.fromkeys(task_named(name).name for name in value))


class SpaceSettings(WidthSettings, GoalSettings):
    """What may vary and what it may cost: the steps of the widths, the band of sizes, the limits."""

    max_parameters: int = Field(ge=1)
    min_parameters: int = Field(0, ge=0)
