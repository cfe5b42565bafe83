"""Exports of a model without a run: `penjing export MODEL_DIR DIR`."""

from pathlib import Path
from typing import TYPE_CHECKING

from tools.errors import InputError
from tools.export.directories import require_apart, require_free
from tools.export.options import ExportOptions
from tools.requests import Progress, ReportProgress
from tools.sources import locate_model

if TYPE_CHECKING:
    from tools.export.model_card import Figure, ModelCard
    from tools.export.model_directory import OpenedModel
    from tools.export.report import ExportReport


def export_source(
    name: str, destination: Path, options: ExportOptions, cache: Path, report: ReportProgress = lambda progress: None
) -> "ExportReport":
    """Write the model `name`, found as `tools.sources.locate_model` does, to `destination`, with what is known of it.

    What a card of Penjing beside it says goes on, unless the weights were changed since. Evaluations of these weights
    are looked up in `cache`. Raises InputError where there is no model, or it cannot be written.
    """
    from tools.export.known_history import model_within
    from tools.export.model_directory import open_directory
    from tools.export.writing import export_model

    def say(phase: str, share: float) -> None:
        report(Progress(phase=phase, done=round(100 * share), total=100))

    path = model_within(locate_model(name, say, cache / "sources"))
    if options.format == "hf":
        require_apart(destination, path)
    require_free(destination, options)
    say("loading the model", 0.0)
    opened = open_directory(path)
    asked = None if Path(name).expanduser().exists() else name
    card = card_of(opened, asked, cache)
    return export_model(opened.model, opened.architecture, path, destination, options, card, report)


def card_of(opened: "OpenedModel", asked: str | None, cache: Path) -> "ModelCard":
    """What is known of an opened directory; `asked` is the hub or embedded name that it was found by."""
    from tools.export.card_files import read_card
    from tools.export.known_history import history_of
    from tools.export.model_card import ModelCard
    from tools.export.origin import origin_of

    figures = evaluated_figures(opened.path, cache)
    plain = ModelCard(
        name=opened.path.name,
        architecture=opened.architecture,
        fingerprint=opened.fingerprint,
        origin=origin_of(opened.path, asked),
        figures=figures,
    )
    earlier = read_card(opened.path)
    if earlier is not None and opened.architecture == earlier.architecture:
        if opened.fingerprint in {file.fingerprint for file in earlier.files}:
            return earlier.model_copy(update={"figures": figures or earlier.figures})
        # Trained on or edited since: what was measured and how it was made is no longer all there is to say.
        return plain.model_copy(update={"origin": earlier.origin.model_copy(update={"measurement": None})})
    if history := history_of(opened.path, opened.architecture):
        known = {"origin": history.origin, "training": history.training, "figures": (*history.figures, *figures)}
        return plain.model_copy(update=known)
    return plain


def evaluated_figures(path: Path, cache: Path) -> tuple["Figure", ...]:
    """Rows for the evaluation table from the saved evaluation of the weights in `path`; none where there is none."""
    from tools.evaluation.saved import find_evaluation
    from tools.export.evaluation_rows import rows_of

    try:
        return rows_of(find_evaluation(str(path), cache))
    except InputError:
        return ()
