"""The identity of an evaluation: all that decides its result, and nothing else."""

from pathlib import Path
from typing import Any

import pytest

from tools.architecture import Architecture
from tools.measurement import Measurement
from tools.requests import AccuracyRequest, Survey, TrialRequest, survey_key
from tools.settings import Recipe

DESIGN: dict[str, Any] = {
    "fixed": {"model_type": "llama", "vocab_size": 100, "head_dim": 8, "tie_word_embeddings": True},
    "hidden_size": 64,
    "layers": [
        {"num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 128},
        {"num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 96},
    ],
}


def survey(folder: Path, **changes: Any) -> Survey:
    """A survey of a source and a corpus; `changes` are parts of its key, or other fields of it."""
    parts = {"source": "source-a", "corpus": "corpus-a", "recipe": Recipe(), "seed": 0, "precision": "float32"}
    parts |= {name: changes.pop(name) for name in parts.keys() & changes.keys()}
    fields = {
        "key": survey_key(**parts),  # type: ignore[arg-type]
        "source_path": folder / "source",
        "source_fingerprint": parts["source"],
        "architecture": Architecture.model_validate(DESIGN),
        "corpus_path": folder / "corpus",
        "corpus_fingerprint": parts["corpus"],
        "folder": folder / "survey",
        "precision": parts["precision"],
        "compute": "CPU",
        "measurement": Measurement.of_loss(3.0, fidelity="source", parameters=1000, latency_ms=1.0),
    }
    return Survey.model_validate(fields | changes)


def request(place: Path, **changes: Any) -> TrialRequest:
    plain = {
        "survey": survey(place),
        "design": Architecture.model_validate(DESIGN),
        "recipe": Recipe(),
        "seed": 0,
        "folder": place / "trial",
    }
    return TrialRequest(**(plain | changes))


def tasks(**changes: Any) -> AccuracyRequest:
    plain = {"tasks": ("piqa",), "limit": 10, "task_data": None, "data": ("hub",), "lm_eval": "1"}
    return AccuracyRequest.model_validate(plain | changes)


OTHER_RECIPES = {
    "warmup_steps": 13,
    "training_steps": 25,
    "drops": 2,
    "drop_share": 0.25,
    "batch_size": 2,
    "micro_batch_size": 2,
    "learning_rate": 2e-4,
    "weight_decay": 0.1,
    "gradient_clipping": 2.0,
    "learning_rate_schedule": "wsd",
    "decay_share": 0.5,
    "saliency": "first",
    "saliency_decay": 0.5,
    "second_order_update": False,
    "damping": 0.1,
    "moment_decay": 0.5,
    "moment_tokens": 8,
    "refresh_removals": 8,
    "update_steps": 2,
    "compact_every": 2,
    "distillation": 0.5,
    "distillation_temperature": 2.0,
    "activation_checkpointing": True,
    "compile": True,
    "precision": "float32",
    "time_limit_seconds": 60.0,
}


def test_every_setting_of_the_recipe_counts(tmp_path: Path) -> None:
    assert OTHER_RECIPES.keys() == Recipe.model_fields.keys()
    keys = {request(tmp_path, recipe=Recipe(**{name: value})).key for name, value in OTHER_RECIPES.items()}
    assert len(keys | {request(tmp_path).key}) == len(OTHER_RECIPES) + 1


@pytest.mark.parametrize(
    "part",
    [
        {"source": "source-b"},
        {"corpus": "corpus-b"},
        {"precision": "bfloat16"},
        {"seed": 1},
        {"recipe": Recipe(training_steps=9)},
    ],
)
def test_what_the_survey_was_taken_of_counts(tmp_path: Path, part: dict[str, Any]) -> None:
    assert request(tmp_path, survey=survey(tmp_path, **part)).key != request(tmp_path).key


def test_design_seed_fidelity_and_tasks_count(tmp_path: Path) -> None:
    wider = {**DESIGN, "hidden_size": 72}
    turned = {**DESIGN, "layers": DESIGN["layers"][::-1]}
    requests = [
        request(tmp_path),
        request(tmp_path, design=Architecture.model_validate(wider)),
        request(tmp_path, design=Architecture.model_validate(turned)),
        request(tmp_path, seed=1),
        request(tmp_path, fidelity="one_shot"),
        request(tmp_path, accuracy=tasks()),
        request(tmp_path, accuracy=tasks(tasks=("copa",))),
        request(tmp_path, accuracy=tasks(limit=None)),
        request(tmp_path, accuracy=tasks(data=("0123",))),
        request(tmp_path, accuracy=tasks(lm_eval="2")),
    ]
    assert len({one.key for one in requests}) == len(requests)


def test_places_and_what_was_measured_before_do_not_count(tmp_path: Path) -> None:
    elsewhere = survey(
        tmp_path / "elsewhere",
        compute="another CPU",
        measurement=Measurement.of_loss(3.0, fidelity="source", parameters=1000, latency_ms=9.0),
    )
    other = request(tmp_path, survey=elsewhere, folder=tmp_path / "other")
    assert other.key == request(tmp_path).key
    with_tasks = request(tmp_path, accuracy=tasks())
    moved = request(tmp_path, accuracy=tasks(task_data=tmp_path))
    assert moved.key == with_tasks.key, "the digest of the data counts, not its place"


def test_the_same_design_written_in_another_way_has_the_same_key(tmp_path: Path) -> None:
    layers = [dict(reversed(layer.items())) for layer in DESIGN["layers"]]
    defaults = {"mlp_bias": False, "qk_norm": False, **DESIGN["fixed"]}
    written = {"layers": layers, "hidden_size": 64, "fixed": defaults}
    assert request(tmp_path, design=Architecture.model_validate(written)).key == request(tmp_path).key
    parsed = Architecture.model_validate_json(Architecture.model_validate(DESIGN).model_dump_json(indent=3))
    assert request(tmp_path, design=parsed).key == request(tmp_path).key
