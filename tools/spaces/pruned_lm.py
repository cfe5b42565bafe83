"""The real search space: every part of one source model that fits the budget.

A design keeps the source's depth, vocabulary and head size; hidden size, and per layer the number of KV groups and the
FFN width, may shrink in steps. What is wrong with a draft is said in words; what cannot be repaired by its author is
moved to the nearest legal design, with a note for each change.
"""

import random
from collections.abc import Sequence
from functools import cached_property
from typing import ClassVar

from tools.architecture import Architecture, LayerShape
from tools.costs import Excess, file_excess, memory_excess, most_parameters
from tools.errors import InputError
from tools.pruning.greedy import SaliencyDesigner, narrower, wider, with_kv_groups
from tools.pruning.groups import ffn_channel_parameters, kv_group_parameters
from tools.pruning.saliency import Saliency
from tools.settings import SpaceSettings
from tools.spaces.base import Parameter, Part, SearchSpace
from tools.spaces.draft import DesignDraft, SpanDraft
from tools.spaces.widths import Widths

_MOST_TRIES = 100
_SHARE_MUTATED = 0.1


class PrunedLMSpace(SearchSpace[Architecture, DesignDraft]):
    """Designs inside `source` that keep the limits of `settings` and have at least `settings.min_parameters`."""

    name: ClassVar[str] = "pruned_lm"

    def __init__(self, source: Architecture, saliency: Saliency, settings: SpaceSettings) -> None:
        if settings.max_parameters >= source.parameters:
            raise InputError(
                f"The budget of {settings.max_parameters:,} parameters is not below the source's "
                f"{source.parameters:,}: nothing would be cut; lower max_parameters."
            )
        self.source, self.settings = source, settings
        self.designer = SaliencyDesigner(source, saliency, settings)
        # Brings what a searcher made into the band, filled up: sizes should not decide which searcher is better.
        filled = settings.model_copy(update={"min_parameters": settings.max_parameters})
        self._filler = SaliencyDesigner(source, saliency, filled)

    @property
    def most_parameters(self) -> int:
        """No design within all limits has more parameters."""
        return min(self.settings.max_parameters, most_parameters(self.source, self.settings))

    @property
    def hidden_sizes(self) -> list[int]:
        """Legal hidden sizes: multiples with which the smallest allowed size can still be reached."""
        step = self.settings.hidden_multiple
        sizes = [size for size in range(step, self.source.hidden_size, step) if self._reaches(size)]
        return [*sizes, self.source.hidden_size]

    @property
    def intermediate_sizes(self) -> list[int]:
        """Legal FFN widths of a layer."""
        step, largest = self.settings.ffn_multiple, max(layer.intermediate_size for layer in self.source.layers)
        return [*range(step, largest, step), largest]

    @property
    def largest_kv_heads(self) -> int:
        """Most KV heads that any layer of the source has."""
        return max(layer.num_key_value_heads for layer in self.source.layers)

    def excesses(self, design: Architecture) -> list[Excess]:
        """The limits beside the parameters that `design` breaks, as far as the design alone says it."""
        found = (file_excess(design, self.settings), memory_excess(design, self.settings))
        return [excess for excess in found if excess is not None]

    @property
    def parameters(self) -> Sequence[Parameter]:
        """Hidden size, then KV heads and FFN width of each layer; with `uniform` once for all layers."""
        return self._widths.parameters

    @property
    def parts(self) -> Sequence[Part]:
        """Hidden size, and runs of layers."""
        return self._widths.parts()

    def sample(self, rng: random.Random) -> Architecture:
        """Random widths, brought to a random size of the band by random steps; saliency plays no part.

        Only where chance finds no legal design is one fitted to the limits by saliency.
        """
        for _ in range(_MOST_TRIES):
            codes = self._widths.draw(rng)
            if codes is None:
                break
            design = self._widths.decode(codes)
            if not self._design_problems(design):
                return design
        return self.decode([rng.randrange(len(one.options)) for one in self.parameters])

    def mutate(self, design: Architecture, rng: random.Random) -> Architecture:
        """One to a tenth of the widths drawn anew, then fitted as in `decode`."""
        most = max(1, round(_SHARE_MUTATED * len(self.parameters)))
        for _ in range(_MOST_TRIES):
            codes = list(self.encode(design))
            for place in rng.sample(range(len(codes)), rng.randint(1, most)):
                codes[place] = rng.randrange(len(self.parameters[place].options))
            mutant = self.decode(codes)
            if mutant != design and not self._design_problems(mutant):
                return mutant
        others = [other for other in (*self.neighbours(design), self.sample(rng)) if other != design]
        return others[0] if others else design

    def neighbours(self, design: Architecture) -> list[Architecture]:
        """One width one step down or up, then fitted to the limits by saliency."""
        codes = self.encode(design)
        found: dict[Architecture, None] = {}
        for place, parameter in enumerate(self.parameters):
            for code in (codes[place] - 1, codes[place] + 1):
                if 0 <= code < len(parameter.options):
                    # Not filled up: the nearest design is meant.
                    other = self.designer.fit(self._widths.decode([*codes[:place], code, *codes[place + 1 :]]))
                    if other != design and not self._design_problems(other):
                        found[other] = None
        return list(found)

    def encode(self, design: Architecture) -> tuple[int, ...]:
        return self._widths.encode(design)

    def decode(self, codes: Sequence[int]) -> Architecture:
        """The design of these widths where it is legal, else fitted to the limits by saliency and filled up."""
        return self._fitted(self._widths.decode(codes))

    def identity(self, design: Architecture) -> str:
        return design.hash

    def describe(self, design: Architecture) -> str:
        return design.describe()

    def draft(self, design: Architecture) -> DesignDraft:
        said, sizes = DesignDraft.of(design), self.intermediate_sizes
        # A layer that is as wide as its own source may have a width that no other layer can have: ask for more.
        spans = [
            span.model_copy(update={"intermediate_size": min(size for size in sizes if size >= span.intermediate_size)})
            for span in said.spans
        ]
        return said.model_copy(update={"spans": tuple(spans)})

    def problems(self, draft: DesignDraft, base: Architecture) -> list[str]:
        """What is illegal about `draft`, in sentences for its author; empty where it is legal."""
        found = self._span_problems(draft)
        if draft.hidden_size not in self.hidden_sizes:
            found.append(f"hidden_size {draft.hidden_size} is not allowed: use one of {self.hidden_sizes}.")
        return found or self._design_problems(self._apply(draft, base))

    def stated(self, draft: DesignDraft, base: Architecture) -> Architecture | None:
        """The design that a draft says, whatever its size; None where a layer or a width of it is none."""
        possible = not self._span_problems(draft) and draft.hidden_size in self.hidden_sizes
        return self._apply(draft, base) if possible else None

    def read(self, draft: DesignDraft, base: Architecture) -> Architecture:
        """The design that a draft without problems says."""
        return self._apply(draft, base)

    def project(self, draft: DesignDraft, base: Architecture) -> tuple[Architecture, list[str]]:
        """The nearest legal design, and a note for each thing that was changed.

        What has to change in size is filled up as in `decode`, so that sizes decide nothing between searchers.
        """
        notes: list[str] = []
        design = self._apply(self._clamped(draft, notes), base)
        if self.settings.uniform and not design.is_homogeneous:
            design = design.with_layers([design.layers[0]] * len(design.layers))
            notes.append("all layers took the shape of layer 0, since the layers must be alike")
        size = design.parameters
        design = self._fitted(design)
        if design.parameters < size:
            notes.append(f"least salient groups cut from {size:,} to {design.parameters:,} parameters")
        elif design.parameters > size:
            notes.append(f"most salient groups given back from {size:,} to {design.parameters:,} parameters")
        return design, notes

    def vary(self, design: Architecture, rng: random.Random) -> Architecture:
        """A legal neighbour: FFN channels moved from one layer to another, then fitted to the budget."""
        step = self.settings.ffn_multiple
        layers = list(design.layers)
        giver, taker = rng.sample(range(len(layers)), 2) if len(layers) > 1 else (0, 0)
        given, taken = layers[giver].intermediate_size, layers[taker].intermediate_size
        given = narrower(given, step) or given
        taken = wider(taken, step, self.source.layers[taker].intermediate_size) or taken
        layers[giver] = layers[giver].model_copy(update={"intermediate_size": given})
        layers[taker] = layers[taker].model_copy(update={"intermediate_size": taken})
        if self.settings.uniform:
            layers = [layers[giver]] * len(layers)
        return self._fitted(design.with_layers(layers))

    def _fitted(self, design: Architecture) -> Architecture:
        """`design` where it is legal, else fitted to the limits by saliency and filled up."""
        return self._filler.fit(design) if self._design_problems(design) else design

    @cached_property
    def _widths(self) -> Widths:
        band = (self.settings.min_parameters, self.most_parameters)
        return Widths(self.source, self.settings, self.hidden_sizes, band)

    def _span_problems(self, draft: DesignDraft) -> list[str]:
        found, last = [], len(self.source.layers) - 1
        for span in draft.spans:
            name = f"span {span.first_layer}-{span.last_layer}"
            if not 0 <= span.first_layer <= span.last_layer <= last:
                found.append(f"{name}: layers must rise and lie within 0 to {last}.")
                continue
            if not 1 <= span.num_key_value_heads <= self.largest_kv_heads:
                found.append(f"{name}: num_key_value_heads must be 1 to {self.largest_kv_heads}.")
            if span.intermediate_size not in self.intermediate_sizes:
                step, largest = self.settings.ffn_multiple, self.intermediate_sizes[-1]
                found.append(f"{name}: intermediate_size must be a multiple of {step} up to {largest}.")
        return list(dict.fromkeys(found))

    def _design_problems(self, design: Architecture) -> list[str]:
        size, found = design.parameters, []
        if self.settings.uniform and not design.is_homogeneous:
            found.append("all layers must have the same shape: write one span over all layers.")
        channels = self.settings.ffn_multiple
        prices = (
            f"{channels} FFN channels in one layer are {channels * ffn_channel_parameters(design):,}, "
            f"one key/value head in one layer is {kv_group_parameters(design, 0):,}"
        )
        if size > self.settings.max_parameters:
            excess = size - self.settings.max_parameters
            found.append(f"it has {size:,} parameters, {excess:,} above the limit; {prices}. Remove more.")
        found += [f"it takes {excess}; {prices}. Remove more." for excess in self.excesses(design)]
        if size < self.settings.min_parameters:
            lack = self.settings.min_parameters - size
            found.append(f"it has {size:,} parameters, {lack:,} below the smallest size; {prices}. Keep more.")
        return found

    def _clamped(self, draft: DesignDraft, notes: list[str]) -> DesignDraft:
        """Widths moved to the nearest legal values, layer numbers into range."""
        last = len(self.source.layers) - 1
        spans = []
        for span in draft.spans:
            first, end = sorted((min(max(span.first_layer, 0), last), min(max(span.last_layer, 0), last)))
            fitted = SpanDraft(
                first_layer=first,
                last_layer=end,
                num_key_value_heads=min(max(span.num_key_value_heads, 1), self.largest_kv_heads),
                intermediate_size=min(self.intermediate_sizes, key=lambda size: abs(size - span.intermediate_size)),
            )
            if fitted != span:
                notes.append(f"span {span.model_dump()} became {fitted.model_dump()}")
            spans.append(fitted)
        hidden = min(self.hidden_sizes, key=lambda size: abs(size - draft.hidden_size))
        if hidden != draft.hidden_size:
            notes.append(f"hidden_size {draft.hidden_size} became {hidden}")
        return DesignDraft(hidden_size=hidden, spans=tuple(spans))

    def _apply(self, draft: DesignDraft, base: Architecture) -> Architecture:
        """`base` with the draft's spans laid over it; a layer of the source is never exceeded."""
        layers = list(base.layers)
        for span in draft.spans:
            for index in range(span.first_layer, span.last_layer + 1):
                layers[index] = self._layer(index, span, base.layers[index])
        return Architecture(fixed=base.fixed, hidden_size=draft.hidden_size, layers=tuple(layers))

    def _layer(self, index: int, span: SpanDraft, base: LayerShape) -> LayerShape:
        """The span's widths; query heads, of which a draft says nothing, as many for each KV group as in `base`."""
        source = self.source.layers[index]
        groups = min(span.num_key_value_heads, source.num_key_value_heads)
        width = min(span.intermediate_size, source.intermediate_size)
        return with_kv_groups(base, groups).model_copy(update={"intermediate_size": width})

    def _reaches(self, hidden_size: int) -> bool:
        widest = Architecture(fixed=self.source.fixed, hidden_size=hidden_size, layers=self.source.layers)
        return widest.parameters >= self.settings.min_parameters
