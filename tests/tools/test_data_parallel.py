"""Two real ranks under torchrun against one process: the same losses, weights, refusals and stops.

The ranks run this file as a script, all scenes in one start; the tests read what each rank wrote.
"""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import PreTrainedModel

from tools import ranks
from tools.errors import InputError
from tools.families import architecture_from_config
from tools.pretraining.compute import Compute
from tools.pretraining.distillation import freeze
from tools.pretraining.trainer import NotFiniteError, Trainer
from tools.pretraining.training_log import TrainingLog
from tools.pruning.selection import CutPlan
from tools.pruning.surgery import cut
from tools.settings import Recipe
from tools.sources import load_model

COMPUTE = Compute("cpu", "float32")
BLOCKS = np.random.default_rng(0).integers(0, 300, (40, 16)).astype(np.int32)
SCENES: dict[str, dict[str, Any]] = {
    "plain": {"micro_batch_size": 1},
    "uneven": {"micro_batch_size": 2, "gradient_clipping": 0.05},
    "distilled": {"micro_batch_size": 3, "distillation": 0.5, "activation_checkpointing": True},
}


def plan_of(model: PreTrainedModel) -> CutPlan:
    """A cut of every kind, the same on all ranks."""
    layers = architecture_from_config(model.config).layers
    ratio = layers[0].num_attention_heads // layers[0].num_key_value_heads
    groups = np.array([0, 2])
    heads = (groups[:, None] * ratio + np.arange(ratio)).reshape(-1)
    return CutPlan(
        stem=np.arange(3, 51),
        kv_groups=(groups,) * len(layers),
        query_heads=(heads,) * len(layers),
        ffn=tuple(np.arange(index, index + 40) for index in range(len(layers))),
    )


def train_and_cut(source: Path, changes: dict[str, Any], log: Path) -> tuple[list[float], dict[str, torch.Tensor]]:
    """Three steps, a cut, three more; the losses and the weights."""
    model, teacher = load_model(source), freeze(load_model(source))
    recipe = Recipe(warmup_steps=2, training_steps=4, batch_size=6, **changes)
    with TrainingLog(log) as lines:
        trainer = Trainer(model, BLOCKS, recipe, COMPUTE, seed=3, teacher=teacher, log=lines.step)

        def after_step(done: int) -> None:
            if done == 3:
                cut(model, plan_of(model), [trainer.optimizer])
                lines.event("cut", trainer.step)

        trainer.train(6, "training", lambda *_: None, after_step=after_step)
    return trainer.losses, {name: value.detach().clone() for name, value in model.named_parameters()}


def tensors_of(rank: int) -> list[torch.Tensor]:
    """Different types, shapes and layouts; the large ones do not fit together in one message."""
    generator = torch.Generator().manual_seed(rank)
    return [
        torch.randn(3, 5, generator=generator),
        torch.tensor([1.5 + rank], dtype=torch.float64),
        torch.randn(4, 6, generator=generator).T,
        torch.randn(9_000_000, generator=generator),
        torch.empty(0),
        torch.randn(9_000_000, generator=generator),
        torch.tensor(7 + rank),
        torch.randn(8, 2, generator=generator)[:, 0],
    ]


def run_rank(source: Path, folder: Path) -> None:
    """What each rank does; everything that tests compare goes to files with the rank in their names."""
    torch.set_num_threads(1)
    ranks.start_ranks()
    own = ranks.rank()
    facts: dict[str, Any] = {"world_size": ranks.world_size()}
    for name, changes in SCENES.items():
        losses, weights = train_and_cut(source, changes, folder / f"{name}.{own}.jsonl")
        facts[name] = losses
        save_file(weights, folder / f"{name}.{own}.safetensors")

    summed, broadcast = tensors_of(own), tensors_of(own)
    ranks.sum_over_ranks(summed)
    ranks.broadcast_from_first(broadcast)
    expected = [one + other for one, other in zip(tensors_of(0), tensors_of(1), strict=True)]
    facts["summed"] = all(torch.equal(one, other) for one, other in zip(summed, expected, strict=True))
    facts["broadcast"] = all(torch.equal(one, other) for one, other in zip(broadcast, tensors_of(0), strict=True))

    if own == 0:
        time.sleep(0.3)
        (folder / "written").touch()
    ranks.wait_for_all()
    facts["waited"] = (folder / "written").exists()

    try:
        Trainer(load_model(source), BLOCKS, Recipe(batch_size=5), COMPUTE, seed=0)
    except InputError as error:
        facts["refused"] = str(error)

    model = load_model(source)
    if own == 1:
        with torch.no_grad():
            model.get_parameter("model.norm.weight")[0] = torch.nan
    before = [parameter.clone() for parameter in model.parameters()]
    trainer = Trainer(model, BLOCKS, Recipe(batch_size=2, micro_batch_size=1), COMPUTE, seed=0)
    try:
        trainer.train(2, "training", lambda *_: None)
    except NotFiniteError as error:
        facts["stopped"] = str(error)
    pairs = zip(model.parameters(), before, strict=True)
    facts["untouched"] = all(torch.equal(one.nan_to_num(), other.nan_to_num()) for one, other in pairs)
    ranks.stop_ranks()
    facts["alone_again"] = [ranks.rank(), ranks.world_size()]
    (folder / f"facts.{own}.json").write_text(json.dumps(facts))


@pytest.fixture(scope="module")
def folder(sources: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What two ranks wrote."""
    made = tmp_path_factory.mktemp("ranks")
    root = Path(__file__).parents[2]
    launcher = ["-m", "torch.distributed.run", "--standalone", "--local-addr", "127.0.0.1", "--nproc-per-node", "2"]
    done = subprocess.run(
        [sys.executable, *launcher, __file__, str(sources["llama-tied"]), str(made)],
        capture_output=True,
        text=True,
        timeout=200,
        env=os.environ | {"PYTHONPATH": str(root), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
    )
    assert done.returncode == 0, done.stderr
    return made


@pytest.fixture(scope="module")
def facts(folder: Path) -> list[dict[str, Any]]:
    """The facts of rank 0 and rank 1."""
    return [json.loads((folder / f"facts.{rank}.json").read_text()) for rank in range(2)]


@pytest.mark.parametrize("scene", SCENES)
def test_two_ranks_train_as_one(
    scene: str, sources: dict[str, Path], folder: Path, facts: list[dict[str, Any]], tmp_path: Path
) -> None:
    """Before and after a cut in the middle, with clipping, and with micro-batches that differ from one rank's."""
    losses, weights = train_and_cut(sources["llama-tied"], SCENES[scene], tmp_path / "log.jsonl")
    np.testing.assert_allclose(facts[0][scene], losses, rtol=1e-6)
    first, second = (load_file(folder / f"{scene}.{rank}.safetensors") for rank in range(2))
    for name, expected in weights.items():
        assert torch.equal(first[name], second[name]), f"{name} is not the same on both ranks"
        torch.testing.assert_close(first[name], expected, rtol=0, atol=1e-6)
    assert facts[0][scene] == facts[1][scene]


def test_only_the_first_rank_writes_the_log(folder: Path, facts: list[dict[str, Any]]) -> None:
    lines = [json.loads(line) for line in (folder / "plain.0.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2, 3, 3, 4, 5, 6]
    assert [line["loss"] for line in lines if "loss" in line] == facts[0]["plain"]
    assert lines[-1]["tokens"] == 6 * 6 * 16, "of all ranks together"
    assert not (folder / "plain.1.jsonl").exists()


def test_tensors_are_summed_and_broadcast(facts: list[dict[str, Any]]) -> None:
    for found in facts:
        assert found["world_size"] == 2
        assert found["summed"] and found["broadcast"]
        assert found["alone_again"] == [0, 1]


def test_ranks_wait_for_each_other(facts: list[dict[str, Any]]) -> None:
    assert all(found["waited"] for found in facts)


def test_a_batch_that_does_not_divide_is_refused(facts: list[dict[str, Any]]) -> None:
    sentence = "A batch of 5 blocks cannot be shared evenly by 2 ranks: set recipe.batch_size to a multiple of 2."
    assert [found["refused"] for found in facts] == [sentence] * 2


def test_all_ranks_stop_when_one_is_not_finite(facts: list[dict[str, Any]]) -> None:
    for found in facts:
        assert found["stopped"].startswith("the loss was nan at step 0")
        assert found["untouched"]


def test_one_process_needs_no_group() -> None:
    tensors = tensors_of(0)[:3]
    ranks.start_ranks()
    ranks.sum_over_ranks(tensors)
    ranks.broadcast_from_first(tensors)
    ranks.wait_for_all()
    ranks.stop_ranks()
    assert (ranks.rank(), ranks.world_size()) == (0, 1)
    assert all(torch.equal(one, other) for one, other in zip(tensors, tensors_of(0), strict=False))


if __name__ == "__main__":
    run_rank(Path(sys.argv[1]), Path(sys.argv[2]))
