"""Where a run keeps its files, and the lock that lets one process work on it."""

from dataclasses import dataclass
from pathlib import Path, PurePath

from filelock import FileLock, Timeout

from memory.records_place import RecordsPlace
from tools.errors import InputError


@dataclass(frozen=True)
class Home:
    """The folder that all runs share: records, vectors, evaluations by key, and a folder for each run."""

    path: Path

    @property
    def records(self) -> RecordsPlace:
        return RecordsPlace(self.path)

    @property
    def vectors(self) -> Path:
        return self.path / "vectors"

    def evaluation(self, key: str) -> Path:
        """Result and weights of the evaluation with this key. Raises InputError where that is no name of a folder."""
        return _within(self.path / "evaluations", key)

    def run(self, run_id: str) -> "RunFolder":
        """The files of the run with this id. Raises InputError where that is no name of a folder."""
        return RunFolder(_within(self.path / "runs", run_id))

    def create(self) -> None:
        """Make the folder. Raises InputError where it cannot be written."""
        try:
            (self.path / "runs").mkdir(parents=True, exist_ok=True)
            probe = self.path / ".writable"
            probe.write_text("")
            probe.unlink()
        except OSError as error:
            raise InputError(
                f"Cannot write to {self.path} ({error.strerror}); free it or set another place with --set home=DIR."
            ) from error


def _within(folder: Path, name: str) -> Path:
    """The folder `name` in `folder`: records that others can write may name any."""
    parts = PurePath(name).parts
    if not parts or ".." in parts or PurePath(name).is_absolute() or "\0" in name:
        raise InputError(f"The records name {name!r}, which is no folder in {folder}; see who can write them.")
    return folder / name


@dataclass(frozen=True)
class RunFolder:
    """The files of one run."""

    path: Path

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints.sqlite"

    @property
    def survey(self) -> Path:
        return self.path / "survey.json"

    @property
    def logs(self) -> Path:
        return self.path / "logs"

    @property
    def prompts(self) -> Path:
        """The user's own templates for this run alone, over all others; made where one is edited."""
        return self.path / "prompts"

    @property
    def guidance(self) -> Path:
        """What the user wants the agents of this run to know, in free words."""
        return self.path / "guidance.md"

    @property
    def begun(self) -> Path:
        """A file, by its key, for each evaluation that the run began to pay for and that has no end yet."""
        return self.path / "begun"

    @property
    def private_vectors(self) -> Path:
        return self.path / "vectors"

    @property
    def export(self) -> Path:
        return self.path / "best_model"

    @property
    def picture(self) -> Path:
        return self.path / "best_shape.png"

    @property
    def in_use(self) -> bool:
        """Whether a process is working on the run now."""
        if not self.path.is_dir():
            return False
        lock = FileLock(self.path / "run.lock", blocking=False)
        try:
            lock.acquire()
        except Timeout:
            return True
        lock.release()
        return False

    def lock(self) -> FileLock:
        """Take the run for this process. Raises InputError where another one has it."""
        self.path.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.path / "run.lock", blocking=False)
        try:
            lock.acquire()
        except Timeout:
            raise InputError(
                f"Run {self.path.name} is being worked on by another process; wait for it or stop it first."
            ) from None
        return lock
