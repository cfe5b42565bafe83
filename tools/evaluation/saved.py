"""Evaluations on disk: where they are written, and how they are found again without evaluating anything."""

from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from tools.errors import InputError
from tools.evaluation.result_cache import write_json

if TYPE_CHECKING:
    from tools.evaluate import EvaluateResult

EVALUATION_FILE = "evaluation.json"


def evaluations_folder(cache: Path, digest: str) -> Path:
    """Where the results of the model with that digest are kept."""
    return cache / "evaluations" / digest[:16]


def save(result: "EvaluateResult", folder: Path) -> "EvaluateResult":
    """Write the result as evaluation.json into `folder`; what comes back knows its file.

    Raises InputError where it cannot be written.
    """
    named = result.model_copy(update={"file": folder / EVALUATION_FILE})
    write_json(folder / EVALUATION_FILE, named)
    return named


def save_merged(result: "EvaluateResult", folder: Path) -> Path:
    """As `save`, with what an earlier evaluation of the same model found and this one did not ask for: the file."""
    earlier = _readable(folder / EVALUATION_FILE)
    save(result if earlier is None else merged(earlier, result), folder)
    return folder / EVALUATION_FILE


def merged(earlier: "EvaluateResult", later: "EvaluateResult") -> "EvaluateResult":
    """Both evaluations of one model together; where both have a task, convention or cost, the later one's counts."""
    tasks = {found.task: found for found in (*earlier.tasks, *later.tasks)}
    perplexities = {found.convention: found for found in (*earlier.perplexities, *later.perplexities)}
    return later.model_copy(
        update={
            "names": tuple(dict.fromkeys((*later.names, *earlier.names))),
            "tasks": tuple(tasks.values()),
            "perplexities": tuple(perplexities.values()),
            "edge": later.edge or earlier.edge,
            "dense": later.dense or earlier.dense,
        }
    ).with_averages()


def find_evaluation(name: str, cache: Path) -> "EvaluateResult":
    """The saved evaluation of `name`: a file of one, a folder that holds one, a model's folder, or a model's name.

    A model's folder is looked up by what is in its files, so an evaluation of other weights is not taken for one of
    these. Raises InputError where there is none.
    """
    place = Path(name).expanduser()
    if place.is_file() and place.suffix == ".json":
        return _read(place)
    if (place / EVALUATION_FILE).is_file():
        return _read(place / EVALUATION_FILE)
    if (place / "config.json").is_file():
        from tools.evaluation.evaluated_model import find_model

        file = evaluations_folder(cache, find_model(str(place), trust_remote_code=True).digest) / EVALUATION_FILE
        if file.is_file():
            return _read(file)
    else:
        found = [result for result in map(_readable, _newest_first(cache)) if result is not None]
        named = [result for result in found if name in result.names]
        if named:
            return named[0]
    raise InputError(
        f"There is no saved evaluation of {name}: run `penjing evaluate {name}` first, or add --evaluate here."
    )


def _newest_first(cache: Path) -> list[Path]:
    files = (cache / "evaluations").glob(f"*/{EVALUATION_FILE}")
    return sorted(files, key=lambda file: file.stat().st_mtime, reverse=True)


def _readable(file: Path) -> "EvaluateResult | None":
    try:
        return _read(file)
    except InputError:
        return None


def _read(file: Path) -> "EvaluateResult":
    from tools.evaluate import EvaluateResult

    try:
        return EvaluateResult.model_validate_json(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"Cannot read {file}: {error.strerror}.") from error
    except (ValidationError, UnicodeDecodeError) as error:
        raise InputError(f"{file} is no evaluation, or one of another version; evaluate the model again.") from error
