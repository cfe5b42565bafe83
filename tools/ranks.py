"""Data parallel ranks: the processes that torchrun starts, and the few things they say to each other.

Every function does nothing where no process group was started, so callers need not ask how many ranks there are.

The trainer sums gradients with `sum_over_ranks` itself and does not wrap the model in DistributedDataParallel. That
would mix the gradients of all ranks during the backward pass, before the saliency of each micro-batch is read, and it
would have to be wrapped anew after each cut, since its reducer keeps the old shapes.
"""

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta

import torch
from torch import distributed

from tools.errors import InputError

# Small tensors travel together, up to this size; each message has a fixed cost, and the buffer takes memory.
_BUCKET_BYTES = 64 * 2**20
# The others wait while one rank packs a corpus or measures. When a rank dies, torchrun itself ends them all.
_PATIENCE = timedelta(days=1)


class PeerLostError(Exception):
    """Another rank ended, so that this one cannot go on."""


def start_ranks() -> None:
    """Join the ranks of this torchrun, each with its own GPU by LOCAL_RANK; without torchrun do nothing.

    CUDA tensors travel by NCCL and all others by gloo. Raises InputError where this machine has fewer GPUs than ranks.
    """
    if distributed.is_initialized() or not {"RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"} <= os.environ.keys():
        return
    backend = "gloo"
    if torch.cuda.is_available():
        local_rank, devices = int(os.environ.get("LOCAL_RANK", "0")), torch.cuda.device_count()
        if local_rank >= devices:
            raise InputError(
                f"This machine has {devices} GPU{'s' * (devices != 1)} and more ranks than that: "
                f"start torchrun with --nproc-per-node {devices}."
            )
        torch.cuda.set_device(local_rank)
        backend = "cpu:gloo,cuda:nccl"
    distributed.init_process_group(backend, timeout=_PATIENCE)


def stop_ranks() -> None:
    """Leave the process group, if there is one."""
    if distributed.is_initialized():
        distributed.destroy_process_group()


def rank() -> int:
    """The number of this process, from 0; the first rank is the one that writes files."""
    return distributed.get_rank() if distributed.is_initialized() else 0


def world_size() -> int:
    """The number of ranks."""
    return distributed.get_world_size() if distributed.is_initialized() else 1


def local_rank() -> int:
    """The number of this process among those of its machine, from 0."""
    return int(os.environ.get("LOCAL_RANK", "0")) if distributed.is_initialized() else 0


def wait_for_all() -> None:
    """Return when all ranks have called."""
    if world_size() > 1:
        # A tensor on the CPU travels by gloo, which really holds the process; NCCL would only hold its GPU.
        with _together():
            distributed.all_reduce(torch.zeros(1))


def same_on_all(number: int) -> bool:
    """Whether all ranks have called with the same number; every rank gets the same answer."""
    if world_size() == 1:
        return True
    least_and_most = torch.tensor([-number, number])
    with _together():
        distributed.all_reduce(least_and_most, distributed.ReduceOp.MAX)
    return int(least_and_most[0]) == -int(least_and_most[1])


def any_rank(says: bool) -> bool:
    """Whether any rank has called with True; every rank gets the same answer."""
    if world_size() == 1:
        return says
    found = torch.tensor([float(says)])
    with _together():
        distributed.all_reduce(found, distributed.ReduceOp.MAX)
    return bool(found.item())


@torch.no_grad()
def sum_over_ranks(tensors: Sequence[torch.Tensor]) -> None:
    """Replace each tensor by its sum over all ranks, in place.

    All ranks must pass tensors of the same shapes, types and devices in the same order. Every rank gets the same bits.
    """
    if world_size() == 1:
        return
    for bucket in _buckets(tensors):
        message = _message(bucket)
        with _together():
            distributed.all_reduce(message)
        _read(message, bucket)


@torch.no_grad()
def broadcast_from_first(tensors: Iterable[torch.Tensor]) -> None:
    """Replace each tensor by that of rank 0, in place; the same conditions as for `sum_over_ranks`."""
    if world_size() == 1:
        return
    for bucket in _buckets(list(tensors)):
        message = _message(bucket)
        with _together():
            distributed.broadcast(message, src=0)
        _read(message, bucket)


@contextmanager
def _together() -> Iterator[None]:
    """What ranks say to each other; where one is gone, the others get PeerLostError. Every function above raises it."""
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        raise PeerLostError("another rank ended, so this one cannot go on") from error


def _buckets(tensors: Sequence[torch.Tensor]) -> Iterator[list[torch.Tensor]]:
    """Tensors of one type and device together, in their order, up to the size of a bucket or a single larger one."""
    kinds: dict[tuple[torch.dtype, torch.device], list[torch.Tensor]] = {}
    for tensor in tensors:
        kinds.setdefault((tensor.dtype, tensor.device), []).append(tensor)
    for same in kinds.values():
        bucket: list[torch.Tensor] = []
        size = 0
        for tensor in same:
            if bucket and size + tensor.nbytes > _BUCKET_BYTES:
                yield bucket
                bucket, size = [], 0
            bucket.append(tensor)
            size += tensor.nbytes
        yield bucket


def _message(bucket: list[torch.Tensor]) -> torch.Tensor:
    """The bucket as one contiguous tensor; a single contiguous tensor travels as it is."""
    if len(bucket) == 1 and bucket[0].is_contiguous():
        return bucket[0].detach()
    return torch.cat([tensor.reshape(-1) for tensor in bucket])


def _read(message: torch.Tensor, bucket: list[torch.Tensor]) -> None:
    """Write the flat `message` back into the tensors of the bucket."""
    if message.data_ptr() == bucket[0].data_ptr():
        return
    pieces = message.split([tensor.numel() for tensor in bucket])
    for tensor, piece in zip(bucket, pieces, strict=True):
        tensor.copy_(piece.view_as(tensor))
