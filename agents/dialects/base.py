"""The contract of a dialect: all that the agents say otherwise in another search space."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Generic

from pydantic import BaseModel, Field

from agents.proposers.base import DesignT, DraftT, TrialT
from prompts.library import PromptLibrary, RenderedPrompt

Sentence = Annotated[str, Field(min_length=8, max_length=120)]
"""A strategy or a pattern."""


class Dialect(ABC, Generic[DesignT, DraftT, TrialT]):
    """Templates, answers and rows of the designs of one space; keeps no state.

    The agents render five templates: `system`, `strategies`, `design`, `inspiration` and `repair`, each with the prefix
    of the space before its name. Contract, tested for every dialect by `tests/agents/dialect_contract.py`:

    - All five can be rendered with the variables named here; the system text is the same for every turn.
    - `draft(fields(design, base))` says `design` over `base`, and these fields with their reasons fit the schemas
      `design` and `inspiration`, where their author may change so much at once.
    - The schema `strategies` has one field of that name, `design` has `strategies_applied`, `inspiration` `patterns`.
    """

    prefix: ClassVar[str] = ""
    """What the names of its templates begin with."""

    strategies: type[BaseModel]
    """The first answer of self-evolution."""
    design: type[BaseModel]
    """The second: a design, and the strategies that it applies."""
    inspiration: type[BaseModel]
    """The answer of knowledge distillation: patterns, and a design that follows them."""

    def render(self, prompts: PromptLibrary, name: str, **variables: Any) -> RenderedPrompt:
        """The template of this space. Raises PromptError as the library does."""
        return prompts.render(self.prefix + name, **variables)

    @abstractmethod
    def about_space(self) -> dict[str, Any]:
        """Variables of `system`: role, task and space."""

    @abstractmethod
    def about_parent(self, parent: TrialT) -> dict[str, Any]:
        """Variables of `strategies`, besides `history` and `lessons`: the current architecture and what to improve."""

    @abstractmethod
    def about_sample(self, sample: Sequence[TrialT]) -> dict[str, Any]:
        """Variables of `inspiration`, besides `history` and `lessons`: the designs to learn from, and the limits."""

    def about_running(self, running: Sequence[TrialT]) -> dict[str, Any]:
        """Variables of `strategies` and `inspiration` for the designs that are being measured, where they tell any."""
        return {}

    @abstractmethod
    def limits(self) -> dict[str, Any]:
        """Variables of `design`: what a design must keep."""

    def reasons(self, parsed: dict[str, Any], written: tuple[str, ...]) -> tuple[str, ...]:
        """Why an answer has its design, in its author's words: patterns, or which of the `written` strategies."""
        return tuple(parsed.get("patterns") or parsed.get("strategies_applied") or written)

    @abstractmethod
    def fields(self, design: DesignT, base: DesignT) -> dict[str, Any]:
        """The fields of an answer that makes `design` out of `base`, as plain JSON values."""

    @abstractmethod
    def draft(self, parsed: dict[str, Any]) -> DraftT:
        """The draft in a valid answer, whose other fields are ignored; also in a draft as plain JSON values."""
