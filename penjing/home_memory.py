"""The memory of a home: what its searches remember, looked up, moved to another home, and forgotten.

from penjing import Memory

with Memory() as memory:
    for design in memory.like("latest/3"):
        print(design.id, design.outcome)
"""

import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import cached_property
from pathlib import Path
from stat import S_ISREG
from typing import IO, Any, Literal, Self

from filelock import FileLock, Timeout
from pydantic import TypeAdapter, ValidationError

from graph.artifacts import forget_artifacts
from graph.checkpoints import forget_checkpoints
from graph.config import SearchConfig
from graph.folder import Home
from graph.report import ResultRow
from memory.embedding_server import text_embedding_of
from memory.exchange import export_lines
from memory.filters import Filter
from memory.forgetting import Forgetting, forget_run, what_goes
from memory.importing import ImportReport, import_records
from memory.lookup import Found, FoundDesign, require_fidelity, search_shape, search_words
from memory.pattern_book import note_missing_patterns, patterns_of
from memory.progress import Told, nobody
from memory.rebuild import open_vectors, reconcile_vectors
from memory.records import Records
from memory.run_lock import run_held
from memory.settings import StoreSettings
from memory.shared_folder import Claim, SharedFolder
from memory.text_embedding import TextEmbedding
from memory.vectors import VectorStore
from memory.views import TrialView
from penjing.configuration import in_words
from penjing.documents import status_of
from penjing.sessions import home_folder
from tools.errors import InputError
from tools.trial_folder import drop_checkpoint

Kind = Literal["designs", "lessons", "prompts"]
KINDS: tuple[Kind, ...] = ("designs", "lessons", "prompts")


class Memory:
    """What the searches of one home remember. Use it with `with`, or `close` it.

    Reading works while searches run. Every method raises InputError, one sentence, for bad input.
    """

    def __init__(self, home: Path | None = None, settings: StoreSettings | None = None, told: Told = nobody) -> None:
        """The memory in `home`, by default that of `penjing search`. Raises InputError where nothing is recorded.

        Where its vectors are say `settings`; without them the environment (PENJING_VECTORS ...), else the latest run.
        `told` hears of what takes long: what is done, how much of it, and of how much.
        """
        self.home = Home(home or home_folder())
        if not self.home.records.is_file():
            raise InputError(f"Nothing is remembered yet: there are no records in {self.home.path}.")
        self.records = Records.open(self.home.records)
        self._closing = ExitStack()
        self._closing.callback(self.records.close)
        self._vectors: VectorStore | None = None
        self._settings, self.told = settings, told

    def close(self) -> None:
        """Let go of the records and the vectors."""
        self._closing.close()
        self._vectors = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def vectors(self) -> VectorStore:
        """The vector store in line with the records; while a search has it, a copy."""
        return self._vectors or self._open_vectors()

    @cached_property
    def settings(self) -> StoreSettings:
        """Where the vectors are, and how texts are compared."""
        if self._settings is not None:
            return self._settings
        own = next((run.config for run in self.records.runs() if run.imported_at is None), {})
        names = [name for name in StoreSettings.model_fields if f"PENJING_{name.upper()}" not in os.environ]
        config = SearchConfig(**{name: own[name] for name in names if name in own})
        return StoreSettings(**{name: getattr(config, name) for name in StoreSettings.model_fields})

    def _open_vectors(self) -> VectorStore:
        private = Path(tempfile.mkdtemp(prefix="penjing-vectors-"))
        self._closing.callback(shutil.rmtree, private, ignore_errors=True)
        url, embedding = self.settings.vectors, self._embedding
        self._vectors = open_vectors(self.home.vectors, private / "vectors", self.records, url, embedding, self.told)
        self._closing.callback(self._vectors.close)
        return self._vectors

    @property
    def _embedding(self) -> TextEmbedding:
        return text_embedding_of(self.settings.text_embedding, self.settings.embedding_url)

    def search(self, text: str, k: int = 5, where: Filter | None = None, kinds: Iterable[Kind] = KINDS) -> Found:
        """The `k` designs, lessons and prompts that are nearest in wording."""
        if not text.strip():
            raise InputError("There is nothing to search for: give some words, like 'narrow late FFN'.")
        where = where or Filter()
        require_fidelity(self.records, where)
        return search_words(self.records, self.vectors, text, k, where, kinds)

    def like(self, trial: str, k: int = 5, where: Filter | None = None) -> list[FoundDesign]:
        """The `k` designs that are nearest in shape to trial `RUN/NUMBER`, without that design itself."""
        found = self.trial(trial)
        where = where or Filter(unlike=found.identity)
        require_fidelity(self.records, where)
        return search_shape(self.records, self.vectors, found, k, where)

    def trial(self, name: str) -> TrialView:
        """Trial `RUN/NUMBER`; the run may be the beginning of an id, or latest."""
        run, slash, number = name.rpartition("/")
        if not slash or not number.isdecimal() or len(number) > 9:
            raise InputError(f"{name!r} is no trial: name it as RUN/NUMBER, like latest/3.")
        return self.records.trial(self.records.run(run).id, int(number))

    def stats(self) -> dict[str, Any]:
        """How much there is: counts, patterns by state, hits of the cache, bytes on disk, whether the vectors agree."""
        runs = self.records.runs()
        states = Counter(view.state for run in runs for view in patterns_of(self.records, run.id))
        parts = {"vectors": self.home.vectors, "evaluations": self.home.path / "evaluations"}
        parts["runs"] = self.home.path / "runs"
        records = sum(_bytes_of(path) for path in self.home.path.glob(f"{self.home.records.name}*"))
        return {
            "home": str(self.home.path),
            **self.records.overview().model_dump(),
            "runs": dict(Counter(status_of(run, self.home.path) for run in runs)),
            "patterns": dict(states),
            "vectors": self._agreement(),
            "bytes": {"records": records, **{name: _bytes_of(path) for name, path in parts.items()}},
        }

    def rebuild(self) -> dict[str, int]:
        """Make the vector store again from the records; how many entries each collection then has.

        Patterns of runs of before these were noted are noted too. Raises InputError while another process has it.
        """
        if self._vectors is not None:
            raise InputError(
                "These vectors are open already; make them again from a Memory that has not used them yet."
            )
        note_missing_patterns(self.records)
        if self.settings.vectors is not None:
            store = self.vectors
            store.wipe()
            reconcile_vectors(self.records, store, self.told)
            return {str(name): count for name, count in store.counts().items()}
        with self._free_vectors() as claim:
            if claim is None:
                raise InputError(
                    f"Another process has the vectors in {self.home.vectors}, a search perhaps: wait for it or stop it."
                )
            shutil.rmtree(self.home.vectors, ignore_errors=True)
        return {str(name): count for name, count in self._open_vectors().counts().items()}

    def what_goes(self, run: str) -> Forgetting:
        """What `forget` would take away."""
        return what_goes(self.records, self.records.run(run).id)

    def forget(self, run: str) -> Forgetting:
        """Take a run away with its folder, its vectors and what it alone paid for. It does not come back.

        Raises InputError where the run is being worked on.
        """
        found = self.records.run(run)
        run_id, folder = found.id, self.home.run(found.id)
        # Nobody goes on with it meanwhile.
        with folder.lock(), run_held(self.records, run_id):
            if found.imported_at is None:
                forget_checkpoints(folder, found.config.get("checkpoints"), run_id)
                going = what_goes(self.records, run_id)
                forget_artifacts(found.config.get("artifacts"), run_id, going.folders)
            gone = forget_run(self.records, run_id)
            for name in gone.folders:
                shutil.rmtree(self.home.evaluation(name), ignore_errors=True)
            for begun in folder.begun.glob("*"):
                drop_checkpoint(self.home.evaluation(begun.name))
            shutil.rmtree(folder.path, ignore_errors=True)
        self._bring_in_line()
        return gone

    def _bring_in_line(self) -> None:
        """Open the vectors, which puts in and takes out; a search that has them does so at its next start."""
        with self._free_vectors() as claim:
            pass
        if claim is not None or self.settings.vectors is not None:
            self.vectors.counts()

    def export(self, file: IO[str], runs: Sequence[str] = ()) -> list[str]:
        """Write runs, by default all, as JSON lines into an open file; their ids."""
        names = [self.records.run(name).id for name in runs] or [run.id for run in reversed(self.records.runs())]
        wanted = list(dict.fromkeys(names))
        for line in export_lines(self.records, wanted):
            file.write(f"{line}\n")
        return wanted

    def export_file(self, file: Path, runs: Sequence[str] = (), overwrite: bool = False) -> list[str]:
        """The same into a new file, which is there as a whole or not at all."""
        if file.exists() and not overwrite:
            raise InputError(f"{file} exists already: choose another file, or replace it with --overwrite.")
        beside = file.with_name(f".{file.name}.{os.getpid()}")
        try:
            with beside.open("w", encoding="utf-8") as opened:
                written = self.export(opened, runs)
            beside.replace(file)
        except OSError as error:
            raise InputError(f"Cannot write {file}: {error.strerror}.") from error
        finally:
            beside.unlink(missing_ok=True)
        return written

    @classmethod
    def into(cls, home: Path | None = None, told: Told = nobody) -> "Memory":
        """The memory of a home that is made where there is none, to import into."""
        place = Home(home or home_folder())
        place.create()
        Records.open(place.records).close()
        return cls(place.path, told=told)

    def take_in(self, file: IO[bytes]) -> ImportReport:
        """Import what `export` wrote; `file` must be seekable. Searches go on meanwhile.

        One that was stopped goes on when the file is imported again. Vectors of it are made unless a search has them,
        which takes them in at its next start. Raises InputError where a line is wrong, and then nothing was imported,
        and while another import works.
        """
        try:
            with FileLock(self.home.path / "import.lock", blocking=False):
                report = import_records(
                    self.records,
                    file,  # type: ignore[arg-type]
                    _check_run,
                    lambda number: self.told("lines", number, 0),
                )
        except Timeout as error:
            raise InputError(f"Another import into {self.home.path} is at work: wait for it.") from error
        try:
            self._bring_in_line()
        except InputError as error:
            self.told(f"All is imported; its vectors are made at the next use ({error}).", 0, 0)
        return report

    def _agreement(self) -> dict[str, Any]:
        """Whether the vector store holds what the records say it should; it is left as it is."""
        expected = {str(name): count for name, count in self.records.indexed_counts().items()}
        if (url := self.settings.vectors) is not None:
            with VectorStore(url, embedding=self._embedding, prefix=f"{self.records.identity}-") as store:
                return self._compared(store, expected)
        with self._free_vectors() as claim:
            if claim is None:
                return {"state": "in use", "expected": expected}
            if not self.home.vectors.is_dir():
                return {"state": "not there; made at the next use", "expected": expected}
            if claim.doubtful:
                return {"state": "not closed in order; mended at the next use", "expected": expected}
            try:
                with VectorStore(self.home.vectors, embedding=self._embedding, told=self.told) as store:
                    return self._compared(store, expected)
            except InputError:
                return {"state": "broken; made again at the next use", "expected": expected}

    def _compared(self, store: VectorStore, expected: dict[str, int]) -> dict[str, Any]:
        """Whether a store has what it should, or lacks no more than running searches have not put in yet."""
        counts: dict[str, int] = {str(name): count for name, count in store.counts().items()}
        state = "agree"
        if counts != expected:
            waiting = self._waiting(store)
            late = {"lessons": sum(waiting.values()), "prompts": expected["prompts"] - counts["prompts"]}
            lacking = {name: expected[name] - counts[name] for name in expected}
            designs = lacking.pop("architectures") + lacking.pop("failures")
            state = "differ; brought in line at the next use"
            if waiting and (designs, lacking) == (len(waiting), late) and late["prompts"] >= 0:
                number = f"{len(waiting):,} trial{'s' * (len(waiting) > 1)}"
                state = f"agree; {number} of a running search wait{'s' * (len(waiting) == 1)} to be put in"
        return {"state": state, "counts": counts, "expected": expected}

    def _waiting(self, store: VectorStore) -> dict[str, int]:
        """The finished trials of running searches that a store lacks, and how many lessons each has."""
        running = {run.id for run in self.records.runs() if status_of(run, self.home.path) == "running"}
        trials = self.records.indexed_trials() if running else {}
        names = {f"{run}/{number}": lines for run in running for number, lines in trials.get(run, {}).items()}
        there = store.ids("architectures", list(names)) | store.ids("failures", list(names))
        return {name: lines for name, lines in names.items() if name not in there}

    @contextmanager
    def _free_vectors(self) -> Iterator[Claim | None]:
        """The folder of the vectors if nobody has it; for that long nobody takes it."""
        claim = SharedFolder(self.home.vectors).take()
        try:
            yield claim
        finally:
            if claim is not None:
                claim.release(in_order=False)


def _check_run(run: Any) -> None:
    """Raises ValueError where this version cannot read the settings or the result of a run."""
    try:
        SearchConfig.model_validate({key: value for key, value in run.config.items() if key != "home"})
        if run.result is not None:
            rows = TypeAdapter(list[ResultRow]).validate_python(run.result.get("table"))
            if "best of the search" not in {row.name for row in rows}:
                raise ValueError("its result has no best design")
    except ValidationError as error:
        raise ValueError(f"its settings or result cannot be read: {in_words(error)}") from error


def _bytes_of(path: Path) -> int:
    """Bytes of a file, or of all files in a folder; what is deleted meanwhile has none."""
    total = 0
    for file in [path] if path.is_file() else path.rglob("*"):
        with suppress(FileNotFoundError):
            found = file.lstat()
            total += found.st_size if S_ISREG(found.st_mode) else 0
    return total
