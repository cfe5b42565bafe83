"""The words for parts of a source model: spans of equal layers, sensitivity by layer, parameters and other limits."""

from collections.abc import Sequence
from enum import IntEnum
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, create_model

from agents.dialects.base import Dialect, Sentence
from memory.outcomes import within_error
from memory.views import TrialView
from tools.architecture import Architecture
from tools.costs import costs_in_words, limits_in_words
from tools.fidelity import FidelitySettings, fidelity_in_words
from tools.pruning.groups import ffn_channel_parameters, kv_group_parameters
from tools.settings import GoalSettings
from tools.spaces import DesignDraft, PrunedLMSpace, SpanDraft

_SENSITIVITY_ROWS = 6
# Few, so that a small model completes its answer within max_tokens.
_MOST_SPANS = 5
_ONE_RUNG = FidelitySettings()
MOST_RUNNING = 8
"""Designs under way that a prompt tells of."""


class StrategiesAnswer(BaseModel):
    """The first half of self-evolution."""

    model_config = ConfigDict(extra="forbid")

    strategies: list[Sentence] = Field(
        min_length=1, max_length=3, description="each one sentence: which layers to widen or narrow, and why"
    )


class PrunedLMDialect(Dialect[Architecture, DesignDraft, TrialView]):
    """The legal widths of one space are written into the answers' JSON schemas. `source` is the source model's name.

    `ladder` has the rungs of a search that measures at several fidelities.
    """

    strategies = StrategiesAnswer

    def __init__(self, space: PrunedLMSpace, source: str, ladder: FidelitySettings = _ONE_RUNG) -> None:
        self._space, self._source, self._ladder = space, source, ladder
        self.design, self.inspiration = _answers(space)

    def about_space(self) -> dict[str, Any]:
        space, settings = self._space, self._space.settings
        layer = space.source.layers[0]
        return {
            "source": self._source,
            "aim": _aim(settings),
            "depth": len(space.source.layers),
            "hidden_size": space.source.hidden_size,
            "num_key_value_heads": layer.num_key_value_heads,
            "intermediate_size": layer.intermediate_size,
            "parameters": space.source.parameters,
            "min_parameters": settings.min_parameters,
            "max_parameters": space.most_parameters,
            "limits": [*limits_in_words(space.source, settings), *_rungs_in_words(self._ladder)],
            "kv_cost": kv_group_parameters(space.source, 0),
            "ffn_cost": settings.ffn_multiple * ffn_channel_parameters(space.source),
            "ffn_multiple": settings.ffn_multiple,
            "uniform": settings.uniform,
            "sensitivity": sensitivity(space),
        }

    def about_parent(self, parent: TrialView) -> dict[str, Any]:
        # What it is compared with was measured on the first rung, as all were.
        first = parent.on_first_rung()
        row = trial_row(first)
        if parent.ladder:
            row["figures"] = [first.measured_after, *row["figures"]]
        return {
            "parent": {**row, "loss": first.loss},
            "improve": "lower the loss" if parent.goal.objective == "loss" else "raise the accuracy",
            "limited": self.limits()["limited"],
        }

    def about_sample(self, sample: Sequence[TrialView]) -> dict[str, Any]:
        rows = [trial_row(trial) for trial in sample]
        for trial, row in zip(sample[1:], rows[1:], strict=True):
            if within_error(trial, sample[0]):
                row["figures"] = ["as good as the first of these within the error", *row["figures"]]
        return {"sample": rows, **self.limits()}

    def about_running(self, running: Sequence[TrialView]) -> dict[str, Any]:
        """Those that were begun last, where there are many: the checker knows all."""
        return {"running": [trial.architecture.describe() for trial in running[-MOST_RUNNING:]]}

    def limits(self) -> dict[str, Any]:
        """The sizes that a design may have, and whether other limits hold."""
        settings = self._space.settings
        return {
            "min_parameters": settings.min_parameters,
            "max_parameters": self._space.most_parameters,
            "limited": bool(limits_in_words(self._space.source, settings)),
        }

    def fields(self, design: Architecture, base: Architecture) -> dict[str, Any]:
        return self._space.draft(design).model_dump(mode="json")

    def draft(self, parsed: dict[str, Any]) -> DesignDraft:
        return draft_of(parsed)


def draft_of(parsed: dict[str, Any]) -> DesignDraft:
    """The design in a valid answer, or in a draft as plain JSON values."""
    spans = tuple(SpanDraft.model_validate(span) for span in parsed["spans"])
    return DesignDraft(hidden_size=parsed["hidden_size"], spans=spans)


def sensitivity(space: PrunedLMSpace) -> list[dict[str, Any]]:
    """Saliency of attention and FFN for runs of layers, 1.0 being the average layer."""
    depth = len(space.source.layers)
    attention = [space.designer.kv_saliency(index) for index in range(depth)]
    ffn = [space.designer.ffn_saliency(index) for index in range(depth)]
    rows = []
    count = min(_SENSITIVITY_ROWS, depth)
    for row in range(count):
        layers = range(row * depth // count, (row + 1) * depth // count)
        rows.append(
            {
                "first_layer": layers[0],
                "last_layer": layers[-1],
                "attention": _relative(attention, layers),
                "ffn": _relative(ffn, layers),
            }
        )
    return rows


def _relative(values: list[float], layers: range) -> float:
    mean = sum(values) / len(values)
    part = sum(values[index] for index in layers) / len(layers)
    return part / mean if mean else 1.0


def trial_row(trial: TrialView) -> dict[str, Any]:
    """A trial as the templates show it; a failed one says why instead of a loss."""
    measurement = trial.measurement
    if measurement is None:
        loss = "not measured yet"
    elif measurement.failure is not None:
        loss = f"failed: {measurement.failure.kind}"
    else:
        loss = f"{measurement.loss:.4f}" + (f" {trial.measured_after}" if trial.ladder else "")
    return {
        "number": trial.number,
        "design": trial.architecture.describe(),
        "parameters": trial.architecture.parameters,
        "loss": loss,
        "figures": [*_other_rungs(trial), *_figures(trial)],
    }


def _other_rungs(trial: TrialView) -> list[str]:
    """What was measured at other fidelities than the loss that stands before it, from the highest down."""
    words = []
    for rung in reversed(trial.rungs):
        if rung.measurement is None or rung.fidelity == trial.fidelity:
            continue
        there = trial.on_rung(rung)
        failed = f"failed {there.measured_after}"
        words.append(failed if there.loss is None else f"loss {there.loss:.4f} {there.measured_after}")
    return words


def _figures(trial: TrialView) -> list[str]:
    """What else of a trial counts in its run: accuracy where that decides, costs that are limited, what was forecast.

    A measured time differs from run to run, and with it the answer of the same seed would: it is told where it counts.
    """
    accuracy = [] if trial.accuracy is None else [f"accuracy {trial.accuracy:.3f}"]
    latency = trial.measurement.latency_ms if trial.measurement else None
    return [*accuracy, *costs_in_words(trial.architecture, latency, trial.goal), *_forecast(trial)]


def _forecast(trial: TrialView) -> list[str]:
    """What was known of it before it was trained, to be compared with what came out."""
    if trial.forecast is None:
        return []
    words = [f"saliency cut {trial.forecast:.3g}"]
    if trial.expected_score is not None:
        loss = trial.goal.objective == "loss"
        words.append(f"loss {trial.expected_score:.4f}" if loss else f"accuracy {-trial.expected_score:.3f}")
        if trial.ladder:
            words[-1] += f" after {fidelity_in_words(trial.ladder[0])}"
    return [f"forecast before training: {', '.join(words)}"]


def _rungs_in_words(ladder: FidelitySettings) -> list[str]:
    """How designs are measured, where that is at more than one fidelity."""
    first, *above = map(fidelity_in_words, ladder.fidelities)
    if not above:
        return []
    return [
        f"Every design is measured after {first}; the best 1 in {ladder.reduction_factor} is measured again after "
        f"{', then of these after '.join(above)}. Losses of different fidelities do not compare."
    ]


def _aim(goal: GoalSettings) -> str:
    """The figure that decides, in words."""
    if goal.objective == "loss":
        return "lowest validation loss"
    return f"highest zero-shot accuracy (mean of {', '.join(goal.objective_tasks)})"


def _answers(space: PrunedLMSpace) -> tuple[type[BaseModel], type[BaseModel]]:
    """The answers that name a design, of self-evolution and of knowledge distillation."""
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
    return (
        create_model("DesignAnswer", __config__=forbid, strategies_applied=(list[Sentence], reasons), **design),
        create_model("InspirationAnswer", __config__=forbid, patterns=(list[Sentence], patterns), **design),
    )


def _choice(name: str, sizes: list[int]) -> Any:
    """A type whose values are `sizes`; in the JSON schema an enum of integers."""
    members = {f"of_{size}": size for size in sizes}
    return IntEnum(name, members)
