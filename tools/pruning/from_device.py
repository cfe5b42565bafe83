"""Many small tensors brought from their device in one transfer: one by one, each of them waits for the device."""

from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt
import torch


def at_once(
    tensors: Mapping[str, torch.Tensor], prepared: Callable[[torch.Tensor], torch.Tensor] = lambda values: values
) -> dict[str, npt.NDArray[np.float32]]:
    """The same values and shapes in float32, by name. All are on one device.

    `prepared` is given all values, one after another, before they are brought, and says what to bring in their place.
    """
    flat = prepared(torch.cat([tensor.float().flatten() for tensor in tensors.values()])).cpu().numpy()
    found, start = dict[str, npt.NDArray[np.float32]](), 0
    for name, tensor in tensors.items():
        found[name] = flat[start : start + tensor.numel()].reshape(tensor.shape)
        start += tensor.numel()
    return found
