"""What exports to directories in transformers' format share: the files of the text side, and which places may go."""

import shutil
from pathlib import Path

from tools.errors import InputError
from tools.export.gguf_layout import target_file
from tools.export.options import ExportOptions
from tools.export.staged_file import require_target
from tools.staging import require_place

# What belongs to the text side of a model and does not change when weights are cut.
_TEXT_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "chat_template.jinja",
    "chat_template.json",
    "generation_config.json",
)

# The same class; transformers 5 has both names, and earlier versions only the second.
_NEW_CLASS, _OLD_CLASS = '"tokenizer_class": "TokenizersBackend"', '"tokenizer_class": "PreTrainedTokenizerFast"'


def copy_text_files(source_path: Path, directory: Path) -> None:
    """Tokenizer, chat template and generation config, as they are but for a class name that only new software knows.

    Raises InputError for a link that leads out of the model: an export would hand on whatever file it names.
    """
    for name in _TEXT_FILES:
        if (source_path / name).is_file():
            _require_own(source_path, name)
            shutil.copyfile(source_path / name, directory / name)
    config = directory / "tokenizer_config.json"
    if config.is_file():
        text = config.read_text(encoding="utf-8")
        config.write_text(text.replace(_NEW_CLASS, _OLD_CLASS), encoding="utf-8")


def _require_own(source_path: Path, name: str) -> None:
    # In the hub's cache files are links to blobs beside the snapshots.
    whole = source_path.parent.parent if source_path.parent.name == "snapshots" else source_path
    target = (source_path / name).resolve()
    if not target.is_relative_to(whole.resolve()):
        raise InputError(
            f"{source_path / name} is a link to {target}, outside of the model: put the file itself there."
        )


def require_apart(destination: Path, source_path: Path) -> None:
    """Raises InputError where the export would replace its own source."""
    if destination.exists() and destination.resolve() == source_path.resolve():
        raise InputError(f"{destination} holds the source model itself; choose another directory.")


def require_free(destination: Path, options: ExportOptions) -> None:
    """Raises InputError where an export would find its place taken, before the model is loaded or grown."""
    if options.format == "hf":
        require_place(destination, options.overwrite, may_be_replaced)
    else:
        require_target(target_file(destination, options.dtype or "f16"), options.overwrite)


def may_be_replaced(directory: Path) -> bool:
    """Whether `directory` holds a model, so that --overwrite may replace it."""
    return (directory / "config.json").is_file()
