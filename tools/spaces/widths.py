"""The widths of a pruned design as a list of choices, and designs that chance alone makes of them."""

import random
from collections.abc import Iterable, Sequence
from itertools import pairwise

from tools.architecture import Architecture, LayerShape
from tools.pruning.greedy import with_kv_groups
from tools.pruning.groups import ffn_channel_parameters, kv_group_parameters
from tools.settings import WidthSettings
from tools.spaces.base import Parameter, Part

_MOST_DRAWS = 100


class Widths:
    """Hidden size, then KV heads and FFN width of each layer; with `uniform` once for all layers.

    `band` is the smallest and largest number of parameters of what is drawn. Every KV group keeps as many query heads
    as in the source. With widths given as codes, a size is a sum of prices: a draw needs no design until it is done.
    """

    def __init__(
        self, source: Architecture, settings: WidthSettings, hidden_sizes: Sequence[int], band: tuple[int, int]
    ) -> None:
        self._source, self._settings = source, settings
        self._smallest, self._largest = band
        depth = range(len(source.layers))
        self._layer_sets = [tuple(depth)] if settings.uniform else [(index,) for index in depth]
        self.parameters = self._choices(hidden_sizes)
        self._prices, self._fixed = self._price_list(hidden_sizes)
        narrowest = [0] * (len(self.parameters) - 1)
        self._hidden_codes = [
            code for code in range(len(hidden_sizes)) if self._size([code, *narrowest]) <= self._largest
        ]

    def parts(self, most_runs: int = 6) -> tuple[Part, ...]:
        """Hidden size, and at most `most_runs` runs of layers, as `Architecture.describe` tells them."""
        count = len(self._layer_sets)
        runs = min(most_runs, count)
        edges = [run * count // runs for run in range(runs + 1)]
        found = [Part("hidden", (("", (0,)),))]
        for first, end in pairwise(edges):
            sets = range(first, end)
            layers = [layer for place in sets for layer in self._layer_sets[place]]
            name = f"layers {layers[0]}-{layers[-1]}" if len(layers) > 1 else f"layer {layers[0]}"
            heads, ffn = (tuple(kind + 2 * place for place in sets) for kind in (1, 2))
            found.append(Part(name, (("kv_heads", heads), ("ffn", ffn))))
        return tuple(found)

    def encode(self, design: Architecture) -> tuple[int, ...]:
        """The place of each width among its options."""
        values = [design.hidden_size]
        for layers in self._layer_sets:
            shape = design.layers[layers[0]]
            values += [shape.num_key_value_heads, shape.intermediate_size]
        return tuple(one.options.index(value) for one, value in zip(self.parameters, values, strict=True))

    def decode(self, codes: Sequence[int]) -> Architecture:
        """The design of these widths, whatever its size."""
        values = self._values(codes)
        layers: list[LayerShape] = list(self._source.layers)
        for place, indices in enumerate(self._layer_sets):
            groups, width = values[1 + 2 * place : 3 + 2 * place]
            for index in indices:
                shape = with_kv_groups(self._source.layers[index], groups)
                layers[index] = shape.model_copy(update={"intermediate_size": width})
        return Architecture(fixed=self._source.fixed, hidden_size=values[0], layers=tuple(layers))

    def draw(self, rng: random.Random) -> tuple[int, ...] | None:
        """Codes of a random design within the band of sizes; None where many draws did not find one.

        Widths are drawn uniformly, then moved up or down, one random step at a time, to a size drawn from the band.
        """
        possible = self._hidden_codes and self._smallest <= self._largest
        for _ in range(_MOST_DRAWS if possible else 0):
            codes = [rng.choice(self._hidden_codes), *(rng.randrange(len(one.options)) for one in self.parameters[1:])]
            target = rng.randint(self._smallest, self._largest)
            size = self._size(codes)
            for place in _shuffled(((place, codes[place]) for place in range(1, len(codes))), rng):
                if size <= target:
                    break
                size -= self._step(codes, place, -1)
            rest = [(place, len(self.parameters[place].options) - 1 - codes[place]) for place in range(1, len(codes))]
            for place in _shuffled(rest, rng):
                # Where no step ends at the target, one that ends within the band will do.
                limit = self._largest if size < self._smallest else target
                if size + self._price_of_step(codes, place, +1) <= limit:
                    size += self._step(codes, place, +1)
            if self._smallest <= size <= self._largest:
                return tuple(codes)
        return None

    def _choices(self, hidden_sizes: Sequence[int]) -> tuple[Parameter, ...]:
        found = [Parameter("hidden_size", tuple(hidden_sizes), ordered=True)]
        step = self._settings.ffn_multiple
        for indices in self._layer_sets:
            shapes = [self._source.layers[index] for index in indices]
            groups = min(shape.num_key_value_heads for shape in shapes)
            width = min(shape.intermediate_size for shape in shapes)
            where = "all layers" if len(indices) > 1 else f"layer {indices[0]}"
            found.append(Parameter(f"kv_heads of {where}", tuple(range(1, groups + 1)), ordered=True))
            found.append(Parameter(f"ffn of {where}", (*range(step, width, step), width), ordered=True))
        return tuple(found)

    def _price_list(self, hidden_sizes: Sequence[int]) -> tuple[list[list[int]], list[int]]:
        """For each hidden size the parameters of one unit of each choice, and those that no choice can free."""
        prices, fixed = [], []
        for hidden_size in hidden_sizes:
            whole = Architecture(fixed=self._source.fixed, hidden_size=hidden_size, layers=self._source.layers)
            rest, row = whole.parameters, [0]
            for indices in self._layer_sets:
                groups = [kv_group_parameters(whole, index) for index in indices]
                row += [sum(groups), len(indices) * ffn_channel_parameters(whole)]
                for index, group in zip(indices, groups, strict=True):
                    shape = whole.layers[index]
                    rest -= shape.num_key_value_heads * group
                    rest -= shape.intermediate_size * ffn_channel_parameters(whole)
            prices.append(row)
            fixed.append(rest)
        return prices, fixed

    def _values(self, codes: Sequence[int]) -> list[int]:
        return [int(one.options[code]) for one, code in zip(self.parameters, codes, strict=True)]

    def _size(self, codes: Sequence[int]) -> int:
        values = self._values(codes)
        prices = self._prices[codes[0]]
        return self._fixed[codes[0]] + sum(price * value for price, value in zip(prices, values, strict=True))

    def _price_of_step(self, codes: Sequence[int], place: int, direction: int) -> int:
        options = self.parameters[place].options
        units = abs(int(options[codes[place] + direction]) - int(options[codes[place]]))
        return self._prices[codes[0]][place] * units

    def _step(self, codes: list[int], place: int, direction: int) -> int:
        """Move one code by one; the parameters that this frees or takes."""
        price = self._price_of_step(codes, place, direction)
        codes[place] += direction
        return price


def _shuffled(steps: Iterable[tuple[int, int]], rng: random.Random) -> list[int]:
    """Each place as often as it has steps, in random order."""
    places = [place for place, count in steps for _ in range(count)]
    rng.shuffle(places)
    return places
