"""Which past designs are looked at: one typed filter, for whoever asks memory."""

from dataclasses import dataclass
from typing import Any, Literal

Reach = Literal["none", "same_source", "all"]
"""Which past runs a search is shown: none, those of its source and corpus, or all."""


@dataclass(frozen=True)
class Filter:
    """Conditions that all have to hold; what is None admits everything.

    `min_parameters` and `max_parameters` are the budget, both ends included; `succeeded` asks for designs that have a
    loss, or for those that failed; `unlike` is the canonical hash of a design that is not wanted itself.
    """

    source: str | None = None
    corpus: str | None = None
    run_id: str | None = None
    fidelity: str | None = None
    min_parameters: int | None = None
    max_parameters: int | None = None
    succeeded: bool | None = None
    unlike: str | None = None

    def of_designs(self) -> dict[str, Any]:
        """As conditions on the metadata of designs in the vector store."""
        found = self.of_lessons()
        for name in ("fidelity", "succeeded"):
            if (value := getattr(self, name)) is not None:
                found[name] = value
        bounds = {"$gte": self.min_parameters, "$lte": self.max_parameters}
        if given := {operator: bound for operator, bound in bounds.items() if bound is not None}:
            found["parameters"] = given
        if self.unlike is not None:
            found["architecture_hash"] = {"$ne": self.unlike}
        return found

    def of_lessons(self) -> dict[str, Any]:
        """As conditions on the metadata of lessons, which say where a lesson comes from and nothing of its design."""
        places = {name: getattr(self, name) for name in ("source", "corpus", "run_id")}
        return {name: value for name, value in places.items() if value is not None}
