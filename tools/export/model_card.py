"""What is known of an exported model, as plain data: the ground of its README.md, and the content of penjing.json.

A card holds no paths of the machine it was made on. What is not known is None or empty and left out of the README.
"""

from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from tools.architecture import Architecture
from tools.export.report import ExportReport
from tools.measurement import Measurement


def _version() -> str:
    try:
        return version("penjing")
    except PackageNotFoundError:
        return "from its checkout"


class _Plain(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Origin(_Plain):
    """The model that the exported one was made from. `name` is a hub name where `on_hub` says so."""

    name: str | None = None
    on_hub: bool = False
    license: str | None = Field(None, description="as the hub writes licences, like apache-2.0")
    license_found_in: str | None = Field(None, description="what said so")
    fingerprint: str | None = Field(None, description="of its config and weights")
    architecture: Architecture | None = None
    measurement: Measurement | None = Field(None, description="as it was, on the same text as the exported model")


class TrainingFacts(_Plain):
    """How the model was trained while and after it was cut."""

    corpus: str
    corpus_fingerprint: str | None = None
    method: str
    tokens: int
    block_length: int | None = None
    batch_size: int | None = None
    learning_rate: float | None = None
    distillation: float | None = None
    precision: str | None = None
    hardware: str | None = None
    seed: int | None = None
    seconds: float | None = None


class Ancestor(_Plain):
    """One trial on the way to the exported one."""

    trial: int
    stage: str
    proposer: str
    parent: int | None
    based_on: tuple[int, ...] = ()
    parameters: int
    loss: float | None
    prompt_hash: str | None
    rationale: tuple[str, ...] = ()


class PromptUsed(_Plain):
    """A prompt template that the run's agents were asked with; `hash` covers the whole template file."""

    name: str
    hash: str


class SearchFacts(_Plain):
    """The search that found the design, and the exported trial's way through it; `lineage` begins with the oldest."""

    run: str
    trial: int
    trials: int
    stage: str
    outcome: str
    chat_model: str | None
    settings_fingerprint: str
    lineage: tuple[Ancestor, ...]
    prompts: tuple[PromptUsed, ...]
    created_at: datetime


class Figure(_Plain):
    """One row of the evaluation table: `settings` says how it was measured, `origin` is the base's value."""

    name: str
    value: float
    standard_error: float | None = None
    unit: str = ""
    origin: float | None = None
    settings: str = ""


class FallbackFacts(_Plain):
    """Tensors of a quantised file that got another type than the mix has for them."""

    wanted: str
    written: str
    tensors: tuple[str, ...]
    parameters: int


class CardFile(_Plain):
    """One file of weights. `class_name` is a class of transformers, or an architecture of llama.cpp for GGUF files."""

    name: str
    format: Literal["safetensors", "gguf"]
    class_name: str
    dtype: str
    bytes: int
    parameters: int = Field(description="numbers in the file, zeros of padding included")
    padded: bool
    remote_code: bool
    fingerprint: str | None = Field(None, description="of config and weights; tells whether they were changed since")
    bits_per_weight: float | None = None
    fallbacks: tuple[FallbackFacts, ...] = ()
    notes: tuple[str, ...] = ()

    @classmethod
    def of(cls, report: ExportReport, fingerprint: str | None = None) -> "CardFile":
        """The file that an export wrote."""
        prediction = report.prediction
        fallbacks = () if prediction is None else prediction.fallbacks
        return cls(
            name=report.weights_file,
            format="safetensors" if prediction is None else "gguf",
            class_name=report.class_name,
            dtype=report.dtype,
            bytes=report.bytes,
            parameters=report.file_parameters,
            padded=report.padded,
            remote_code=report.remote_code,
            fingerprint=fingerprint,
            bits_per_weight=None if prediction is None else round(prediction.bits_per_weight, 4),
            fallbacks=tuple(
                FallbackFacts(wanted=one.wanted, written=one.written, tensors=one.tensors, parameters=one.parameters)
                for one in fallbacks
            ),
            notes=tuple(report.notes()),
        )


class ModelCard(_Plain):
    """All of it. `identity` tells one model from another, whatever formats it is written in."""

    schema_version: Literal[1] = 1
    generator: str = Field(default_factory=lambda: f"penjing {_version()}")
    name: str
    architecture: Architecture
    fingerprint: str | None = Field(None, description="of the weights that all files were made from")
    origin: Origin = Origin()
    training: TrainingFacts | None = None
    search: SearchFacts | None = None
    measurement: Measurement | None = None
    figures: tuple[Figure, ...] = ()
    files: tuple[CardFile, ...] = ()
    created_at: datetime = Field(default_factory=lambda: datetime.now(UTC).replace(microsecond=0))

    @property
    def identity(self) -> tuple[object, ...]:
        """What two cards of the same weights have in common."""
        trial = None if self.search is None else (self.search.run, self.search.trial)
        return self.architecture.hash, self.fingerprint, trial

    def with_file(self, file: CardFile, others: tuple[CardFile, ...] = ()) -> "ModelCard":
        """The card with `file` and with those of `others` that have another name."""
        return self.model_copy(update={"files": (*(other for other in others if other.name != file.name), file)})
