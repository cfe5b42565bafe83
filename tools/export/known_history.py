"""What `penjing prune` and `penjing pretrain` wrote beside a model: where it comes from and how it was made."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tools.architecture import Architecture
from tools.export.model_card import Figure, Origin, TrainingFacts
from tools.export.origin import origin_of, public_name

_PRUNED, _TRAINED, _REQUEST, _MODEL = "prune.json", "result.json", "config.json", "model"


@dataclass(frozen=True)
class History:
    """Origin, training and figures for a model card."""

    origin: Origin
    training: TrainingFacts
    figures: tuple[Figure, ...]


def model_within(path: Path) -> Path:
    """The model in the output folder of `penjing pretrain`; any other directory is itself."""
    inner = path / _MODEL
    return inner if (path / _TRAINED).is_file() and (inner / "config.json").is_file() else path


def history_of(path: Path, design: Architecture) -> History | None:
    """The history of the model in `path`, or None where nothing readable tells one of this `design`."""
    if (found := _read(path / _PRUNED)) and found.get("architecture") == design.model_dump(mode="json"):
        return _pruned(found)
    result, request = _read(path.parent / _TRAINED), _read(path.parent / _REQUEST)
    if path.name == _MODEL and request and result and result.get("architecture") == design.model_dump(mode="json"):
        return _trained(result, request)
    return None


def _pruned(result: dict[str, Any]) -> History:
    request, before, after = result["request"], result["before"], result["after"]
    text = f"validation part of {public_name(request['corpus'])}, {result['validation_tokens']:,} tokens"
    return History(
        origin=_origin(request, result.get("source_fingerprint")),
        training=TrainingFacts(
            corpus=public_name(request["corpus"]),
            corpus_fingerprint=result.get("corpus_fingerprint"),
            method=f"Pruned once and not trained, by {result['method']}: {result['description']}",
            tokens=result["calibration_tokens"],
            block_length=request["data"]["block_length"],
            hardware=result.get("compute"),
            seed=request["seed"],
            seconds=result["seconds"],
        ),
        figures=_losses(after.get("loss"), before.get("loss"), text),
    )


def _trained(result: dict[str, Any], request: dict[str, Any]) -> History:
    recipe, data = request["recipe"], request["data"]
    text = f"validation part of {public_name(request['corpus'])}, blocks of {data['block_length']} tokens"
    return History(
        origin=_origin(request, None),
        training=TrainingFacts(
            corpus=public_name(request["corpus"]),
            method=f"Pruned while it was trained, in {result['events']} events, by {recipe['saliency']} saliency",
            tokens=result["tokens"],
            block_length=data["block_length"],
            batch_size=recipe["batch_size"],
            learning_rate=recipe["learning_rate"],
            distillation=recipe["distillation"],
            seed=request["seed"],
            seconds=result["seconds"],
        ),
        figures=_losses(result.get("loss"), result.get("source_loss"), text),
    )


def _origin(request: dict[str, Any], fingerprint: str | None) -> Origin:
    source = str(request["source"])
    return origin_of(Path(source).expanduser(), source).model_copy(update={"fingerprint": fingerprint})


def _losses(own: float | None, before: float | None, text: str) -> tuple[Figure, ...]:
    if own is None:
        return ()
    return (Figure(name="validation loss", unit="nats per token", value=own, origin=before, settings=text),)


def _read(file: Path) -> dict[str, Any]:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
