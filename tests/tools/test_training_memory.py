"""The formula of training memory against the tensors of a real training."""

import json
from pathlib import Path

import numpy as np

from tools.families import architecture_from_config
from tools.pretraining.compute import Compute
from tools.pretraining.trainer import Trainer
from tools.pruning.input_statistics import InputStatistics
from tools.settings import Recipe
from tools.sources import load_model
from tools.training_memory import machine_memory_mb, training_memory


def test_what_is_kept_for_each_parameter(sources: dict[str, Path]) -> None:
    recipe = Recipe(batch_size=2, micro_batch_size=1)
    model = load_model(sources["llama-tied"])
    statistics = InputStatistics(model)
    stop = statistics.attach()
    trainer = Trainer(model, np.ones((4, 16), np.int32), recipe, Compute("cpu", "float32"), 0)
    trainer.train(1, "training", lambda *_: None)
    stop()
    source = architecture_from_config(json.loads((sources["llama-tied"] / "config.json").read_text()))
    found = training_memory(source, recipe, 16, "float32")
    parameters = list(model.parameters())
    moments = [
        trainer.optimizer.state[parameter][kind] for parameter in parameters for kind in ("exp_avg", "exp_avg_sq")
    ]
    squares = [tensor for name, tensor in statistics.state().items() if tensor.ndim == 2]
    for tensors, expected in ((parameters, found.weights), (moments, found.optimizer), (squares, found.input_moments)):
        assert sum(tensor.numel() * tensor.element_size() for tensor in tensors) / 1e6 == expected
    assert found.survey_state == found.weights + found.input_moments
    assert found.gradients == found.weights and found.teacher == found.lower_precision == 0.0


def test_what_changes_it(sources: dict[str, Path]) -> None:
    source = architecture_from_config(json.loads((sources["llama-tied"] / "config.json").read_text()))
    plain = training_memory(source, Recipe(), 64, "float32")
    longer = training_memory(source, Recipe(), 128, "float32")
    assert longer.activations == 2 * plain.activations and longer.logits == 2 * plain.logits
    again = training_memory(source, Recipe(activation_checkpointing=True), 64, "float32")
    assert again.activations < plain.activations and again.weights == plain.weights
    assert training_memory(source, Recipe(distillation=0.5), 64, "float32").teacher == plain.weights
    half = training_memory(source, Recipe(), 64, "bfloat16")
    assert half.activations < plain.activations and half.lower_precision == 1.5 * half.weights
    free, whole = machine_memory_mb()
    assert 0 < free <= whole
