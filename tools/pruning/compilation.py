"""Compiling the blocks of a model that shrinks while it trains, without a block ever running uncompiled unnoticed.

torch.compile fixes the shapes of Parameters in what it makes, so each distinct shape of a block is compiled once, and
again after it has changed. Left to its defaults, it gives up after eight shapes and goes on eagerly without an error.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar, cast

import torch
from torch import nn

from tools.pruning.blocks import blocks

Backend = Callable[[torch.fx.GraphModule, list[torch.Tensor]], Callable[..., Any]]
"""Takes a graph and example inputs, gives back a function that runs it, like the backends of torch.compile."""

Hook = TypeVar("Hook", bound=Callable[..., Any])

VARIANTS = 8
"""How often one shape of a block may be compiled between two cuts: in training and evaluation, with and without
gradients, for a last batch that is smaller, with and without hooks that record. More is a defect, and an error."""

_MARK = "is_compiled_with_its_block"


def compiled_with_its_block(hook: Hook) -> Hook:
    """Mark a forward hook, or the method that is one, as fit to be compiled together with the block it is in.

    It may change tensors in place, but no Python number: that would have each step compiled anew. It must neither
    register hooks itself nor look at the values of tensors.
    """
    setattr(hook, _MARK, True)
    return hook


class BlockCompiler:
    """Compiles every block of `model` in place; modules, Parameters and state dict names stay as they are.

    Blocks of equal shape share what is compiled, so training costs as many compilations as there are `distinct_shapes`,
    and as many again after each cut. A block that cannot be compiled as one graph, or is compiled more than `VARIANTS`
    times for each block of the model between two cuts, raises an error of torch._dynamo in the forward pass; it never
    goes on eagerly. While a block has forward hooks inside that are not marked by `compiled_with_its_block`, it runs
    uncompiled, which `uncompiled_runs` counts.
    """

    def __init__(self, model: nn.Module, backend: str | Backend = "inductor") -> None:
        # Imported here as it takes seconds, which those who only mark a hook need not wait.
        import torch._dynamo

        self.uncompiled_runs = 0
        self._model = model
        self._backend = _Counter(torch._dynamo.lookup_backend(backend))
        self._before_cut = 0
        limit = VARIANTS * len(self._layers)
        config = torch._dynamo.config
        # A cap over all functions of the process; the limit of the blocks themselves is passed on below.
        config.accumulated_recompile_limit = max(config.accumulated_recompile_limit, limit)
        # Left at its default, a block compiled without hooks would never hear of those that come later.
        config.skip_nnmodule_hook_guards = False
        # Where activations are recomputed in the backward pass, hooks must not record them a second time.
        config.skip_fwd_side_effects_in_bwd_under_checkpoint = True
        for layer in self._layers:
            # dynamic=False: sizes of recorded statistics differ between layers, and would be taken for changing ones.
            layer.compile(backend=self._backend, fullgraph=True, dynamic=False, recompile_limit=limit)
            _set_call(layer, partial(self._call, layer, cast(Callable[..., Any], layer._compiled_call_impl)))

    @property
    def compilations(self) -> int:
        """Graphs compiled so far; a block's forward pass counts as one together with its backward pass."""
        return self._backend.count

    @property
    def compilations_since_cut(self) -> int:
        """Graphs compiled since the last call of `after_cut`."""
        return self._backend.count - self._before_cut

    @property
    def distinct_shapes(self) -> int:
        """How many different widths the blocks of the model have as it is now."""
        widths = {
            (
                block.q_proj.in_features,
                block.num_attention_heads,
                block.num_key_value_heads,
                block.down_proj.in_features,
            )
            for block in blocks(self._model)
        }
        return len(widths)

    def after_cut(self) -> None:
        """Forget everything that this process has compiled, as none of it fits the model any more.

        Blocks are compiled anew in their next forward pass. What was compiled of other models is forgotten too.
        """
        import torch._dynamo

        torch._dynamo.reset()
        self._before_cut = self._backend.count

    def remove(self) -> None:
        """Let the blocks run uncompiled from now on, as generation needs, where sizes change with each token."""
        for layer in self._layers:
            _set_call(layer, None)

    @property
    def _layers(self) -> list[nn.Module]:
        return list(cast(nn.ModuleList, self._model.get_submodule("model.layers")))

    def _call(self, layer: nn.Module, compiled: Callable[..., Any], *arguments: Any, **keywords: Any) -> Any:
        if _is_watched(layer):
            self.uncompiled_runs += 1
            return layer._call_impl(*arguments, **keywords)
        return compiled(*arguments, **keywords)


class _Counter:
    """A backend that counts the graphs which another one has compiled."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self.count = 0

    def __call__(self, graph: torch.fx.GraphModule, inputs: list[torch.Tensor]) -> Callable[..., Any]:
        compiled = self._backend(graph, inputs)
        # Only now, as a backend may break off to have the same graph traced once more.
        self.count += 1
        return compiled


def _set_call(layer: nn.Module, call: Callable[..., Any] | None) -> None:
    setattr(layer, "_compiled_call_impl", call)  # noqa: B010 - nn.Module's stub allows only modules


def _is_watched(layer: nn.Module) -> bool:
    """Whether a forward hook inside `layer` cannot be compiled with it."""
    return any(
        not getattr(hook, _MARK, False)
        for module in layer.modules()
        for hook in (*module._forward_pre_hooks.values(), *module._forward_hooks.values())
    )
