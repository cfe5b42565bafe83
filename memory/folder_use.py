"""What of a claimed folder its owner is at, and what is in doubt since somebody ended in the middle of it."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext

from memory.shared_folder import Claim
from memory.use_mark import EVERYTHING


class FolderUse:
    """The use of the parts of a folder, noted beside it where there is a claim. Only one thread uses it at a time.

    `doubtful` are the parts that are not trusted. They stay noted until they are settled or the folder is given up.
    """

    def __init__(self, claim: Claim | None, parts: Sequence[str]) -> None:
        left: frozenset[str] = frozenset() if claim is None else claim.doubtful
        self.doubtful = {part for part in parts if left & {part, EVERYTHING}}
        self._claim = claim

    def note(self, *parts: str) -> None:
        """Write down what is in doubt, and these parts with it. Raises OSError."""
        if self._claim is not None:
            self._claim.note({*self.doubtful, *parts})

    def kept_still(self) -> AbstractContextManager[object]:
        """Chroma may write to its folder whenever it is used, also when it is asked: nobody copies it meanwhile."""
        busy = None if self._claim is None else self._claim.busy
        return nullcontext() if busy is None else busy

    @contextmanager
    def of(self, *parts: str) -> Iterator[None]:
        """Read or write these parts: they are in doubt if this process ends meanwhile, or if it fails."""
        with self.kept_still():
            self.note(*parts)
            try:
                yield
            except (KeyboardInterrupt, SystemExit):
                # These come between two calls of Chroma, and find its files whole.
                raise
            except BaseException:
                # A panic of Chroma's Rust code is no `Exception`. Nothing is held back.
                self.doubtful.update(parts)
                raise
            finally:
                self.note()

    @property
    def is_sound(self) -> bool:
        """Whether it is a claim that can be given up with nothing in doubt."""
        return self._claim is not None and not self.doubtful

    def settle(self) -> None:
        """What was in doubt has been made again."""
        self.doubtful.clear()
        self.note()

    def end(self) -> None:
        """Give the folder up. Doing so twice is harmless."""
        if self._claim is not None:
            self.note()
            self._claim.release(in_order=not self.doubtful)
            self._claim = None
