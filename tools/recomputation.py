"""Tells a recomputed forward pass from a first one.

Activation checkpointing runs the blocks again during the backward pass. A hook that counts what it sees must not count
that second pass, and asks `recomputing()` first.
"""

from collections.abc import Iterator
from contextlib import contextmanager

# Not a thread's or a context's own variable: on CUDA the backward pass, and with it the recomputation, runs in a thread
# of autograd.
_backward_passes = 0


@contextmanager
def backward_pass() -> Iterator[None]:
    """Context for a backward pass: every forward pass inside it is a recomputation."""
    global _backward_passes
    _backward_passes += 1
    try:
        yield
    finally:
        _backward_passes -= 1


def recomputing() -> bool:
    """Whether a forward hook that runs now sees activations that were seen before."""
    return _backward_passes > 0
