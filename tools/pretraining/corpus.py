"""Makes a corpus into packed blocks of tokens, once: finds its documents, divides, tokenises, packs and caches them."""

import hashlib
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tools.errors import InputError
from tools.fingerprint import file_digest
from tools.pretraining.blocks import (
    CorpusFacts,
    PackedCorpus,
    find_corpus,
    load_corpus,
    save_corpus,
    training_batches,
)
from tools.pretraining.division import divided_corpus, divided_stream
from tools.pretraining.documents import (
    PYTHON_DOCS,
    Document,
    corpus_files,
    file_documents,
    hub_documents,
    python_docs,
)
from tools.pretraining.packing import Packer
from tools.settings import DataSettings
from tools.staging import settle, staged_directory

__all__ = ["CorpusFacts", "PackedCorpus", "load_corpus", "prepare_corpus", "training_batches"]

Report = Callable[[str, float], None]

_FORMAT = 1  # raised when the same text would be packed in another way
_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+(:[\w.-]+)?")
_TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "merges.txt", "tokenizer_config.json")


@dataclass(frozen=True)
class _Origin:
    """Where documents come from. `content` names them; None where the hub cannot be asked. A stream is read once."""

    content: str | None
    documents: Callable[[], Iterator[Document]]
    streamed: bool = False


def prepare_corpus(
    corpus: str, source_path: Path, settings: DataSettings, cache: Path, report: Report | None = None
) -> PackedCorpus:
    """Blocks of tokens of `corpus`, tokenised as the model in `source_path` does; from `cache` where they are there.

    `corpus` is "python-docs", a local file or directory, or a hub data set `owner/name[:configuration]`. Rows that name
    their `split` keep it (test rows validate only where no others do). All other documents go by a hash of their text:
    validation gets `settings.validation_share` of the bytes (of a stream: of the documents), each side at least one.
    Exact duplicates are used once, and no text is on both sides. Long documents are cut into passages of at most 4,000
    characters on the side of their document. Local passages are taken in the order of their hashes, so a limited number
    of tokens is a fair sample; those of the hub in the stream's order. The tokenizer's end-of-text token follows
    each document; a rest that fills no block is dropped.

    The cache key is a hash of the corpus's files (of a hub set: its name and revision), the tokenizer's files and the
    settings. `report` gets a message and the share done. Raises InputError for a corpus that is missing, empty,
    unreadable, without a text field, or too short for one block on either side.
    """
    from filelock import FileLock

    origin = _origin(corpus, settings)
    request, fingerprint = _identities(corpus, origin, source_path, settings)
    if fingerprint is None:
        return _prepared_before(corpus, cache, request)
    directory = cache / fingerprint
    found = find_corpus(directory)
    if found is not None:
        return found
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with FileLock(cache / f"{fingerprint}.lock"):
            found = find_corpus(directory)
            if found is not None:
                return found
            settle(directory)
            with staged_directory(directory, overwrite=True) as staged:
                save_corpus(staged, _build(corpus, origin, source_path, settings, directory, request, report))
    except OSError as error:
        if error.errno is None:
            raise
        raise InputError(f"Cannot write the corpus cache {cache}: {error.strerror}; choose a writable one.") from error
    return load_corpus(directory)


def check_corpus_name(corpus: str) -> None:
    """Raise InputError where `corpus` is no local text and cannot be a data set of the hub; reads nothing."""
    if corpus != PYTHON_DOCS and corpus_files(corpus) is None and not _HUB_NAME.fullmatch(corpus):
        raise InputError(
            f"There is no corpus {corpus!r}: give a .txt, .jsonl or .parquet file, a directory of such files, "
            f"a hub data set like owner/name, or {PYTHON_DOCS!r}."
        )


def corpus_at_hand(corpus: str, source_path: Path | None, settings: DataSettings, cache: Path) -> PackedCorpus | None:
    """What `prepare_corpus` would give, None where that would have to pack it; without a source, nobody knows.

    Raises InputError for a corpus that is missing, or a hub data set that was never packed and cannot be reached.
    """
    origin = _origin(corpus, settings)
    if source_path is None:
        return None
    request, fingerprint = _identities(corpus, origin, source_path, settings)
    return _prepared_before(corpus, cache, request) if fingerprint is None else find_corpus(cache / fingerprint)


def _identities(corpus: str, origin: _Origin, source_path: Path, settings: DataSettings) -> tuple[str, str | None]:
    """What was asked for, and what is packed for it: None where the hub cannot say what its data set is now."""
    tokenizer_digest = [file_digest(source_path / name) for name in _TOKENIZER_FILES if (source_path / name).is_file()]
    request = _digest([_FORMAT, corpus, tokenizer_digest, settings.model_dump()])
    if origin.content is None:
        return request, None
    return request, _digest([_FORMAT, origin.content, tokenizer_digest, settings.model_dump()])


def _origin(corpus: str, settings: DataSettings) -> _Origin:
    if corpus == PYTHON_DOCS:
        return _Origin(_digest([document.text for document in python_docs()]), python_docs)
    files = corpus_files(corpus)
    if files is not None:
        # Whole files are hashed, so an edit anywhere is seen; this reads about 1 GB a second.
        names = [file.name for file in files]
        return _Origin(_digest([names, *map(file_digest, files)]), lambda: file_documents(files, settings))
    check_corpus_name(corpus)
    name, _, configuration = corpus.partition(":")
    revision = _hub_revision(name)
    return _Origin(
        content=None if revision is None else f"hub {corpus} {revision}",
        documents=lambda: hub_documents(name, configuration or None, revision, settings),
        streamed=True,
    )


def _hub_revision(name: str) -> str | None:
    """The commit that the data set is at, or None where the hub cannot be reached."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import (  # type: ignore[attr-defined] # HTTPError is that of the HTTP client in use
        GatedRepoError,
        HTTPError,
        RepositoryNotFoundError,
    )

    try:
        return HfApi().dataset_info(name, timeout=10).sha
    except GatedRepoError as error:
        raise InputError(f"The hub data set {name} is gated: accept its terms on the hub and set HF_TOKEN.") from error
    except RepositoryNotFoundError as error:
        raise InputError(
            f"There is no local path {name} and no public hub data set of that name; check the name, "
            "and set HF_TOKEN if the data set is private."
        ) from error
    except (HTTPError, OSError):
        return None


def _prepared_before(corpus: str, cache: Path, request: str) -> PackedCorpus:
    """What was last prepared for the same request, whatever the revision of the data set was then."""
    files = sorted(cache.glob("*/corpus.json"), key=lambda file: file.stat().st_mtime, reverse=True)
    for file in files:
        found = find_corpus(file.parent)
        if found is not None and found.facts.request == request:
            return found
    raise InputError(
        f"There is no local path {corpus}, and the hub cannot be reached for the data set of that name; "
        "check the network, or give a local .txt, .jsonl or .parquet file."
    )


def _build(
    name: str,
    origin: _Origin,
    source_path: Path,
    settings: DataSettings,
    directory: Path,
    request: str,
    report: Report | None,
) -> PackedCorpus:
    from tools.sources import load_tokenizer

    notify = report or (lambda message, share: None)
    notify(f"reading {name}", 0.0)
    tokenizer = load_tokenizer(source_path)
    train = Packer(tokenizer, settings.training_tokens, settings.block_length, "training")
    validation = Packer(tokenizer, settings.validation_tokens, settings.block_length, "validation", count_bytes=True)
    if origin.streamed:
        documents = divided_stream(origin.documents(), settings)
    else:
        documents = divided_corpus(origin.documents, settings, name)
    for document, side in documents:
        packer = train if side == "train" else validation
        if not packer.full:
            packer.add(document)
            notify(f"tokenising {name}", (train.tokens + validation.tokens) / (train.wanted + validation.wanted))
        elif train.full and validation.full:
            break
    packed = PackedCorpus(
        path=directory,
        facts=CorpusFacts(
            name=name,
            fingerprint=directory.name,
            request=request,
            block_length=settings.block_length,
            train_passages=train.documents,
            validation_passages=validation.documents,
            train_blocks=train.tokens // settings.block_length,
            validation_blocks=validation.tokens // settings.block_length,
            validation_bytes=validation.bytes,
        ),
        train=train.blocks(name),
        validation=validation.blocks(name),
    )
    _check_vocabulary(packed, source_path)
    notify(f"packed {name}", 1.0)
    return packed


def _check_vocabulary(corpus: PackedCorpus, source_path: Path) -> None:
    """Raise InputError where the tokenizer knows tokens that the model does not, as after a mixed-up copy."""
    config = source_path / "config.json"
    size = json.loads(config.read_text(encoding="utf-8")).get("vocab_size") if config.is_file() else None
    largest = max(int(corpus.train.max()), int(corpus.validation.max()))
    if size is not None and largest >= size:
        raise InputError(
            f"The tokenizer in {source_path} makes token {largest}, but the model knows only {size}; "
            "put the model's own tokenizer there."
        )


def _digest(parts: object) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]
