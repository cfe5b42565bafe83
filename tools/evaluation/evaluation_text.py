"""The text whose perplexity is taken: a file, or WikiText-2, and no more of it than was asked for."""

import hashlib
import re
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from tools.errors import InputError
from tools.evaluation.hub import hub_data
from tools.evaluation.task_data import open_text

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

HUB_TEXT = ("Salesforce/wikitext", "wikitext-2-raw-v1")

_PAGE = re.compile(r"^ = [^=\n]+ = *$", re.MULTILINE)


@dataclass(frozen=True)
class EvaluationText:
    """A text and where it is from."""

    name: str
    text: str

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.text.encode()).hexdigest()

    @property
    def bytes(self) -> int:
        return len(self.text.encode())

    @property
    def pages(self) -> list[str]:
        """WikiText's pages, each from its heading on, as lm-eval scores them; any other text is one page."""
        # What stands before the first heading goes with its page.
        starts = [match.start() for match in _PAGE.finditer(self.text)]
        borders = [0, *starts[1:], len(self.text)]
        return [self.text[start:end] for start, end in pairwise(borders)]

    @property
    def joined(self) -> str:
        """What peers cut into windows: of WikiText the data set's rows with blank lines between them."""
        if not self.is_wikitext:
            return self.text
        return "\n\n".join(line if line.strip() else "" for line in self.text.splitlines(keepends=True))

    @property
    def is_wikitext(self) -> bool:
        """Whether there are headings in WikiText's way, whose spaced punctuation lm-eval undoes."""
        return _PAGE.search(self.text) is not None


def read_evaluation_text(file: Path | None, task_data: Path | None) -> EvaluationText:
    """`file` (also .gz, .xz); without one WikiText-2 raw test, from beside the folder of task data or from the hub.

    Raises InputError for a file that cannot be read or holds no text, and where the hub cannot be reached.
    """
    if file is None and task_data is not None:
        beside = task_data.resolve().parent / "wikitext2" / "wiki.test.raw.gz"
        file = beside if beside.is_file() else None
    if file is None:
        return _from_hub()
    try:
        with open_text(file) as stream:
            text = stream.read()
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise InputError(f"The text {file} cannot be read: {error}; give a UTF-8 text file.") from error
    if not text.strip():
        raise InputError(f"The text {file} is empty; give one with words in it.")
    return EvaluationText(file.name, text)


def limited(text: EvaluationText, tokenizer: "PreTrainedTokenizerBase", tokens: int | None) -> EvaluationText:
    """The beginning of the text, up to the last space within `tokens` tokens of this tokenizer; None: all of it."""
    if tokens is None:
        return text
    # A token is seldom longer than this; the rest of a long text need not be tokenised.
    head = text.text[: 64 * tokens]
    encoded = tokenizer(head, add_special_tokens=False, return_offsets_mapping=tokenizer.is_fast, verbose=False)
    ids = encoded["input_ids"]
    end = len(head)
    if len(ids) > tokens:
        part = encoded["offset_mapping"][tokens - 1][1] if tokenizer.is_fast else len(tokenizer.decode(ids[:tokens]))
        space = max(head.rfind(" ", 0, part), head.rfind("\n", 0, part))
        end = space if space > 0 else part
    if end == len(text.text):
        return text
    return EvaluationText(f"the beginning of {text.name}", head[:end])


def _from_hub() -> EvaluationText:
    import datasets  # type: ignore[import-untyped]

    name, configuration = HUB_TEXT
    with hub_data(f"The data set {name}", "check the network, or give a text file, like --text wiki.test.raw"):
        rows = datasets.load_dataset(name, configuration, split="test")["text"]
    return EvaluationText(f"{name} {configuration} test", "".join(row or "\n" for row in rows))
