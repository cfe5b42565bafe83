"""Distillation: the chunked loss against the plain formula, its limits, and its place in the training."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F
from transformers import PreTrainedModel

from tools.pretraining.compute import Compute
from tools.pretraining.distillation import distillation_loss, freeze
from tools.pretraining.trainer import Trainer
from tools.pretraining.training_log import StepFigures
from tools.settings import Recipe
from tools.sources import load_model

TOKENS = torch.randint(0, 300, (3, 17), generator=torch.Generator().manual_seed(0))


def naive(
    student: PreTrainedModel, teacher: PreTrainedModel, weight: float, temperature: float
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Objective, cross-entropy and divergence from whole logits, written out."""
    targets = TOKENS[:, 1:]
    logits = student(input_ids=TOKENS).logits[:, :-1]
    with torch.no_grad():
        teacher_logits = teacher(input_ids=TOKENS).logits[:, :-1]
    cross_entropy = F.cross_entropy(logits.flatten(0, 1), targets.flatten())
    probabilities = F.softmax(teacher_logits / temperature, dim=-1)
    ratio = probabilities.log() - F.softmax(logits / temperature, dim=-1).log()
    divergence = (probabilities * ratio).sum(dim=-1).mean()
    return (1 - weight) * cross_entropy + weight * temperature**2 * divergence, cross_entropy, divergence


def gradients(model: PreTrainedModel, objective: torch.Tensor) -> list[torch.Tensor]:
    return list(torch.autograd.grad(objective, list(model.parameters())))


@pytest.fixture(scope="module")
def pair(sources: dict[str, Path]) -> tuple[PreTrainedModel, PreTrainedModel]:
    """A student and another model of the same vocabulary as its teacher, in float64."""
    student = load_model(sources["llama-tied"], torch.float64).train()
    return student, freeze(load_model(sources["qwen3"], torch.float64))


@settings(deadline=None, max_examples=40)
@given(weight=st.floats(0, 1), temperature=st.floats(0.5, 4), rows=st.integers(1, 60))
def test_chunks_give_the_plain_formula(
    pair: tuple[PreTrainedModel, PreTrainedModel], weight: float, temperature: float, rows: int
) -> None:
    """Loss and gradients, whatever number of rows is taken at a time, also one that leaves a rest."""
    student, teacher = pair
    chunked = distillation_loss(student, teacher, TOKENS, weight, temperature, chunk_elements=320 * rows)
    objective, cross_entropy, divergence = naive(student, teacher, weight, temperature)
    torch.testing.assert_close(chunked.objective, objective, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(chunked.cross_entropy, cross_entropy.detach(), rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(chunked.divergence, divergence.detach(), rtol=1e-10, atol=1e-12)
    pairs = zip(gradients(student, chunked.objective), gradients(student, objective), strict=True)
    for one, other in pairs:
        torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-12)


def test_without_weight_it_is_the_plain_loss(pair: tuple[PreTrainedModel, PreTrainedModel]) -> None:
    student, teacher = pair
    distilled = distillation_loss(student, teacher, TOKENS, 0.0, 2.0).objective
    plain = student(input_ids=TOKENS, labels=TOKENS).loss
    # transformers takes its loss in float32.
    torch.testing.assert_close(distilled, plain.double(), rtol=1e-6, atol=0)
    for one, other in zip(gradients(student, distilled), gradients(student, plain), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_the_teacher_itself_diverges_by_nothing(sources: dict[str, Path], precision: torch.dtype) -> None:
    student, teacher = load_model(sources["qwen2"]).train(), freeze(load_model(sources["qwen2"]))
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == torch.bfloat16):
        result = distillation_loss(student, teacher, TOKENS, 1.0, 2.0, chunk_elements=320 * 20)
    assert abs(float(result.divergence)) < 1e-6
    assert float(result.cross_entropy) > 1
    assert all(float(gradient.abs().max()) < 1e-5 for gradient in gradients(student, result.objective))


def test_bfloat16_chunks_follow_float32(sources: dict[str, Path]) -> None:
    student, teacher = load_model(sources["llama-untied"]).train(), freeze(load_model(sources["qwen3"]))
    exact = distillation_loss(student, teacher, TOKENS, 0.5, 2.0, chunk_elements=320 * 20)
    expected = torch.cat([gradient.flatten() for gradient in gradients(student, exact.objective)])
    with torch.autocast("cpu", torch.bfloat16):
        rounded = distillation_loss(student, teacher, TOKENS, 0.5, 2.0, chunk_elements=320 * 20)
    found = torch.cat([gradient.flatten() for gradient in gradients(student, rounded.objective)])
    assert rounded.objective.dtype == found.dtype == torch.float32
    torch.testing.assert_close(rounded.objective, exact.objective, rtol=0.01, atol=0)
    assert float(F.cosine_similarity(found, expected, dim=0)) > 0.99


@pytest.mark.parametrize("activation_checkpointing", [False, True])
def test_training_reports_the_cross_entropy(sources: dict[str, Path], activation_checkpointing: bool) -> None:
    """The student comes nearer to its teacher, the teacher stays, and the losses are those of plain training."""
    blocks = np.random.default_rng(0).integers(0, 300, (16, 24)).astype(np.int32)
    recipe = Recipe(
        warmup_steps=1,
        training_steps=20,
        batch_size=4,
        micro_batch_size=2,
        learning_rate=3e-3,
        distillation=0.9,
        activation_checkpointing=activation_checkpointing,
    )
    compute = Compute("cpu", "float32")
    teacher = freeze(load_model(sources["qwen3"]))
    before = [parameter.clone() for parameter in teacher.parameters()]
    figures: list[StepFigures] = []
    student = load_model(sources["llama-tied"])
    trainer = Trainer(student, blocks, recipe, compute, seed=0, teacher=teacher, log=figures.append)
    trainer.train(20, "training", lambda *_: None)
    plain = Trainer(
        load_model(sources["llama-tied"]), blocks, recipe.model_copy(update={"distillation": 0.0}), compute, seed=0
    )
    plain.train(1, "training", lambda *_: None)
    assert trainer.losses[0] == pytest.approx(plain.losses[0], rel=1e-6), "a cross-entropy, as without a teacher"
    assert [figure.loss for figure in figures] == trainer.losses
    objectives = [figure.objective for figure in figures if figure.objective is not None]
    assert len(objectives) == 20 and objectives != trainer.losses
    assert objectives[-1] < 0.9 * objectives[0]
    assert not teacher.training
    assert all(torch.equal(one, other) for one, other in zip(teacher.parameters(), before, strict=True))


def test_distillation_needs_a_teacher(sources: dict[str, Path]) -> None:
    blocks = np.zeros((4, 8), dtype=np.int32)
    with pytest.raises(ValueError, match="no teacher"):
        Trainer(load_model(sources["llama-tied"]), blocks, Recipe(distillation=0.5), Compute("cpu", "float32"), seed=0)
