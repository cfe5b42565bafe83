"""The training loop: learning rates, accumulation, precision, recomputed activations, what is not finite, the log."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import PreTrainedModel

from tools.pretraining.compute import Compute
from tools.pretraining.corpus import training_batches
from tools.pretraining.learning_rate import learning_rate
from tools.pretraining.trainer import NotFiniteError, Trainer
from tools.pretraining.training_log import StepFigures, TrainingLog, model_flops_utilisation, peak_flops
from tools.pruning.input_statistics import InputStatistics
from tools.pruning.saliency_meter import SaliencyMeter
from tools.recomputation import recomputing
from tools.settings import Recipe
from tools.sources import load_model

FLOAT32 = Compute("cpu", "float32")
BLOCKS: npt.NDArray[np.int32] = np.random.default_rng(0).integers(0, 300, (64, 24)).astype(np.int32)

recipes = st.builds(
    Recipe,
    warmup_steps=st.integers(1, 50),
    training_steps=st.integers(1, 200),
    learning_rate=st.floats(1e-6, 1.0),
    learning_rate_schedule=st.sampled_from(["cosine", "wsd"]),
    decay_share=st.floats(0.01, 1.0),
)


def silent(phase: str, done: int, steps: int, loss: float) -> None:
    """Report nothing."""


def trained(
    model: PreTrainedModel, recipe: Recipe, steps: int, compute: Compute = FLOAT32, meter: SaliencyMeter | None = None
) -> Trainer:
    trainer = Trainer(model, BLOCKS, recipe, compute, seed=0)
    trainer.train(steps, "training", silent, meter)
    return trainer


@given(recipe=recipes)
def test_the_learning_rate_has_its_end_points(recipe: Recipe) -> None:
    peak, end = recipe.learning_rate, recipe.warmup_steps + recipe.training_steps
    assert learning_rate(0, recipe) == pytest.approx(peak / recipe.warmup_steps)
    assert learning_rate(recipe.warmup_steps - 1, recipe) == pytest.approx(peak)
    assert learning_rate(recipe.warmup_steps, recipe) == pytest.approx(peak)
    floor = 0.1 * peak if recipe.learning_rate_schedule == "cosine" else 0.0
    assert learning_rate(end, recipe) == learning_rate(end + 5, recipe) == pytest.approx(floor)


@given(recipe=recipes, data=st.data())
def test_the_learning_rate_is_bounded_and_does_not_jump(recipe: Recipe, data: st.DataObject) -> None:
    peak, end = recipe.learning_rate, recipe.warmup_steps + recipe.training_steps
    step = data.draw(st.integers(0, end + 3))
    here, there = learning_rate(step, recipe), learning_rate(step + 1, recipe)
    assert 0 <= here <= peak * (1 + 1e-9)
    assert here > 0 or step >= end, "a step that is taken moves the weights"
    if step >= recipe.warmup_steps:
        assert there <= here * (1 + 1e-9)
    falls = 0.45 * np.pi if recipe.learning_rate_schedule == "cosine" else 1 / recipe.decay_share
    steepest = max(1 / recipe.warmup_steps, falls / recipe.training_steps)
    assert abs(here - there) <= peak * steepest * (1 + 1e-6)


@given(recipe=recipes)
def test_wsd_is_stable_before_its_decay(recipe: Recipe) -> None:
    recipe = recipe.model_copy(update={"learning_rate_schedule": "wsd"})
    stable = int((1 - recipe.decay_share) * recipe.training_steps)
    assert learning_rate(recipe.warmup_steps + stable, recipe) == pytest.approx(recipe.learning_rate)
    halfway = recipe.model_copy(update={"training_steps": 200, "decay_share": 0.5})
    assert learning_rate(recipe.warmup_steps + 150, halfway) == pytest.approx(recipe.learning_rate / 2)


@pytest.mark.parametrize("micro_batch_size", [1, 3])
def test_accumulation_is_one_big_batch(sources: dict[str, Path], micro_batch_size: int) -> None:
    """Also with a last micro-batch that is smaller than the others."""

    def run(size: int) -> Trainer:
        recipe = Recipe(warmup_steps=2, training_steps=4, batch_size=8, micro_batch_size=size, weight_decay=0.1)
        return trained(load_model(sources["llama-tied"]), recipe, 4)

    whole, pieces = run(8), run(micro_batch_size)
    np.testing.assert_allclose(pieces.losses, whole.losses, rtol=1e-6)
    for one, other in zip(pieces.model.parameters(), whole.model.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-6)


def test_bfloat16_follows_float32_over_float32_weights(sources: dict[str, Path]) -> None:
    recipe = Recipe(warmup_steps=5, training_steps=35, batch_size=8, micro_batch_size=8, learning_rate=3e-3)
    exact = trained(load_model(sources["qwen3"]), recipe, 40)
    rounded = trained(load_model(sources["qwen3"]), recipe, 40, Compute("cpu", "bfloat16"))
    assert exact.losses[-1] < 0.9 * exact.losses[0], "it learns"
    np.testing.assert_allclose(rounded.losses, exact.losses, rtol=0.01)
    assert rounded.losses != exact.losses, "bfloat16 was used"
    assert {parameter.dtype for parameter in rounded.model.parameters()} == {torch.float32}
    assert {value.dtype for state in rounded.optimizer.state.values() for value in state.values()} == {torch.float32}


@pytest.mark.parametrize("family", ["llama-tied", "llama-biases", "mistral", "qwen2", "qwen3"])
def test_recomputed_activations_change_nothing(sources: dict[str, Path], family: str) -> None:
    """The same gradients, saliency and input moments; whoever asks `recomputing()` counts each token once."""
    passes: dict[bool, list[int]] = {}

    def run(activation_checkpointing: bool) -> tuple[Trainer, SaliencyMeter, dict[str, torch.Tensor]]:
        recipe = Recipe(
            warmup_steps=1,
            training_steps=3,
            batch_size=4,
            micro_batch_size=2,
            activation_checkpointing=activation_checkpointing,
        )
        model, counts = load_model(sources[family]), [0, 0]

        def count(module: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
            counts[recomputing()] += inputs[0].shape[0] * inputs[0].shape[1]

        model.get_submodule("model.layers.1.mlp.down_proj").register_forward_pre_hook(count)
        meter, statistics = SaliencyMeter(model), InputStatistics(model)
        statistics.attach()
        trainer = trained(model, recipe, 3, meter=meter)
        passes[activation_checkpointing] = counts
        return trainer, meter, statistics.state()

    (plain, plain_meter, plain_moments), (saving, saving_meter, saving_moments) = run(False), run(True)
    assert saving.losses == plain.losses
    for one, other in zip(saving.model.parameters(), plain.model.parameters(), strict=True):
        assert torch.equal(one, other)
    np.testing.assert_array_equal(saving_meter.saliency().stem, plain_meter.saliency().stem)
    assert all(torch.equal(saving_moments[name], moment) for name, moment in plain_moments.items())
    tokens = 3 * 4 * 24
    assert passes == {False: [tokens, 0], True: [tokens, tokens]}
    assert not recomputing()


def test_the_optimiser_is_adamw(sources: dict[str, Path]) -> None:
    """Weights after a few steps are those of the formula (arXiv 1711.05101, Algorithm 2), written out here."""
    recipe = Recipe(batch_size=4, micro_batch_size=4, warmup_steps=1, training_steps=3, gradient_clipping=1e9)
    model, reference = (load_model(sources["llama-tied"]) for _ in range(2))
    trainer = trained(model, recipe, 3)
    weights = list(reference.parameters())
    first, second = ([torch.zeros_like(weight) for weight in weights] for _ in range(2))
    batches = training_batches(BLOCKS, 4, 0)
    for step in range(3):
        tokens = torch.from_numpy(next(batches)).long()
        gradients = torch.autograd.grad(reference(input_ids=tokens, labels=tokens, use_cache=False).loss, weights)
        rate = learning_rate(step, recipe)
        with torch.no_grad():
            for weight, gradient, mean, square in zip(weights, gradients, first, second, strict=True):
                mean.mul_(0.9).add_(0.1 * gradient)
                square.mul_(0.95).add_(0.05 * gradient**2)
                unbiased, spread = mean / (1 - 0.9 ** (step + 1)), (square / (1 - 0.95 ** (step + 1))).sqrt()
                weight.sub_(rate * recipe.weight_decay * weight + rate * unbiased / (spread + 1e-8))
    for weight, expected in zip(trainer.model.parameters(), weights, strict=True):
        torch.testing.assert_close(weight, expected, rtol=1e-4, atol=1e-6)


def test_an_infinite_loss_stops_before_the_weights_see_it(sources: dict[str, Path]) -> None:
    model = load_model(sources["llama-untied"])
    trainer = trained(model, Recipe(batch_size=2, micro_batch_size=1), 1)
    with torch.no_grad():
        model.get_submodule("model.norm").get_parameter("weight")[0] = torch.inf
    before = [parameter.clone() for parameter in model.parameters()]
    with pytest.raises(NotFiniteError, match="the loss was nan at step 1"):
        trainer.train(1, "training", silent)
    assert trainer.step == len(trainer.losses) == 1
    assert all(torch.equal(one, other) for one, other in zip(model.parameters(), before, strict=True))


def test_an_infinite_gradient_alone_stops_as_well(sources: dict[str, Path]) -> None:
    model = load_model(sources["llama-untied"])
    model.get_parameter("model.norm.weight").register_hook(lambda gradient: gradient * torch.inf)
    before = [parameter.clone() for parameter in model.parameters()]
    with pytest.raises(NotFiniteError, match=r"the gradient norm was (inf|nan) at step 0"):
        trained(model, Recipe(batch_size=2, micro_batch_size=1), 1)
    assert all(torch.equal(one, other) for one, other in zip(model.parameters(), before, strict=True))


def test_the_figures_of_a_step(sources: dict[str, Path]) -> None:
    model = load_model(sources["qwen2"])
    recipe = Recipe(warmup_steps=2, training_steps=2, batch_size=4, micro_batch_size=2, gradient_clipping=1e-3)
    figures: list[StepFigures] = []
    trainer = Trainer(model, BLOCKS, recipe, FLOAT32, seed=0, log=figures.append)
    trainer.train(3, "training", silent)
    assert [figure.loss for figure in figures] == trainer.losses
    assert [figure.tokens for figure in figures] == [96, 192, 288] and figures[-1].step == 3
    assert [figure.learning_rate for figure in figures] == [learning_rate(step, recipe) for step in range(3)]
    assert all(figure.gradient_norm > 0.01 for figure in figures), "measured before it is clipped"
    assert all(figure.parameters == model.num_parameters() for figure in figures)
    assert all(figure.tokens_per_second * figure.seconds == pytest.approx(96) for figure in figures)
    assert {(figure.objective, figure.model_flops_utilisation) for figure in figures} == {(None, None)}


def test_utilisation_is_six_flop_per_parameter_and_token() -> None:
    assert model_flops_utilisation(100_000_000, 500_000.0, 1000e12) == pytest.approx(0.3)
    assert model_flops_utilisation(100_000_000, 500_000.0, None) is None
    assert peak_flops(Compute("cpu", "bfloat16")) is None, "no peak is known of a processor"


def read(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture
def figures() -> Callable[[int], StepFigures]:
    return lambda step: StepFigures(step, step * 96, 5.0, None, 1e-4, 0.5, 0.1, 960.0, 1000, None)


def test_the_log_is_there_as_it_happens(tmp_path: Path, figures: Callable[[int], StepFigures]) -> None:
    path = tmp_path / "made" / "log.jsonl"
    with TrainingLog(path) as log:
        for step in (1, 2, 3):
            log.step(figures(step))
            assert [line["step"] for line in read(path)] == list(range(1, step + 1))
        log.event("cut", 3, parameters=900)
    assert read(path)[-1] == {"event": "cut", "step": 3, "parameters": 900}
    assert read(path)[0] == {
        "step": 1,
        "tokens": 96,
        "loss": 5.0,
        "learning_rate": 1e-4,
        "gradient_norm": 0.5,
        "seconds": 0.1,
        "tokens_per_second": 960.0,
        "parameters": 1000,
    }


@pytest.mark.parametrize("torn", ["", '{"step": 5, "lo', '{"step": 3}'])
def test_a_resumed_log_forgets_what_was_not_saved(
    tmp_path: Path, figures: Callable[[int], StepFigures], torn: str
) -> None:
    path = tmp_path / "log.jsonl"
    with TrainingLog(path) as log:
        for step in (1, 2, 3, 4):
            log.step(figures(step))
            log.event("cut", step)
    path.write_text(path.read_text() + torn)
    with TrainingLog(path, resumed_step=2) as log:
        log.step(figures(3))
    assert [(line["step"], "event" in line) for line in read(path)] == [
        (1, False),
        (1, True),
        (2, False),
        (2, True),
        (3, False),
    ]
    assert [file.name for file in tmp_path.iterdir()] == ["log.jsonl"]
    with TrainingLog(path):
        pass
    assert path.read_text() == "", "a training from the start begins anew"


def test_a_torn_line_at_the_end_is_dropped(tmp_path: Path, figures: Callable[[int], StepFigures]) -> None:
    path = tmp_path / "log.jsonl"
    with TrainingLog(path) as log:
        log.step(figures(1))
    for torn in ('{"step": 2, "to', '{"step": 2}'):
        path.write_text(path.read_text() + torn)
        with TrainingLog(path, resumed_step=7):
            pass
        assert [line["step"] for line in read(path)] == [1]


def test_the_log_follows_a_training(sources: dict[str, Path], tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    recipe = Recipe(batch_size=2, micro_batch_size=2)
    with TrainingLog(path) as log:
        trainer = Trainer(load_model(sources["llama-mqa"]), BLOCKS, recipe, FLOAT32, seed=0, log=log.step)
        trainer.train(2, "training", silent, after_step=lambda done: log.event("saved", trainer.step))
    lines = read(path)
    assert [line.get("event") for line in lines] == [None, "saved", None, "saved"]
    assert [line["loss"] for line in lines if "event" not in line] == trainer.losses
