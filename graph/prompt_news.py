"""Edits of templates while a search runs: taken at the next turn, or refused; the user is told either way, once."""

from dataclasses import dataclass, field

from graph.events import AnyEvent, PromptEvent
from prompts.library import PromptError, PromptLibrary


@dataclass
class PromptNews:
    """What was told of the templates of one run so far."""

    hashes: dict[str, str] = field(default_factory=dict)
    problems: dict[str, str] = field(default_factory=dict)

    def since(self, library: PromptLibrary, run: str) -> list[AnyEvent]:
        """Events for what changed since the last time; the first time only what is refused."""
        first = not self.hashes
        # Reading a template takes an edit, or finds what is wrong with it.
        hashes, problems = dict[str, str](), dict[str, str]()
        for name in library.names():
            try:
                hashes[name] = library.hash(name)
            except PromptError as error:
                # Never good so far: whoever asks with it will be told.
                problems[name] = str(error)
        problems |= {name: str(error) for name, error in library.problems.items()}
        found: list[AnyEvent] = []
        for name, hash in hashes.items():
            if not first and self.hashes.get(name) != hash:
                found.append(PromptEvent(run=run, name=name, hash=hash, file=str(library.path(name))))
            if name in problems and self.problems.get(name) != problems[name]:
                found.append(PromptEvent(run=run, name=name, hash=hash, refused=problems[name]))
        self.hashes, self.problems = hashes, problems
        return found
