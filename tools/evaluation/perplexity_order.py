"""Which of several models has the lower perplexity on one text, and how sure that is: window by window."""

from collections.abc import Mapping
from dataclasses import dataclass

from tools.evaluation.paired import PairedDifference, paired_difference
from tools.evaluation.results import PerplexityResult


@dataclass(frozen=True)
class Place:
    """One model in the order; `behind` is its loss less that of the model before it, None for the first."""

    name: str
    loss: float
    behind: PairedDifference | None

    def as_data(self) -> dict[str, object]:
        """For scripts; `told_apart` is None where there is no model before, or one window only."""
        found = self.behind
        apart = None if found is None or found.error is None else not found.is_within_error
        return {
            "model": self.name,
            "loss": self.loss,
            "behind": None if found is None else found.mean,
            "error": None if found is None else found.error,
            "told_apart": apart,
        }


def perplexity_order(results: Mapping[str, PerplexityResult]) -> tuple[Place, ...]:
    """Those of `results`, by model, that are of the same windows of tokens, the lowest loss first.

    Nothing where the models do not read the same windows (other text, other tokenizer, pages), or fewer than two have
    a finite loss there.
    """
    found = {name: one for name, one in results.items() if one.loss is not None and one.window_losses}
    if len(found) < 2 or len({one.windows_sha256 for one in found.values()}) > 1:
        return ()
    ranked = sorted(found, key=lambda name: found[name].loss or 0.0)
    return tuple(
        Place(
            name,
            found[name].loss or 0.0,
            None if before is None else paired_difference(found[name].window_losses, found[before].window_losses),
        )
        for before, name in zip([None, *ranked], ranked, strict=False)
    )


def order_in_words(places: tuple[Place, ...]) -> str:
    """The order as one line: each model's distance to the one before it, in nats per token, with its standard error."""
    words = []
    for place in places:
        if place.behind is None:
            words.append(f"{place.name} {place.loss:.4f}")
            continue
        error = "" if place.behind.error is None else f", standard error {place.behind.error:.4f}"
        doubt = ", not told apart" if place.behind.is_within_error else ""
        words.append(f"{place.name} {place.behind.mean:+.4f} to the one before{error}{doubt}")
    return "; ".join(words)
