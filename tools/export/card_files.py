"""The files of a model card: README.md, its picture, and penjing.json."""

import contextlib
from pathlib import Path

from pydantic import ValidationError

from tools.errors import InputError
from tools.export.architecture_picture import draw_architecture
from tools.export.card_rendering import rendered
from tools.export.model_card import ModelCard
from tools.export.staged_file import staged_file

CARD_FILE, README_FILE, PICTURE_FILE = "penjing.json", "README.md", "architecture.png"


def write_card(directory: Path, card: ModelCard, has_window: bool = False) -> None:
    """Write the card into `directory`, all its files or none. A README.md that is not Penjing's is left as it is.

    Raises InputError where it cannot be written.
    """
    keeps_readme = (directory / README_FILE).exists() and read_card(directory) is None
    with contextlib.ExitStack() as stack:

        def place(name: str) -> Path:
            return stack.enter_context(staged_file(directory / name, overwrite=True))

        place(CARD_FILE).write_text(card.model_dump_json(indent=1) + "\n", encoding="utf-8")
        if not keeps_readme:
            place(README_FILE).write_text(rendered(card, has_window), encoding="utf-8")
            draw_architecture(card.architecture, card.origin.architecture, place(PICTURE_FILE))


def read_card(directory: Path) -> ModelCard | None:
    """The card in `directory`, or None where there is none that this version reads."""
    try:
        return ModelCard.model_validate_json((directory / CARD_FILE).read_bytes())
    except (OSError, ValidationError):
        return None


def require_same_model(directory: Path, card: ModelCard) -> None:
    """Raises InputError where `directory` holds an export of another model, which a card could not tell from this."""
    earlier = read_card(directory)
    if earlier is not None and earlier.identity != card.identity:
        raise InputError(f"{directory} holds another model's export, {earlier.name}; choose another directory.")
