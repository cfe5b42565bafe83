"""Small designs and filled records for the tests of memory."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from memory.rebuild import open_vectors
from memory.records import Records
from memory.tables import Evaluation, Promotion, Proposal, Run
from memory.text_embedding import HASHED
from memory.vectors import VectorStore
from memory.views import TrialView
from tests.postgresql import NewDatabase, new_file
from tools.architecture import Architecture, FixedShape, LayerShape
from tools.measurement import Failure, Measurement

Design = Callable[..., Architecture]


class CountedEmbedding:
    """The embedding that is used without a setting, which says what it was asked for."""

    name, dimensions = HASHED.name, HASHED.dimensions

    def __init__(self) -> None:
        self.texts = list[str]()

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        self.texts += texts
        return HASHED.embed(texts)


def make_design(hidden: int = 64, ffn: tuple[int, ...] = (128, 128), kv: int = 2, heads: int = 4) -> Architecture:
    """A tiny Llama; one FFN width per layer."""
    return Architecture(
        fixed=FixedShape(model_type="llama", vocab_size=100, head_dim=8, tie_word_embeddings=True),
        hidden_size=hidden,
        layers=tuple(
            LayerShape(num_attention_heads=heads, num_key_value_heads=kv, intermediate_size=width) for width in ffn
        ),
    )


def finish(
    records: Records,
    run_id: str,
    turn: int,
    architecture: Architecture,
    loss: float | None,
    figures: Mapping[str, float] | None = None,
    **proposal: object,
) -> TrialView:
    """Propose, number, evaluate and finish one trial; without a loss it failed."""
    fields = {"stage": "self_evolution", "proposer": "evolver", "outcome": "valid", **proposal}
    proposed = records.add_proposal(Proposal(run_id=run_id, turn=turn, raw="{}", **fields))
    trial = records.add_trial(proposed.id, architecture)
    measurement = Measurement(
        fidelity="quick",
        parameters=architecture.parameters,
        loss=loss,
        failure=None if loss is not None else Failure(kind="out_of_memory", message="too large"),
        **(figures or {}),
    )
    evaluation = records.add_evaluation(
        Evaluation(
            key=f"{run_id}-{architecture.hash}-{turn}",
            run_id=run_id,
            architecture_hash=architecture.hash,
            architecture=architecture.model_dump(mode="json"),
            fidelity="quick",
            status="failed" if loss is None else "done",
            loss=loss,
            parameters=architecture.parameters,
            measurement=measurement.model_dump(mode="json"),
        )
    )
    records.finish_trial(trial.id, evaluation.id, cached=False)
    return records.trial(run_id, trial.number)


def climb(
    records: Records, trial: TrialView, loss: float | None, fidelity: str, rung: int = 1, turn: int = 9
) -> TrialView:
    """Promote a trial, 1st of 3, and measure it there; without a loss it failed."""
    run_id, design = trial.run_id, trial.architecture
    failure = None if loss is not None else Failure(kind="not_finite", message="the loss is NaN")
    found = Measurement(fidelity=fidelity, parameters=design.parameters, loss=loss, failure=failure)
    row = Promotion(run_id=run_id, trial_id=trial.trial_id, turn=turn, rung=rung, fidelity=fidelity, rank=1, rivals=3)
    records.add_promotion(row)
    evaluation = records.add_evaluation(
        Evaluation(
            key=f"{run_id}-{design.hash}-{fidelity}",
            run_id=run_id,
            architecture_hash=design.hash,
            architecture=design.model_dump(mode="json"),
            fidelity=fidelity,
            status="failed" if loss is None else "done",
            loss=loss,
            parameters=design.parameters,
            measurement=found.model_dump(mode="json"),
        )
    )
    records.finish_promotion(trial.trial_id, rung, evaluation.key)
    return records.trial(run_id, trial.number)


@pytest.fixture
def design() -> Design:
    return make_design


@pytest.fixture
def finish_trial() -> Callable[..., TrialView]:
    return finish


@pytest.fixture
def new_database(tmp_path: Path) -> NewDatabase:
    """Where `records` go; a module that says `new_database = both_databases` has its tests on PostgreSQL too."""
    return lambda: new_file(tmp_path)


@pytest.fixture
def records(new_database: NewDatabase) -> Iterator[Records]:
    with Records.open(new_database()) as opened:
        opened.create_run(Run(id="run-a", source="tiny", corpus="docs"))
        yield opened


@pytest.fixture
def filled(records: Records) -> Records:
    """Records with a run of a known source, eight trials (one failed), lessons and a prompt."""
    source = make_design()
    records.update_run("run-a", source_architecture=source.model_dump(mode="json"))
    for turn in range(8):
        finish(
            records,
            "run-a",
            turn,
            make_design(ffn=(128, 16 * (turn + 1))),
            None if turn == 3 else 4.0 - 0.1 * turn,
            parent_number=turn - 1 if turn else None,
            rationale=[f"narrow the late FFN to {16 * (turn + 1)}", "keep the early layers wide"],
        )
    records.add_prompt("abc", "evolver", "You design compact language models.")
    return records


@pytest.fixture
def places(tmp_path: Path) -> tuple[Path, Path]:
    """Where the shared and the private vector store go."""
    return tmp_path / "vectors", tmp_path / "run" / "vectors"


@pytest.fixture
def vectors_url() -> str | None:
    """The address of a server for the vectors; a module can have one beside PostgreSQL."""
    return None


@pytest.fixture
def store(filled: Records, places: tuple[Path, Path], vectors_url: str | None) -> Iterator[VectorStore]:
    with open_vectors(*places, filled, vectors_url) as opened:
        yield opened
